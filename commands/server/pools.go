package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"github.com/google/uuid"
)

// servePools sets the handlers of the pool methods.
func (s *server) servePools() {
	control.Handle(s.mux, control.PoolCreate, s.poolCreate)
	control.Handle(s.mux, control.PoolDestroy, s.poolDestroy)
	control.Handle(s.mux, control.PoolList, s.poolList)
	control.Handle(s.mux, control.PoolQuery, s.poolQuery)
	control.Handle(s.mux, control.PoolGetProp, s.poolGetProp)
	control.Handle(s.mux, control.PoolSetProp, s.poolSetProp)
	control.Handle(s.mux, control.PoolGetACL, s.poolGetACL)
	control.Handle(s.mux, control.PoolUpdateACL, s.poolUpdateACL)
	control.Handle(s.mux, control.PoolReplaceACL, s.poolReplaceACL)
	control.Handle(s.mux, control.PoolDeleteACL, s.poolDeleteACL)
	control.Handle(s.mux, control.PoolEvict, s.poolEvict)
}

// Bounds of a pool (engine-lifecycle.md §11, cli.md §3.6).
const (
	maxReplicas   = 9
	minSCMTarget  = 16 << 20
	minNVMeTarget = 1 << 30
)

// Codes of the inherited table that pools raise.
const (
	codeNoLabel       fault.Code = 615
	codeHasContainers fault.Code = 618
)

// maxLabel is the length of the longest label in bytes.
const maxLabel = 127

// isLabel is not a regular expression, since that one, with its count, would cost
// every start of every tool half a millisecond.
func isLabel(text string) bool {
	const chars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._-"
	return text != "" && len(text) <= maxLabel && strings.Trim(text, chars) == ""
}

func checkLabel(label string) error {
	if label == "" {
		return fault.New(codeNoLabel, "cannot create a pool without a label").WithHint("give it a label: dmg pool create LABEL")
	}
	if _, err := uuid.Parse(label); err == nil || !isLabel(label) {
		return fault.New(fault.Usage, "cannot use pool label %.140q: want 1 to 127 letters, digits, and :._- that are no UUID", label)
	}
	return nil
}

// poolCreate records the intent, has the engines create, and records the outcome.
// A repeated request, known by the UUID that the client chose, gets the first
// one's answer.
func (s *server) poolCreate(ctx context.Context, _ control.Caller, req *control.PoolCreateReq, report control.Report) (control.PoolCreateResp, error) {
	var resp control.PoolCreateResp
	service, err := s.leader()
	if err != nil {
		return resp, err
	}
	if err := checkLabel(req.Label); err != nil {
		return resp, err
	}
	id, err := uuid.Parse(req.UUID)
	if err != nil {
		return resp, fault.Wrap(fault.Usage, err, "cannot create pool %q: its UUID %.64q is none", req.Label, req.UUID)
	}
	req.UUID = id.String()
	held, unlock, err := service.LockPool(ctx, req.UUID, "create")
	if fault.Of(err) == fault.PoolLocked {
		// A former attempt of the same request is still being dealt with.
		return resp, fault.Wrap(fault.NotReady, err, "cannot create pool %q yet", req.Label)
	}
	if err != nil {
		return resp, err
	}
	defer unlock()
	ctx = held
	view, err := service.Read(ctx)
	if err != nil {
		return resp, err
	}
	if known, err := view.Pool(req.UUID); err == nil && known.State == cluster.PoolReady {
		return s.createdBefore(ctx, known)
	} else if err == nil {
		if view, err = s.forget(ctx, service, known); err != nil {
			return resp, err
		}
	}
	call, err := s.createCall(view, req)
	if err != nil {
		return resp, err
	}
	stored := cluster.PoolStorage{CreationRanks: ranksOf(call.Ranks), PerRankTierBytes: call.TierBytes, MemRatio: req.MemRatio}
	report(control.Progress{Subject: req.Label, Text: fmt.Sprintf("creating on %d ranks", len(call.Ranks)), Total: 2})
	if _, err := service.Apply(ctx, "", cluster.AddPool{UUID: req.UUID, Label: req.Label, Storage: stored}); err != nil {
		return resp, labelTaken(err, req.Label)
	}
	s.log.Info("creating a pool", "pool", req.Label, "uuid", req.UUID, "ranks", len(call.Ranks), "tier_bytes", call.TierBytes)
	return s.createOnEngines(ctx, service, req, call, report)
}

