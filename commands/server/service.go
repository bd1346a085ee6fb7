package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"google.golang.org/protobuf/proto"
)

// raftService is the name under which replicas talk on the control port.
const raftService = "raft"

// Times of the election. A dead leader is missed after one to two heartbeats, so
// that writes go on within two seconds; a leader cut off from the others gives up
// before they elect another.
const (
	heartbeat = 800 * time.Millisecond
	lease     = 500 * time.Millisecond
	// commitNotice is the longest an idle leader waits before it tells followers
	// what is committed; each notice wakes all replicas.
	commitNotice = 250 * time.Millisecond
)

// isReplica reports whether this host runs a replica of the management service.
func (s *server) isReplica() bool {
	for _, replica := range s.replicas {
		if replica == s.self {
			return true
		}
	}
	return false
}

// replica is the local replica, nil while there is none.
func (s *server) replica() *cluster.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.service
}

// leader is the local replica for a request that only a leader answers; the error
// says where to ask instead. The service itself answers when it does not lead.
func (s *server) leader() (*cluster.Service, error) {
	if service := s.replica(); service != nil {
		return service, nil
	}
	if !s.isReplica() {
		return nil, cluster.NotReplica(s.replicas)
	}
	if mark, err := s.eraseMark(); err == nil && mark.Halted {
		return nil, halted()
	}
	return nil, fault.New(fault.NotReady, "cannot serve the management service yet: its storage (engine 0 of %s) is not ready", s.self).
		WithHint("format it with `dmg storage format`, or see why engine 0 does not start")
}

// startService opens the replica's database, once, when the storage of engine 0
// is there.
func (s *server) startService(context.Context) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if !s.isReplica() || s.replica() != nil {
		return nil
	}
	if s.ending() {
		return fault.New(fault.NotReady, "cannot open the management service: this server is stopping")
	}
	if mark, err := s.eraseMark(); err != nil {
		return err
	} else if mark.Halted {
		return halted()
	}
	service, err := cluster.Open(cluster.Config{
		Dir:         s.engines[0].layout.RaftDir(),
		Self:        s.self,
		Replicas:    s.replicas,
		System:      s.cfg.Name,
		Established: s.engines[0].rank() != hostlist.NilRank,
		Logger:      s.log,
		Listener:    s.lender.lend(s),
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return s.client.Dialer.DialService(ctx, addr, raftService)
		},
		Timers: cluster.Timers{Heartbeat: heartbeat, Election: heartbeat, Lease: lease, Commit: commitNotice},
		OnLead: s.onLead,
		Push:   s.pushGroupMap,
		// Every engine is readied by its own server, the leader's own too.
		Local: func(cluster.JoinRequest) bool { return false },
	})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	s.mu.Lock()
	s.service, s.serviceDone = service, done
	s.mu.Unlock()
	s.log.Info("management service: opened the replica", "dir", s.engines[0].layout.RaftDir(), "replicas", s.replicas)
	go func() {
		defer close(done)
		if err := service.Run(s.life); err != nil {
			s.fail(fmt.Errorf("management service ended: %w", err))
		}
	}()
	return nil
}

// stopServiceStep hands the lead over and closes the database. What takes longer
// than ctx goes on while the rest stops.
func (s *server) stopServiceStep(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.opening.Lock() // what opens it is done
	defer s.opening.Unlock()
	s.mu.Lock()
	service, done := s.service, s.serviceDone
	s.mu.Unlock()
	if service == nil {
		return
	}
	s.tasks.Go(func() {
		if err := service.Close(); err != nil {
			s.log.Error("cannot close the management service", "error", err)
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
		s.log.Warn("the management service takes long to stop")
		s.tasks.Go(func() { <-done })
	}
}

// onLead does what a new leader owes the old one: pools that were being destroyed
// are destroyed, creations that nobody waits for are cleaned up.
func (s *server) onLead(ctx context.Context) error {
	s.log.Info("management service: this replica leads now")
	for _, pool := range s.replica().Local().Pools() {
		if pool.State != cluster.PoolReady {
			s.finishLater(ctx, pool)
		}
	}
	return nil
}

// finishPause is the time between two tries of finishLater.
const finishPause = 2 * time.Second

// finishLater ends in the background what is left of a pool's creation or
// destruction: the engines may not be up yet, and requests should not wait for
// them. It goes on as long as this replica leads; the next leader finds the rest.
func (s *server) finishLater(lead context.Context, pool *cluster.PoolRecord) {
	log := s.log.With("pool", pool.Label, "uuid", pool.UUID, "was", pool.State)
	s.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(lead, cancel)()
		told := ""
		for {
			err := s.finish(ctx, pool.UUID)
			switch {
			case err == nil:
				log.Info("finished what was left of a pool")
				return
			case ctx.Err() != nil, fault.Of(err) == fault.NotLeader:
				return
			case err.Error() != told:
				told = err.Error()
				log.Info("cannot finish what is left of a pool yet, trying on", "error", err)
			}
			if !pause(ctx, finishPause) {
				return
			}
		}
	})
}

