package cluster

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

func poolUUID(n int) string { return fmt.Sprintf("11111111-0000-4000-8000-%012d", n) }

func TestEventRules(t *testing.T) {
	setup := func() *DB {
		db := NewDB()
		r := engine(1)
		r.Incarnation = 50
		join(db, r)
		return db
	}
	tests := []struct {
		name string
		prep func(*DB)
		body Body
		want MemberState
	}{
		{"dead, same life", nil, RankDead{Rank: 1, Incarnation: 50}, StateExcluded},
		{"dead, later life", nil, RankDead{Rank: 1, Incarnation: 51}, StateExcluded},
		{"dead, earlier life", nil, RankDead{Rank: 1, Incarnation: 49}, StateJoined},
		{"dead, no life told", nil, RankDead{Rank: 1}, StateExcluded},
		{"dead, policy none", func(db *DB) { do(db, SetAttributes{map[string]string{PropSelfHeal: "none"}}) }, RankDead{Rank: 1, Incarnation: 50}, StateJoined},
		{"dead, policy pool only", func(db *DB) { do(db, SetAttributes{map[string]string{PropSelfHeal: "pool_exclude;pool_rebuild"}}) }, RankDead{Rank: 1}, StateJoined},
		{"dead, policy exclude", func(db *DB) { do(db, SetAttributes{map[string]string{PropSelfHeal: "exclude;pool_rebuild"}}) }, RankDead{Rank: 1}, StateExcluded},
		{"dead while ready", func(db *DB) { update(db, 1, StateStopped); update(db, 1, StateReady) }, RankDead{Rank: 1}, StateReady},
		{"dead, by the administrator out", func(db *DB) { do(db, AdminExclude{Ranks: []Rank{1}}) }, RankDead{Rank: 1}, StateAdminExcluded},
		{"died", nil, EngineDied{Rank: 1, Incarnation: 50, Message: "m"}, StateErrored},
		{"died, no life told", nil, EngineDied{Rank: 1}, StateErrored},
		{"died, earlier life", nil, EngineDied{Rank: 1, Incarnation: 49}, StateJoined},
		{"died, excluded", func(db *DB) { update(db, 1, StateExcluded) }, EngineDied{Rank: 1}, StateExcluded},
		{"lifted", func(db *DB) { do(db, AdminExclude{Ranks: []Rank{1}}) }, AdminExclude{Ranks: []Rank{1}, Clear: true}, StateExcluded},
		{"lifted without need", nil, AdminExclude{Ranks: []Rank{1}, Clear: true}, StateJoined},
		{"excluded", func(db *DB) { update(db, 1, StateErrored) }, AdminExclude{Ranks: []Rank{1}}, StateAdminExcluded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			db := setup()
			if tt.prep != nil {
				tt.prep(db)
			}
			before := db.View()
			row := do(db, tt.body).Members[0]
			after := db.View()
			is.Equal(after.Member(1).State, tt.want)
			is.Equal(row.State, tt.want)
			is.Equal(row.Changed, before.Member(1).State != tt.want)
			is.Equal(row.Changed, after.MapVersion() == before.MapVersion()+1)
			is.Equal(row.Changed, row.Why == "")
		})
	}
	is := is.New(t)
	is.Equal(do(setup(), RankDead{Rank: 9}).Members[0].State, StateUnknown)
}