func labelTaken(err error, label string) error {
	if fault.Of(err) == fault.Exists {
		return fault.Wrap(fault.DuplicateLabel, err, "cannot create pool %q", label).
			WithHint("choose another label, or see the pool with `dmg pool query %s`", label)
	}
	return err
}

func (s *server) createOnEngines(ctx context.Context, service *cluster.Service, req *control.PoolCreateReq, call *pb.PoolCreateReq, report control.Report) (control.PoolCreateResp, error) {
	answer, err := s.askToCreate(ctx, service, call)
	if err != nil {
		s.abandonPool(ctx, service, req)
		e := fault.Wrap(fault.Engine, err, "cannot create pool %q", req.Label)
		if e.Status == int32(drpc.StatusNoSpace) {
			e.Code = fault.NoSpace
			e.Hint = "ask for less, or destroy a pool that nobody needs; `dmg pool list` shows what they take"
		}
		return control.PoolCreateResp{}, e
	}
	report(control.Progress{Subject: req.Label, Text: "recording", Done: 1, Total: 2})
	_, err = service.Apply(ctx, "", cluster.PoolReplicas{UUID: req.UUID, Replicas: ranksOf(answer.GetSvcReps())})
	if err != nil {
		return control.PoolCreateResp{}, err
	}
	s.log.Info("created a pool", "pool", req.Label, "uuid", req.UUID, "svc_reps", answer.GetSvcReps())
	return control.PoolCreateResp{
		UUID: req.UUID, SvcLeader: hostlist.Rank(answer.GetSvcLdr()), SvcReps: ranksOf(answer.GetSvcReps()),
		TargetRanks: ranksOf(answer.GetTgtRanks()), TierBytes: answer.GetTierBytes(),
		MemFileBytes: answer.GetMemFileBytes(), MDonSSDActive: answer.GetMdOnSsdActive(),
	}, nil
}

// cleanupTime bounds the first try to clean up after a creation that failed.
const cleanupTime = time.Minute

// abandonPool cleans up after a creation that failed: nothing of it may stay,
// neither on the engines nor in the database, also when its caller has gone. What
// cannot be cleaned up now is later, by this leader or the next.
func (s *server) abandonPool(ctx context.Context, service *cluster.Service, req *control.PoolCreateReq) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	// An event of the pool's service may have made it Ready; nobody is to use it.
	done, err := service.Apply(ctx, "", cluster.DestroyPool{UUID: req.UUID})
	if err == nil {
		err = s.removePool(ctx, done.Pool, nil)
	}
	if err == nil || fault.Of(err) == fault.NotFound {
		return
	}
	s.log.Error("cannot clean up after a failed pool creation, trying again later", "pool", req.Label, "error", err)
	if done.Pool != nil {
		s.finishLater(s.life, done.Pool)
	}
}

// Ranks that joined a moment ago may not be in the engines' group map yet.
const (
	groupMapWait  = 15 * time.Second
	groupMapPause = 100 * time.Millisecond
)

// askToCreate has the engines create the pool. It waits while they do not know all
// the ranks yet: they refuse then, without having done anything.
func (s *server) askToCreate(ctx context.Context, service *cluster.Service, call *pb.PoolCreateReq) (*pb.PoolCreateResp, error) {
	wait, cancel := context.WithTimeout(ctx, groupMapWait)
	defer cancel()
	for {
		answer := new(pb.PoolCreateResp)
		err := s.callEngine(ctx, drpc.MethodPoolCreate, call, answer)
		if err == nil {
			err = drpc.StatusError(answer.GetStatus())
		}
		status := drpc.Status(fault.StatusOf(err))
		if err == nil || status != drpc.StatusOOG && status != drpc.StatusGrpVer {
			return answer, err
		}
		service.RequestGroupUpdate(false)
		if !pause(wait, groupMapPause) {
			return nil, err
		}
	}
}

