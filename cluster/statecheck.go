package cluster

import (
	"context"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// CheckState compares the replicas: at the version Of the leader's state had the
// hash Sum. Mark has every replica note the hash of its state after this entry,
// which a later CheckState compares. It changes nothing.
type CheckState struct {
	// Of is the version of an earlier mark, 0 when there is nothing to compare.
	Of   uint64 `json:"of,omitempty"`
	Sum  string `json:"sum,omitempty"`
	Mark bool   `json:"mark,omitempty"`
}

// Op implements Body.
func (CheckState) Op() Op { return OpCheckState }

func (b CheckState) check() error {
	if len(b.Sum) > maxText {
		return tooLong("hash of a state", len(b.Sum))
	}
	return nil
}

func (CheckState) apply(*DB, string) Result { return Result{} }

// stateChecks is the machine's memory of the last mark. The hash is computed
// beside the log, of a shared copy; a mark that comes meanwhile is not computed,
// so that reading an old log again costs one hash at a time.
type stateChecks struct {
	mark  *stateMark
	quiet uint64 // version after the last CheckState
	busy  bool
	tasks sync.WaitGroup
}

type stateMark struct {
	version      uint64
	mine, theirs string // hashes, empty as long as they are not known
}

// checkState acts on a CheckState that was applied; m.mu is held.
func (m *machine) checkState(c CheckState) {
	version := m.db.c.version
	m.checks.quiet = version
	if mark := m.checks.mark; mark != nil && c.Of != 0 && mark.version == c.Of {
		mark.theirs = c.Sum
		m.compare(mark)
	}
	if !c.Mark {
		return
	}
	mark := &stateMark{version: version}
	m.checks.mark = mark
	if m.checks.busy {
		return
	}
	m.checks.busy = true
	snap := m.db.Snapshot()
	m.checks.tasks.Go(func() {
		sum := snap.Hash()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.checks.busy = false
		mark.mine = sum
		m.compare(mark)
	})
}

// compare stops the replica when its state is not the leader's; m.mu is held.
func (m *machine) compare(mark *stateMark) {
	if mark.mine == "" || mark.theirs == "" || mark.mine == mark.theirs || m.err != nil {
		return
	}
	m.fail(fault.New(fault.Corrupt, "cannot go on with the system database: at version %d this replica's state has hash %.12s, the leader's %.12s", mark.version, mark.mine, mark.theirs).
		WithHint("start this server again: it then reads its log anew; if that does not help, move the directory %s aside, and the replica gets a copy from the others", RaftDir))
}

// nextCheck returns what the leader has to compare or mark, if anything. A system
// in which nothing happens writes nothing.
func (m *machine) nextCheck() (CheckState, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var c CheckState
	if mark := m.checks.mark; mark != nil && mark.mine != "" && mark.theirs == "" {
		c.Of, c.Sum = mark.version, mark.mine
	}
	c.Mark = m.db.c.version > m.checks.quiet
	return c, c.Mark || c.Of != 0
}

// compareStates has the replicas compare their states while the lead lasts.
func (s *Service) compareStates(l *lead) {
	tick := time.NewTicker(s.cfg.Timers.StateCheck)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		if c, ok := s.fsm.nextCheck(); ok {
			s.sendCheck(l.ctx, l, c)
		}
	}
}

func (s *Service) sendCheck(ctx context.Context, l *lead, c CheckState) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if _, err := s.commit(ctx, l, "", c); err != nil {
		s.cfg.Logger.Debug("cannot compare the states of the replicas now", "error", err)
	}
}