func TestPoolRecords(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	add := func(n int, label string) error {
		if res := do(db, AddPool{UUID: poolUUID(n), Label: label, Storage: PoolStorage{CreationRanks: []Rank{2, 1, 1}}}); res.Err != nil {
			return res.Err
		}
		return nil
	}
	is.NoErr(add(1, "a"))
	is.Equal(fault.Of(add(2, "a")), fault.DuplicateLabel)
	is.Equal(fault.Of(add(1, "b")), fault.Exists)
	p, err := db.View().Pool("a")
	is.NoErr(err)
	is.Equal(p.State, PoolCreating)
	is.Equal(p.Storage.CreationRanks, []Rank{1, 2})
	is.True(p.Replicas != nil)

	// The event overtakes the create reply, which has no version.
	do(db, PoolReplicas{UUID: poolUUID(1), Replicas: []Rank{2, 1}, Version: 5})
	do(db, PoolReplicas{UUID: poolUUID(1), Replicas: []Rank{1}})
	// A late old event overwrites nothing.
	do(db, PoolReplicas{UUID: poolUUID(1), Replicas: []Rank{7}, Version: 4})
	p, _ = db.View().Pool(poolUUID(1))
	is.Equal(p.State, PoolReady)
	is.Equal(p.Replicas, []Rank{1, 2})
	do(db, PoolReplicas{UUID: poolUUID(1), Replicas: []Rank{3}, Version: 6})
	p, _ = db.View().Pool("a")
	is.Equal(p.Replicas, []Rank{3})
	is.Equal(len(db.View().PoolsUsing(3)), 1)
	is.Equal(len(db.View().PoolsUsing(4)), 0)

	label := "renamed"
	is.True(do(db, UpdatePool{UUID: poolUUID(1), Label: &label, Storage: &PoolStorage{CreationRanks: []Rank{1}, PerRankTierBytes: []uint64{5}}}).Err == nil)
	_, err = db.View().Pool("a")
	is.Equal(fault.Of(err), fault.NotFound)
	is.NoErr(add(2, "a")) // free again

	is.True(do(db, DestroyPool{UUID: poolUUID(1)}).Err == nil)
	is.True(do(db, DestroyPool{UUID: poolUUID(1)}).Err == nil) // repeatable
	is.Equal(do(db, PoolReplicas{UUID: poolUUID(1), Version: 9}).Err.Code, fault.Busy)
	is.True(do(db, RemovePool{UUID: poolUUID(1)}).Err == nil)
	is.Equal(do(db, RemovePool{UUID: poolUUID(1)}).Err.Code, fault.NotFound)
	is.Equal(len(db.View().Pools()), 1)
	is.Equal(db.View().MapVersion(), uint32(0)) // pools are not in the group map
}

func TestAttributes(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	do(db, SetAttributes{map[string]string{"k": "v", PropPrefix + "p": "1", MgmtPrefix + "m": "2"}})
	is.Equal(db.View().Attributes(""), map[string]string{"k": "v"})
	is.Equal(db.View().Attributes(PropPrefix), map[string]string{"p": "1"})
	do(db, SetAttributes{map[string]string{"k": ""}})
	is.Equal(len(db.View().Attributes("")), 0)
	_, err := UserAttributes(map[string]string{"prop.x": "1"})
	is.Equal(fault.Of(err), fault.Refused)
}

func TestGroupMapAndAttach(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	_, err := db.View().Attach(nil, true)
	is.Equal(fault.Of(err), fault.NotReady)
	for n := range 5 {
		is.NoErr(joinErr(db, engine(n+1)))
	}
	update(db, 2, StateExcluded)
	do(db, AdminExclude{Ranks: []Rank{3}})
	update(db, 4, StateErrored) // still in the map
	g := db.View().GroupMap()
	is.Equal(g.Version, db.View().MapVersion())
	is.Equal(len(g.Entries), 3)
	is.Equal([]Rank{g.Entries[0].Rank, g.Entries[1].Rank, g.Entries[2].Rank}, []Rank{1, 4, 5})
	replicas := []string{engine(5).Addr, engine(3).Addr}
	a, err := db.View().Attach(replicas, false)
	is.NoErr(err)
	is.Equal(a.MSRanks, []Rank{5})
	is.Equal(len(a.RankURIs), 1)
	a, err = db.View().Attach(replicas, true)
	is.NoErr(err)
	is.Equal(len(a.RankURIs), 3)
	is.Equal(a.DataVersion, db.View().Version())
}

func TestOnce(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	add := Command{ID: "op1", Time: epoch, Body: AddPool{UUID: poolUUID(1), Label: "a"}}
	is.True(db.Apply(add).Err == nil)
	again := db.Apply(add)
	is.True(again.Err == nil) // not fault.Exists
	is.True(again.Replayed)
	is.Equal(again.Pool.UUID, poolUUID(1))
	is.Equal(db.Apply(Command{ID: "op1", Time: epoch, Body: IncMapVersion{}}).Err.Code, fault.Usage)

	one, two := engine(1), engine(2)
	one.OpID, two.OpID = "j1", "j2"
	first := do(db, JoinBatch{Joins: []JoinRequest{one}}).Joins[0]
	res := do(db, JoinBatch{Joins: []JoinRequest{one, two}})
	is.Equal(res.Joins[0].Rank, first.Rank)
	is.True(res.Joins[0].Created) // the answer of the first time
	is.Equal(res.Joins[1].Rank, Rank(2))
	is.Equal(len(db.View().Members(StatesAll)), 2)
}

