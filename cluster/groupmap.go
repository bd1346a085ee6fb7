package cluster

import (
	"context"
	"sync"
	"time"
)

// groupPlan decides when the group map goes out: events in, one decision out. It
// belongs to one lead and knows what that lead has sent.
type groupPlan struct {
	sent    uint32 // version of the last map that an engine took, 0 when none
	wanted  bool   // something is to be sent
	forced  bool   // and must have a version that was not sent yet
	waiting bool   // the last try failed: the ticker tries again
}

// request notes that engines should hear of the map. An immediate request must
// reach engines even if the membership is the same.
func (p *groupPlan) request(immediate bool) {
	p.wanted = true
	p.forced = p.forced || immediate
}

// groupStep is what to do now.
type groupStep int

const (
	groupIdle  groupStep = iota
	groupRaise           // raise the map's version first
	groupSend
)

// next decides for a map version and whether sending is paused.
func (p *groupPlan) next(version uint32, paused bool) groupStep {
	switch {
	case !p.wanted || paused:
		return groupIdle
	case version > p.sent && version > 0:
		return groupSend
	case p.forced:
		return groupRaise
	}
	p.wanted = false // the engines have this version
	return groupIdle
}

// done notes how sending a version went. A request made meanwhile stays.
func (p *groupPlan) done(version uint32, err error) {
	p.waiting = err != nil
	if err == nil {
		p.sent = max(p.sent, version)
		p.wanted, p.forced = false, false
	}
}

// groupUpdater owns a plan while a lead lasts.
type groupUpdater struct {
	s *Service
	l *lead

	kick chan struct{} // room for one: an immediate request came

	mu   sync.Mutex
	plan groupPlan
}

func newGroupUpdater(l *lead, s *Service) *groupUpdater {
	return &groupUpdater{s: s, l: l, kick: make(chan struct{}, 1)}
}

func (g *groupUpdater) request(immediate bool) {
	g.mu.Lock()
	g.plan.request(immediate)
	g.mu.Unlock()
	if immediate {
		select {
		case g.kick <- struct{}{}:
		default:
		}
	}
}

// run sends immediate requests at once, lazy and failed ones at the next tick.
func (g *groupUpdater) run(ctx context.Context) {
	if g.s.cfg.Push == nil {
		return
	}
	tick := time.NewTicker(g.s.cfg.Timers.GroupTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.kick:
			if g.failing() {
				continue
			}
		case <-tick.C:
		}
		g.update(ctx)
	}
}

// failing keeps a storm of joins from trying an engine again that just failed.
func (g *groupUpdater) failing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.plan.waiting
}

func (g *groupUpdater) step(v *View) groupStep {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.plan.next(v.MapVersion(), v.Attribute(AttrPaused) != "")
}

func (g *groupUpdater) update(ctx context.Context) {
	view := g.s.Local()
	step := g.step(view)
	if step == groupIdle || len(view.GroupMap().Entries) == 0 {
		return // engines refuse an empty list
	}
	if step == groupRaise {
		bounded, cancel := g.s.bound(ctx)
		_, err := g.s.commit(bounded, g.l, "", IncMapVersion{})
		cancel()
		if err != nil {
			return // still wanted: the ticker comes back
		}
		view = g.s.Local()
		step = g.step(view)
	}
	if step != groupSend {
		return
	}
	gm := view.GroupMap()
	if len(gm.Entries) == 0 {
		return
	}
	g.send(ctx, gm)
}

func (g *groupUpdater) send(ctx context.Context, gm GroupMap) {
	// What is requested from here on is about a later map.
	g.mu.Lock()
	before := g.plan
	g.plan.wanted, g.plan.forced = false, false
	g.mu.Unlock()

	err := g.s.cfg.Push(ctx, gm)

	g.mu.Lock()
	later := g.plan
	g.plan = before
	g.plan.done(gm.Version, err)
	g.plan.wanted = g.plan.wanted || later.wanted
	g.plan.forced = g.plan.forced || later.forced
	g.mu.Unlock()
	switch {
	case err != nil && !before.waiting:
		g.s.cfg.Logger.Warn("cannot tell the engines of the group map; trying again", "map", gm.Version, "error", err)
	case err == nil:
		g.s.cfg.Logger.Info("told the engines of the group map", "map", gm.Version, "ranks", len(gm.Entries))
	default:
		g.s.cfg.Logger.Debug("cannot tell the engines of the group map", "map", gm.Version, "error", err)
	}
}

// RequestGroupUpdate asks the leader to tell the engines of the group map: at
// once with a new version, or at the next tick if it changed. On other replicas it
// does nothing.
func (s *Service) RequestGroupUpdate(immediate bool) {
	s.mu.Lock()
	l := s.lead
	s.mu.Unlock()
	if l != nil {
		l.group.request(immediate)
	}
}
