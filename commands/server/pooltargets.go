package server

import (
	"context"
	"slices"
	"strings"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"google.golang.org/protobuf/proto"
)

// servePoolTargets sets the handlers of the methods that change which targets a
// pool uses.
func (s *server) servePoolTargets() {
	control.Handle(s.mux, control.PoolExclude, s.poolRanksVerb("exclude ranks of", s.excludeRank))
	control.Handle(s.mux, control.PoolDrain, s.poolRanksVerb("drain ranks of", s.drainRank))
	control.Handle(s.mux, control.PoolReintegrate, s.poolRanksVerb("reintegrate ranks of", s.reintRank))
	control.Handle(s.mux, control.PoolExtend, s.poolExtend)
	control.Handle(s.mux, control.PoolUpgrade, s.poolUpgrade)
	control.Handle(s.mux, control.PoolQueryTargets, s.poolQueryTargets)
	control.Handle(s.mux, control.PoolRebuildStart, s.poolRebuildStart)
	control.Handle(s.mux, control.PoolRebuildStop, s.poolRebuildStop)
}

// targetCalls are the calls of this part that another server may be asked to carry.
var targetCalls = []drpc.Method{
	drpc.MethodPoolExclude, drpc.MethodPoolDrain, drpc.MethodPoolReint, drpc.MethodPoolExtend, drpc.MethodPoolUpgrade,
	drpc.MethodPoolQueryTargets, drpc.MethodPoolRebuildStart, drpc.MethodPoolRebuildStop, drpc.MethodPoolSelfHealEval,
}

// statusReply is an engine's answer that says how it went.
type statusReply interface {
	proto.Message
	GetStatus() int32
}

// askPool has an engine carry out a call; a status of the answer that is not 0 is
// the error.
func (s *server) askPool(ctx context.Context, m drpc.Method, req proto.Message, answer statusReply) error {
	err := s.callEngine(ctx, m, req, answer)
	if err == nil {
		err = drpc.StatusError(answer.GetStatus())
	}
	return err
}

// rankCall does something with targets of one rank of a pool.
type rankCall func(ctx context.Context, pool *cluster.PoolRecord, rank hostlist.Rank, req *control.PoolRanksReq) error

func (s *server) excludeRank(ctx context.Context, pool *cluster.PoolRecord, rank hostlist.Rank, req *control.PoolRanksReq) error {
	err := s.askPool(ctx, drpc.MethodPoolExclude, &pb.PoolExcludeReq{Sys: s.cfg.Name, Id: pool.UUID, Rank: uint32(rank),
		TargetIdx: req.Targets, SvcRanks: numbersOf(pool.Replicas), Force: req.Force}, new(pb.PoolExcludeResp))
	if fault.StatusOf(err) == int32(drpc.StatusRF) {
		return fault.Wrap(fault.Engine, err, "the pool would fall below its redundancy factor; repeat with --force to exclude all the same")
	}
	return err
}

func (s *server) drainRank(ctx context.Context, pool *cluster.PoolRecord, rank hostlist.Rank, req *control.PoolRanksReq) error {
	return s.askPool(ctx, drpc.MethodPoolDrain, &pb.PoolDrainReq{Sys: s.cfg.Name, Id: pool.UUID, Rank: uint32(rank),
		TargetIdx: req.Targets, SvcRanks: numbersOf(pool.Replicas)}, new(pb.PoolDrainResp))
}

// reintRank gives the sizes with which the pool was created: the rank may have lost
// its storage.
func (s *server) reintRank(ctx context.Context, pool *cluster.PoolRecord, rank hostlist.Rank, req *control.PoolRanksReq) error {
	return s.askPool(ctx, drpc.MethodPoolReint, &pb.PoolReintReq{Sys: s.cfg.Name, Id: pool.UUID, Rank: uint32(rank),
		TargetIdx: req.Targets, SvcRanks: numbersOf(pool.Replicas), TierBytes: pool.Storage.PerRankTierBytes,
		MemRatio: float32(pool.Storage.MemRatio)}, new(pb.PoolReintResp))
}