// forget cleans up what is left of a creation whose leader was lost, so that it can
// begin anew. What cannot be cleaned up yet makes the client come again.
func (s *server) forget(ctx context.Context, service *cluster.Service, pool *cluster.PoolRecord) (*cluster.View, error) {
	done, err := service.Apply(ctx, "", cluster.DestroyPool{UUID: pool.UUID})
	if err == nil {
		err = s.removePool(ctx, done.Pool, nil)
	}
	if err != nil && fault.Of(err) != fault.NotFound {
		return nil, fault.Wrap(fault.NotReady, err, "cannot create pool %q yet: a former attempt is not cleaned up", pool.Label)
	}
	return service.Read(ctx)
}

// createdBefore answers the repetition of a create that went well.
func (s *server) createdBefore(ctx context.Context, pool *cluster.PoolRecord) (control.PoolCreateResp, error) {
	answer, err := s.queryEngines(ctx, pool, drpc.QueryDefault)
	if err != nil {
		return control.PoolCreateResp{}, err
	}
	return control.PoolCreateResp{
		UUID: pool.UUID, SvcLeader: hostlist.Rank(answer.GetSvcLdr()), SvcReps: pool.Replicas, TargetRanks: pool.Storage.CreationRanks,
		TierBytes: pool.Storage.PerRankTierBytes, MemFileBytes: answer.GetMemFileBytes(), MDonSSDActive: answer.GetMdOnSsdActive(),
	}, nil
}

// poolOf finds a pool for a request that needs it Ready.
func (s *server) poolOf(ctx context.Context, id string) (*cluster.Service, *cluster.PoolRecord, error) {
	service, err := s.leader()
	if err != nil {
		return nil, nil, err
	}
	view, err := service.Read(ctx)
	if err != nil {
		return nil, nil, err
	}
	pool, err := view.Pool(id)
	if err != nil {
		return nil, nil, err
	}
	if pool.State != cluster.PoolReady {
		return nil, nil, fault.New(fault.Busy, "cannot use pool %q: it is %s", id, pool.State).WithStatus(int32(drpc.StatusAgain)).
			WithHint("try again; a pool that stays so can be destroyed")
	}
	return service, pool, nil
}

// poolDestroy destroys a pool: on its service first, which refuses while it is in
// use, then on all ranks, then in the database.
func (s *server) poolDestroy(ctx context.Context, _ control.Caller, req *control.PoolDestroyReq, report control.Report) (control.Empty, error) {
	service, err := s.leader()
	if err != nil {
		return control.Empty{}, err
	}
	view, err := service.Read(ctx)
	if err != nil {
		return control.Empty{}, err
	}
	pool, err := view.Pool(req.ID)
	if err != nil {
		// A retry of a destroy that worked finds the pool gone; its operation is
		// remembered.
		if done, e := service.Apply(ctx, req.OpID, cluster.RemovePool{UUID: uuid.Nil.String()}); e == nil && done.Replayed {
			return control.Empty{}, nil
		}
		return control.Empty{}, err
	}
	ctx, unlock, err := service.LockPool(ctx, pool.UUID, "destroy")
	if err != nil {
		return control.Empty{}, err
	}
	defer unlock()
	// Its state may have changed before the lock was ours.
	if view, err = service.Read(ctx); err != nil {
		return control.Empty{}, err
	}
	if pool, err = view.Pool(pool.UUID); err != nil {
		return control.Empty{}, err
	}
	if pool.State == cluster.PoolReady {
		report(control.Progress{Subject: pool.Label, Text: "closing", Total: 3})
		if err := s.closePool(ctx, pool, req); err != nil {
			return control.Empty{}, err
		}
	}
	if _, err := service.Apply(ctx, "", cluster.DestroyPool{UUID: pool.UUID}); err != nil {
		return control.Empty{}, err
	}
	s.log.Info("destroying a pool", "pool", pool.Label, "uuid", pool.UUID)
	report(control.Progress{Subject: pool.Label, Text: "destroying", Done: 1, Total: 3})
	return control.Empty{}, s.removePool(ctx, pool, &req.OpID)
}

