package cluster

import (
	"slices"
	"strings"

	"daosbox/cluster/fault"
)

// StateUpdate is what an action or a query found out about one rank.
type StateUpdate struct {
	Rank  Rank        `json:"rank"`
	State MemberState `json:"state"`
	// Info is the reason of the state, kept as the member's info.
	Info string `json:"info,omitempty"`
	// Incarnation is the engine life that the finding is about, 0 when unknown.
	// A finding about an earlier life than the member's is skipped.
	Incarnation uint64 `json:"incarnation,omitempty"`
}

// UpdateMembers records the findings about several ranks in one entry. Each is
// subject to the table of transitions; those it forbids are told in the result.
type UpdateMembers struct {
	Updates []StateUpdate `json:"updates"`
}

// RemoveMembers takes ranks out of the system.
type RemoveMembers struct {
	Ranks []Rank `json:"ranks"`
}

// AdminExclude marks ranks as excluded by the administrator, or lifts that mark
// (the ranks are then Excluded until they join again).
type AdminExclude struct {
	Ranks []Rank `json:"ranks"`
	Clear bool   `json:"clear,omitempty"`
}

// RankDead is what SWIM says of a rank.
type RankDead struct {
	Rank        Rank   `json:"rank"`
	Incarnation uint64 `json:"incarnation,omitempty"`
}

// EngineDied is what a server says of the end of its engine's process.
type EngineDied struct {
	Rank        Rank   `json:"rank"`
	Incarnation uint64 `json:"incarnation,omitempty"`
	// Message is kept as the member's info.
	Message string `json:"message,omitempty"`
}

// Op implements Body.
func (UpdateMembers) Op() Op { return OpUpdateMembers }

// Op implements Body.
func (RemoveMembers) Op() Op { return OpRemoveMembers }

// Op implements Body.
func (AdminExclude) Op() Op { return OpAdminExclude }

// Op implements Body.
func (RankDead) Op() Op { return OpRankDead }

// Op implements Body.
func (EngineDied) Op() Op { return OpEngineDied }

func (b UpdateMembers) check() error {
	if len(b.Updates) > maxList {
		return tooMany("member updates", len(b.Updates))
	}
	for _, u := range b.Updates {
		if len(u.Info) > maxText {
			return tooLong("reason of a member's state", len(u.Info))
		}
		if !slices.Contains(MemberStates(), u.State) {
			return fault.New(fault.Usage, "cannot update rank %d: %v is no member state", u.Rank, u.State)
		}
	}
	return nil
}

func (b RemoveMembers) check() error { return checkRanks(b.Ranks) }
func (b AdminExclude) check() error  { return checkRanks(b.Ranks) }
func (b RankDead) check() error      { return checkRanks([]Rank{b.Rank}) }

func (b EngineDied) check() error {
	if len(b.Message) > maxText {
		return tooLong("message of a dead engine", len(b.Message))
	}
	return checkRanks([]Rank{b.Rank})
}

func checkRanks(ranks []Rank) error {
	if len(ranks) > maxList {
		return tooMany("ranks", len(ranks))
	}
	if slices.Contains(ranks, NilRank) {
		return fault.New(fault.Usage, "cannot use rank %d: it means no rank", uint32(NilRank))
	}
	return nil
}

func tooMany(what string, n int) error {
	return fault.New(fault.TooLarge, "cannot apply a command with %d %s: at most %d are allowed", n, what, maxList)
}

func tooLong(what string, n int) error {
	return fault.New(fault.TooLarge, "cannot apply a command: the %s has %d bytes, at most %d are allowed", what, n, maxText)
}

func (b UpdateMembers) apply(db *DB, _ string) Result {
	res := Result{Members: make([]MemberResult, 0, len(b.Updates))}
	for _, u := range b.Updates {
		res.Members = append(res.Members, db.move(u))
	}
	return res
}

// move puts a member into a new state if the rules allow.
func (db *DB) move(u StateUpdate) MemberResult {
	m := db.c.members.m[u.Rank]
	if m == nil {
		return unknownRank(u.Rank)
	}
	row := MemberResult{Rank: u.Rank, State: m.State}
	switch {
	case u.Incarnation != 0 && u.Incarnation < m.Incarnation:
		row.Why = "about an earlier life of the engine"
	case m.State == u.State:
		row.Why = "already " + m.State.String()
	case !m.State.MayBecome(u.State):
		row.Why = m.State.String() + " may not become " + u.State.String()
	default:
		row = db.setState(m, u.State, u.Info)
	}
	return row
}

func (db *DB) setState(m *Member, state MemberState, info string) MemberResult {
	next := m.clone()
	next.State, next.Info = state, info
	db.putMember(next)
	return MemberResult{Rank: m.Rank, State: state, Changed: true}
}

func unknownRank(rank Rank) MemberResult {
	return MemberResult{Rank: rank, State: StateUnknown, Why: "not a member of the system"}
}

func (b RemoveMembers) apply(db *DB, _ string) Result {
	res := Result{Members: make([]MemberResult, 0, len(b.Ranks))}
	for _, rank := range sortedRanks(b.Ranks) {
		m := db.c.members.m[rank]
		if m == nil {
			res.Members = append(res.Members, unknownRank(rank))
			continue
		}
		db.dropMember(m)
		res.Members = append(res.Members, MemberResult{Rank: rank, State: StateUnknown, Changed: true})
	}
	return res
}

func (b AdminExclude) apply(db *DB, _ string) Result {
	res := Result{Members: make([]MemberResult, 0, len(b.Ranks))}
	for _, rank := range sortedRanks(b.Ranks) {
		m := db.c.members.m[rank]
		row := MemberResult{Rank: rank}
		switch {
		case m == nil:
			row = unknownRank(rank)
		case b.Clear && m.State == StateAdminExcluded:
			row = db.setState(m, StateExcluded, "")
		case !b.Clear && m.State != StateAdminExcluded:
			row = db.setState(m, StateAdminExcluded, "")
		case b.Clear:
			row.State, row.Why = m.State, "not excluded by the administrator"
		default:
			row.State, row.Why = m.State, "already "+m.State.String()
		}
		res.Members = append(res.Members, row)
	}
	return res
}

// apply excludes a rank that SWIM found dead. An incarnation of 0 says nothing
// about the life and excludes, as 2.8 has it; a life that is over is ignored.
func (b RankDead) apply(db *DB, _ string) Result {
	if !SelfHealExclude(db.c.attr(PropSelfHeal)) {
		row := MemberResult{Rank: b.Rank, Why: "the system property self_heal has no exclude"}
		if m := db.c.members.m[b.Rank]; m != nil {
			row.State = m.State
		}
		return Result{Members: []MemberResult{row}}
	}
	return Result{Members: []MemberResult{db.move(StateUpdate{
		Rank: b.Rank, State: StateExcluded, Incarnation: b.Incarnation, Info: "found dead by SWIM"})}}
}

func (b EngineDied) apply(db *DB, _ string) Result {
	return Result{Members: []MemberResult{db.move(StateUpdate{
		Rank: b.Rank, State: StateErrored, Incarnation: b.Incarnation, Info: b.Message})}}
}

// SelfHealExclude reports whether the value of the system property self_heal lets
// the service exclude dead ranks; a missing property does.
func SelfHealExclude(value string) bool {
	return value == "" || slices.Contains(strings.Split(strings.ToLower(value), ";"), "exclude")
}
