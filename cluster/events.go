package cluster

import (
	"context"
	"strings"
	"sync"
	"unicode/utf8"

	"daosbox/cluster/fault"
)

// deadSeen remembers the deaths that a lead has dealt with: several engines report
// the same one. It is bounded; an event that was forgotten is judged again by the
// member's incarnation and state.
type deadSeen struct {
	mu   sync.Mutex
	seen map[death]struct{}
}

// death names an engine's life. Reports without incarnation are told apart by the
// life that is recorded.
type death struct {
	rank               Rank
	reported, recorded uint64
}

const maxDeaths = 1 << 16

func (d *deadSeen) has(key death) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.seen[key]
	return ok
}

func (d *deadSeen) add(key death) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil || len(d.seen) >= maxDeaths {
		d.seen = make(map[death]struct{})
	}
	d.seen[key] = struct{}{}
}

// HandleRankDead acts on the report of SWIM that a rank is dead (swim_rank_dead):
// the rank is Excluded and the engines are told soon, unless the policy, the
// state or the incarnation speak against it; the result says so. An incarnation of
// 0 means that the report has none. fault.NotLeader means: send it to the leader.
func (s *Service) HandleRankDead(ctx context.Context, rank Rank, incarnation uint64) (MemberResult, error) {
	l, ctx, cancel, err := s.enter(ctx)
	if err != nil {
		return MemberResult{}, err
	}
	defer cancel()
	key := death{rank: rank, reported: incarnation}
	m := s.Local().Member(rank)
	if m != nil && incarnation == 0 {
		key.recorded = m.Incarnation
	}
	if m != nil && l.seen.has(key) {
		return MemberResult{Rank: rank, State: m.State, Why: "reported before"}, nil
	}
	row, err := s.applyOne(ctx, l, RankDead{Rank: rank, Incarnation: incarnation})
	if err != nil {
		return row, err
	}
	if row.Changed {
		l.seen.add(key)
		l.group.request(false)
		s.cfg.Logger.Warn("excluded a dead rank", "rank", rank, "incarnation", incarnation)
	}
	return row, nil
}

// Reason makes a text from elsewhere fit for the info of a member: valid UTF-8 of
// bounded length.
func Reason(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxText {
		return text
	}
	cut := maxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// HandleEngineDied acts on the report of a server that its engine's process has
// ended (engine_died): the rank is Errored, the message its reason. The group map
// stays: whether the rank is gone is for SWIM to say.
func (s *Service) HandleEngineDied(ctx context.Context, rank Rank, incarnation uint64, msg string) (MemberResult, error) {
	l, ctx, cancel, err := s.enter(ctx)
	if err != nil {
		return MemberResult{}, err
	}
	defer cancel()
	return s.applyOne(ctx, l, EngineDied{Rank: rank, Incarnation: incarnation, Message: Reason(msg)})
}

func (s *Service) applyOne(ctx context.Context, l *lead, body Body) (MemberResult, error) {
	res, err := s.commit(ctx, l, "", body)
	if err != nil {
		return MemberResult{}, err
	}
	if len(res.Members) != 1 {
		return MemberResult{}, fault.New(fault.Internal, "cannot handle an event: %d results for one rank", len(res.Members))
	}
	return res.Members[0], nil
}

// HandlePoolReplicas acts on the report of a pool's service about its replicas
// (pool_replicas_updated). A list older than the recorded one changes nothing; a
// pool that the system does not know, or destroys, is a fault.
func (s *Service) HandlePoolReplicas(ctx context.Context, uuid string, replicas []Rank, version uint64) (*PoolRecord, error) {
	res, err := s.Apply(ctx, "", PoolReplicas{UUID: uuid, Replicas: replicas, Version: version})
	return res.Pool, err
}

// AdminExclude excludes ranks in the administrator's name, or lifts that
// exclusion, and has the engines told.
func (s *Service) AdminExclude(ctx context.Context, id string, ranks []Rank, lift bool) ([]MemberResult, error) {
	res, err := s.Apply(ctx, id, AdminExclude{Ranks: ranks, Clear: lift})
	if err != nil {
		return nil, err
	}
	s.RequestGroupUpdate(false)
	return res.Members, nil
}
