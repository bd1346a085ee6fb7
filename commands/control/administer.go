package control

import (
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
)

// The methods by which an administrator changes a running system: which ranks take
// part, what its properties and attributes are, what its pools do with their
// targets.
var (
	SystemExclude      = Method[SystemExcludeReq, SystemRanksResp]{Name: "system.exclude", Roles: admin, Route: Leader, Timeout: 5 * minute}
	SystemDrain        = Method[SystemDrainReq, SystemDrainResp]{Name: "system.drain", Roles: admin, Route: Leader, Timeout: 10 * minute, Progress: true}
	SystemCleanup      = Method[SystemCleanupReq, SystemCleanupResp]{Name: "system.cleanup", Roles: adminOrAgent, Route: Leader, Timeout: 5 * minute}
	SystemSetAttr      = Method[SystemSetAttrReq, Empty]{Name: "system.set-attr", Roles: admin, Route: Leader, Timeout: minute}
	SystemGetAttr      = Method[SystemGetAttrReq, SystemGetAttrResp]{Name: "system.get-attr", Roles: admin, Route: Leader, Timeout: minute}
	SystemSetProp      = Method[SystemSetPropReq, Empty]{Name: "system.set-prop", Roles: admin, Route: Leader, Timeout: 5 * minute}
	SystemRebuild      = Method[SystemRebuildReq, SystemRebuildResp]{Name: "system.rebuild-manage", Roles: admin, Route: Leader, Timeout: 5 * minute}
	SystemSelfHealEval = Method[SystemSelfHealEvalReq, Empty]{Name: "system.self-heal-eval", Roles: admin, Route: Leader, Timeout: 5 * minute}
	SystemErase        = Method[SystemEraseReq, Empty]{Name: "system.erase", Roles: admin, Route: Leader, Timeout: 5 * minute, Progress: true}
	ResetFormat        = Method[ResetFormatReq, Empty]{Name: "ranks.reset-format", Roles: server, Route: Host, Timeout: minute}
	ReplicaErase       = Method[ReplicaEraseReq, Empty]{Name: "replica.erase", Roles: server, Route: Host, Timeout: minute}
	SystemVersion      = Method[SystemVersionReq, SystemVersionResp]{Name: "system.version", Roles: admin, Route: Replica, Timeout: short}
	PoolExclude        = Method[PoolRanksReq, PoolRanksResp]{Name: "pool.exclude", Roles: admin, Route: Leader, Timeout: 5 * minute}
	PoolDrain          = Method[PoolRanksReq, PoolRanksResp]{Name: "pool.drain", Roles: adminOrServer, Route: Leader, Timeout: 5 * minute}
	PoolReintegrate    = Method[PoolRanksReq, PoolRanksResp]{Name: "pool.reintegrate", Roles: adminOrServer, Route: Leader, Timeout: 5 * minute}
	PoolExtend         = Method[PoolExtendReq, Empty]{Name: "pool.extend", Roles: admin, Route: Leader, Timeout: 5 * minute}
	PoolUpgrade        = Method[PoolUpgradeReq, Empty]{Name: "pool.upgrade", Roles: admin, Route: Leader, Timeout: 5 * minute}
	PoolQueryTargets   = Method[PoolQueryTargetsReq, PoolQueryTargetsResp]{Name: "pool.query-targets", Roles: admin, Route: Leader, Timeout: minute}
	PoolRebuildStart   = Method[PoolRebuildReq, Empty]{Name: "pool.rebuild-start", Roles: adminOrServer, Route: Leader, Timeout: minute}
	PoolRebuildStop    = Method[PoolRebuildReq, Empty]{Name: "pool.rebuild-stop", Roles: adminOrServer, Route: Leader, Timeout: minute}
)

// administerRows are the rows of this file, for Rows.
func administerRows() []Row {
	return []Row{
		SystemExclude.row(), SystemDrain.row(), SystemCleanup.row(), SystemSetAttr.row(), SystemGetAttr.row(), SystemSetProp.row(),
		SystemRebuild.row(), SystemSelfHealEval.row(), SystemVersion.row(),
		SystemErase.row(), ResetFormat.row(), ReplicaErase.row(),
		PoolExclude.row(), PoolDrain.row(), PoolReintegrate.row(), PoolExtend.row(), PoolUpgrade.row(), PoolQueryTargets.row(),
		PoolRebuildStart.row(), PoolRebuildStop.row(),
	}
}

