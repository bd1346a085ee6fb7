package cluster

import (
	"maps"
	"time"

	"daosbox/cluster/fault"
)

// Names of the attributes that the service itself reads. Attributes starting with
// PropPrefix are system properties, with MgmtPrefix internal; the rest is the
// user's.
const (
	PropPrefix = "prop."
	MgmtPrefix = "mgmt."

	// AttrProviders is the list of fabric providers, joined by commas.
	AttrProviders = MgmtPrefix + "fabric_providers"
	// AttrPaused is "true" while no group map is sent, because the provider
	// changed and not all ranks have joined with the new one.
	AttrPaused = MgmtPrefix + "group_update_paused"
	// AttrDomainLabels are the names of the fault domain's layers, joined by "=".
	AttrDomainLabels = MgmtPrefix + "domain_labels"
	// AttrChecker is "true" while the checker is enabled.
	AttrChecker = MgmtPrefix + "checker_enabled"
	// PropSelfHeal is the self-heal policy, see SelfHealExclude.
	PropSelfHeal = PropPrefix + "self_heal"
)

// table is a map that is copied before the first change after it was shared.
// Values are never changed in place: a change puts a new one.
type table[K comparable, V any] struct {
	m      map[K]V
	shared bool
}

func (t *table[K, V]) own() {
	if t.m == nil {
		t.m = make(map[K]V)
	} else if t.shared {
		t.m = maps.Clone(t.m)
	}
	t.shared = false
}

func (t *table[K, V]) put(k K, v V) {
	t.own()
	t.m[k] = v
}

func (t *table[K, V]) drop(k K) {
	if _, ok := t.m[k]; ok {
		t.own()
		delete(t.m, k)
	}
}

// share returns the table for a reader; the writer copies before it writes again.
func (t *table[K, V]) share() table[K, V] {
	t.shared = true
	return table[K, V]{m: t.m, shared: true}
}

// content is all that replicas have in common.
type content struct {
	version    uint64
	nextRank   Rank
	mapVersion uint32
	members    table[Rank, *Member]
	uuids      table[string, Rank]
	pools      table[string, *PoolRecord]
	labels     table[string, string] // label -> uuid
	attrs      table[string, string]
	ops        opLog
}

// DB is the system's database: commands in, results out. It knows no clock, does
// no I/O and starts nothing; the same commands give the same state and the same
// Hash on every replica. It is not safe for concurrent use; a View is.
type DB struct {
	c content

	// While a command is applied:
	now     time.Time
	changed bool // a member was added, changed or removed
}

// NewDB returns the database of a system that nobody has joined. Rank 0 is kept
// for the first engine of the first replica's host.
func NewDB() *DB {
	return &DB{c: content{nextRank: 1}}
}

// Apply carries out one command. An operation id that was seen before gives the
// remembered result and changes nothing but the version.
func (db *DB) Apply(cmd Command) Result {
	db.c.version++
	if cmd.ID != "" {
		if op, res, ok := db.c.ops.find(cmd.ID); ok {
			return replay(cmd, op, res)
		}
	}
	db.now, db.changed = cmd.Time.UTC().Round(0), false
	res := cmd.Body.apply(db, cmd.ID)
	if db.changed {
		db.c.mapVersion++
	}
	res.MapVersion, res.Version = db.c.mapVersion, db.c.version
	for i := range res.Joins {
		res.Joins[i].MapVersion = db.c.mapVersion
	}
	db.remember(cmd, res)
	return res
}

// remember keeps the result for a retry. A batch of joins is remembered join by
// join, for a retried join may come in another batch.
func (db *DB) remember(cmd Command, res Result) {
	if batch, ok := cmd.Body.(JoinBatch); ok {
		for i, join := range batch.Joins {
			if join.OpID != "" && !res.Joins[i].replayed {
				one := Result{Joins: res.Joins[i : i+1], MapVersion: res.MapVersion, Version: res.Version}
				db.c.ops.add(join.OpID, OpJoin, one)
			}
		}
		return
	}
	if cmd.ID != "" {
		db.c.ops.add(cmd.ID, cmd.Body.Op(), res)
	}
}

// replay answers a retried operation.
func replay(cmd Command, op Op, res Result) Result {
	if op != cmd.Body.Op() {
		return refuse(fault.New(fault.Usage, "cannot apply operation %s: its id was used for another kind of operation", cmd.ID).
			WithHint("make a new id for every operation; repeat an id only to retry the same request"))
	}
	res.Replayed = true
	return res
}

// putMember stores a member, keeping the index by UUID, and marks the group map
// as changed.
func (db *DB) putMember(m *Member) {
	if old := db.c.members.m[m.Rank]; old != nil && old.UUID != m.UUID {
		db.c.uuids.drop(old.UUID)
	}
	m.LastUpdate = db.now
	db.c.members.put(m.Rank, m)
	db.c.uuids.put(m.UUID, m.Rank)
	db.changed = true
}

func (db *DB) dropMember(m *Member) {
	db.c.uuids.drop(m.UUID)
	db.c.members.drop(m.Rank)
	db.changed = true
}

func (db *DB) memberByUUID(uuid string) *Member {
	rank, ok := db.c.uuids.m[uuid]
	if !ok {
		return nil
	}
	return db.c.members.m[rank]
}

func (db *DB) putPool(p *PoolRecord) {
	if old := db.c.pools.m[p.UUID]; old != nil && old.Label != p.Label {
		db.c.labels.drop(old.Label)
	}
	p.LastUpdate = db.now
	db.c.pools.put(p.UUID, p)
	if p.Label != "" {
		db.c.labels.put(p.Label, p.UUID)
	}
}

// attr returns an attribute's value, empty when it is not set.
func (c *content) attr(key string) string { return c.attrs.m[key] }

func (db *DB) setAttr(key, value string) {
	if value == "" {
		db.c.attrs.drop(key)
	} else {
		db.c.attrs.put(key, value)
	}
}

// View returns the present state for readers; it never changes.
func (db *DB) View() *View {
	return &View{c: db.c.share(false)}
}

// share returns a copy for readers; withOps includes the remembered operations,
// which only snapshots need.
func (c *content) share(withOps bool) content {
	s := content{
		version: c.version, nextRank: c.nextRank, mapVersion: c.mapVersion,
		members: c.members.share(), uuids: c.uuids.share(),
		pools: c.pools.share(), labels: c.labels.share(), attrs: c.attrs.share(),
	}
	if withOps {
		s.ops = c.ops.share()
	}
	return s
}
