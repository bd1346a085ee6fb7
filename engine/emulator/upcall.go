package emulator

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

func (e *engine) serverSocket() string { return filepath.Join(e.opts.socketDir, "daos_server.sock") }

// notifyReady reports to the server. There is no time limit, as with a real
// engine: the server decides how long it waits.
func (e *engine) notifyReady(ctx context.Context) error {
	req := &pb.NotifyReadyReq{
		Uri: e.fabric.uri, Nctxs: uint32(e.opts.targets + e.opts.helpers + 2), DrpcListenerSock: e.socket,
		InstanceIdx: e.opts.index, Ntgts: uint32(e.opts.targets), Incarnation: e.incarnation, CheckMode: e.opts.check,
	}
	err := drpc.Invoke(ctx, e.serverSocket(), e.cfg.framing(), drpc.MethodNotifyReady, req, nil)
	if err != nil {
		return fault.Wrap(fault.Engine, err, "cannot report ready to daos_server").
			WithHint("start engines by daos_server; a real engine would hang here")
	}
	return nil
}

// event makes an event of this engine; ok is false when the release has no such
// event.
func (e *engine) event(name, text string, kind, severity uint32) (*pb.RASEvent, bool) {
	id, ok := drpc.EventID(e.cfg.release, name)
	if !ok {
		return nil, false
	}
	rank, ranked := e.group.self()
	if !ranked {
		rank = nilRank
	}
	return &pb.RASEvent{
		Id: id, Msg: shorten(text), Timestamp: timestamp(time.Now()), Type: kind, Severity: severity,
		Hostname: e.host, Rank: rank, ProcId: uint64(e.pid),
	}, true
}

// shorten keeps the text of an event to what engines send; a $ marks the cut.
func shorten(text string) string {
	const limit = 127
	if len(text) <= limit {
		return text
	}
	return text[:limit-1] + "$"
}

// post sends an event without waiting for the answer.
func (e *engine) post(ctx context.Context, event *pb.RASEvent) {
	ctx, cancel := context.WithTimeout(ctx, upcallTimeout)
	defer cancel()
	err := drpc.Post(ctx, e.serverSocket(), e.cfg.framing(), drpc.MethodClusterEvent, &pb.ClusterEventReq{Event: event})
	if err != nil {
		e.log.Error("cannot raise event", "event", event.GetMsg(), "err", err)
	}
}

// tellDead reports a rank that the failure detector found dead.
func (e *engine) tellDead(ctx context.Context, dead member) {
	event, ok := e.event(drpc.EventSwimRankDead, "SWIM marked rank as dead.", drpc.EventStateChange, drpc.SeverityNotice)
	if !ok {
		return
	}
	event.Rank, event.Incarnation, event.ThreadId = dead.Rank, dead.Incarnation, 1
	e.log.Warn("rank is dead", "rank", dead.Rank, "incarnation", dead.Incarnation)
	e.post(ctx, event)
}

// tellRebuild reports a rebuild that is over already.
func (e *engine) tellRebuild(ctx context.Context, s *service, mapVersion uint32, op string) {
	for _, step := range []string{"started", "finished"} {
		event, ok := e.event("pool_rebuild_"+step, "Pool rebuild "+step+".", drpc.EventInfo, drpc.SeverityNotice)
		if !ok {
			return
		}
		event.PoolUuid = s.UUID
		event.ExtendedInfo = &pb.RASEvent_StrInfo{StrInfo: fmt.Sprintf("map_ver: [%d] op: [%s]", mapVersion, op)}
		e.post(ctx, event)
	}
}

// tellDevice reports what was done to a device.
func (e *engine) tellDevice(ctx context.Context, name, text string, good bool) {
	severity := drpc.SeverityNotice
	if !good {
		severity = drpc.SeverityError
	}
	event, ok := e.event(name, text, drpc.EventInfo, severity)
	if !ok {
		return
	}
	event.ThreadId = 3
	event.ExtendedInfo = &pb.RASEvent_StrInfo{}
	e.post(ctx, event)
}

// tellReplicas reports the replicas of a pool service that has a new leader, and
// waits for the answer.
func (e *engine) tellReplicas(ctx context.Context, s *service) {
	event, ok := e.event(drpc.EventPoolReplicasUpdated, "List of pool service replica ranks has been updated.",
		drpc.EventStateChange, drpc.SeverityNotice)
	if !ok {
		return
	}
	event.PoolUuid = s.UUID
	event.ExtendedInfo = &pb.RASEvent_PoolSvcInfo{
		PoolSvcInfo: &pb.RASEvent_PoolSvcEventInfo{SvcReps: s.Replicas, Version: s.Term},
	}
	ctx, cancel := context.WithTimeout(ctx, upcallTimeout)
	defer cancel()
	err := drpc.Invoke(ctx, e.serverSocket(), e.cfg.framing(), drpc.MethodClusterEvent,
		&pb.ClusterEventReq{Event: event}, new(pb.ClusterEventResp))
	if err != nil {
		e.log.Error("cannot tell the replicas of a pool service", "pool", s.UUID, "err", err)
	}
}

// systemSelfHeal asks the server for the system's self-healing policy; releases
// up to 2.6 have none.
func (e *engine) systemSelfHeal(ctx context.Context) (string, bool) {
	if !drpc.MethodGetSysProps.In(e.cfg.release) {
		return "", false
	}
	ctx, cancel := context.WithTimeout(ctx, upcallTimeout)
	defer cancel()
	out := new(pb.SystemGetPropResp)
	err := drpc.Invoke(ctx, e.serverSocket(), e.cfg.framing(), drpc.MethodGetSysProps,
		&pb.SystemGetPropReq{Sys: e.opts.group, Keys: []string{"self_heal"}}, out)
	if err != nil {
		e.log.Warn("cannot read system property self_heal", "err", err)
		return "", false
	}
	heal := out.GetProperties()["self_heal"]
	return heal, validSelfHeal(heal)
}

// poolReplicas asks the server where the service of a pool is.
func (e *engine) poolReplicas(ctx context.Context, id string) ([]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, upcallTimeout)
	defer cancel()
	out := new(pb.GetPoolSvcResp)
	err := drpc.Invoke(ctx, e.serverSocket(), e.cfg.framing(), drpc.MethodGetPoolSvc, &pb.GetPoolSvcReq{Uuid: id}, out)
	if err != nil {
		return nil, err
	}
	return out.GetSvcreps(), drpc.StatusError(out.GetStatus())
}