// Named reports whether the selector names any rank or host; otherwise it means
// all ranks.
func (s Selector) Named() bool {
	return s.Ranks != nil && s.Ranks.Len() > 0 || s.Hosts != nil && s.Hosts.Len() > 0
}

// Actions of a RankResult, by which scripts tell them apart.
const (
	ActionExclude      = "set admin-excluded state"
	ActionClearExclude = "clear admin-excluded state"
)

// SystemExcludeReq excludes ranks in the administrator's name; Clear lifts that.
// The selector must name some.
type SystemExcludeReq struct {
	Target
	Operation
	Selector
	Clear bool `json:"clear,omitempty"`
}

// SystemDrainReq drains the ranks in every pool that uses them; Reint takes them
// back instead. The selector must name some.
type SystemDrainReq struct {
	Target
	Operation
	Selector
	Reint bool `json:"reint,omitempty"`
}

// SystemDrainResp has one row for each pool that uses a selected rank, by label.
type SystemDrainResp struct {
	Responses   []PoolRanksResp   `json:"responses"`
	AbsentRanks *hostlist.RankSet `json:"absent_ranks,omitempty"`
	AbsentHosts *hostlist.Set     `json:"absent_hosts,omitempty"`
}

// SystemCleanupReq closes the pool handles that processes of a machine hold.
type SystemCleanupReq struct {
	Target
	Operation
	Machine string `json:"machine"`
}

// CleanupResult is what that brought in one pool. Status is a DER number, 0 when it
// went well.
type CleanupResult struct {
	Status int32  `json:"status"`
	Msg    string `json:"msg"`
	PoolID string `json:"pool_id"`
	Count  uint32 `json:"count"`
}

// SystemCleanupResp has one row for each pool, by label.
type SystemCleanupResp struct {
	Results []CleanupResult `json:"results"`
}

// SystemSetAttrReq sets attributes of the system; an empty value deletes one.
type SystemSetAttrReq struct {
	Target
	Operation
	Attributes map[string]string `json:"attributes"`
}

// SystemGetAttrReq asks for attributes; no keys means all.
type SystemGetAttrReq struct {
	Target
	Keys []string `json:"keys,omitempty"`
}

// SystemGetAttrResp has the attributes by name.
type SystemGetAttrResp struct {
	Attributes map[string]string `json:"attributes"`
}

// SystemSetPropReq sets system properties by key.
type SystemSetPropReq struct {
	Target
	Operation
	Properties map[string]string `json:"properties"`
}

// RebuildOp is what is to become of rebuilds.
type RebuildOp uint32

// What there is; the numbers are those that scripts know.
const (
	RebuildStart RebuildOp = 1
	RebuildStop  RebuildOp = 2
)

// SystemRebuildReq starts or stops the rebuild of every pool.
type SystemRebuildReq struct {
	Target
	Operation
	OpCode RebuildOp `json:"op_code"`
	Force  bool      `json:"force,omitempty"`
}

// PoolRebuildResult is what came of that in one pool.
type PoolRebuildResult struct {
	ID      string    `json:"id"`
	OpCode  RebuildOp `json:"op_code"`
	Errored bool      `json:"errored"`
	Msg     string    `json:"msg"`
}

// SystemRebuildResp has one row for each pool, by label.
type SystemRebuildResp struct {
	Results []PoolRebuildResult `json:"results"`
}

// SystemSelfHealEvalReq has the system's self-heal policy applied to what happened
// while it was another.
type SystemSelfHealEvalReq struct {
	Target
	Operation
}

// SystemEraseReq gives the whole system up: what the management service knows, and
// that the engines' storage is formatted.
type SystemEraseReq struct {
	Target
	Operation
}

// ResetFormatReq is a coordinator's order to one host, when the system is erased:
// its engines are to wait for a format. Check only asks whether that can be done.
type ResetFormatReq struct {
	Target
	Check bool `json:"check,omitempty"`
}

// ErasePhase is a step of the erasure of a replica.
type ErasePhase string

// The steps. Each is taken by all replicas before the next one is by any, so that
// no replica ever serves a database that another has given up.
const (
	// ErasePrepare notes on disk which erasure this replica takes part in.
	ErasePrepare ErasePhase = "prepare"
	// EraseHalt closes the replica for good, also over restarts.
	EraseHalt ErasePhase = "halt"
	// EraseRemove removes its files.
	EraseRemove ErasePhase = "remove"
)

// ReplicaEraseReq is a coordinator's order to one replica of the management
// service. ID names the erasure.
type ReplicaEraseReq struct {
	Target
	ID    string     `json:"id"`
	Phase ErasePhase `json:"phase"`
}

