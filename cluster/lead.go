package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"daosbox/cluster/fault"
)

// lead is one term of leadership: its context, its goroutines and what is kept in
// memory while it lasts.
type lead struct {
	raft  *raft.Raft
	ctx   context.Context
	end   context.CancelFunc
	ready chan struct{} // closed when the step-up is done
	tasks sync.WaitGroup

	group *groupUpdater
	locks poolLocks
	seen  deadSeen
}

func (l *lead) isReady() bool {
	select {
	case <-l.ready:
		return l.ctx.Err() == nil
	default:
		return false
	}
}

// leadKey marks the context of OnLead, whose calls pass before the step-up is
// done.
type leadKey struct{}

// gainLead starts a term.
func (s *Service) gainLead(ctx context.Context, r *raft.Raft) {
	l := &lead{raft: r, ready: make(chan struct{})}
	l.ctx, l.end = context.WithCancel(ctx)
	l.group = newGroupUpdater(l, s)
	s.mu.Lock()
	s.lead = l
	clear(s.down)
	s.mu.Unlock()
	s.cfg.Logger.Info("leads the management service", "replica", s.cfg.Self, "term", r.CurrentTerm())
	l.tasks.Go(func() { s.stepUp(l) })
}

// loseLead ends the term, if there is one, and waits for its goroutines.
func (s *Service) loseLead() {
	s.mu.Lock()
	l := s.lead
	s.lead = nil
	s.mu.Unlock()
	if l == nil {
		return
	}
	s.cfg.Logger.Info("no longer leads the management service", "replica", s.cfg.Self)
	l.end()
	l.tasks.Wait()
}

// stepUp makes a new leader ready: it catches up with all that was committed
// before, lets the server do its part, then opens for requests.
func (s *Service) stepUp(l *lead) {
	for {
		err := s.tryStepUp(l)
		if err == nil {
			break
		}
		if l.ctx.Err() != nil {
			return
		}
		s.cfg.Logger.Error("cannot take over the lead", "error", err)
		if len(s.cfg.Replicas) > 1 && wait(l.raft.LeadershipTransfer(), s.cfg.Timers.Stop) == nil {
			return // another leads now; the notice of the loss is on its way
		}
		if !pause(l.ctx, s.cfg.Timers.Retry) {
			return
		}
	}
	close(l.ready)
	l.group.request(true)
	l.tasks.Go(func() { s.batchJoins(l) })
	l.tasks.Go(func() { l.group.run(l.ctx) })
	l.tasks.Go(func() { s.compareStates(l) })
}

func (s *Service) tryStepUp(l *lead) error {
	// A majority chose this replica, with the log it has.
	if err := s.fresh.clear(); err != nil {
		return storeFault(s.cfg.Dir, err)
	}
	if err := waitCtx(l.ctx, l.raft.Barrier(s.cfg.Timers.Apply)); err != nil {
		return s.raftFault(l.ctx, err, "catch up with the log")
	}
	return s.cfg.OnLead(context.WithValue(l.ctx, leadKey{}, l))
}

// leading returns the present lead, waiting for its step-up.
func (s *Service) leading(ctx context.Context) (*lead, error) {
	s.mu.Lock()
	l, r := s.lead, s.raft
	s.mu.Unlock()
	switch {
	case r == nil:
		return nil, notRunning()
	case l == nil:
		return nil, s.notLeader()
	case ctx.Value(leadKey{}) == l:
		return l, nil
	}
	select {
	case <-l.ready:
		return l, nil
	case <-l.ctx.Done():
		return nil, s.notLeader()
	case <-ctx.Done():
		return nil, fault.New(fault.NotReady, "cannot do this yet: the new leader of the management service is still starting").
			WithHint("try again")
	}
}

// Resign gives the lead to another replica: when no local engine can serve the
// calls that a leader makes. With a single replica nothing changes.
func (s *Service) Resign(ctx context.Context, why string) error {
	s.mu.Lock()
	l := s.lead
	s.mu.Unlock()
	if l == nil || len(s.cfg.Replicas) == 1 {
		return nil
	}
	s.cfg.Logger.Warn("gives up the lead of the management service", "replica", s.cfg.Self, "reason", why)
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := waitCtx(ctx, l.raft.LeadershipTransfer()); err != nil {
		return s.raftFault(ctx, err, "hand over the lead")
	}
	return nil
}

// watchPeers subscribes to what the leader's heartbeats find out.
func (s *Service) watchPeers(r *raft.Raft) (<-chan raft.Observation, func()) {
	ch := make(chan raft.Observation, 64)
	o := raft.NewObserver(ch, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	r.RegisterObserver(o)
	return ch, func() { r.DeregisterObserver(o) }
}

func (s *Service) notePeer(o raft.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch data := o.Data.(type) {
	case raft.FailedHeartbeatObservation:
		if !s.down[string(data.PeerID)] {
			s.cfg.Logger.Warn("a replica of the management service does not answer", "replica", string(data.PeerID))
		}
		s.down[string(data.PeerID)] = true
	case raft.ResumedHeartbeatObservation:
		if s.down[string(data.PeerID)] {
			s.cfg.Logger.Info("a replica of the management service answers again", "replica", string(data.PeerID))
		}
		delete(s.down, string(data.PeerID))
	}
}

// pause waits, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func sortedKeys(m map[string]bool) []string {
	keys := slices.Sorted(maps.Keys(m))
	if keys == nil {
		return []string{}
	}
	return keys
}