// finish destroys a pool that is neither being created by a client, who holds its
// lock, nor Ready by now.
func (s *server) finish(ctx context.Context, uuid string) error {
	service, err := s.leader()
	if err != nil {
		return err
	}
	ctx, unlock, err := service.LockPool(ctx, uuid, "clean up")
	if err != nil {
		return err
	}
	defer unlock()
	view, err := service.Read(ctx)
	if err != nil {
		return err
	}
	pool, err := view.Pool(uuid)
	if fault.Of(err) == fault.NotFound || err == nil && pool.State == cluster.PoolReady {
		return nil
	}
	if err != nil {
		return err
	}
	// Recorded before an engine is asked: a late event of the pool's service must
	// not make what is being destroyed Ready.
	done, err := service.Apply(ctx, "", cluster.DestroyPool{UUID: pool.UUID})
	if err != nil {
		return err
	}
	return s.removePool(ctx, done.Pool, nil)
}

// pushGroupMap tells one engine of the group map; it tells the others.
func (s *server) pushGroupMap(ctx context.Context, g cluster.GroupMap) error {
	req := &pb.GroupUpdateReq{MapVersion: g.Version}
	for _, e := range g.Entries {
		req.Engines = append(req.Engines, &pb.GroupUpdateReq_Engine{Rank: uint32(e.Rank), Uri: e.URI, Incarnation: e.Incarnation})
	}
	resp := new(pb.GroupUpdateResp)
	if err := s.callEngine(ctx, drpc.MethodGroupUpdate, req, resp); err != nil {
		return err
	}
	if err := drpc.StatusError(resp.GetStatus()); err != nil {
		return fault.Wrap(fault.Engine, err, "cannot update the group map to version %d", g.Version)
	}
	s.log.Info("group map sent to the engines", "version", g.Version, "ranks", len(g.Entries))
	return nil
}

// callEngine has an engine carry out a call of the management service: the first
// of this host that can, else one of another host. Which one does not matter, the
// engines find the pool's service among themselves.
//
// A rank is joined a moment before its engine is set up; a call that finds no other
// engine waits for that.
func (s *server) callEngine(ctx context.Context, m drpc.Method, req, resp proto.Message) error {
	wait, cancel := context.WithTimeout(ctx, setUpWait)
	defer cancel()
	for {
		err := s.callAny(ctx, m, req, resp)
		if err == nil || !notServed(err) || m == drpc.MethodGroupUpdate || !s.settingUp() || !pause(wait, setUpPause) {
			return err
		}
	}
}

const (
	setUpWait  = 10 * time.Second
	setUpPause = 50 * time.Millisecond
)

// settingUp reports whether an engine of this host is about to take calls.
func (s *server) settingUp() bool {
	return slices.ContainsFunc(s.engines, func(e *localEngine) bool { return e.inst.Status().State == engine.Joining })
}

// callAny tries each host's engines once.
func (s *server) callAny(ctx context.Context, m drpc.Method, req, resp proto.Message) error {
	err := s.callLocal(ctx, m, req, resp)
	if err == nil || !notServed(err) {
		return err
	}
	service := s.replica()
	if service == nil {
		return err
	}
	body, e := proto.Marshal(req)
	if e != nil {
		return fault.Wrap(fault.Internal, e, "cannot encode %s", m)
	}
	asked := map[string]bool{s.self: true}
	for _, member := range service.Local().Members(cluster.StatesAvailable) {
		if asked[member.Addr] {
			continue
		}
		asked[member.Addr] = true
		answer, e := s.callRemote(ctx, member.Addr, m, body)
		if e == nil {
			s.log.Debug("another host's engine carried a call", "method", m, "host", member.Addr)
			return proto.Unmarshal(answer.Body, resp)
		}
		if !notServed(e) && fault.Of(e) != fault.Unreachable {
			return e
		}
		err = e
	}
	return fault.Wrap(fault.InstanceNotReady, err, "cannot find an engine for %s", m).
		WithHint("start ranks with `dmg system start`; see them with `dmg system query`")
}

