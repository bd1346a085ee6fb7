package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"daosbox/engine/drpc"
)

// Times of the pool service.
const (
	replicaTimeout = 3 * time.Second // for one replica to answer
	leaderTimeout  = 8 * time.Second // for a leader to be found, from the first try
	leaderPause    = 200 * time.Millisecond
	upcallTimeout  = 5 * time.Second
	memberTimeout  = 20 * time.Second // for a rank to create or destroy its shard
)

// leadership is this rank's hold on one pool service. The lock serialises all
// work on the pool.
type leadership struct {
	mu   sync.Mutex
	term uint64 // in which this process leads, 0 when it does not
}

// readID names a pool in requests between emulators.
type poolID struct {
	UUID string `json:"uuid"`
}

func (e *engine) leadership(id string) *leadership {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.leads[id]
	if l == nil {
		l = new(leadership)
		e.leads[id] = l
	}
	return l
}

// live reports whether a rank can be asked: in the group and not dead.
func (e *engine) live(rank uint32) bool {
	if self, _ := e.group.self(); rank == self {
		return true
	}
	_, ok := e.group.member(rank)
	return ok && !slices.Contains(e.beats.dead(), rank)
}

// withPool runs work on the pool as its leader. When work changed the state, it is
// committed to a majority before withPool returns.
func (e *engine) withPool(ctx context.Context, id string, work func(ctx context.Context, s *service) (changed bool, err error)) error {
	if _, ok := e.store.replica(id); !ok {
		return drpc.StatusNotReplica
	}
	l := e.leadership(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := e.store.replica(id)
	if !ok {
		return drpc.StatusNotReplica
	}
	self, _ := e.group.self()
	for _, rank := range slices.Sorted(slices.Values(s.Replicas)) {
		if rank < self && e.live(rank) {
			l.term = 0
			return fmt.Errorf("%w: rank %d leads", drpc.StatusNotLeader, rank)
		}
	}
	if l.term == 0 || l.term != s.Term {
		if err := e.stepUp(ctx, l, s); err != nil {
			l.term = 0
			return err
		}
		if s, ok = e.store.replica(id); !ok {
			return drpc.StatusNotReplica
		}
	}
	changed, err := work(ctx, s)
	if err != nil || !changed {
		return err
	}
	return e.commit(ctx, l, s)
}

// stepUp makes this rank the leader of the pool: it takes the newest copy of a
// majority, writes it back under a new term, and tells the server.
func (e *engine) stepUp(ctx context.Context, l *leadership, mine *service) error {
	newest, answers := mine, 1
	var mu sync.Mutex
	top := mine.Term
	each := func(ctx context.Context, m member) error {
		var theirs service
		err := e.fabric.call(ctx, m, opReplicaRead, poolID{mine.UUID}, &theirs)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			answers++
			top = max(top, theirs.Term)
			if theirs.newer(newest) {
				newest = &theirs
			}
		case errors.Is(err, drpc.StatusNotReplica):
			answers++
		default:
			e.log.Info("replica of pool service does not answer", "pool", mine.UUID, "err", err)
		}
		return nil
	}
	e.forEach(ctx, mine.Replicas, each)
	self, _ := e.group.self()
	if answers <= len(mine.Replicas)/2 {
		return fmt.Errorf("%w: %d of %d replicas answer", drpc.StatusNoService, answers, len(mine.Replicas))
	}
	next := newest.clone()
	if !slices.Contains(next.Replicas, self) {
		_ = e.store.dropReplica(next.UUID)
		return drpc.StatusNotReplica
	}
	next.Term, next.Version = top+1, 0
	if heal, ok := e.systemSelfHeal(ctx); ok {
		next.SystemHeal = heal
	}
	l.term = next.Term
	if err := e.commit(ctx, l, next); err != nil {
		return err
	}
	e.log.Info("leads pool service", "pool", next.UUID, "term", next.Term, "replicas", rankSet(next.Replicas))
	e.tellReplicas(ctx, next)
	return nil
}

