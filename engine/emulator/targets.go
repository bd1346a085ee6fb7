package emulator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// States of a target, short.
const (
	stateDownOut = pb.PoolQueryTargetInfo_DOWN_OUT
	stateDown    = pb.PoolQueryTargetInfo_DOWN
	stateUp      = pb.PoolQueryTargetInfo_UP
	stateUpIn    = pb.PoolQueryTargetInfo_UP_IN
	stateNew     = pb.PoolQueryTargetInfo_NEW
	stateDrain   = pb.PoolQueryTargetInfo_DRAIN
)

// rankTargets finds the rank and targets that a request means.
func (s *service) rankTargets(rank uint32, listed []uint32) (*poolRank, []uint32, error) {
	r := s.rank(rank)
	if r == nil {
		return nil, nil, fmt.Errorf("%w: rank %d is not in the pool", drpc.StatusNonexist, rank)
	}
	picks, err := r.picks(listed)
	return r, picks, err
}

// heals reports whether the pool's self_heal has the bit and the system's has the
// word.
func (s *service) heals(bit uint64, word string) bool {
	system := s.SystemHeal == "" || slices.Contains(strings.Split(s.SystemHeal, ";"), word)
	return s.num(propSelfHeal)&bit != 0 && system
}

// exclude takes targets out of the pool. Where the pool may rebuild, the rebuild
// is over at once; else they stay down.
func (e *engine) exclude(ctx context.Context, s *service, r *poolRank, picks []uint32) bool {
	final := stateDown
	if s.heals(healRebuild, "pool_rebuild") && len(s.rankList((*poolRank).enabled)) > 0 {
		final = stateDownOut
	}
	from := s.MapVersion
	if !s.move(r, picks, []target{stateUpIn, stateUp, stateNew, stateDrain}, stateDown, final) {
		return false
	}
	if final == stateDownOut {
		e.tellRebuild(ctx, s, from+1, "Rebuild")
	}
	e.log.Warn("targets excluded from pool", "pool", s.UUID, "rank", r.Rank, "targets", fmt.Sprint(picks))
	return true
}

// excludeGone takes ranks that left the group out of a pool.
func (e *engine) excludeGone(ctx context.Context, s *service, gone []uint32) bool {
	if len(gone) == 0 || !s.heals(healExclude, "pool_exclude") {
		return false
	}
	changed := false
	for _, rank := range gone {
		r, picks, err := s.rankTargets(rank, nil)
		if err == nil && e.exclude(ctx, s, r, picks) {
			changed = true
		}
	}
	return changed
}

func poolExclude(ctx context.Context, e *engine, s *service, req *pb.PoolExcludeReq) (proto.Message, bool, error) {
	r, picks, err := s.rankTargets(req.GetRank(), req.GetTargetIdx())
	if err != nil {
		return nil, false, err
	}
	return new(pb.PoolExcludeResp), e.exclude(ctx, s, r, picks), nil
}

func poolDrain(ctx context.Context, e *engine, s *service, req *pb.PoolDrainReq) (proto.Message, bool, error) {
	r, picks, err := s.rankTargets(req.GetRank(), req.GetTargetIdx())
	if err != nil {
		return nil, false, err
	}
	from := s.MapVersion
	changed := s.move(r, picks, []target{stateUpIn}, stateDrain, stateDownOut)
	if changed {
		e.tellRebuild(ctx, s, from+1, "Rebuild")
	}
	return new(pb.PoolDrainResp), changed, nil
}

func poolReint(ctx context.Context, e *engine, s *service, req *pb.PoolReintReq) (proto.Message, bool, error) {
	r, picks, err := s.rankTargets(req.GetRank(), req.GetTargetIdx())
	if err != nil {
		return nil, false, err
	}
	if n := len(req.GetTierBytes()); n > 2 {
		return nil, false, fmt.Errorf("%w: %d tier sizes", drpc.StatusInval, n)
	}
	// A rank that lost its storage gets a new shard; one that still has it keeps it.
	in := memberCreate{UUID: s.UUID, Tiers: s.TierBytes, MemFile: s.MemFile}
	if _, err := e.createShards(ctx, []uint32{r.Rank}, in); err != nil && !errors.Is(err, drpc.StatusExist) {
		return nil, false, err
	}
	from := s.MapVersion
	changed := s.move(r, picks, []target{stateDown, stateDownOut, stateDrain}, stateUp, stateUpIn)
	if changed {
		e.tellRebuild(ctx, s, from+1, "Reintegrate")
	}
	return new(pb.PoolReintResp), changed, nil
}