// SystemVersionReq asks a replica of the management service for its version.
type SystemVersionReq struct{ Target }

// SystemVersionResp is that of the server that answered.
type SystemVersionResp struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	BuildInfo string `json:"build_info"`
}

// PoolRanksReq moves targets of ranks out of a pool or back into it. No Targets
// means all of each rank. Force, for exclusion, skips the redundancy check.
type PoolRanksReq struct {
	Target
	Operation
	ID      string            `json:"id"`
	Ranks   *hostlist.RankSet `json:"ranks"`
	Targets []uint32          `json:"target_idx,omitempty"`
	Force   bool              `json:"force,omitempty"`
}

// PoolRankResult is what came of it for one rank.
type PoolRankResult struct {
	Rank    hostlist.Rank `json:"rank"`
	Errored bool          `json:"errored"`
	Msg     string        `json:"msg"`
}

// PoolRanksResp has one row for each rank; ID is the pool's label or UUID as the
// request had it, the label where the pool was not named.
type PoolRanksResp struct {
	ID      string           `json:"id"`
	Results []PoolRankResult `json:"results"`
}

// PoolExtendReq adds ranks to a pool.
type PoolExtendReq struct {
	Target
	Operation
	ID    string            `json:"id"`
	Ranks *hostlist.RankSet `json:"ranks"`
}

// PoolUpgradeReq brings a pool to the newest layout.
type PoolUpgradeReq struct {
	Target
	Operation
	ID string `json:"id"`
}

// PoolQueryTargetsReq asks for targets of one rank of a pool; none means all.
type PoolQueryTargetsReq struct {
	Target
	ID      string        `json:"id"`
	Rank    hostlist.Rank `json:"rank"`
	Targets []uint32      `json:"targets,omitempty"`
}

// PoolTarget is one target of a pool: its state in words and its space by tier, of
// which only Total, Free and MediaType are told.
type PoolTarget struct {
	State         string      `json:"target_state"`
	Space         []TierStats `json:"space"`
	MemFileBytes  uint64      `json:"mem_file_bytes"`
	MDonSSDActive bool        `json:"md_on_ssd_active"`
}

// PoolQueryTargetsResp has the targets in the order they were asked for. Its keys
// are those that scripts know.
type PoolQueryTargetsResp struct {
	Status int32        `json:"status"`
	Infos  []PoolTarget `json:"Infos"`
}

// PoolRebuildReq starts or stops the rebuild of a pool. Force is for a stop only.
type PoolRebuildReq struct {
	Target
	Operation
	ID    string `json:"id"`
	Force bool   `json:"force,omitempty"`
}

// SelfHealFlags are the words of the system property self_heal, in their order.
func SelfHealFlags() []string { return []string{"exclude", "pool_exclude", "pool_rebuild"} }

// Keys of the system properties that can be set.
const (
	PropSelfHeal    = "self_heal"
	PropScrubMode   = "pool_scrub_mode"
	PropScrubThresh = "pool_scrub_thresh"
)

// CheckSystemProperty returns key and value as they are kept, or says why they
// cannot be set. Keys match in any case.
func CheckSystemProperty(key, value string) (string, string, error) {
	bad := func(want string) error {
		return fault.New(fault.Usage, "cannot set system property %s to %.64q: want %s", key, value, want)
	}
	switch key = strings.ToLower(key); key {
	case "daos_version", "daos_system":
		return key, value, fault.New(fault.Usage, "cannot set system property %s: it is computed", key)
	case PropScrubMode:
		value = strings.ToLower(value)
		if !slices.Contains([]string{"off", "lazy", "timed"}, value) {
			return key, value, bad("off, lazy or timed")
		}
	case PropScrubThresh:
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return key, value, bad("a number")
		}
		value = strconv.FormatUint(n, 10)
	case PropSelfHeal:
		value = strings.ToLower(value)
		if !validSelfHeal(value) {
			return key, value, bad("none, or some of " + strings.Join(SelfHealFlags(), ";") + " in this order, joined by semicolons")
		}
	default:
		return key, value, fault.New(fault.Usage, "cannot set system property %.64q: there is none", key).
			WithHint("`dmg system get-prop` lists the properties")
	}
	return key, value, nil
}

// validSelfHeal reports whether a policy is "none" or flags in their order.
func validSelfHeal(policy string) bool {
	if policy == "none" {
		return true
	}
	rest := SelfHealFlags()
	for _, word := range strings.Split(policy, ";") {
		i := slices.Index(rest, word)
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
	}
	return true
}