// commit writes a changed state to all live replicas; a majority must take it.
func (e *engine) commit(ctx context.Context, l *leadership, s *service) error {
	s.Version++
	if err := e.store.saveReplica(s); err != nil {
		l.term = 0
		return err
	}
	var mu sync.Mutex
	taken, stale := 1, false
	e.forEach(ctx, s.Replicas, func(ctx context.Context, m member) error {
		err := e.fabric.call(ctx, m, opReplicaWrite, s, nil)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			taken++
		} else {
			e.log.Info("replica of pool service does not follow", "pool", s.UUID, "err", err)
		}
		stale = stale || errors.Is(err, drpc.StatusStale)
		return nil
	})
	if taken <= len(s.Replicas)/2 {
		l.term = 0
		if stale {
			return drpc.StatusNotLeader
		}
		return fmt.Errorf("%w: %d of %d replicas follow", drpc.StatusNoService, taken, len(s.Replicas))
	}
	return nil
}

// forEach calls the other ones of the ranks that are live, at the same time, each
// with the time of one replica.
func (e *engine) forEach(ctx context.Context, ranks []uint32, call func(context.Context, member) error) {
	self, _ := e.group.self()
	var g errgroup.Group
	for _, rank := range ranks {
		m, ok := e.group.member(rank)
		if rank == self || !ok || !e.live(rank) {
			continue
		}
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
			defer cancel()
			return call(ctx, m)
		})
	}
	_ = g.Wait()
}

// opRead answers with this rank's copy of a pool service.
func (e *engine) opRead(_ context.Context, body json.RawMessage) (any, error) {
	var in poolID
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, drpc.StatusInval
	}
	s, ok := e.store.replica(in.UUID)
	if !ok {
		return nil, drpc.StatusNotReplica
	}
	return s, nil
}

// opWrite takes a copy of a pool service from its leader. A rank that is no longer
// among the replicas gives its copy up.
func (e *engine) opWrite(_ context.Context, body json.RawMessage) (any, error) {
	s := new(service)
	if err := json.Unmarshal(body, s); err != nil || len(s.Ranks) == 0 || s.Props == nil {
		return nil, drpc.StatusInval
	}
	self, _ := e.group.self()
	if !slices.Contains(s.Replicas, self) {
		return nil, e.store.dropReplica(s.UUID)
	}
	return nil, e.store.saveReplica(s)
}

// opLead makes this rank step up for a pool.
func (e *engine) opLead(ctx context.Context, body json.RawMessage) (any, error) {
	var in poolID
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, drpc.StatusInval
	}
	return nil, e.withPool(ctx, in.UUID, func(context.Context, *service) (bool, error) { return false, nil })
}

// tendPools follows changes of the group: it steps up where this rank is the
// lowest live replica, and takes ranks that left the group out of the pools.
func (e *engine) tendPools(ctx context.Context) {
	const retry = time.Second
	missing := make(map[uint32]time.Time)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.kick:
		case <-timer.C:
		}
		if again := e.tendOnce(ctx, missing); again {
			timer.Reset(retry)
		}
	}
}

// tendOnce looks at every pool; again tells that something is left to do.
func (e *engine) tendOnce(ctx context.Context, missing map[uint32]time.Time) (again bool) {
	now := time.Now()
	for _, id := range e.store.replicaIDs() {
		err := e.withPool(ctx, id, func(ctx context.Context, s *service) (bool, error) {
			gone, waiting := e.gone(s, missing, now)
			again = again || waiting
			return e.excludeGone(ctx, s, gone), nil
		})
		switch {
		case err == nil, errors.Is(err, drpc.StatusNotLeader), errors.Is(err, drpc.StatusNotReplica):
		default:
			e.log.Debug("cannot tend pool", "pool", id, "err", err)
			again = true
		}
	}
	for rank := range missing {
		if _, ok := e.group.member(rank); ok {
			delete(missing, rank)
		}
	}
	return again
}

// gone lists the enabled ranks of a pool that have been missing from the group map
// for long enough; waiting tells that others are on their way.
func (e *engine) gone(s *service, missing map[uint32]time.Time, now time.Time) (gone []uint32, waiting bool) {
	if e.prepared() || e.group.current().Version == 0 {
		return nil, false
	}
	self, _ := e.group.self()
	for _, rank := range s.rankList((*poolRank).enabled) {
		if _, ok := e.group.member(rank); ok || rank == self {
			continue
		}
		since, known := missing[rank]
		if !known {
			since = now
			missing[rank] = now
		}
		if now.Sub(since) >= e.cfg.excludeDelay {
			gone = append(gone, rank)
		} else {
			waiting = true
		}
	}
	return gone, waiting
}