func poolExtend(ctx context.Context, e *engine, s *service, req *pb.PoolExtendReq) (proto.Message, bool, error) {
	out := &pb.PoolExtendResp{TierBytes: req.GetTierBytes()}
	if n := len(req.GetTierBytes()); n < 1 || n > 2 || len(req.GetRanks()) == 0 || len(req.GetRanks()) > maxPoolRanks {
		return out, false, drpc.StatusInval
	}
	in := memberCreate{UUID: s.UUID, MemFile: req.GetTierBytes()[0]}
	copy(in.Tiers[:], req.GetTierBytes())
	if ratio := req.GetMemRatio(); ratio > 0 && ratio <= 1 && e.store.ledger.mdOnSSD() {
		in.MemFile = uint64(float64(in.MemFile) * float64(ratio))
	}
	ranks := slices.Compact(slices.Sorted(slices.Values(req.GetRanks())))
	for _, rank := range ranks {
		if s.rank(rank) != nil {
			return out, false, drpc.StatusAlready
		}
		if _, ok := e.group.member(rank); !ok {
			return out, false, drpc.StatusOOG
		}
	}
	domains, err := faultDomains(req.GetFaultDomains(), ranks)
	if err != nil {
		return out, false, err
	}
	shards, err := e.createShards(ctx, ranks, in)
	if err != nil {
		return out, false, err
	}
	for _, rank := range ranks {
		s.Ranks = append(s.Ranks, poolRank{
			Rank: rank, Domain: domains[rank], Targets: slices.Repeat([]target{stateNew}, shards[rank].Targets),
		})
	}
	slices.SortFunc(s.Ranks, func(a, b poolRank) int { return cmp.Compare(a.Rank, b.Rank) })
	from := s.MapVersion
	s.MapVersion += 2 // new, then in, as if data had been moved to them
	for _, rank := range ranks {
		r := s.rank(rank)
		r.Targets = slices.Repeat([]target{stateUpIn}, len(r.Targets))
	}
	s.Rebuilt = true
	e.tellRebuild(ctx, s, from+1, "Extend")
	return out, true, nil
}

// poolRebuildStart has nothing to rebuild when no target waits for it; targets
// that are down go out.
func poolRebuildStart(ctx context.Context, e *engine, s *service, _ *pb.PoolRebuildStartReq) (proto.Message, bool, error) {
	changed, from := false, s.MapVersion
	for i := range s.Ranks {
		r := &s.Ranks[i]
		for t := range r.Targets {
			if r.Targets[t] == stateDown {
				r.Targets[t] = stateDownOut
				changed = true
			}
		}
	}
	if changed {
		s.MapVersion++
		s.Rebuilt = true
		e.tellRebuild(ctx, s, from, "Rebuild")
	}
	return new(pb.DaosResp), changed, nil
}

// poolRebuildStop never finds a rebuild: they are over at once.
func poolRebuildStop(context.Context, *engine, *service, *pb.PoolRebuildStopReq) (proto.Message, bool, error) {
	return nil, false, drpc.StatusNonexist
}

// poolSelfHealEval takes the system's self-healing policy and applies it to ranks
// that are missing already.
func poolSelfHealEval(ctx context.Context, e *engine, s *service, req *pb.PoolSelfHealEvalReq) (proto.Message, bool, error) {
	if !validSelfHeal(req.GetSysPropVal()) {
		return nil, false, drpc.StatusInval
	}
	changed := s.SystemHeal != req.GetSysPropVal()
	s.SystemHeal = req.GetSysPropVal()
	var gone []uint32
	self, _ := e.group.self()
	for _, rank := range s.rankList((*poolRank).enabled) {
		if _, ok := e.group.member(rank); !ok && rank != self {
			gone = append(gone, rank)
		}
	}
	return new(pb.DaosResp), e.excludeGone(ctx, s, gone) || changed, nil
}

// validSelfHeal checks a value of the system property self_heal.
func validSelfHeal(text string) bool {
	if text == "none" {
		return true
	}
	for _, word := range strings.Split(text, ";") {
		if word != "exclude" && word != "pool_exclude" && word != "pool_rebuild" {
			return false
		}
	}
	return true
}

// poolUpgrade finds every pool in the newest format.
func poolUpgrade(context.Context, *engine, *service, *pb.PoolUpgradeReq) (proto.Message, bool, error) {
	return new(pb.DaosResp), false, nil
}

// poolEvict closes handles: those listed, those of a machine, or all; with destroy
// it refuses while handles are open, unless forced.
func poolEvict(_ context.Context, _ *engine, s *service, req *pb.PoolEvictReq) (proto.Message, bool, error) {
	match := func(handle) bool { return true }
	switch {
	case len(req.GetHandles()) > 0:
		match = func(h handle) bool { return slices.Contains(req.GetHandles(), h.UUID) }
	case req.GetDestroy():
		if !req.GetForceDestroy() && len(s.Handles) > 0 {
			return &pb.PoolEvictResp{Count: int32(len(s.Handles))}, false, drpc.StatusBusy
		}
	case req.GetMachine() != "":
		match = func(h handle) bool { return h.Machine == req.GetMachine() }
	}
	before := len(s.Handles)
	s.Handles = slices.DeleteFunc(s.Handles, match)
	count := before - len(s.Handles)
	return &pb.PoolEvictResp{Count: int32(count)}, count > 0, nil
}

func poolListContainers(_ context.Context, _ *engine, s *service, _ *pb.ListContReq) (proto.Message, bool, error) {
	out := new(pb.ListContResp)
	for _, c := range s.Containers {
		out.Containers = append(out.Containers, &pb.ListContResp_Cont{Uuid: c.UUID})
	}
	return out, false, nil
}

func poolContSetOwner(_ context.Context, _ *engine, s *service, req *pb.ContSetOwnerReq) (proto.Message, bool, error) {
	for _, owner := range []string{req.GetOwnerUser(), req.GetOwnerGroup()} {
		if owner != "" && !validPrincipal(owner) {
			return nil, false, drpc.StatusInval
		}
	}
	for i, c := range s.Containers {
		if c.UUID == req.GetContId() || c.Label != "" && c.Label == req.GetContId() {
			s.Containers[i].User = cmp.Or(req.GetOwnerUser(), c.User)
			s.Containers[i].Group = cmp.Or(req.GetOwnerGroup(), c.Group)
			return new(pb.DaosResp), true, nil
		}
	}
	return nil, false, drpc.StatusNonexist
}
