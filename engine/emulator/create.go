package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// maxPoolRanks bounds the ranks of a request.
const maxPoolRanks = 1 << 16

// memberCreate asks a rank to make its shard of a pool.
type memberCreate struct {
	UUID    string    `json:"uuid"`
	Tiers   [2]uint64 `json:"tiers"` // bytes on this rank
	MemFile uint64    `json:"mem_file_bytes"`
}

// memberShard describes a shard that was made.
type memberShard struct {
	Targets int    `json:"targets"`
	MemFile uint64 `json:"mem_file_bytes"`
}

// poolCreate serves 207: all ranks make their shards or none does; then the
// service is put on its replicas, and its leader steps up.
func (e *engine) poolCreate(ctx context.Context, req *pb.PoolCreateReq) (proto.Message, error) {
	s, count, err := e.planPool(req)
	if err != nil {
		return nil, err
	}
	ranks := s.rankList(func(*poolRank) bool { return true })
	shards, err := e.createShards(ctx, ranks, memberCreate{UUID: s.UUID, Tiers: s.TierBytes, MemFile: s.MemFile})
	if err != nil {
		return nil, err
	}
	for i := range s.Ranks {
		s.Ranks[i].Targets = slices.Repeat([]target{pb.PoolQueryTargetInfo_UP_IN}, shards[s.Ranks[i].Rank].Targets)
	}
	s.Replicas = chooseReplicas(s.UUID, s.Ranks, count, nil)
	if err := e.startService(ctx, s); err != nil {
		e.destroyShards(context.WithoutCancel(ctx), s.UUID, ranks)
		return nil, fmt.Errorf("cannot start the service of pool %s: %w", s.UUID, err)
	}
	e.log.Info("pool created", "pool", s.UUID, "label", s.Label, "ranks", rankSet(ranks), "replicas", rankSet(s.Replicas))
	return &pb.PoolCreateResp{
		SvcLdr: s.Replicas[0], SvcReps: s.Replicas, TgtRanks: ranks, TierBytes: s.TierBytes[:],
		MemFileBytes: s.MemFile, MdOnSsdActive: e.store.ledger.mdOnSSD(),
	}, nil
}

// planPool checks a request and makes the state of the pool from it, and the
// wanted number of replicas.
func (e *engine) planPool(req *pb.PoolCreateReq) (*service, int, error) {
	id, err := uuid.Parse(req.GetUuid())
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("%w: pool %q is no UUID", drpc.StatusInval, req.GetUuid())
	case len(req.GetTierBytes()) != 2 || req.GetTotalBytes() != 0:
		return nil, 0, fmt.Errorf("%w: two tier sizes are needed", drpc.StatusInval)
	case len(req.GetRanks()) == 0 || len(req.GetRanks()) > maxPoolRanks:
		return nil, 0, fmt.Errorf("%w: a pool needs ranks", drpc.StatusInval)
	case !validPrincipal(req.GetUser()) || !validPrincipal(req.GetUserGroup()):
		return nil, 0, fmt.Errorf("%w: a pool needs an owner and a group", drpc.StatusInval)
	case req.GetMemRatio() < 0 || req.GetMemRatio() > 1:
		return nil, 0, fmt.Errorf("%w: memory ratio %v", drpc.StatusInval, req.GetMemRatio())
	}
	if _, ok := e.group.self(); !ok {
		return nil, 0, drpc.StatusProto
	}
	ranks := slices.Compact(slices.Sorted(slices.Values(req.GetRanks())))
	for _, r := range ranks {
		if _, ok := e.group.member(r); !ok {
			return nil, 0, fmt.Errorf("%w: rank %d", drpc.StatusOOG, r)
		}
	}
	domains, err := faultDomains(req.GetFaultDomains(), ranks)
	if err != nil {
		return nil, 0, err
	}
	s := &service{
		UUID: id.String(), User: req.GetUser(), Group: req.GetUserGroup(), Props: make(map[uint32]uint64),
		MapVersion: 1, TierBytes: [2]uint64(req.GetTierBytes()), MemFile: req.GetTierBytes()[0],
	}
	if ratio := req.GetMemRatio(); ratio > 0 && e.store.ledger.mdOnSSD() {
		s.MemFile = uint64(float64(s.MemFile) * float64(ratio))
	}
	for _, r := range ranks {
		s.Ranks = append(s.Ranks, poolRank{Rank: r, Domain: domains[r]})
	}
	if s.ACL, err = buildACL(req.GetAcl()); err != nil {
		return nil, 0, err
	}
	if err := s.setProps(req.GetProperties()); err != nil {
		return nil, 0, err
	}
	count := int(min(req.GetNumSvcReps(), maxPoolRanks))
	if count == 0 {
		count = 2*int(s.num(propSvcRF)) + 1
	}
	return s, count, nil
}