func TestOpsAreBounded(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	for n := range maxOps + 50 {
		db.Apply(Command{ID: fmt.Sprint("op", n), Time: epoch, Body: IncMapVersion{}})
	}
	is.Equal(len(db.c.ops.records), maxOps)
	is.Equal(len(db.c.ops.index.m), maxOps)
	is.True(db.c.ops.bytes <= maxOpsBytes)
	_, _, ok := db.c.ops.find("op0")
	is.True(!ok) // forgotten
	_, _, ok = db.c.ops.find(fmt.Sprint("op", maxOps))
	is.True(ok)
}

// randomCommand makes commands out of few names, so that they meet.
func randomCommand(r *rand.Rand, step int) Command {
	rank := func() Rank { return Rank(r.IntN(8)) }
	ranks := func() []Rank { return []Rank{rank(), rank()} }
	states := MemberStates()
	var body Body
	switch r.IntN(13) {
	case 0, 1, 2:
		var batch JoinBatch
		for range 1 + r.IntN(3) {
			req := engine(1 + r.IntN(8))
			req.Incarnation = uint64(step)
			if r.IntN(3) == 0 {
				req.Rank = rank()
			}
			if r.IntN(6) == 0 {
				req.UUID, req.Replace = engine(100+r.IntN(9)).UUID, r.IntN(2) == 0
			}
			if r.IntN(2) == 0 {
				req.OpID = fmt.Sprint("join", r.IntN(40))
			}
			batch.Joins = append(batch.Joins, req)
		}
		body = batch
	case 3:
		body = UpdateMembers{Updates: []StateUpdate{{Rank: rank(), State: states[r.IntN(len(states))], Info: "x"}}}
	case 4:
		body = RemoveMembers{Ranks: ranks()}
	case 5:
		body = AdminExclude{Ranks: ranks(), Clear: r.IntN(2) == 0}
	case 6:
		body = RankDead{Rank: rank(), Incarnation: uint64(r.IntN(step + 1))}
	case 7:
		body = EngineDied{Rank: rank(), Message: "died"}
	case 8:
		body = AddPool{UUID: poolUUID(r.IntN(5)), Label: fmt.Sprint("p", r.IntN(5)), Storage: PoolStorage{CreationRanks: ranks(), MemRatio: 0.5}}
	case 9:
		body = PoolReplicas{UUID: poolUUID(r.IntN(5)), Replicas: ranks(), Version: uint64(r.IntN(9))}
	case 10:
		label := fmt.Sprint("p", r.IntN(5))
		body = UpdatePool{UUID: poolUUID(r.IntN(5)), Label: &label}
	case 11:
		if r.IntN(2) == 0 {
			body = DestroyPool{UUID: poolUUID(r.IntN(5))}
		} else {
			body = RemovePool{UUID: poolUUID(r.IntN(5))}
		}
	default:
		body = SetAttributes{map[string]string{fmt.Sprint("k", r.IntN(4)): []string{"", "v"}[r.IntN(2)]}}
	}
	c := Command{Time: epoch.Add(time.Duration(step) * time.Millisecond), Body: body}
	if r.IntN(2) == 0 {
		c.ID = fmt.Sprint("op", r.IntN(60))
	}
	return c
}

// checkInvariants holds the indexes to the records.
func checkInvariants(t *testing.T, db *DB) {
	t.Helper()
	is := is.New(t)
	is.Equal(len(db.c.uuids.m), len(db.c.members.m))
	for rank, m := range db.c.members.m {
		is.Equal(m.Rank, rank)
		is.Equal(db.c.uuids.m[m.UUID], rank)
		is.True(m.SecondaryFabricURIs != nil && m.SecondaryFabricContexts != nil)
	}
	is.Equal(len(db.c.labels.m), len(db.c.pools.m))
	for id, p := range db.c.pools.m {
		is.Equal(db.c.labels.m[p.Label], id)
	}
	is.Equal(len(db.c.ops.index.m), len(db.c.ops.records))
}

