package cluster

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"daosbox/cluster/fault"
)

// PoolState is where a pool's record is in its life.
type PoolState uint8

// The states of a pool's record; the numbers are those of DAOS 2.x.
const (
	// PoolCreating is recorded before the engines are asked.
	PoolCreating PoolState = 0
	// PoolReady is a pool that has answered.
	PoolReady PoolState = 1
	// PoolDestroying stays until the engines have destroyed the pool.
	PoolDestroying PoolState = 2
)

// String returns the name that is also the JSON form, "Ready".
func (s PoolState) String() string {
	switch s {
	case PoolCreating:
		return "Creating"
	case PoolReady:
		return "Ready"
	case PoolDestroying:
		return "Destroying"
	}
	return "PoolState(" + strconv.Itoa(int(s)) + ")"
}

// MarshalJSON writes the name.
func (s PoolState) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads the name.
func (s *PoolState) UnmarshalJSON(data []byte) error {
	var name string
	if err := json.Unmarshal(data, &name); err != nil {
		return fault.New(fault.Usage, "cannot read pool state %.40s: not a name", data)
	}
	for _, state := range []PoolState{PoolCreating, PoolReady, PoolDestroying} {
		if state.String() == name {
			*s = state
			return nil
		}
	}
	return fault.New(fault.Usage, "cannot read pool state %.40q: no such state", name)
}

// PoolStorage is what a pool was created with.
type PoolStorage struct {
	// CreationRanks are the ranks that the pool was created on.
	CreationRanks []Rank `json:"creation_ranks"`
	// PerRankTierBytes is the size of each tier on one rank, in bytes.
	PerRankTierBytes []uint64 `json:"per_rank_tier_bytes"`
	// MemRatio is the share of the metadata that is kept in memory (MD-on-SSD),
	// 0 when there is none.
	MemRatio float64 `json:"mem_ratio"`
}

// PoolRecord is what the system knows of a pool without asking its engines.
type PoolRecord struct {
	UUID  string    `json:"uuid"`
	Label string    `json:"label"`
	State PoolState `json:"state"`
	// Replicas are the ranks of the pool's service, sorted.
	Replicas []Rank `json:"replicas"`
	// ReplicasVersion is the version (term) under which the pool's service told
	// its replicas; 0 when it never did.
	ReplicasVersion uint64      `json:"replicas_version"`
	Storage         PoolStorage `json:"storage"`
	LastUpdate      time.Time   `json:"last_update"`
}

// clone returns a copy that shares nothing and whose lists are not nil.
func (p *PoolRecord) clone() *PoolRecord {
	c := *p
	c.Replicas = append([]Rank{}, p.Replicas...)
	c.Storage.CreationRanks = append([]Rank{}, p.Storage.CreationRanks...)
	c.Storage.PerRankTierBytes = append([]uint64{}, p.Storage.PerRankTierBytes...)
	return &c
}

// uses reports whether the pool was created on a rank or has its service there.
func (p *PoolRecord) uses(rank Rank) bool {
	return slices.Contains(p.Storage.CreationRanks, rank) || slices.Contains(p.Replicas, rank)
}

// sortedRanks returns a sorted copy without doubles.
func sortedRanks(ranks []Rank) []Rank {
	c := append([]Rank{}, ranks...)
	slices.Sort(c)
	return slices.Compact(c)
}
