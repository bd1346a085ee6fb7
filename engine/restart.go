package engine

import (
	"time"

	"daosbox/cluster/hostlist"
)

// DefaultRestartDelay is the least time between two automatic restarts of a rank
// when the configuration names none.
const DefaultRestartDelay = 300 * time.Second

// RestartPolicy decides on the automatic restart of engines that ended themselves
// because they were taken out of the group map. It is pure: its caller gives the
// time, keeps the timers and uses it from one goroutine.
type RestartPolicy struct {
	// MinDelay is the least time between two restarts of a rank; 0 means
	// DefaultRestartDelay.
	MinDelay time.Duration
	// Disabled drops every request.
	Disabled bool

	last    map[hostlist.Rank]time.Time // when a rank was restarted last
	pending map[hostlist.Rank]time.Time // when a rank is due
}

// RestartDecision is what to do about a request.
type RestartDecision int

const (
	// RestartDrop does nothing: restarts are disabled, the rank is nil, or its
	// restart is planned already.
	RestartDrop RestartDecision = iota
	// RestartNow restarts as soon as the process is gone.
	RestartNow
	// RestartLater restarts at the time that came with the decision.
	RestartLater
)

// Request decides on the self-termination of rank at now. The time of RestartNow is
// recorded as the rank's last restart.
func (p *RestartPolicy) Request(now time.Time, rank hostlist.Rank) (RestartDecision, time.Time) {
	if p.Disabled || rank == hostlist.NilRank {
		return RestartDrop, time.Time{}
	}
	if _, planned := p.pending[rank]; planned {
		return RestartDrop, time.Time{}
	}
	delay := p.MinDelay
	if delay <= 0 {
		delay = DefaultRestartDelay
	}
	if last, ok := p.last[rank]; ok && now.Sub(last) < delay {
		if p.pending == nil {
			p.pending = make(map[hostlist.Rank]time.Time)
		}
		at := last.Add(delay)
		p.pending[rank] = at
		return RestartLater, at
	}
	p.restarted(now, rank)
	return RestartNow, now
}

// Due says that the timer of a RestartLater fired, and reports whether the restart
// still stands: Forget may have taken it back.
func (p *RestartPolicy) Due(now time.Time, rank hostlist.Rank) bool {
	if _, planned := p.pending[rank]; !planned {
		return false
	}
	delete(p.pending, rank)
	p.restarted(now, rank)
	return true
}

// Forget clears the history and the plan of rank, since it was stopped or started
// by hand.
func (p *RestartPolicy) Forget(rank hostlist.Rank) {
	delete(p.last, rank)
	delete(p.pending, rank)
}

func (p *RestartPolicy) restarted(now time.Time, rank hostlist.Rank) {
	if p.last == nil {
		p.last = make(map[hostlist.Rank]time.Time)
	}
	p.last[rank] = now
}
