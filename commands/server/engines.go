package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/config"
	"daosbox/commands/control"
	"daosbox/commands/layout"
	"daosbox/engine"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
	"daosbox/storage"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
)

// Join attempts (engine-lifecycle.md §3.4).
const (
	joinAttempt = 10 * time.Second
	joinTotal   = time.Hour
	joinPause   = 500 * time.Millisecond
)

// localEngine is one engine of this host: its configuration, its storage, its
// process and what the system knows of it.
type localEngine struct {
	srv    *server
	index  int
	cfg    *config.Engine
	layout storage.Layout
	inst   *engine.Instance

	mu         sync.Mutex
	superblock storage.Superblock
	known      bool           // superblock is read
	replace    bool           // the next join takes a former rank over
	ranked     *engine.Notify // the process that accepted its rank, nil before
	member     hostlist.Rank  // that the system gave it, also when the superblock cannot say
}

func newLocalEngine(s *server, index int) *localEngine {
	e := &localEngine{srv: s, index: index, member: hostlist.NilRank, cfg: s.cfg.Engines[index], layout: layout.Of(s.cfg, index, s.hostname)}
	e.inst = engine.New(engine.Config{
		Index:        index,
		Logger:       s.log,
		StartTimeout: s.options.startTimeout,
		Steps:        engine.Steps{Prepare: e.prepare, Join: e.join, Exited: e.exited, State: e.changed},
	})
	return e
}

// rank is the engine's rank, NilRank before it first joined.
func (e *localEngine) rank() hostlist.Rank {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.known || e.superblock.Rank == nil || !e.superblock.ValidRank {
		return e.member
	}
	return hostlist.Rank(*e.superblock.Rank)
}

// prepare makes the storage ready and says which process to start.
func (e *localEngine) prepare(ctx context.Context) (engine.Spec, error) {
	if err := e.prepareStorage(ctx); err != nil {
		return engine.Spec{}, err
	}
	if err := e.loadSuperblock(); err != nil {
		return engine.Spec{}, err
	}
	if e.index == 0 {
		if err := e.srv.startService(ctx); err != nil {
			// Without its replica this host is not what its configuration promises.
			e.srv.fail(err)
			return engine.Spec{}, err
		}
	}
	return e.spec()
}

func (e *localEngine) prepareStorage(ctx context.Context) error {
	condition, err := e.srv.host.Check(ctx, e.layout)
	if err != nil {
		return err
	}
	power := e.srv.privileged(ctx, e.layout)
	action, err := storage.StartAction(e.layout, condition, power.euid)
	e.srv.log.Info("checked the storage of an engine", "engine", e.index, "state", condition.State, "because", condition.Reason, "action", action)
	if action == storage.AwaitFormat && e.srv.options.recreateSuperblocks && condition.Present && !e.erased() {
		action = storage.CreateSuperblock
	}
	switch action {
	case storage.Proceed:
		return nil
	case storage.MountFirst:
		return power.mount(ctx, e.layout)
	case storage.CreateSuperblock:
		return e.format(ctx, storage.FormatOptions{Adopt: true}, nil)
	case storage.AwaitFormat:
		if err := e.serveErasing(ctx); err != nil {
			return err
		}
		if e.srv.options.autoFormat && !e.erased() {
			return e.format(ctx, storage.FormatOptions{}, nil)
		}
		e.srv.raise(control.Event{Name: "engine_format_required", Severity: severityNotice, Rank: hostlist.NilRank,
			Msg: fmt.Sprintf("engine %d needs a %s format: %s", e.index, condition.Kind, condition.Reason)})
		e.srv.log.Info("waiting for `dmg storage format`", "engine", e.index)
		return engine.ErrAwaitFormat
	}
	return err
}

// format makes a superblock and executes the plan.
func (e *localEngine) format(ctx context.Context, o storage.FormatOptions, progress func(storage.Step)) error {
	_, err := e.formatResult(ctx, o, progress)
	return err
}

