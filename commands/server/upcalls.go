package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/commands/control"
	"daosbox/engine"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// upcall answers what an engine asks its server (drpc.md §4.1).
func (s *server) upcall(ctx context.Context, call *drpc.Call) (proto.Message, error) {
	switch call.Method {
	case drpc.MethodNotifyReady:
		return nil, s.notifyReady(call)
	case drpc.MethodClusterEvent:
		return s.clusterEvent(call)
	case drpc.MethodGetPoolSvc:
		return s.getPoolSvc(call)
	case drpc.MethodPoolFindByLabel:
		return s.findPool(call)
	case drpc.MethodListPools:
		return s.listPoolsForEngine(call)
	case drpc.MethodCheckListPool:
		return s.listPoolsForChecker()
	case drpc.MethodGetSysProps:
		return s.getSysProps(ctx, call)
	case drpc.MethodValidateCredential:
		return s.validateCredential(call)
	}
	return nil, drpc.ErrUnknownMethod
}

func (s *server) notifyReady(call *drpc.Call) error {
	req := new(pb.NotifyReadyReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return err
	}
	index := int(req.GetInstanceIdx())
	if index < 0 || index >= len(s.engines) {
		return fault.New(fault.Engine, "cannot let engine %d in: this host has %d", index, len(s.engines))
	}
	if err := s.engines[index].ownProcess(call.Peer.PID); err != nil {
		return err
	}
	info, err := os.Stat(req.GetDrpcListenerSock())
	if err == nil && info.Mode()&fs.ModeSocket == 0 {
		err = errors.New("it is no socket")
	}
	if err != nil {
		return fault.Wrap(fault.Engine, err, "cannot use the socket %q of engine %d", req.GetDrpcListenerSock(), index)
	}
	return s.engines[index].inst.NotifyReady(engine.Notify{
		URI: req.GetUri(), Contexts: req.GetNctxs(), Socket: req.GetDrpcListenerSock(), Index: index,
		Targets: req.GetNtgts(), Incarnation: req.GetIncarnation(), CheckMode: req.GetCheckMode(),
		SecondaryURIs: req.GetSecondaryUris(), SecondaryContexts: req.GetSecondaryNctxs(), Framing: call.Framing,
	})
}

// ownProcess refuses a report from another process than the engine that was
// started, or one of its group (a wrapper may start the engine). The kernel tells
// who calls; 0 means a process outside of this PID name space, which it cannot name.
func (e *localEngine) ownProcess(pid int32) error {
	own := e.inst.Status().PID
	if pid == 0 || own == 0 || int(pid) == own {
		return nil // without a process of its own the instance refuses by itself
	}
	if group, err := unix.Getpgid(int(pid)); err == nil && group == own {
		return nil
	}
	return fault.New(fault.Permission, "cannot let engine %d in: process %d reports it ready, but process %d was started", e.index, pid, own)
}

// clusterEvent takes an event of a local engine. The answer does not wait for the
// leader: engines that ask for one only want it delivered to their server.
func (s *server) clusterEvent(call *drpc.Call) (proto.Message, error) {
	req := new(pb.ClusterEventReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return nil, err
	}
	e := req.GetEvent()
	if e == nil {
		return nil, fault.New(fault.Usage, "cannot take a cluster event without an event")
	}
	event := control.Event{
		Name: drpc.EventOf(call.Framing, e), Msg: e.GetMsg(), Timestamp: e.GetTimestamp(),
		StateChange: e.GetType() == drpc.EventStateChange, Severity: e.GetSeverity(), Hostname: e.GetHostname(),
		Rank: hostlist.Rank(e.GetRank()), Incarnation: e.GetIncarnation(), PoolUUID: e.GetPoolUuid(),
	}
	if event.Name == "" {
		event.Name = fmt.Sprintf("event_%d", e.GetId())
	}
	if svc := e.GetPoolSvcInfo(); svc != nil {
		event.Replicas, event.Version = ranksOf(svc.GetSvcReps()), svc.GetVersion()
	}
	s.raise(event)
	if event.Name == "engine_self_terminated" && !event.StateChange {
		s.restart.selfTerminated(s, event.Rank)
	}
	return &pb.ClusterEventResp{Sequence: req.GetSequence()}, nil
}

func ranksOf(numbers []uint32) []hostlist.Rank {
	ranks := make([]hostlist.Rank, len(numbers))
	for i, n := range numbers {
		ranks[i] = hostlist.Rank(n)
	}
	return ranks
}

