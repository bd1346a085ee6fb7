package cluster

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"daosbox/cluster/fault"
)

// AddPool records a pool that is about to be created (state Creating).
type AddPool struct {
	UUID    string      `json:"uuid"`
	Label   string      `json:"label"`
	Storage PoolStorage `json:"storage"`
}

// PoolReplicas records who serves a pool; a pool that was Creating is then Ready.
// Both the create reply and the engines' event end here.
type PoolReplicas struct {
	UUID     string `json:"uuid"`
	Replicas []Rank `json:"replicas"`
	// Version is the version (term) of the list, 0 when the source has none (the
	// create reply). A list older than the recorded one is ignored.
	Version uint64 `json:"version,omitempty"`
}

// UpdatePool changes what is recorded of a pool: after an extension or a change
// of its label. Nil fields stay.
type UpdatePool struct {
	UUID    string       `json:"uuid"`
	Label   *string      `json:"label,omitempty"`
	Storage *PoolStorage `json:"storage,omitempty"`
}

// DestroyPool records that a pool is being destroyed.
type DestroyPool struct {
	UUID string `json:"uuid"`
}

// RemovePool forgets a pool: after its destruction or a failed creation.
type RemovePool struct {
	UUID string `json:"uuid"`
}

// Op implements Body.
func (AddPool) Op() Op { return OpAddPool }

// Op implements Body.
func (PoolReplicas) Op() Op { return OpPoolReplicas }

// Op implements Body.
func (UpdatePool) Op() Op { return OpUpdatePool }

// Op implements Body.
func (DestroyPool) Op() Op { return OpDestroyPool }

// Op implements Body.
func (RemovePool) Op() Op { return OpRemovePool }

func checkPoolID(id string) error {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.String() != id {
		return fault.New(fault.Usage, "cannot use pool UUID %.64q: not a UUID in its plain lower-case form", id)
	}
	return nil
}

func checkPoolStorage(s PoolStorage) error {
	if len(s.PerRankTierBytes) > maxList {
		return tooMany("tiers", len(s.PerRankTierBytes))
	}
	return checkRanks(s.CreationRanks)
}

func checkLabel(label string) error {
	if len(label) > maxText {
		return tooLong("pool label", len(label))
	}
	if _, err := uuid.Parse(label); err == nil {
		return fault.New(fault.Usage, "cannot use pool label %q: it looks like a UUID", label)
	}
	return nil
}

func (b AddPool) check() error {
	if err := checkPoolID(b.UUID); err != nil {
		return err
	}
	if err := checkLabel(b.Label); err != nil {
		return err
	}
	return checkPoolStorage(b.Storage)
}

func (b PoolReplicas) check() error {
	if err := checkPoolID(b.UUID); err != nil {
		return err
	}
	return checkRanks(b.Replicas)
}

func (b UpdatePool) check() error {
	if err := checkPoolID(b.UUID); err != nil {
		return err
	}
	if b.Label != nil {
		if err := checkLabel(*b.Label); err != nil {
			return err
		}
	}
	if b.Storage != nil {
		return checkPoolStorage(*b.Storage)
	}
	return nil
}

func (b DestroyPool) check() error { return checkPoolID(b.UUID) }
func (b RemovePool) check() error  { return checkPoolID(b.UUID) }

func noPool(id string) *fault.Error {
	return fault.New(fault.NotFound, "cannot find pool %q: the system has none of that label or UUID", id).
		WithHint("see the pools with `dmg pool list`")
}

func (db *DB) labelTaken(label, by string) error {
	if holder, ok := db.c.labels.m[label]; ok && label != "" && holder != by {
		return fault.New(fault.DuplicateLabel, "cannot use pool label %q: pool %s has it", label, holder).
			WithHint("choose another label, or destroy that pool first")
	}
	return nil
}

func (b AddPool) apply(db *DB, _ string) Result {
	if db.c.pools.m[b.UUID] != nil {
		return refuse(fault.New(fault.Exists, "cannot add pool %s: it exists already", b.UUID))
	}
	if err := db.labelTaken(b.Label, b.UUID); err != nil {
		return refuse(err)
	}
	p := &PoolRecord{UUID: b.UUID, Label: b.Label, State: PoolCreating, Storage: b.Storage}
	p = p.clone()
	p.Storage.CreationRanks = sortedRanks(p.Storage.CreationRanks)
	db.putPool(p)
	return Result{Pool: p}
}

func (b PoolReplicas) apply(db *DB, _ string) Result {
	old := db.c.pools.m[b.UUID]
	if old == nil {
		return refuse(noPool(b.UUID))
	}
	if old.State == PoolDestroying {
		return refuse(poolState(old, "take replicas of"))
	}
	p := old.clone()
	if b.Version > old.ReplicasVersion || old.ReplicasVersion == 0 {
		p.Replicas, p.ReplicasVersion = sortedRanks(b.Replicas), b.Version
	}
	p.State = PoolReady
	if p.State != old.State || !slices.Equal(p.Replicas, old.Replicas) || p.ReplicasVersion != old.ReplicasVersion {
		db.putPool(p)
	}
	return Result{Pool: p}
}

func (b UpdatePool) apply(db *DB, _ string) Result {
	old := db.c.pools.m[b.UUID]
	if old == nil {
		return refuse(noPool(b.UUID))
	}
	if old.State == PoolDestroying {
		return refuse(poolState(old, "change"))
	}
	p := old.clone()
	if b.Label != nil {
		if err := db.labelTaken(*b.Label, b.UUID); err != nil {
			return refuse(err)
		}
		p.Label = *b.Label
	}
	if b.Storage != nil {
		p.Storage = *b.Storage
		p = p.clone()
		p.Storage.CreationRanks = sortedRanks(p.Storage.CreationRanks)
	}
	db.putPool(p)
	return Result{Pool: p}
}

func (b DestroyPool) apply(db *DB, _ string) Result {
	old := db.c.pools.m[b.UUID]
	if old == nil {
		return refuse(noPool(b.UUID))
	}
	p := old.clone()
	p.State = PoolDestroying
	if old.State != PoolDestroying {
		db.putPool(p)
	}
	return Result{Pool: p}
}

func (b RemovePool) apply(db *DB, _ string) Result {
	old := db.c.pools.m[b.UUID]
	if old == nil {
		return refuse(noPool(b.UUID))
	}
	if db.c.labels.m[old.Label] == old.UUID {
		db.c.labels.drop(old.Label)
	}
	db.c.pools.drop(old.UUID)
	return Result{}
}

func poolState(p *PoolRecord, verb string) error {
	return fault.New(fault.Busy, "cannot %s pool %s: it is %v", verb, poolName(p), p.State)
}

func poolName(p *PoolRecord) string {
	if p.Label == "" {
		return p.UUID
	}
	return fmt.Sprintf("%q (%s)", p.Label, p.UUID)
}