// poolRanksVerb is the handler of a method that goes over the ranks of a pool.
func (s *server) poolRanksVerb(what string, call rankCall) func(context.Context, control.Caller, *control.PoolRanksReq, control.Report) (control.PoolRanksResp, error) {
	return func(ctx context.Context, _ control.Caller, req *control.PoolRanksReq, _ control.Report) (control.PoolRanksResp, error) {
		resp := control.PoolRanksResp{ID: req.ID, Results: []control.PoolRankResult{}}
		if req.Ranks == nil || req.Ranks.Len() == 0 {
			return resp, fault.New(fault.Usage, "cannot %s pool %q: no rank is named", what, req.ID)
		}
		service, pool, err := s.poolOf(ctx, req.ID)
		if err != nil {
			return resp, err
		}
		resp.Results, err = s.eachRank(ctx, service, pool, what, req, call)
		return resp, err
	}
}

// eachRank makes the call for one rank after the other, since each is a change of
// the pool's map; what fails for one does not keep the others from being tried.
func (s *server) eachRank(ctx context.Context, service *cluster.Service, pool *cluster.PoolRecord, what string, req *control.PoolRanksReq, call rankCall) ([]control.PoolRankResult, error) {
	ctx, unlock, err := service.LockPool(ctx, pool.UUID, what)
	if err != nil {
		return nil, err
	}
	defer unlock()
	results := []control.PoolRankResult{}
	for _, rank := range req.Ranks.Slice() {
		result := control.PoolRankResult{Rank: rank}
		if err := call(ctx, pool, rank, req); err != nil {
			if e := ctx.Err(); e != nil && len(results) == 0 {
				return nil, err // given up, or the lead is lost, before anything was done
			}
			result.Errored, result.Msg = true, err.Error()
		}
		s.log.Info(what+" a pool", "pool", pool.Label, "uuid", pool.UUID, "rank", rank, "targets", req.Targets, "error", result.Msg)
		results = append(results, result)
	}
	return results, nil
}

// poolExtend adds joined ranks to a pool, with the sizes that its ranks have.
func (s *server) poolExtend(ctx context.Context, _ control.Caller, req *control.PoolExtendReq, _ control.Report) (control.Empty, error) {
	if req.Ranks == nil || req.Ranks.Len() == 0 {
		return control.Empty{}, fault.New(fault.Usage, "cannot extend pool %q: no rank is named", req.ID)
	}
	service, pool, err := s.poolOf(ctx, req.ID)
	if err != nil {
		return control.Empty{}, err
	}
	ctx, unlock, err := service.LockPool(ctx, pool.UUID, "extend")
	if err != nil {
		return control.Empty{}, err
	}
	defer unlock()
	if missing, err := s.notYetIn(ctx, pool, req.Ranks); err != nil || missing.Len() == 0 {
		if err == nil && s.extended(ctx, service, req.OpID) {
			return control.Empty{}, nil // the answer to the first try was lost
		}
		if err == nil {
			err = fault.New(fault.Exists, "cannot extend pool %q: it has the ranks %s", pool.Label, req.Ranks).
				WithHint("if they were excluded, take them back with `dmg pool reintegrate`")
		}
		return control.Empty{}, err
	}
	view := service.Local()
	members, err := joinedMembers(view, req.Ranks, pool.Label)
	if err != nil {
		return control.Empty{}, err
	}
	tree, err := faultTree(view, members)
	if err != nil {
		return control.Empty{}, err
	}
	call := &pb.PoolExtendReq{Sys: s.cfg.Name, Id: pool.UUID, Ranks: numbersOf(req.Ranks.Slice()), SvcRanks: numbersOf(pool.Replicas),
		TierBytes: pool.Storage.PerRankTierBytes, FaultDomains: tree, MemRatio: float32(pool.Storage.MemRatio)}
	if err := s.askPool(ctx, drpc.MethodPoolExtend, call, new(pb.PoolExtendResp)); err != nil {
		return control.Empty{}, fault.Wrap(fault.Engine, err, "cannot extend pool %q to ranks %s", pool.Label, req.Ranks)
	}
	// Recorded under the operation's id, by which a repetition knows that it is one.
	stored := pool.Storage
	stored.CreationRanks = hostlist.Ranks(append(slices.Clone(stored.CreationRanks), req.Ranks.Slice()...)...).Slice()
	_, err = service.Apply(ctx, req.OpID, cluster.UpdatePool{UUID: pool.UUID, Storage: &stored})
	s.log.Info("extended a pool", "pool", pool.Label, "uuid", pool.UUID, "ranks", req.Ranks)
	return control.Empty{}, err
}