// closePool makes sure that nobody loses what he did not mean to lose.
func (s *server) closePool(ctx context.Context, pool *cluster.PoolRecord, req *control.PoolDestroyReq) error {
	if !req.Recursive {
		answer := new(pb.ListContResp)
		err := s.callEngine(ctx, drpc.MethodListContainers, &pb.ListContReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas)}, answer)
		if err == nil {
			err = drpc.StatusError(answer.GetStatus())
		}
		if err != nil && !gone(err) {
			return fault.Wrap(fault.Of(err), err, "cannot destroy pool %q: its containers cannot be listed", pool.Label).
				WithHint("repeat with --recursive --force to destroy it with whatever is in it")
		}
		if n := len(answer.GetContainers()); n > 0 {
			return fault.New(codeHasContainers, "cannot destroy pool %q: it has %d container(s)", pool.Label, n).
				WithHint("repeat with --recursive to destroy them too")
		}
	}
	answer := new(pb.PoolEvictResp)
	err := s.callEngine(ctx, drpc.MethodPoolEvict, &pb.PoolEvictReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas), Destroy: true, ForceDestroy: req.Force}, answer)
	if err == nil {
		err = drpc.StatusError(answer.GetStatus())
	}
	switch {
	case err == nil || gone(err):
		return nil
	case fault.StatusOf(err) == int32(drpc.StatusBusy):
		return fault.Wrap(fault.Busy, err, "cannot destroy pool %q: it has %d open handle(s)", pool.Label, answer.GetCount()).
			WithHint("repeat with --force to close them")
	case req.Force:
		s.log.Warn("pool service did not close the pool, destroying it by force", "pool", pool.Label, "error", err)
		return nil
	}
	return fault.Wrap(fault.Engine, err, "cannot destroy pool %q", pool.Label)
}

// gone reports whether the engines do not know a pool (any more).
func gone(err error) bool {
	switch fault.StatusOf(err) {
	case int32(drpc.StatusNonexist), int32(drpc.StatusNotReplica):
		return true
	}
	return false
}

// removePool destroys a pool on all ranks and forgets it. opID is the client's
// operation, nil when there is none.
func (s *server) removePool(ctx context.Context, pool *cluster.PoolRecord, opID *string) error {
	service, err := s.leader()
	if err != nil {
		return err
	}
	req := &pb.PoolDestroyReq{Sys: s.cfg.Name, Id: pool.UUID, Force: true, Recursive: true}
	for _, e := range service.Local().GroupMap().Entries {
		req.SvcRanks = append(req.SvcRanks, uint32(e.Rank))
	}
	answer := new(pb.PoolDestroyResp)
	err = s.callEngine(ctx, drpc.MethodPoolDestroy, req, answer)
	if err == nil {
		err = drpc.StatusError(answer.GetStatus())
	}
	if err != nil && !gone(err) {
		return fault.Wrap(fault.Engine, err, "cannot destroy pool %q on its ranks", pool.Label).
			WithHint("repeat when all ranks are up; the pool stays Destroying until then")
	}
	id := ""
	if opID != nil {
		id = *opID
	}
	if _, err = service.Apply(ctx, id, cluster.RemovePool{UUID: pool.UUID}); err != nil && fault.Of(err) != fault.NotFound {
		return err
	}
	s.log.Info("a pool is gone", "pool", pool.Label, "uuid", pool.UUID)
	return nil
}
