package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// engine returns the join request of the n-th engine; it asks for no rank.
func engine(n int) JoinRequest {
	return JoinRequest{
		System: "daos_server", UUID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Rank: NilRank,
		Addr: fmt.Sprintf("10.0.0.%d:10001", n), FabricURI: fmt.Sprintf("ofi+tcp://10.0.0.%d:31416", n),
		FabricContexts: 3, FaultDomain: fmt.Sprintf("/node%d", n), Incarnation: 100,
	}
}

func do(db *DB, body Body) Result { return db.Apply(Command{Time: epoch, Body: body}) }

func join(db *DB, r JoinRequest) JoinResult {
	return do(db, JoinBatch{Joins: []JoinRequest{r}}).Joins[0]
}

func joinErr(db *DB, r JoinRequest) error {
	if row := join(db, r); row.Err != nil {
		return row.Err
	}
	return nil
}

func update(db *DB, rank Rank, s MemberState) MemberResult {
	return do(db, UpdateMembers{Updates: []StateUpdate{{Rank: rank, State: s}}}).Members[0]
}

func TestJoinRules(t *testing.T) {
	known := engine(1)
	known.Rank = 1
	with := func(change func(*JoinRequest)) JoinRequest {
		r := known
		change(&r)
		return r
	}
	tests := []struct {
		name  string
		setup func(*DB)
		req   JoinRequest
		code  fault.Code
		state MemberState // of rank 1 afterwards
	}{
		{"no URI", nil, with(func(r *JoinRequest) { r.FabricURI = "" }), fault.Usage, StateJoined},
		{"bad UUID", nil, with(func(r *JoinRequest) { r.UUID = "x" }), fault.Usage, StateJoined},
		{"no address", nil, with(func(r *JoinRequest) { r.Addr = "" }), fault.Usage, StateJoined},
		{"admin-excluded", func(db *DB) { do(db, AdminExclude{Ranks: []Rank{1}}) }, known, RankAdminExcluded, StateAdminExcluded},
		{"admin-excluded, by UUID", func(db *DB) { do(db, AdminExclude{Ranks: []Rank{1}}) }, engine(1), RankAdminExcluded, StateAdminExcluded},
		{"other rank", nil, with(func(r *JoinRequest) { r.Rank = 7 }), fault.Refused, StateJoined},
		{"other UUID", nil, with(func(r *JoinRequest) { r.UUID = engine(9).UUID; r.Addr = "10.0.0.9:1" }), fault.Refused, StateJoined},
		{"other UUID, same otherwise", nil, with(func(r *JoinRequest) { r.UUID = engine(9).UUID }), MemberExists, StateJoined},
		{"other address", nil, with(func(r *JoinRequest) { r.Addr = "10.0.0.9:10001" }), fault.Refused, StateJoined},
		{"other depth", nil, with(func(r *JoinRequest) { r.FaultDomain = "/r/n" }), BadFaultDomainDepth, StateJoined},
		{"labels", nil, with(func(r *JoinRequest) { r.FaultDomain = "/node=n" }), BadFaultDomainLabels, StateJoined},
		{"again", nil, known, 0, StateJoined},
		{"again, by UUID", nil, engine(1), 0, StateJoined},
		{"from excluded", func(db *DB) { update(db, 1, StateExcluded) }, known, 0, StateJoined},
		{"from errored", func(db *DB) { update(db, 1, StateErrored) }, known, 0, StateJoined},
		{"check mode", nil, with(func(r *JoinRequest) { r.CheckMode = true }), 0, StateCheckerStarted},
		{"unknown, equal but the UUID", nil, with(func(r *JoinRequest) { r.Rank = NilRank; r.UUID = engine(9).UUID }), MemberExists, StateJoined},
		{"unknown", nil, engine(3), 0, StateJoined},
		{"unknown, other depth", nil, func() JoinRequest { r := engine(3); r.FaultDomain = "/r/n"; return r }(), BadFaultDomainDepth, StateJoined},
		{"wrong provider", func(db *DB) { do(db, SetAttributes{map[string]string{AttrProviders: "ofi+verbs"}}) }, known, fault.Refused, StateJoined},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			db := NewDB()
			is.NoErr(joinErr(db, engine(1)))
			is.NoErr(joinErr(db, engine(2)))
			if tt.setup != nil {
				tt.setup(db)
			}
			before := db.View()
			row := join(db, tt.req)
			if tt.code == 0 {
				is.True(row.Err == nil)
				is.Equal(db.View().MapVersion(), before.MapVersion()+1)
			} else {
				is.True(row.Err != nil)
				is.Equal(row.Err.Code, tt.code)
				is.Equal(db.View().MapVersion(), before.MapVersion()) // a refusal changes nothing
				is.Equal(len(db.View().Members(StatesAll)), 2)
			}
			is.Equal(db.View().Member(1).State, tt.state)
		})
	}
}