func (e *localEngine) formatResult(ctx context.Context, o storage.FormatOptions, progress func(storage.Step)) (storage.FormatResult, error) {
	superblock, err := storage.NewSuperblock(e.srv.cfg.Name, e.srv.domain)
	if err != nil {
		return storage.FormatResult{}, err
	}
	o.Superblock = superblock
	result, err := e.srv.privileged(ctx, e.layout).format(ctx, e.layout, o, progress)
	if err == nil {
		e.mu.Lock()
		e.known, e.member = false, hostlist.NilRank
		e.mu.Unlock()
	}
	return result, err
}

func (e *localEngine) loadSuperblock() error {
	superblock, err := storage.ReadSuperblock(e.layout.SuperblockPath())
	if err != nil {
		return err
	}
	if superblock.System != e.srv.cfg.Name {
		return fault.New(fault.WrongSystem, "cannot start engine %d: its storage %s was formatted for system %q, not %q",
			e.index, e.layout.SuperblockPath(), superblock.System, e.srv.cfg.Name).
			WithHint("set `name: %s`, or give the storage up with `dmg storage format --force`", superblock.System)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.superblock, e.known = superblock, true
	return nil
}

// updateSuperblock changes the superblock on disk and then in memory.
func (e *localEngine) updateSuperblock(change func(*storage.Superblock)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed := e.superblock
	change(&changed)
	if changed == e.superblock {
		return nil
	}
	if err := storage.WriteSuperblock(e.layout.SuperblockPath(), changed); err != nil {
		return err
	}
	e.superblock = changed
	return nil
}

// spec is the exact process to start.
func (e *localEngine) spec() (engine.Spec, error) {
	spec, err := e.binary()
	if err != nil {
		return spec, err
	}
	spec.Argv = engineArgs(e.srv.cfg, e.cfg, e.index, e.layout).Argv()
	env, err := engineEnv(e.cfg, e.layout, e.srv.fabricDomain(e.cfg)).Env(e.srv.tool.LookupEnv)
	if err != nil {
		return spec, err
	}
	if e.cfg.Emulated() && e.layout.SCM.Class == storage.Dir {
		// A directory has no size of its own; the emulator accounts against this.
		env = append(env, fmt.Sprintf("DAOS_EMULATOR_SCM_BYTES=%d", e.layout.SCM.SizeGiB<<30))
	}
	spec.Env = env
	spec.Dir = "/"
	e.srv.log.Info("starting an engine", "engine", e.index, "binary", spec.Binary, "argv", spec.Argv)
	e.srv.log.Debug("environment of the engine", "engine", e.index, "env", spec.Env)
	return spec, nil
}

// binary is the program of the engine.
func (e *localEngine) binary() (spec engine.Spec, err error) {
	switch binary := e.cfg.EngineBinary; {
	case binary == config.EngineEmulator:
		spec.Binary, spec.Arg0 = e.srv.tool.Executable, "daos_engine_emulator"
	case binary != "":
		spec.Binary, err = engine.FindBinary(binary, e.srv.tool.Getenv("PATH"), e.srv.tool.Executable)
	default:
		spec.Binary, err = engine.FindBinary("daos_engine", e.srv.tool.Getenv("PATH"), e.srv.tool.Executable)
	}
	return spec, err
}

// checkStart tells at once what can not work: a layout that this build does not
// support, no right to mount, no engine program, damaged files, storage or a
// database of another system. Nothing is changed, but that a replica whose storage
// is there is opened.
func (e *localEngine) checkStart(ctx context.Context) error {
	condition, err := e.srv.host.Check(ctx, e.layout)
	if err != nil {
		return err
	}
	action, err := storage.StartAction(e.layout, condition, e.srv.privileged(ctx, e.layout).euid)
	if err != nil {
		return err
	}
	if _, err := e.binary(); err != nil {
		return err
	}
	if action != storage.Proceed {
		return nil
	}
	if err := e.loadSuperblock(); err != nil {
		return err
	}
	if e.index == 0 {
		return e.srv.startService(ctx)
	}
	return nil
}

// join makes a reported engine a member: incarnation into the superblock, Join at
// the leader, rank into the superblock, SetRank, SetUp.
func (e *localEngine) join(ctx context.Context, n engine.Notify) error {
	log := e.srv.log.With("engine", e.index)
	log.Info("engine is ready to join", "uri", n.URI, "incarnation", n.Incarnation, "framing", n.Framing)
	err := e.updateSuperblock(func(sb *storage.Superblock) {
		sb.Incarnation = n.Incarnation
		sb.HostFaultDomain = e.srv.domain
	})
	if err != nil {
		return err
	}
	reply, err := e.askToJoin(ctx, n)
	if err != nil {
		e.srv.raise(control.Event{Name: "engine_join_failed", Severity: severityError, Rank: e.rank(), Msg: err.Error()})
		return err
	}
	log.Info("joined the system", "rank", reply.Rank, "map_version", reply.MapVersion, "state", reply.State)
	e.mu.Lock()
	e.member = reply.Rank
	e.mu.Unlock()
	if reply.State == cluster.JoinCheck {
		return fault.New(fault.Refused, "cannot start engine %d (rank %d): the system's checker is enabled, for which this server does not start engines",
			e.index, reply.Rank).WithHint("disable it with `dmg check disable`, then start the rank again")
	}
	err = e.updateSuperblock(func(sb *storage.Superblock) {
		rank := uint32(reply.Rank)
		if sb.Rank == nil || *sb.Rank != rank {
			sb.Rank = &rank
		}
		sb.ValidRank, sb.URI = true, n.URI
	})
	if err != nil {
		// The rank is kept by the system under the superblock's UUID: the next
		// start gets it again.
		return fault.Wrap(fault.Of(err), err, "cannot record rank %d of engine %d", reply.Rank, e.index)
	}
	e.mu.Lock()
	e.replace = false // it has what it asked for
	e.mu.Unlock()
	return e.setUp(ctx, n, uint32(reply.Rank), reply.MapVersion)
}

func (e *localEngine) setUp(ctx context.Context, n engine.Notify, rank, mapVersion uint32) error {
	answer := new(pb.DaosResp)
	err := drpc.Invoke(ctx, n.Socket, n.Framing, drpc.MethodSetRank, &pb.SetRankReq{Rank: rank, MapVersion: mapVersion}, answer)
	if err = errors.Join(err, drpc.StatusError(answer.GetStatus())); err != nil {
		return fault.Wrap(fault.Engine, err, "cannot give rank %d to engine %d", rank, e.index)
	}
	e.mu.Lock()
	e.ranked = &n
	e.mu.Unlock()
	e.srv.log.Info("engine took its rank, setting it up", "engine", e.index, "rank", rank)
	answer = new(pb.DaosResp)
	err = drpc.Invoke(ctx, n.Socket, n.Framing, drpc.MethodSetUp, nil, answer)
	if err = errors.Join(err, drpc.StatusError(answer.GetStatus())); err != nil {
		return fault.Wrap(fault.Engine, err, "cannot set up engine %d (rank %d)", e.index, rank)
	}
	return nil
}

// askToJoin repeats the join until the leader accepts or refuses it.
func (e *localEngine) askToJoin(ctx context.Context, n engine.Notify) (control.JoinResp, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTotal)
	defer cancel()
	req := e.joinRequest(n)
	pause := time.NewTicker(joinPause)
	defer pause.Stop()
	for told := ""; ; {
		attempt, done := context.WithTimeout(ctx, joinAttempt)
		reply, err := control.Ask(attempt, e.srv.client, control.SystemJoin, req, nil)
		done()
		if err == nil || !waitable(err) {
			return reply, err
		}
		if text := err.Error(); text != told {
			e.srv.log.Info("cannot join yet, trying on", "engine", e.index, "because", text)
			told = text
		}
		select {
		case <-ctx.Done():
			return reply, fault.Wrap(fault.Of(err), err, "cannot join the system")
		case <-pause.C:
		}
	}
}