// notYetIn are those of the ranks that a pool does not have, in whatever state.
func (s *server) notYetIn(ctx context.Context, pool *cluster.PoolRecord, ranks *hostlist.RankSet) (*hostlist.RankSet, error) {
	has, err := s.ranksOfPool(ctx, pool)
	if err != nil {
		return nil, err
	}
	missing := hostlist.Ranks()
	for _, rank := range ranks.Slice() {
		if !has.enabled.Contains(rank) && !has.disabled.Contains(rank) {
			missing.Add(rank)
		}
	}
	return missing, nil
}

// extended reports whether an extension of this id was recorded. The probe names a
// pool that there is not, so that it changes nothing itself.
func (s *server) extended(ctx context.Context, service *cluster.Service, id string) bool {
	if id == "" {
		return false
	}
	none := "00000000-0000-0000-0000-000000000000"
	result, err := service.Apply(ctx, id, cluster.UpdatePool{UUID: none})
	return err == nil && result.Replayed
}

// joinedMembers are the members of ranks, all of which must be able to take part.
func joinedMembers(view *cluster.View, ranks *hostlist.RankSet, pool string) ([]*cluster.Member, error) {
	var members []*cluster.Member
	missing := hostlist.Ranks()
	for _, rank := range ranks.Slice() {
		m := view.Member(rank)
		if m == nil || m.State&cluster.StatesAvailable == 0 {
			missing.Add(rank)
			continue
		}
		members = append(members, m)
	}
	if missing.Len() > 0 {
		return nil, fault.New(fault.NotFound, "cannot extend pool %q to ranks %s: they are not joined", pool, missing).
			WithHint("see the ranks with `dmg system query`")
	}
	return members, nil
}

// poolMap is the ranks of a pool: those all of whose targets take part, and the
// others.
type poolMap struct{ enabled, disabled *hostlist.RankSet }

func (s *server) ranksOfPool(ctx context.Context, pool *cluster.PoolRecord) (poolMap, error) {
	answer, err := s.queryEngines(ctx, pool, drpc.QueryEnabledEngines|drpc.QueryDisabledEngines)
	if err != nil {
		return poolMap{}, err
	}
	var m poolMap
	if m.enabled, err = hostlist.ParseRanks(strings.Trim(answer.GetEnabledRanks(), "[]")); err == nil {
		m.disabled, err = hostlist.ParseRanks(strings.Trim(answer.GetDisabledRanks(), "[]"))
	}
	if err != nil {
		return m, fault.Wrap(fault.Protocol, err, "cannot read the answer of pool %q", pool.Label)
	}
	return m, nil
}

func (s *server) poolUpgrade(ctx context.Context, _ control.Caller, req *control.PoolUpgradeReq, _ control.Report) (control.Empty, error) {
	return control.Empty{}, s.poolDo(ctx, req.ID, "upgrade", func(ctx context.Context, pool *cluster.PoolRecord) error {
		return s.askPool(ctx, drpc.MethodPoolUpgrade, &pb.PoolUpgradeReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas)}, new(pb.DaosResp))
	})
}

// poolDo makes a change of a pool that is one call, holding the pool.
func (s *server) poolDo(ctx context.Context, id, verb string, call func(context.Context, *cluster.PoolRecord) error) error {
	service, pool, err := s.poolOf(ctx, id)
	if err != nil {
		return err
	}
	ctx, unlock, err := service.LockPool(ctx, pool.UUID, verb)
	if err != nil {
		return err
	}
	defer unlock()
	if err := call(ctx, pool); err != nil {
		return fault.Wrap(fault.Engine, err, "cannot %s pool %q", verb, pool.Label)
	}
	s.log.Info("changed a pool", "pool", pool.Label, "uuid", pool.UUID, "by", verb)
	return nil
}