func TestJoinRefreshes(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	do(db, EngineDied{Rank: 1, Message: "gone"})
	is.Equal(db.View().Member(1).Info, "gone")
	r := engine(1)
	r.Rank, r.Incarnation, r.FabricURI, r.FabricContexts, r.FaultDomain = 1, 200, "ofi+tcp://10.0.0.1:99", 5, "/moved"
	row := join(db, r)
	is.Equal(row.Previous, StateErrored)
	m := db.View().Member(1)
	is.Equal(m.Info, "")
	is.Equal(m.Incarnation, uint64(200))
	is.Equal(m.FabricURI, r.FabricURI)
	is.Equal(m.FabricContexts, uint32(5))
	is.Equal(m.FaultDomain, "/moved")
}

func TestRanks(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	first := engine(1)
	first.Rank = 0
	row := join(db, first)
	is.Equal(row.Rank, Rank(0)) // asked for
	is.True(row.Created)
	is.Equal(db.View().NextRank(), Rank(1)) // and not counted
	ahead := engine(2)
	ahead.Rank = 2
	is.NoErr(joinErr(db, ahead))
	is.Equal(join(db, engine(3)).Rank, Rank(1))
	is.Equal(join(db, engine(4)).Rank, Rank(3)) // 2 was taken by number
	is.Equal(db.View().NextRank(), Rank(4))
	do(db, RemoveMembers{Ranks: []Rank{3}})
	is.Equal(join(db, engine(5)).Rank, Rank(4)) // the number of a removed rank does not come back by itself
}

func TestReplace(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	is.NoErr(joinErr(db, engine(2)))
	update(db, 1, StateExcluded)
	lost := engine(1)
	lost.UUID, lost.Incarnation = engine(77).UUID, 300
	is.Equal(fault.Of(joinErr(db, lost)), MemberExists)
	lost.Replace = true
	row := join(db, lost)
	is.True(row.Err == nil)
	is.Equal(row.Rank, Rank(1))
	is.Equal(row.Previous, StateExcluded)
	v := db.View()
	is.Equal(len(v.Members(StatesAll)), 2)
	is.Equal(v.Member(1).UUID, lost.UUID)
	is.Equal(v.Member(1).Incarnation, uint64(300)) // of the new engine, not the old one's
	is.True(v.MemberByUUID(engine(1).UUID) == nil)
	is.Equal(join(db, lost).Rank, Rank(1)) // started again with the flag still set
	other := engine(9)
	other.Replace = true
	is.Equal(fault.Of(joinErr(db, other)), ReplaceNotFound)
	is.Equal(db.View().NextRank(), Rank(3)) // a failed replace uses no rank up
}

// A UUID belongs to one rank, whatever a request claims.
func TestReplaceKeepsUUIDsUnique(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	is.NoErr(joinErr(db, engine(2)))
	r := engine(1)
	r.UUID, r.Rank, r.Replace = engine(2).UUID, 1, true
	is.Equal(fault.Of(joinErr(db, r)), fault.Refused)
	checkInvariants(t, db)
}

// The same operation twice in one batch is one join.
func TestTwiceInOneBatch(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	r := engine(1)
	r.OpID = "same"
	rows := do(db, JoinBatch{Joins: []JoinRequest{r, r}}).Joins
	is.Equal(rows[0].Rank, rows[1].Rank)
	is.True(rows[1].Created)
	checkInvariants(t, db)
}

func TestDomainLabels(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	a, b := engine(1), engine(2)
	a.FaultDomain, b.FaultDomain = "/rack=r1/node=n1", "/rack=r1/node=n2"
	is.NoErr(joinErr(db, a))
	is.Equal(db.View().Attribute(AttrDomainLabels), "rack=node")
	is.NoErr(joinErr(db, b))
	is.Equal(db.View().Member(2).FaultDomain, "/r1/n2")
	c := engine(3)
	c.FaultDomain = "/zone=r1/node=n2"
	is.Equal(fault.Of(joinErr(db, c)), BadFaultDomainLabels)
	c.FaultDomain = "/zone=r1"
	is.Equal(fault.Of(joinErr(db, c)), BadFaultDomainDepth)
	c.FaultDomain = "/r1/n3"
	is.Equal(fault.Of(joinErr(db, c)), BadFaultDomainLabels)
}

func TestCheckerAndPause(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	do(db, SetAttributes{map[string]string{AttrChecker: "true"}})
	r := engine(1)
	r.CheckMode = true
	row := join(db, r)
	is.Equal(row.State, JoinCheck)
	is.Equal(db.View().Member(1).State, StateCheckerStarted) // the first member too
	do(db, SetAttributes{map[string]string{AttrChecker: ""}})
	is.NoErr(joinErr(db, engine(2)))
	update(db, 2, StateStopped)
	do(db, SetAttributes{map[string]string{AttrPaused: "true"}})
	is.Equal(join(db, engine(1)).State, JoinIn)
	is.Equal(db.View().Attribute(AttrPaused), "true") // rank 2 is not back yet
	is.NoErr(joinErr(db, engine(2)))
	is.Equal(db.View().Attribute(AttrPaused), "")
}
