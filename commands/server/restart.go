package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"daosbox/cluster/hostlist"
	"daosbox/engine"
)

// restarter starts engines again that ended themselves because they found
// themselves outside the group (engine-lifecycle.md §7).
type restarter struct {
	mu     sync.Mutex
	policy engine.RestartPolicy
	timers map[hostlist.Rank]*time.Timer
	ended  bool
}

// selfTerminated takes the event of a local engine.
func (r *restarter) selfTerminated(s *server, rank hostlist.Rank) {
	found := s.engineOf(rank)
	if found == nil {
		s.log.Warn("an engine that is not of this host ended itself; nothing to start again", "rank", rank)
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	switch decision, at := r.policy.Request(now, rank); decision {
	case engine.RestartNow:
		s.log.Info("engine ended itself, starting it again", "engine", found.index, "rank", rank)
		s.spawn(func(ctx context.Context) { again(ctx, found) })
	case engine.RestartLater:
		s.log.Info("engine ended itself again, starting it later", "engine", found.index, "rank", rank, "at", at)
		if r.timers == nil {
			r.timers = make(map[hostlist.Rank]*time.Timer)
		}
		r.timers[rank] = time.AfterFunc(at.Sub(now), func() { r.due(s, found, rank) })
	default:
		s.log.Info("engine ended itself, not starting it again", "engine", found.index, "rank", rank, "disabled", r.policy.Disabled)
	}
}

func (r *restarter) due(s *server, e *localEngine, rank hostlist.Rank) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended && r.policy.Due(time.Now(), rank) {
		s.spawn(func(ctx context.Context) { again(ctx, e) })
	}
}

func again(ctx context.Context, e *localEngine) {
	if err := e.inst.Restart(ctx); err != nil && !errors.Is(err, context.Canceled) {
		e.srv.log.Error("cannot start an engine again", "engine", e.index, "error", err)
	}
}

// forget clears the history of a rank that the administrator stops or starts.
func (r *restarter) forget(rank hostlist.Rank) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policy.Forget(rank)
	if timer := r.timers[rank]; timer != nil {
		timer.Stop()
		delete(r.timers, rank)
	}
}

// stop gives all planned restarts up.
func (r *restarter) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, timer := range r.timers {
		timer.Stop()
	}
}

// engineOf is the local engine of a rank, nil when it is not of this host.
func (s *server) engineOf(rank hostlist.Rank) *localEngine {
	for _, e := range s.engines {
		if rank != hostlist.NilRank && e.rank() == rank {
			return e
		}
	}
	return nil
}