// createShards makes the shards of a pool on all ranks; when one fails those that
// were made are removed again.
func (e *engine) createShards(ctx context.Context, ranks []uint32, in memberCreate) (map[uint32]memberShard, error) {
	made := make(map[uint32]memberShard, len(ranks))
	var mu sync.Mutex
	var failures []error
	var g errgroup.Group
	g.SetLimit(16)
	for _, rank := range ranks {
		g.Go(func() error {
			var out memberShard
			err := e.askRank(ctx, rank, opShardCreate, in, &out)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, fmt.Errorf("rank %d: %w", rank, err))
			} else {
				made[rank] = out
			}
			return nil
		})
	}
	_ = g.Wait()
	if len(failures) == 0 {
		return made, nil
	}
	undo := make([]uint32, 0, len(made))
	for rank := range made {
		undo = append(undo, rank)
	}
	e.destroyShards(context.WithoutCancel(ctx), in.UUID, undo)
	return nil, worst(failures)
}

// worst picks the failure that tells the administrator most: a lack of space
// before a rank that did not answer.
func worst(failures []error) error {
	for _, status := range []drpc.Status{drpc.StatusNoSpace, drpc.StatusExist, drpc.StatusInval} {
		for _, err := range failures {
			if errors.Is(err, status) {
				return err
			}
		}
	}
	return failures[0]
}

// askRank calls an operation of a rank, which may be this one.
func (e *engine) askRank(ctx context.Context, rank uint32, op string, in, out any) error {
	m, ok := e.group.member(rank)
	self, _ := e.group.self()
	switch {
	case rank == self:
		m = member{Rank: self, URI: e.fabric.uri}
	case !ok:
		return fmt.Errorf("%w: rank %d", drpc.StatusOOG, rank)
	case !e.live(rank):
		return fmt.Errorf("%w: rank %d is dead", drpc.StatusUnreach, rank)
	}
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	return e.fabric.call(ctx, m, op, in, out)
}

// destroyShards removes a pool from ranks; the first failure of a live rank is
// returned. A dead rank keeps its shard, as it does with real engines.
func (e *engine) destroyShards(ctx context.Context, id string, ranks []uint32) error {
	var g errgroup.Group
	g.SetLimit(16)
	for _, rank := range ranks {
		if !e.live(rank) {
			e.log.Warn("pool is left on a rank that is not there", "pool", id, "rank", rank)
			continue
		}
		g.Go(func() error { return e.askRank(ctx, rank, opShardDestroy, poolID{id}, nil) })
	}
	if err := g.Wait(); err != nil {
		e.log.Warn("cannot remove pool everywhere", "pool", id, "err", err)
		return err
	}
	return nil
}

// startService puts a new pool service on its replicas and makes the lowest lead.
func (e *engine) startService(ctx context.Context, s *service) error {
	s.Version = 1
	for _, rank := range s.Replicas {
		if err := e.askRank(ctx, rank, opReplicaWrite, s, nil); err != nil {
			return err
		}
	}
	return e.askRank(ctx, s.Replicas[0], opLead, poolID{s.UUID}, nil)
}

// opCreate makes this rank's shard.
func (e *engine) opCreate(_ context.Context, body json.RawMessage) (any, error) {
	var in memberCreate
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, drpc.StatusInval
	}
	if _, err := uuid.Parse(in.UUID); err != nil {
		return nil, drpc.StatusInval
	}
	err := e.store.create(shard{
		UUID: in.UUID, Targets: e.opts.targets, SCM: in.Tiers[0], NVMe: in.Tiers[1], MemFile: in.MemFile,
	})
	return memberShard{Targets: e.opts.targets, MemFile: in.MemFile}, err
}

// opDestroy removes this rank's shard.
func (e *engine) opDestroy(_ context.Context, body json.RawMessage) (any, error) {
	var in poolID
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, drpc.StatusInval
	}
	l := e.leadership(in.UUID)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term = 0
	return nil, e.store.destroy(in.UUID)
}

// poolDestroy serves 208: the pool leaves every listed rank. A pool that no rank
// has is no error.
func (e *engine) poolDestroy(ctx context.Context, req *pb.PoolDestroyReq) (proto.Message, error) {
	id, err := uuid.Parse(req.GetId())
	if err != nil || len(req.GetSvcRanks()) > maxPoolRanks {
		return nil, fmt.Errorf("%w: pool %q is no UUID", drpc.StatusInval, req.GetId())
	}
	if _, ok := e.group.self(); !ok {
		return nil, drpc.StatusProto
	}
	ranks := slices.Compact(slices.Sorted(slices.Values(req.GetSvcRanks())))
	if err := e.destroyShards(ctx, id.String(), ranks); err != nil {
		return nil, err
	}
	e.log.Info("pool destroyed", "pool", id.String())
	return new(pb.PoolDestroyResp), nil
}
