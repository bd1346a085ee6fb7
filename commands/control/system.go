package control

import (
	"daosbox/cluster"
	"daosbox/cluster/hostlist"
)

// Empty is the reply of a method that only succeeds or fails.
type Empty struct{}

// Selector picks ranks: by number, by host, or all when both are empty.
type Selector struct {
	Ranks *hostlist.RankSet `json:"ranks,omitempty"`
	Hosts *hostlist.Set     `json:"hosts,omitempty"`
}

// LeaderQueryReq asks any replica who leads.
type LeaderQueryReq struct{ Target }

// LeaderQueryResp tells who leads; CurrentLeader is empty when nobody does.
// DownReplicas is filled by the asking tool.
type LeaderQueryResp struct {
	CurrentLeader string   `json:"current_leader"`
	Replicas      []string `json:"replicas"`
	DownReplicas  []string `json:"down_replicas"`
}

// SystemQueryReq asks for members; States is a mask of states, 0 means all.
type SystemQueryReq struct {
	Target
	Selector
	States cluster.MemberState `json:"state_mask,omitempty"`
}

// SystemQueryResp lists the members by rank, and what of the selection is unknown.
type SystemQueryResp struct {
	Members           []cluster.Member  `json:"members"`
	Providers         []string          `json:"providers"`
	SysSelfHealPolicy string            `json:"sys_self_heal_policy"`
	AbsentRanks       *hostlist.RankSet `json:"absent_ranks,omitempty"`
	AbsentHosts       *hostlist.Set     `json:"absent_hosts,omitempty"`
	Leader            string            `json:"leader,omitempty"`
	GroupMapVersion   uint32            `json:"map_version,omitempty"`
}

// SystemStopReq stops ranks. Full asks the engines to prepare and end by
// themselves; otherwise they are killed.
type SystemStopReq struct {
	Target
	Operation
	Selector
	Force               bool `json:"force,omitempty"`
	Full                bool `json:"full,omitempty"`
	IgnoreAdminExcluded bool `json:"ignore_admin_excluded,omitempty"`
}

// SystemStartReq starts ranks.
type SystemStartReq struct {
	Target
	Operation
	Selector
	IgnoreAdminExcluded bool `json:"ignore_admin_excluded,omitempty"`
}

// RankResult is the outcome of an action on one rank. Its keys are those that
// scripts know.
type RankResult struct {
	State   string        `json:"state"`
	Addr    string        `json:"Addr"`
	Rank    hostlist.Rank `json:"Rank"`
	Action  string        `json:"Action"`
	Errored bool          `json:"Errored"`
	Msg     string        `json:"Msg"`
}

// SystemRanksResp has one result per rank, and the unknown part of the selection.
type SystemRanksResp struct {
	Results     []RankResult      `json:"Results"`
	AbsentRanks *hostlist.RankSet `json:"absent_ranks,omitempty"`
	AbsentHosts *hostlist.Set     `json:"absent_hosts,omitempty"`
}

// RanksReq is a leader's order to one host for some of its ranks.
type RanksReq struct {
	Target
	Ranks *hostlist.RankSet `json:"ranks"`
	Force bool              `json:"force,omitempty"`
}

// RanksResp has one result per rank of the host.
type RanksResp struct {
	Results []RankResult `json:"results"`
}

// JoinReq is the wish of an engine to become a member.
type JoinReq struct {
	cluster.JoinRequest
}

// JoinResp is the leader's verdict on a join it accepted.
type JoinResp struct {
	cluster.JoinResult
}

// Event is a RAS event on its way to the leader. The numbers of ids move between
// engine releases, so that events travel by name.
type Event struct {
	Name        string        `json:"name"`
	Msg         string        `json:"msg"`
	Timestamp   string        `json:"timestamp"`
	StateChange bool          `json:"state_change"`
	Severity    uint32        `json:"severity"`
	Hostname    string        `json:"hostname"`
	Rank        hostlist.Rank `json:"rank"`
	Incarnation uint64        `json:"incarnation,omitempty"`
	PoolUUID    string        `json:"pool_uuid,omitempty"`
	// Replicas and Version are the pool service's, for pool_replicas_updated.
	Replicas []hostlist.Rank `json:"svc_reps,omitempty"`
	Version  uint64          `json:"version,omitempty"`
	// Error is how the engine ended, for engine_died.
	Error string `json:"error,omitempty"`
}

// EventReq forwards a RAS event to the leader.
type EventReq struct {
	Target
	Sequence uint64 `json:"sequence"`
	Event    Event  `json:"event"`
}

// EngineCallReq asks a server to carry one call of the leader to one of its
// engines: the leader's own host may have none that runs. Only the methods that
// the management service needs are carried.
type EngineCallReq struct {
	Method int32  `json:"method"`
	Body   []byte `json:"body"`
}

// EngineCallResp is the engine's reply, not looked into.
type EngineCallResp struct {
	Body []byte `json:"body"`
}

// SystemGetPropReq asks for system properties; no keys means all.
type SystemGetPropReq struct {
	Target
	Keys []string `json:"keys,omitempty"`
}

// SystemProperty is one property of the system.
type SystemProperty struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	Description string `json:"description"`
}

// SystemGetPropResp lists properties sorted by key.
type SystemGetPropResp struct {
	Properties []SystemProperty `json:"properties"`
}

// AttachInfoReq asks for what a client needs to reach the engines. KnownVersion
// lets an unchanged map be answered without its content.
type AttachInfoReq struct {
	Target
	AllRanks     bool   `json:"all_ranks,omitempty"`
	KnownVersion uint64 `json:"known_version,omitempty"`
}

// RankURI is where a rank is reached.
type RankURI struct {
	Rank     hostlist.Rank `json:"rank"`
	URI      string        `json:"uri"`
	Contexts uint32        `json:"num_ctxs"`
}

// NetHint is how a client should set up its fabric (drpc.md §5.5 ClientNetHint).
type NetHint struct {
	Provider    string   `json:"provider"`
	CRTTimeout  uint32   `json:"crt_timeout"`
	NetDevClass uint32   `json:"net_dev_class"`
	SrvSRXSet   int32    `json:"srv_srx_set"`
	EnvVars     []string `json:"env_vars"`
}

// Build is the version of a server.
type Build struct {
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	Patch uint32 `json:"patch"`
	Tag   string `json:"tag"`
}

// AttachInfoResp is the answer; Unchanged means that KnownVersion is current.
type AttachInfoResp struct {
	Unchanged   bool            `json:"unchanged,omitempty"`
	System      string          `json:"sys"`
	DataVersion uint64          `json:"data_version"`
	RankURIs    []RankURI       `json:"rank_uris"`
	MSRanks     []hostlist.Rank `json:"ms_ranks"`
	NetHint     NetHint         `json:"client_net_hint"`
	Build       Build           `json:"build_info"`
}
