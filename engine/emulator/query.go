package emulator

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// Bits of the query mask.
const (
	querySpace    = 1
	queryEnabled  = 4
	queryDisabled = 8
	queryDead     = 16
	querySelfHeal = 64
	// queryDefault stands for a mask of 0: all but what must be asked for.
	queryDefault = ^uint64(queryEnabled | queryDead | querySelfHeal)
)

// targetSpace is the space of one target of a rank, bytes.
type targetSpace struct {
	Total   [2]uint64 `json:"total"`
	Free    [2]uint64 `json:"free"`
	MemFile uint64    `json:"mem_file_bytes"`
}

// memberSpace is the space of a pool on a rank.
type memberSpace struct {
	Targets int         `json:"targets"`
	Each    targetSpace `json:"each"` // all targets are alike
	MDonSSD bool        `json:"md_on_ssd"`
}

// opSpace tells the space of a pool here.
func (e *engine) opSpace(_ context.Context, body json.RawMessage) (any, error) {
	var in poolID
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, drpc.StatusInval
	}
	held, ok := e.store.shard(in.UUID)
	if !ok {
		return nil, drpc.StatusNonexist
	}
	n := uint64(held.Targets)
	scm, nvme := held.SCM/n, held.NVMe/n
	return memberSpace{
		Targets: held.Targets, MDonSSD: e.store.ledger.mdOnSSD(),
		Each: targetSpace{
			Total:   [2]uint64{scm, nvme},
			Free:    [2]uint64{usable(scm, targetOwnSCM), usable(nvme, targetOwnNVMe)},
			MemFile: held.MemFile / n,
		},
	}, nil
}

// spaces asks the ranks of a pool for their space; those that do not answer are
// missing from the result.
func (e *engine) spaces(ctx context.Context, s *service) map[uint32]memberSpace {
	found := make(map[uint32]memberSpace)
	var mu sync.Mutex
	ranks := s.rankList(func(*poolRank) bool { return true })
	keep := func(rank uint32, space memberSpace) {
		mu.Lock()
		defer mu.Unlock()
		found[rank] = space
	}
	self, _ := e.group.self()
	if slices.Contains(ranks, self) {
		body, _ := json.Marshal(poolID{s.UUID})
		if out, err := e.opSpace(ctx, body); err == nil {
			keep(self, out.(memberSpace))
		}
	}
	e.forEach(ctx, ranks, func(ctx context.Context, m member) error {
		var out memberSpace
		err := e.fabric.call(ctx, m, opSpace, poolID{s.UUID}, &out)
		if err != nil {
			e.log.Info("rank does not tell its space", "pool", s.UUID, "err", err)
			return nil
		}
		keep(m.Rank, out)
		return nil
	})
	return found
}

func poolQuery(ctx context.Context, e *engine, s *service, req *pb.PoolQueryReq) (proto.Message, bool, error) {
	mask := req.GetQueryMask()
	if mask == 0 {
		mask = queryDefault
	}
	self, _ := e.group.self()
	out := &pb.PoolQueryResp{
		Uuid: req.GetId(), Version: s.MapVersion, TotalEngines: uint32(len(s.Ranks)),
		PoolLayoutVer: layoutVersion, UpgradeLayoutVer: layoutVersion,
		SvcLdr: self, SvcReps: req.GetSvcRanks(), QueryMask: mask,
		Rebuild:       &pb.PoolRebuildStatus{State: pb.PoolRebuildStatus_IDLE},
		TierStats:     []*pb.StorageUsageStats{{}, {MediaType: pb.StorageMediaType_NVME}},
		MdOnSsdActive: e.store.ledger.mdOnSSD(),
	}
	for _, r := range s.Ranks {
		for _, t := range r.Targets {
			out.TotalTargets++
			if t != pb.PoolQueryTargetInfo_UP_IN {
				out.DisabledTargets++
			}
			// A target that is down and not yet out is one whose data was not
			// rebuilt elsewhere.
			out.Rebuild.Degraded = out.Rebuild.Degraded || t == pb.PoolQueryTargetInfo_DOWN
		}
	}
	if s.Rebuilt {
		out.Rebuild.State = pb.PoolRebuildStatus_DONE
	}
	if mask&queryEnabled != 0 {
		out.EnabledRanks = rankSet(s.rankList((*poolRank).enabled))
	}
	if mask&queryDisabled != 0 {
		out.DisabledRanks = rankSet(s.rankList(func(r *poolRank) bool { return !r.enabled() }))
	}
	if mask&queryDead != 0 {
		dead := e.beats.dead()
		out.DeadRanks = rankSet(s.rankList(func(r *poolRank) bool { return slices.Contains(dead, r.Rank) }))
	}
	if mask&querySpace != 0 {
		addSpace(out, s, e.spaces(ctx, s))
	}
	return out, false, nil
}

// addSpace sums the space of the targets that take part.
func addSpace(out *pb.PoolQueryResp, s *service, spaces map[uint32]memberSpace) {
	for _, r := range s.Ranks {
		space, ok := spaces[r.Rank]
		if !ok {
			continue
		}
		for _, state := range r.Targets {
			if state != pb.PoolQueryTargetInfo_UP_IN {
				continue
			}
			out.ActiveTargets++
			out.MemFileBytes += space.Each.MemFile
			for tier, stats := range out.TierStats {
				total, free := space.Each.Total[tier], space.Each.Free[tier]
				if out.ActiveTargets == 1 || free < stats.Min {
					stats.Min = free
				}
				stats.Total += total
				stats.Free += free
				stats.Max = max(stats.Max, free)
			}
		}
	}
	if out.ActiveTargets > 0 {
		for _, stats := range out.TierStats {
			stats.Mean = stats.Free / uint64(out.ActiveTargets)
		}
	}
}

func poolQueryTargets(ctx context.Context, e *engine, s *service, req *pb.PoolQueryTargetReq) (proto.Message, bool, error) {
	r := s.rank(req.GetRank())
	if r == nil {
		return nil, false, drpc.StatusNonexist
	}
	if _, err := r.picks(req.GetTargets()); err != nil {
		return nil, false, err
	}
	space, known := e.spaces(ctx, s)[r.Rank]
	out := new(pb.PoolQueryTargetResp)
	for _, i := range req.GetTargets() {
		info := &pb.PoolQueryTargetInfo{
			State: r.Targets[i],
			Space: []*pb.StorageTargetUsage{{}, {MediaType: pb.StorageMediaType_NVME}},
		}
		if info.State == pb.PoolQueryTargetInfo_UP_IN && known {
			info.MemFileBytes, info.MdOnSsdActive = space.Each.MemFile, space.MDonSSD
			for tier, usage := range info.Space {
				usage.Total, usage.Free = space.Each.Total[tier], space.Each.Free[tier]
			}
		}
		out.Infos = append(out.Infos, info)
	}
	return out, false, nil
}