func (s *server) poolRebuildStart(ctx context.Context, _ control.Caller, req *control.PoolRebuildReq, _ control.Report) (control.Empty, error) {
	if req.Force {
		return control.Empty{}, fault.New(fault.Usage, "cannot start a rebuild by force: only a stop has that")
	}
	return control.Empty{}, s.poolDo(ctx, req.ID, "start the rebuild of", func(ctx context.Context, pool *cluster.PoolRecord) error {
		return s.rebuild(ctx, pool, control.RebuildStart, false)
	})
}

func (s *server) poolRebuildStop(ctx context.Context, _ control.Caller, req *control.PoolRebuildReq, _ control.Report) (control.Empty, error) {
	return control.Empty{}, s.poolDo(ctx, req.ID, "stop the rebuild of", func(ctx context.Context, pool *cluster.PoolRecord) error {
		return s.rebuild(ctx, pool, control.RebuildStop, req.Force)
	})
}

func (s *server) rebuild(ctx context.Context, pool *cluster.PoolRecord, op control.RebuildOp, force bool) error {
	if op == control.RebuildStart {
		return s.askPool(ctx, drpc.MethodPoolRebuildStart, &pb.PoolRebuildStartReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas)}, new(pb.DaosResp))
	}
	return s.askPool(ctx, drpc.MethodPoolRebuildStop, &pb.PoolRebuildStopReq{Sys: s.cfg.Name, Id: pool.UUID, Force: force, SvcRanks: numbersOf(pool.Replicas)}, new(pb.DaosResp))
}

// maxTargets is more targets than a rank can have.
const maxTargets = 1024

func (s *server) poolQueryTargets(ctx context.Context, _ control.Caller, req *control.PoolQueryTargetsReq, _ control.Report) (control.PoolQueryTargetsResp, error) {
	resp := control.PoolQueryTargetsResp{Infos: []control.PoolTarget{}}
	_, pool, err := s.poolOf(ctx, req.ID)
	if err != nil {
		return resp, err
	}
	targets := req.Targets
	if len(targets) == 0 {
		if targets, err = s.allTargets(ctx, pool); err != nil {
			return resp, err
		}
	}
	if len(targets) > maxTargets {
		return resp, fault.New(fault.Usage, "cannot query %d targets at once: at most %d", len(targets), maxTargets)
	}
	answer := new(pb.PoolQueryTargetResp)
	err = s.askPool(ctx, drpc.MethodPoolQueryTargets, &pb.PoolQueryTargetReq{Sys: s.cfg.Name, Id: pool.UUID, Rank: uint32(req.Rank),
		Targets: targets, SvcRanks: numbersOf(pool.Replicas)}, answer)
	if err != nil {
		return resp, fault.Wrap(fault.Engine, err, "cannot query targets of rank %d of pool %q", req.Rank, pool.Label)
	}
	for _, info := range answer.GetInfos() {
		target := control.PoolTarget{State: strings.ToLower(info.GetState().String()), Space: []control.TierStats{},
			MemFileBytes: info.GetMemFileBytes(), MDonSSDActive: info.GetMdOnSsdActive()}
		for _, tier := range info.GetSpace() {
			target.Space = append(target.Space, control.TierStats{Total: tier.GetTotal(), Free: tier.GetFree(),
				MediaType: strings.ToLower(tier.GetMediaType().String())})
		}
		resp.Infos = append(resp.Infos, target)
	}
	return resp, nil
}

// allTargets are the numbers of the targets that each rank of a pool has.
func (s *server) allTargets(ctx context.Context, pool *cluster.PoolRecord) ([]uint32, error) {
	answer, err := s.queryEngines(ctx, pool, drpc.QueryDisabledEngines)
	if err != nil {
		return nil, err
	}
	if answer.GetTotalEngines() == 0 || answer.GetTotalTargets()/answer.GetTotalEngines() > maxTargets {
		return nil, fault.New(fault.Protocol, "cannot tell the targets of pool %q: it has %d targets on %d engines", pool.Label,
			answer.GetTotalTargets(), answer.GetTotalEngines())
	}
	targets := make([]uint32, answer.GetTotalTargets()/answer.GetTotalEngines())
	for i := range targets {
		targets[i] = uint32(i)
	}
	return targets, nil
}