// waitable reports whether an error of the management service passes by itself.
// Canceled is what a leader answers that loses its lead meanwhile.
func waitable(err error) bool {
	switch fault.Of(err) {
	case fault.Unreachable, fault.Timeout, fault.Canceled, fault.NoLeader, fault.NotLeader, fault.NotReplica, fault.NotReady, fault.Busy, fault.Protocol, fault.Unknown:
		return true
	}
	return false
}

func (e *localEngine) joinRequest(n engine.Notify) *control.JoinReq {
	e.mu.Lock()
	defer e.mu.Unlock()
	req := new(control.JoinReq)
	req.OpID = uuid.NewString()
	req.System = e.srv.cfg.Name
	req.UUID = e.superblock.UUID
	req.Rank = hostlist.NilRank
	if e.superblock.ValidRank && e.superblock.Rank != nil {
		req.Rank = hostlist.Rank(*e.superblock.Rank)
	} else if e.index == 0 && len(e.srv.replicas) > 0 && e.srv.replicas[0] == e.srv.self {
		req.Rank = 0 // reserved for the first engine of the first replica
	}
	req.Addr = e.srv.self
	req.FabricURI, req.FabricContexts = n.URI, n.Contexts
	req.SecondaryFabricURIs, req.SecondaryFabricContexts = n.SecondaryURIs, n.SecondaryContexts
	req.FaultDomain = e.srv.domain
	req.Index = e.index
	req.Incarnation = n.Incarnation
	req.CheckMode = n.CheckMode
	req.Replace = e.replace
	return req
}