// Times of an engine that is there. One that hangs answers neither a ping nor a
// group update, and must not hold the service: another one is asked then.
const (
	pingTime        = 2 * time.Second
	groupUpdateTime = 5 * time.Second
)

// callRemote has another host's engine carry out a call.
func (s *server) callRemote(ctx context.Context, addr string, m drpc.Method, body []byte) (control.EngineCallResp, error) {
	if m == drpc.MethodGroupUpdate {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*groupUpdateTime)
		defer cancel()
	}
	answer, err := control.Call(ctx, s.client, addr, control.EngineCall, &control.EngineCallReq{Method: int32(m), Body: body}, nil)
	if m == drpc.MethodGroupUpdate {
		err = hung(err)
	}
	return answer, err
}

// callLocal tries the engines of this host in order.
func (s *server) callLocal(ctx context.Context, m drpc.Method, req, resp proto.Message) error {
	err := error(fault.New(fault.InstanceNotReady, "cannot call %s: this host has no engine that runs", m))
	for _, e := range s.engines {
		if !s.trusted(e) {
			continue
		}
		if err = s.callOne(ctx, e, m, req, resp); err == nil || !notServed(err) {
			return err
		}
	}
	return err
}

// trusted leaves out an engine that the system has excluded: its process may be
// there, but hung or cut off.
func (s *server) trusted(e *localEngine) bool {
	service := s.replica()
	if service == nil {
		return true
	}
	m := service.Local().Member(e.rank())
	return m == nil || m.State&cluster.StatesAvailable != 0
}

// callOne has one engine carry out a call, if it answers at all. What an engine has
// begun is not given to another, but for a group update, which may come twice.
func (s *server) callOne(ctx context.Context, e *localEngine, m drpc.Method, req, resp proto.Message) error {
	if m == drpc.MethodGroupUpdate {
		ctx, cancel := context.WithTimeout(ctx, groupUpdateTime)
		defer cancel()
		return hung(e.callRanked(ctx, m, req, resp))
	}
	ping, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	if err := hung(e.call(ping, drpc.MethodPingRank, nil, new(pb.DaosResp))); err != nil {
		return err
	}
	return e.call(ctx, m, req, resp)
}

// hung makes an engine that did not answer one that does not serve.
func hung(err error) error {
	if fault.Of(err) == fault.Timeout {
		return fault.Wrap(fault.InstanceNotReady, err, "cannot use an engine that hangs")
	}
	return err
}

// notServed reports whether a call did not reach an engine at all, so that another
// engine may be asked without doing anything twice.
func notServed(err error) bool {
	return errors.Is(err, fault.Kind(fault.InstanceNotReady))
}

// carried are the calls that a server carries for the leader.
var carried = map[drpc.Method]bool{
	drpc.MethodGroupUpdate: true, drpc.MethodPoolCreate: true, drpc.MethodPoolDestroy: true, drpc.MethodPoolQuery: true,
	drpc.MethodPoolGetProp: true, drpc.MethodPoolSetProp: true, drpc.MethodPoolGetACL: true, drpc.MethodPoolUpdateACL: true,
	drpc.MethodPoolOverwriteACL: true, drpc.MethodPoolDeleteACL: true, drpc.MethodPoolEvict: true,
	drpc.MethodListContainers: true, drpc.MethodGetGroupStatus: true,
}

func (s *server) engineCall(ctx context.Context, _ control.Caller, req *control.EngineCallReq, _ control.Report) (control.EngineCallResp, error) {
	m := drpc.Method(req.Method)
	info, ok := m.Info()
	if !ok || !carried[m] && !slices.Contains(targetCalls, m) {
		return control.EngineCallResp{}, fault.New(fault.Refused, "cannot carry %s to an engine: it is no call of the management service", m)
	}
	call, reply := info.Request(), info.Reply()
	if err := proto.Unmarshal(req.Body, call); err != nil {
		return control.EngineCallResp{}, fault.Wrap(fault.Usage, err, "cannot decode %s", m)
	}
	if err := s.callLocal(ctx, m, call, reply); err != nil {
		return control.EngineCallResp{}, err
	}
	body, err := proto.Marshal(reply)
	return control.EngineCallResp{Body: body}, err
}

// stateChanged reacts to the life of a local engine: one that can take calls again
// makes pending group updates possible.
func (s *server) stateChanged(e *localEngine, now engine.State) {
	if service := s.replica(); service != nil && now == engine.Ready {
		service.RequestGroupUpdate(false)
	}
}
