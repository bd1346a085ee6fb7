// Package control is the control API: every method that one part of the system
// calls of another over the wire, declared once with its name, its message types,
// the roles that may call it and where it goes. dmg, daos_agent and daos_server
// call through it; daos_server serves it. The message types are the JSON of
// --json and the domain at once: nothing is converted twice.
package control

import (
	"time"

	"daosbox/cluster/pki"
)

// Route says who serves a method.
type Route int

const (
	// Host is any server, for itself.
	Host Route = iota
	// Leader is the replica that leads the management service; others redirect.
	Leader
	// Replica is any replica of the management service; other servers redirect.
	Replica
)

// Method is one row of the control API. Req and Resp are plain structs encoded as
// CBOR keyed by their JSON names; unknown keys are skipped, so neighbours in
// version understand each other.
type Method[Req, Resp any] struct {
	// Name is the method on the wire: "group.verb".
	Name string
	// Roles may call it; with allow_insecure everybody may.
	Roles []pki.Role
	// Route says who serves it.
	Route Route
	// Timeout is the deadline of one call when the caller sets none.
	Timeout time.Duration
	// Progress makes the reply a stream: any number of Progress, then the result.
	Progress bool
	// Relay lets servers pass the request of an administrator on to one another
	// (DESIGN.md). It is for methods of route Host with one reply whose request and
	// reply every server may see.
	Relay bool
}

// Row is a method without its types, for tables and the test of all roles.
type Row struct {
	Name  string
	Roles []pki.Role
	Route Route
	Relay bool
}

func (m Method[Req, Resp]) row() Row { return Row{m.Name, m.Roles, m.Route, m.Relay} }

// Progress is what a long operation tells while it runs.
type Progress struct {
	// Subject is the host, rank or device concerned, empty for the whole.
	Subject string `json:"subject,omitempty"`
	// Text says what happens now.
	Text string `json:"text"`
	// Done of Total steps are over; Total 0 means unknown.
	Done  int `json:"done"`
	Total int `json:"total"`
}

// Report takes the progress of an operation; it may be called from any goroutine.
type Report func(Progress)

// streamed is a message of a progress stream: one of both.
type streamed[Resp any] struct {
	Progress *Progress `json:"progress,omitempty"`
	Result   *Resp     `json:"result,omitempty"`
}

// Target names the system that a request is meant for. An empty name is the
// server's own; any other must match.
type Target struct {
	System string `json:"sys,omitempty"`
}

func (t *Target) target() *Target { return t }

// Operation identifies a mutation, so that a retry is not a second change.
type Operation struct {
	OpID string `json:"op_id,omitempty"`
}

func (o *Operation) operation() *Operation { return o }

const (
	minute = time.Minute
	short  = 10 * time.Second
)

var (
	admin         = []pki.Role{pki.Admin}
	server        = []pki.Role{pki.Server}
	adminOrAgent  = []pki.Role{pki.Admin, pki.Agent}
	adminOrServer = []pki.Role{pki.Admin, pki.Server}
)

