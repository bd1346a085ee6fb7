package control

import (
	"daosbox/cluster/hostlist"
)

// PoolCreateReq creates a pool. Exactly one way of giving the size is used:
// TotalBytes with TierRatio, or TierBytes per rank.
type PoolCreateReq struct {
	Target
	Operation
	// UUID of the pool; chosen by the client, so that a retry names the same pool.
	UUID  string `json:"uuid"`
	Label string `json:"label"`
	// User and Group own it, "name@".
	User  string `json:"user"`
	Group string `json:"user_group"`
	// ACL entries beyond the default; nil is the default list.
	ACL []string `json:"acl,omitempty"`
	// Properties beyond the defaults.
	Properties []PoolProperty `json:"properties,omitempty"`
	// TotalBytes over all ranks and tiers, split by TierRatio (fractions that sum
	// to 1); or TierBytes for each rank, SCM first.
	TotalBytes uint64    `json:"total_bytes,omitempty"`
	TierRatio  []float64 `json:"tier_ratio,omitempty"`
	TierBytes  []uint64  `json:"tier_bytes,omitempty"`
	// MemRatio is the memory-file to metadata fraction (MD-on-SSD).
	MemRatio float64 `json:"mem_ratio,omitempty"`
	// NumRanks picks that many; Ranks names them; neither means all.
	NumRanks uint32            `json:"num_ranks,omitempty"`
	Ranks    *hostlist.RankSet `json:"ranks,omitempty"`
	// NumSvcReps is the number of pool service replicas, 0 for the default.
	NumSvcReps uint32 `json:"num_svc_reps,omitempty"`
}

// PoolCreateResp describes the new pool; TierBytes are per rank.
type PoolCreateResp struct {
	UUID          string          `json:"uuid"`
	SvcLeader     hostlist.Rank   `json:"svc_ldr"`
	SvcReps       []hostlist.Rank `json:"svc_reps"`
	TargetRanks   []hostlist.Rank `json:"tgt_ranks"`
	TierBytes     []uint64        `json:"tier_bytes"`
	MemFileBytes  uint64          `json:"mem_file_bytes"`
	MDonSSDActive bool            `json:"md_on_ssd_active"`
}

// PoolDestroyReq destroys the pool of label or UUID ID.
type PoolDestroyReq struct {
	Target
	Operation
	ID        string `json:"id"`
	Recursive bool   `json:"recursive,omitempty"`
	Force     bool   `json:"force,omitempty"`
}

// PoolListReq lists pools; with NoQuery only what the management service knows.
type PoolListReq struct {
	Target
	NoQuery bool `json:"no_query,omitempty"`
}

// PoolListResp lists pools sorted by label.
type PoolListResp struct {
	Status int32      `json:"status"`
	Pools  []PoolInfo `json:"pools"`
}

// PoolQueryReq asks for one pool. Mask is a list of query options, empty for the
// default.
type PoolQueryReq struct {
	Target
	ID   string `json:"id"`
	Mask string `json:"query_mask,omitempty"`
}

// Rebuild is the state of a pool's rebuild.
type Rebuild struct {
	Status       int32  `json:"status"`
	State        string `json:"state"`
	DerivedState string `json:"derived_state"`
	Objects      uint64 `json:"objects"`
	Records      uint64 `json:"records"`
	TotalObjects uint64 `json:"total_objects"`
	Degraded     bool   `json:"degraded"`
}

// TierStats is the space of one tier of a pool, in bytes; Min, Max and Mean are
// the free space per target.
type TierStats struct {
	Total     uint64 `json:"total"`
	Free      uint64 `json:"free"`
	Min       uint64 `json:"min"`
	Max       uint64 `json:"max"`
	Mean      uint64 `json:"mean"`
	MediaType string `json:"media_type"`
}

// TierUsage sums a tier up; Imbalance in percent.
type TierUsage struct {
	TierName  string `json:"tier_name"`
	Size      uint64 `json:"size"`
	Free      uint64 `json:"free"`
	Imbalance uint32 `json:"imbalance"`
}

// PoolInfo is what is known of a pool. The pointers to rank sets are nil when they
// were not asked for.
type PoolInfo struct {
	QueryMask        string            `json:"query_mask"`
	State            string            `json:"state"`
	UUID             string            `json:"uuid"`
	Label            string            `json:"label,omitempty"`
	TotalTargets     uint32            `json:"total_targets"`
	ActiveTargets    uint32            `json:"active_targets"`
	TotalEngines     uint32            `json:"total_engines"`
	DisabledTargets  uint32            `json:"disabled_targets"`
	Version          uint32            `json:"version"`
	SvcLeader        uint32            `json:"svc_ldr"`
	SvcReps          []hostlist.Rank   `json:"svc_reps,omitempty"`
	Rebuild          *Rebuild          `json:"rebuild"`
	TierStats        []TierStats       `json:"tier_stats"`
	EnabledRanks     *hostlist.RankSet `json:"enabled_ranks,omitempty"`
	DisabledRanks    *hostlist.RankSet `json:"disabled_ranks,omitempty"`
	DeadRanks        *hostlist.RankSet `json:"dead_ranks,omitempty"`
	PoolLayoutVer    uint32            `json:"pool_layout_ver"`
	UpgradeLayoutVer uint32            `json:"upgrade_layout_ver"`
	MemFileBytes     uint64            `json:"mem_file_bytes"`
	MDonSSDActive    bool              `json:"md_on_ssd_active"`
	SelfHealPolicy   string            `json:"self_heal_policy"`
	Usage            []TierUsage       `json:"usage,omitempty"`
	// QueryError is why the engines could not tell more (pool list); the tool
	// tells it, scripts never saw it here.
	QueryError string `json:"query_error_msg,omitempty"`
}

// PoolProperty is one property by its number on the engines' side, with a number
// or a text as value, and its names for people.
type PoolProperty struct {
	Number uint32          `json:"number"`
	Name   string          `json:"name"`
	Value  *uint64         `json:"num,omitempty"`
	Text   *string         `json:"str,omitempty"`
	Ranks  []hostlist.Rank `json:"ranks,omitempty"`
}

// PoolGetPropReq asks for properties of a pool; no names means all.
type PoolGetPropReq struct {
	Target
	ID      string   `json:"id"`
	Numbers []uint32 `json:"numbers,omitempty"`
}

// PoolPropResp has the properties in the order of their numbers.
type PoolPropResp struct {
	Properties []PoolProperty `json:"properties"`
}

// PoolSetPropReq changes properties of a pool.
type PoolSetPropReq struct {
	Target
	Operation
	ID         string         `json:"id"`
	Properties []PoolProperty `json:"properties"`
}

// PoolACLReq reads or changes the access control list of a pool. Entries are for
// update and overwrite, Principal for delete.
type PoolACLReq struct {
	Target
	Operation
	ID        string   `json:"id"`
	Entries   []string `json:"entries,omitempty"`
	Principal string   `json:"principal,omitempty"`
}

// ACL is a pool's access control list and its owners.
type ACL struct {
	Entries []string `json:"entries"`
	Owner   string   `json:"owner_user"`
	Group   string   `json:"owner_group"`
}

// PoolEvictReq drops handles of a pool: those given, those of a machine, or all.
type PoolEvictReq struct {
	Target
	Operation
	ID      string   `json:"id"`
	Handles []string `json:"handles,omitempty"`
	Machine string   `json:"machine,omitempty"`
}

// PoolEvictResp counts the dropped handles.
type PoolEvictResp struct {
	Count int32 `json:"count"`
}
