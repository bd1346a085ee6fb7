package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
)

// Operations between emulators.
const (
	opPing         = "ping"
	opGroup        = "group"
	opPool         = "pool"
	opLead         = "lead"
	opReplicaRead  = "replica-read"
	opReplicaWrite = "replica-write"
	opShardCreate  = "shard-create"
	opShardDestroy = "shard-destroy"
	opSpace        = "space"
)

// Times of the group map's broadcast.
const (
	broadcastRetry   = 3 * time.Second
	broadcastTimeout = 2 * time.Second
)

// config is what the environment says.
type config struct {
	release      drpc.Family
	swimPeriod   time.Duration
	excludeDelay time.Duration
	die          func(syscall.Signal)
}

func (c *config) framing() drpc.Framing { return drpc.FramingOf(c.release) }

// engine is a running emulator.
type engine struct {
	opts        *options
	cfg         config
	log         *slog.Logger
	sink        *logSink
	host        string
	pid         int
	socket      string
	incarnation uint64

	store   *store
	fabric  *fabric
	faults  *faults
	group   group
	beats   *heartbeats
	methods map[drpc.Method]row

	life   context.Context // ends when the process is to end
	tasks  sync.WaitGroup
	failed chan error    // why Run ends by itself
	ready  chan struct{} // closed by SetUp
	kick   chan struct{} // the group changed
	maps   chan outgoing // newest map to broadcast

	mu         sync.Mutex
	isSetUp    bool
	isPrepared bool
	leads      map[string]*leadership
	ending     bool
}

// outgoing is a map to broadcast, and who must learn that it is no longer in it.
type outgoing struct {
	groupMap
	removed []member
}

// operations are the requests that other emulators make.
func (e *engine) operations() map[string]operation {
	return map[string]operation{
		opPing:         e.opPing,
		opGroup:        e.opGroup,
		opPool:         e.opPoolRequest,
		opLead:         e.opLead,
		opReplicaRead:  e.opRead,
		opReplicaWrite: e.opWrite,
		opShardCreate:  e.opCreate,
		opShardDestroy: e.opDestroy,
		opSpace:        e.opSpace,
	}
}

// background runs a task that ends with the process.
func (e *engine) background(task func(ctx context.Context)) {
	e.tasks.Go(func() { task(e.life) })
}

// pass goes through a point of DAOS_EMULATOR_FAULTS. What is returned is for the
// caller to answer with.
func (e *engine) pass(ctx context.Context, point string) *misbehaviour {
	m := e.faults.pass(ctx, point)
	if m != nil && m.action == "exit" {
		e.fail(askedExit(point))
		<-ctx.Done()
	}
	return m
}

func askedExit(point string) error {
	return fault.New(fault.Engine, "cannot go on: DAOS_EMULATOR_FAULTS asks for an exit at %s", point)
}

// fail ends the process with a reason; the first one counts.
func (e *engine) fail(err error) {
	select {
	case e.failed <- err:
	default:
	}
}

func (e *engine) prepared() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.isPrepared
}

// changed tells the pools that the group or the life of a rank changed.
func (e *engine) changed() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// takeGroup takes a group map that came by dRPC or from another emulator.
func (e *engine) takeGroup(next groupMap) (status drpc.Status, changed bool, removed []member) {
	status, changed, removed = e.group.update(next)
	if !changed {
		return status, changed, removed
	}
	e.log.Info("group map taken", "version", next.Version, "members", len(next.Members))
	self, _ := e.group.self()
	if !slices.ContainsFunc(next.Members, func(m member) bool { return m.Rank == self }) {
		e.background(func(ctx context.Context) {
			wait(ctx, lastReplyPause)
			e.selfTerminate(ctx, 0)
		})
		return status, changed, removed
	}
	e.beats.setGroup(next)
	e.changed()
	return status, changed, removed
}

// opGroup takes a map that another emulator broadcasts.
func (e *engine) opGroup(_ context.Context, body json.RawMessage) (any, error) {
	var next groupMap
	if err := json.Unmarshal(body, &next); err != nil {
		return nil, drpc.StatusInval
	}
	if status, _, _ := e.takeGroup(next); status != drpc.StatusOK {
		return nil, status
	}
	return nil, nil
}

// broadcast hands a map to the broadcaster; an older one that is still waiting is
// replaced, but who was removed by it is still told.
func (e *engine) broadcast(next groupMap, removed []member) {
	out := outgoing{next, removed}
	for {
		select {
		case e.maps <- out:
			return
		case old := <-e.maps:
			if old.Version > out.Version {
				old, out = out, old
			}
			out.removed = append(out.removed, old.removed...)
		}
	}
}

// broadcastMaps sends the newest map to all others until each has it or a newer
// one comes.
func (e *engine) broadcastMaps(ctx context.Context) {
	var next outgoing
	var pending []member
	timer := time.NewTimer(broadcastRetry)
	timer.Stop() // nothing to repeat yet
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case next = <-e.maps:
			pending = next.Members
			e.sendMap(ctx, next.groupMap, next.removed) // once: they may be gone
		case <-timer.C:
		}
		if pending = e.sendMap(ctx, next.groupMap, pending); len(pending) > 0 {
			timer.Reset(broadcastRetry)
		}
	}
}

// sendMap sends a map to members and returns those that did not take it.
func (e *engine) sendMap(ctx context.Context, m groupMap, to []member) (failed []member) {
	self, _ := e.group.self()
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(16)
	for _, one := range to {
		if one.Rank == self {
			continue
		}
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, broadcastTimeout)
			defer cancel()
			if err := e.fabric.call(ctx, one, opGroup, m, nil); err != nil {
				e.log.Debug("rank did not take group map", "rank", one.Rank, "version", m.Version, "err", err)
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, one)
			}
			return nil
		})
	}
	_ = g.Wait()
	return failed
}

// selfTerminate ends an engine that is no longer in the group: releases since 2.8
// raise an event first, all kill themselves. incarnation is 0 when the map itself
// came here.
func (e *engine) selfTerminate(ctx context.Context, incarnation uint64) {
	e.mu.Lock()
	first := !e.ending
	e.ending = true
	e.mu.Unlock()
	if !first {
		return
	}
	e.log.Error("killing itself: this rank is excluded from the group")
	event, ok := e.event(drpc.EventEngineSelfTerminated, "excluded rank self terminated detected", drpc.EventInfo, drpc.SeverityNotice)
	if ok {
		event.Incarnation, event.ThreadId = incarnation, 1
		e.post(ctx, event)
	}
	e.cfg.die(syscall.SIGKILL)
}

func isBadPayload(err error) bool { return errors.Is(err, drpc.ErrBadPayload) }

// socketPath is where an engine listens.
func socketPath(dir string, pid int) string { return fmt.Sprintf("%s/daos_engine_%d.sock", dir, pid) }