// The control API. The roles are the authorization: nothing else decides. Every
// method may be called again with the same request when its answer was lost: what
// changes something does it once, by the operation's or the pool's id.
var (
	StorageScan   = Method[StorageScanReq, StorageScanResp]{Name: "storage.scan", Roles: admin, Route: Host, Timeout: minute, Relay: true}
	StorageFormat = Method[StorageFormatReq, StorageFormatResp]{Name: "storage.format", Roles: admin, Route: Host, Timeout: 10 * minute, Progress: true}
	SmdQuery      = Method[SmdQueryReq, SmdQueryResp]{Name: "smd.query", Roles: admin, Route: Host, Timeout: minute, Relay: true}
	NetworkScan   = Method[NetworkScanReq, NetworkScanResp]{Name: "network.scan", Roles: admin, Route: Host, Timeout: minute, Relay: true}
	SetLogMasks   = Method[SetLogMasksReq, Empty]{Name: "server.set-logmasks", Roles: admin, Route: Host, Timeout: minute, Relay: true}
	// RelayFan passes a signed request on: the administrator hands it to a server,
	// servers to each other. What is in it is authorized by the row of its method.
	RelayFan       = Method[relayFan, relayReply]{Name: "relay.fan", Roles: adminOrServer, Route: Host, Timeout: minute}
	PrepShutdown   = Method[RanksReq, RanksResp]{Name: "ranks.prep-shutdown", Roles: server, Route: Host, Timeout: 5 * minute}
	StopRanks      = Method[RanksReq, RanksResp]{Name: "ranks.stop", Roles: server, Route: Host, Timeout: 5 * minute}
	StartRanks     = Method[RanksReq, RanksResp]{Name: "ranks.start", Roles: server, Route: Host, Timeout: 5 * minute}
	EngineCall     = Method[EngineCallReq, EngineCallResp]{Name: "engine.call", Roles: server, Route: Host, Timeout: 10 * minute}
	SystemJoin     = Method[JoinReq, JoinResp]{Name: "system.join", Roles: server, Route: Leader, Timeout: short}
	SystemEvent    = Method[EventReq, Empty]{Name: "system.event", Roles: server, Route: Leader, Timeout: short}
	LeaderQuery    = Method[LeaderQueryReq, LeaderQueryResp]{Name: "system.leader-query", Roles: admin, Route: Replica, Timeout: 4 * time.Second}
	SystemQuery    = Method[SystemQueryReq, SystemQueryResp]{Name: "system.query", Roles: admin, Route: Leader, Timeout: 5 * minute}
	SystemStop     = Method[SystemStopReq, SystemRanksResp]{Name: "system.stop", Roles: admin, Route: Leader, Timeout: 5 * minute, Progress: true}
	SystemStart    = Method[SystemStartReq, SystemRanksResp]{Name: "system.start", Roles: admin, Route: Leader, Timeout: 5 * minute, Progress: true}
	SystemGetProp  = Method[SystemGetPropReq, SystemGetPropResp]{Name: "system.get-prop", Roles: adminOrServer, Route: Leader, Timeout: minute}
	AttachInfo     = Method[AttachInfoReq, AttachInfoResp]{Name: "system.attach-info", Roles: adminOrAgent, Route: Replica, Timeout: minute}
	PoolCreate     = Method[PoolCreateReq, PoolCreateResp]{Name: "pool.create", Roles: admin, Route: Leader, Timeout: 10 * minute, Progress: true}
	PoolDestroy    = Method[PoolDestroyReq, Empty]{Name: "pool.destroy", Roles: admin, Route: Leader, Timeout: 5 * minute, Progress: true}
	PoolList       = Method[PoolListReq, PoolListResp]{Name: "pool.list", Roles: admin, Route: Leader, Timeout: minute}
	PoolQuery      = Method[PoolQueryReq, PoolInfo]{Name: "pool.query", Roles: admin, Route: Leader, Timeout: 5 * minute}
	PoolGetProp    = Method[PoolGetPropReq, PoolPropResp]{Name: "pool.get-prop", Roles: admin, Route: Leader, Timeout: minute}
	PoolSetProp    = Method[PoolSetPropReq, Empty]{Name: "pool.set-prop", Roles: admin, Route: Leader, Timeout: minute}
	PoolGetACL     = Method[PoolACLReq, ACL]{Name: "pool.get-acl", Roles: admin, Route: Leader, Timeout: minute}
	PoolUpdateACL  = Method[PoolACLReq, ACL]{Name: "pool.update-acl", Roles: admin, Route: Leader, Timeout: minute}
	PoolReplaceACL = Method[PoolACLReq, ACL]{Name: "pool.overwrite-acl", Roles: admin, Route: Leader, Timeout: minute}
	PoolDeleteACL  = Method[PoolACLReq, ACL]{Name: "pool.delete-acl", Roles: admin, Route: Leader, Timeout: minute}
	PoolEvict      = Method[PoolEvictReq, PoolEvictResp]{Name: "pool.evict", Roles: adminOrAgent, Route: Leader, Timeout: minute}
)

// Rows lists the whole API in the order of the declaration.
func Rows() []Row {
	return append([]Row{
		StorageScan.row(), StorageFormat.row(), SmdQuery.row(), NetworkScan.row(), SetLogMasks.row(), RelayFan.row(),
		PrepShutdown.row(), StopRanks.row(), StartRanks.row(), EngineCall.row(),
		SystemJoin.row(), SystemEvent.row(), LeaderQuery.row(), SystemQuery.row(), SystemStop.row(), SystemStart.row(),
		SystemGetProp.row(), AttachInfo.row(),
		PoolCreate.row(), PoolDestroy.row(), PoolList.row(), PoolQuery.row(), PoolGetProp.row(), PoolSetProp.row(),
		PoolGetACL.row(), PoolUpdateACL.row(), PoolReplaceACL.row(), PoolDeleteACL.row(), PoolEvict.row(),
	}, administerRows()...)
}