func numbersOf(ranks []hostlist.Rank) []uint32 {
	numbers := make([]uint32, len(ranks))
	for i, rank := range ranks {
		numbers[i] = uint32(rank)
	}
	return numbers
}

// getPoolSvc answers from the local replica, without asking the leader.
func (s *server) getPoolSvc(call *drpc.Call) (proto.Message, error) {
	req := new(pb.GetPoolSvcReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return nil, err
	}
	pool, ok := s.readyPool(req.GetUuid())
	if !ok {
		return &pb.GetPoolSvcResp{Status: int32(drpc.StatusNonexist)}, nil
	}
	return &pb.GetPoolSvcResp{Svcreps: numbersOf(pool.Replicas)}, nil
}

func (s *server) findPool(call *drpc.Call) (proto.Message, error) {
	req := new(pb.PoolFindByLabelReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return nil, err
	}
	pool, ok := s.readyPool(req.GetLabel())
	if !ok || pool.Label != req.GetLabel() {
		return &pb.PoolFindByLabelResp{Status: int32(drpc.StatusNonexist)}, nil
	}
	return &pb.PoolFindByLabelResp{Uuid: pool.UUID, Svcreps: numbersOf(pool.Replicas)}, nil
}

func (s *server) readyPool(id string) (*cluster.PoolRecord, bool) {
	service := s.replica()
	if service == nil {
		return nil, false
	}
	pool, err := service.Local().Pool(id)
	if err != nil || pool.State != cluster.PoolReady {
		return nil, false
	}
	return pool, true
}

func (s *server) listPoolsForEngine(call *drpc.Call) (proto.Message, error) {
	req := new(pb.ListPoolsReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return nil, err
	}
	service := s.replica()
	if service == nil {
		return nil, cluster.NotReplica(s.replicas)
	}
	resp := new(pb.ListPoolsResp)
	for _, pool := range service.Local().Pools() {
		if pool.State == cluster.PoolReady || req.GetIncludeAll() {
			resp.Pools = append(resp.Pools, &pb.ListPoolsResp_Pool{Uuid: pool.UUID, Label: pool.Label, Svcreps: numbersOf(pool.Replicas)})
		}
	}
	return resp, nil
}

// listPoolsForChecker lists every pool whatever its state, from the local replica:
// a read that changes nothing, whether a checker runs or not.
func (s *server) listPoolsForChecker() (proto.Message, error) {
	service := s.replica()
	if service == nil {
		return nil, cluster.NotReplica(s.replicas)
	}
	resp := new(pb.CheckListPoolResp)
	for _, pool := range service.Local().Pools() {
		resp.Pools = append(resp.Pools, &pb.CheckListPoolResp_OnePool{Uuid: pool.UUID, Label: pool.Label, Svcreps: numbersOf(pool.Replicas)})
	}
	return resp, nil
}

// getSysProps forwards to the leader.
func (s *server) getSysProps(ctx context.Context, call *drpc.Call) (proto.Message, error) {
	req := new(pb.SystemGetPropReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return nil, err
	}
	answer, err := control.Ask(ctx, s.client, control.SystemGetProp, &control.SystemGetPropReq{Keys: req.GetKeys()}, nil)
	if err != nil {
		return nil, err
	}
	resp := &pb.SystemGetPropResp{Properties: make(map[string]string)}
	for _, property := range answer.Properties {
		resp.Properties[property.Key] = property.Value
	}
	return resp, nil
}

// validateCredential is the server's security module: is this credential one that
// an agent of the system made? The certificate is read at every call, so that a
// replaced one counts at once.
func (s *server) validateCredential(call *drpc.Call) (proto.Message, error) {
	req := new(pb.ValidateCredReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return nil, err
	}
	var verify func(data, signature []byte) error
	if s.identity != nil && req.GetCred() != nil {
		cert, err := pki.LoadClientCert(s.cfg.Transport.ClientCertDir, filepath.Base(req.GetCred().GetOrigin()))
		if err != nil {
			s.log.Warn("cannot validate a credential", "origin", req.GetCred().GetOrigin(), "error", err, "hint", fault.HintOf(err))
			return &pb.ValidateCredResp{Status: int32(drpc.StatusNoCert)}, nil
		}
		verify = func(data, signature []byte) error { return pki.Verify(cert, data, signature) }
	}
	status := drpc.VerifyCredential(req.GetCred(), verify)
	resp := &pb.ValidateCredResp{Status: int32(status)}
	if status == drpc.StatusOK {
		resp.Token = req.GetCred().GetToken()
	} else {
		s.log.Warn("refused a credential", "origin", req.GetCred().GetOrigin(), "status", status)
	}
	return resp, nil
}
