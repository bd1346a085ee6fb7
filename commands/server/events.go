package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine"
)

// Severities of events (drpc.md §7).
const (
	severityError   = 1
	severityWarning = 2
	severityNotice  = 3
)

// raise logs an event of this host and hands it on when the leader acts on it.
func (s *server) raise(e control.Event) {
	if e.Timestamp == "" {
		e.Timestamp = time.Now().Format("2006-01-02T15:04:05.000-07:00")
	}
	if e.Hostname == "" {
		e.Hostname = s.hostname
	}
	level := slog.LevelInfo
	switch e.Severity {
	case severityError:
		level = slog.LevelError
	case severityWarning:
		level = slog.LevelWarn
	}
	attrs := []any{"id", e.Name, "msg", fault.OneLine(e.Msg), "host", e.Hostname}
	if e.Rank != hostlist.NilRank {
		attrs = append(attrs, "rank", e.Rank, "incarnation", e.Incarnation)
	}
	if e.PoolUUID != "" {
		attrs = append(attrs, "pool", e.PoolUUID)
	}
	s.log.Log(s.life, level, "event", attrs...)
	if e.StateChange && (e.Rank != hostlist.NilRank || e.PoolUUID != "") {
		s.events.put(e)
	}
}

// forwarder brings events to the leader, in order. What cannot be delivered waits;
// beyond its bound the oldest is dropped and told.
type forwarder struct {
	srv *server

	mu       sync.Mutex
	queue    []control.Event
	sequence uint64
	stopped  bool
	wake     chan struct{}
}

const (
	forwardQueue = 1000
	forwardPause = 500 * time.Millisecond
	forwardTime  = 10 * time.Second
)

func newForwarder(s *server) *forwarder {
	return &forwarder{srv: s, wake: make(chan struct{}, 1)}
}

func (f *forwarder) put(e control.Event) {
	f.mu.Lock()
	if len(f.queue) >= forwardQueue {
		f.srv.log.Error("dropping the oldest event: the leader cannot be reached for long", "id", f.queue[0].Name, "rank", f.queue[0].Rank)
		f.queue = f.queue[1:]
	}
	f.queue = append(f.queue, e)
	f.mu.Unlock()
	f.signal()
}

func (f *forwarder) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// stop ends the forwarding; what is queued is given up, since the system learns
// of the engines' end from their peers.
func (f *forwarder) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.signal()
}

func (f *forwarder) first() (e control.Event, ok, stopped bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped || len(f.queue) == 0 {
		return e, false, f.stopped
	}
	return f.queue[0], true, false
}

func (f *forwarder) delivered() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) > 0 {
		f.queue = f.queue[1:]
	}
}

func (f *forwarder) run(ctx context.Context) error {
	for {
		e, ok, stopped := f.first()
		if stopped || ctx.Err() != nil {
			return nil
		}
		if !ok {
			select {
			case <-ctx.Done():
				return nil
			case <-f.wake:
			}
			continue
		}
		if err := f.deliver(ctx, e); err != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-f.wake: // a newer event, or the stop
			case <-time.After(forwardPause):
			}
		}
	}
}

// deliver hands one event to the leader. A refusal for good counts as delivered:
// a later one would be refused as well.
func (f *forwarder) deliver(ctx context.Context, e control.Event) error {
	ctx, cancel := context.WithTimeout(ctx, forwardTime)
	defer cancel()
	f.sequence++
	_, err := control.Ask(ctx, f.srv.client, control.SystemEvent, &control.EventReq{Sequence: f.sequence, Event: e}, nil)
	if err != nil && waitable(err) {
		f.srv.log.Debug("cannot deliver an event yet", "id", e.Name, "error", err)
		return err
	}
	if err != nil {
		f.srv.log.Error("the leader refused an event", "id", e.Name, "rank", e.Rank, "error", err)
	}
	f.delivered()
	return nil
}

// restarter starts engines again that ended themselves because they found
// themselves outside the group (engine-lifecycle.md §7).
type restarter struct {
	mu     sync.Mutex
	policy engine.RestartPolicy
}

// selfTerminated takes the event of a local engine.
func (r *restarter) selfTerminated(s *server, rank hostlist.Rank) {
	var found *localEngine
	for _, e := range s.engines {
		if e.rank() == rank {
			found = e
		}
	}
	if found == nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	decision, at := r.policy.Request(now, rank)
	r.mu.Unlock()
	switch decision {
	case engine.RestartNow:
		s.log.Info("engine ended itself, starting it again", "engine", found.index, "rank", rank)
		go r.again(s, found)
	case engine.RestartLater:
		s.log.Info("engine ended itself again, starting it later", "engine", found.index, "rank", rank, "at", at)
		time.AfterFunc(at.Sub(now), func() {
			r.mu.Lock()
			due := r.policy.Due(time.Now(), rank)
			r.mu.Unlock()
			if due {
				r.again(s, found)
			}
		})
	}
}

func (r *restarter) again(s *server, e *localEngine) {
	if err := e.inst.Restart(s.life); err != nil && !errors.Is(err, context.Canceled) {
		s.log.Error("cannot start an engine again", "engine", e.index, "error", err)
	}
}

// forget clears the history of a rank that the administrator stops or starts.
func (r *restarter) forget(rank hostlist.Rank) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policy.Forget(rank)
}