// The same commands give the same hash: applied directly, through the log's
// encoding, and with a snapshot and restore at any point. A view never changes.
func TestSameCommandsSameHash(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			is := is.New(t)
			r := rand.New(rand.NewPCG(seed, 1))
			direct, restored := NewDB(), NewDB()
			cut := r.IntN(200)
			var early *View
			var earlyMembers string
			mapVersion := uint32(0)
			for step := range 200 {
				c := randomCommand(r, step)
				data, err := c.Encode()
				is.NoErr(err)
				decoded, err := DecodeCommand(data)
				is.NoErr(err)
				is.Equal(direct.Apply(c).Version, restored.Apply(decoded).Version)
				is.True(direct.View().MapVersion() >= mapVersion)
				mapVersion = direct.View().MapVersion()
				if step == cut {
					early = direct.View()
					earlyMembers = fmt.Sprintf("%x", marshal(early.c.document()))
					var buf bytes.Buffer
					_, err := restored.Snapshot().WriteTo(&buf)
					is.NoErr(err)
					restored, err = Restore(&buf)
					is.NoErr(err)
				}
				if step%20 == 0 || step == cut {
					is.Equal(direct.Hash(), restored.Hash())
					checkInvariants(t, direct)
				}
			}
			is.Equal(direct.Hash(), restored.Hash())
			is.Equal(earlyMembers, fmt.Sprintf("%x", marshal(early.c.document())))
			is.True(direct.Hash() != NewDB().Hash())
		})
	}
}

func TestNewerReleases(t *testing.T) {
	is := is.New(t)
	_, err := DecodeCommand(marshal(entry{Schema: commandSchema, Op: 999}))
	is.Equal(fault.Of(err), fault.Unimplemented)
	_, err = DecodeCommand(marshal(entry{Schema: commandSchema + 1, Op: OpJoin}))
	is.Equal(fault.Of(err), fault.Unimplemented)
	is.True(fault.HintOf(err) != "")
	_, err = restoreDocument(marshal(document{Schema: stateSchema + 1}))
	is.Equal(fault.Of(err), fault.Unimplemented)
	_, err = DecodeCommand([]byte("nonsense"))
	is.Equal(fault.Of(err), fault.Corrupt)
}

// Every flipped bit of a snapshot is noticed.
func TestSnapshotDamage(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	do(db, AddPool{UUID: poolUUID(1), Label: "a"})
	var buf bytes.Buffer
	_, err := db.Snapshot().WriteTo(&buf)
	is.NoErr(err)
	for at := range buf.Len() {
		data := bytes.Clone(buf.Bytes())
		data[at] ^= 0x10
		_, err := Restore(bytes.NewReader(data))
		is.Equal(fault.Of(err), fault.Corrupt)
		_, err = Restore(bytes.NewReader(buf.Bytes()[:at]))
		is.Equal(fault.Of(err), fault.Corrupt)
	}
}

// The operation numbers are in logs on disks.
func TestOpNumbers(t *testing.T) {
	is := is.New(t)
	want := []Body{JoinBatch{}, UpdateMembers{}, RemoveMembers{}, AdminExclude{}, RankDead{}, EngineDied{}, AddPool{},
		PoolReplicas{}, UpdatePool{}, DestroyPool{}, RemovePool{}, SetAttributes{}, IncMapVersion{}, CheckState{}}
	is.Equal(len(bodies), len(want))
	for i, body := range want {
		is.Equal(body.Op(), Op(i+1))
		got, err := bodies[body.Op()](marshal(body))
		is.NoErr(err)
		is.Equal(fmt.Sprintf("%T", got), fmt.Sprintf("%T", body))
	}
}

func FuzzDecodeCommand(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for step := range 40 {
		if data, err := randomCommand(r, step).Encode(); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeCommand(data)
		if err != nil {
			return
		}
		db := NewDB()
		db.Apply(c)
		if _, err := restoreDocument(marshal(db.c.document())); err != nil {
			t.Fatal("a state that a command gave cannot be restored:", err)
		}
		if _, err := c.Encode(); err != nil {
			t.Fatal("a command that was decoded cannot be encoded:", err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	db := NewDB()
	for step := range 100 {
		db.Apply(randomCommand(r, step))
	}
	f.Add(marshal(db.c.document()))
	f.Add(marshal(NewDB().c.document()))
	f.Fuzz(func(t *testing.T, data []byte) {
		db, err := restoreDocument(data)
		if err != nil {
			return
		}
		hash := db.Hash()
		back, err := restoreDocument(marshal(db.c.document()))
		if err != nil || back.Hash() != hash {
			t.Fatal("a restored state is not stable:", err)
		}
		db.View().GroupMap()
		db.View().Pools()
	})
}