// exited is told of the end of the engine's process.
func (e *localEngine) exited(exit engine.Exit) {
	e.mu.Lock()
	e.ranked = nil
	incarnation := e.superblock.Incarnation
	e.mu.Unlock()
	if exit.Notify != nil {
		incarnation = exit.Notify.Incarnation
		removeSocket(e.srv.cfg.SocketDir, exit.Notify.Socket)
	}
	if exit.Asked {
		return
	}
	e.srv.raise(control.Event{Name: "engine_died", StateChange: true, Severity: severityError, Rank: e.rank(),
		Incarnation: incarnation, Error: exit.Err.Error(), Msg: fmt.Sprintf("engine %d died: %v", e.index, exit.Err)})
}

// removeSocket takes the socket file of a dead engine away; engines leave it.
func removeSocket(dir, socket string) {
	if filepath.Dir(socket) == filepath.Clean(dir) {
		_ = os.Remove(socket)
	}
}

func (e *localEngine) changed(_, now engine.State) {
	e.srv.stateChanged(e, now)
}

// call sends one dRPC call to the engine, which must be ready.
func (e *localEngine) call(ctx context.Context, m drpc.Method, req, resp proto.Message) error {
	status := e.inst.Status()
	if status.State != engine.Ready {
		return fault.New(fault.InstanceNotReady, "cannot call engine %d: it is %s", e.index, status.State).
			WithHint("start it with `dmg system start`, or see the server's log")
	}
	return drpc.Invoke(ctx, status.Socket(), status.Framing(), m, req, resp)
}

// callRanked is call for what an engine takes as soon as it has its rank, before
// it is set up: group updates.
func (e *localEngine) callRanked(ctx context.Context, m drpc.Method, req, resp proto.Message) error {
	e.mu.Lock()
	n := e.ranked
	e.mu.Unlock()
	if n == nil {
		return fault.New(fault.InstanceNotReady, "cannot call engine %d: it has no rank yet", e.index)
	}
	return drpc.Invoke(ctx, n.Socket, n.Framing, m, req, resp)
}
