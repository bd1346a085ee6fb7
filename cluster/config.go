package cluster

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"daosbox/cluster/fault"
)

// Timers are the service's times. The zero value of each means its default.
type Timers struct {
	Heartbeat time.Duration // 2 s: a follower waits this long for its leader
	Election  time.Duration // 2 s: a candidate waits this long for votes
	Lease     time.Duration // 1 s: a leader without quorum steps down after it
	Commit    time.Duration // 50 ms: the longest pause between commit notices
	// SnapshotInterval is how often it is looked whether SnapshotThreshold new
	// entries call for a snapshot (120 s, 32); TrailingLogs entries stay in the log
	// after one (10240).
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	TrailingLogs      uint64
	// Apply bounds a mutation or fresh read whose caller set no deadline (10 s).
	Apply time.Duration
	// JoinQuiet and JoinWindow bound how long a join waits for others to share its
	// log entry: until none came for JoinQuiet (25 ms), JoinWindow (250 ms) at most.
	JoinQuiet, JoinWindow time.Duration
	// GroupTick is how often a lazy or failed group update is tried (500 ms).
	GroupTick time.Duration
	// StateCheck is how often the replicas compare their states (5 min).
	StateCheck time.Duration
	// Retry is the pause before a failed step-up is tried again (1 s).
	Retry time.Duration
	// Stop bounds each step of stopping (5 s).
	Stop time.Duration
}

func (t Timers) withDefaults() Timers {
	set := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	set(&t.Heartbeat, 2*time.Second)
	set(&t.Election, 2*time.Second)
	set(&t.Lease, time.Second)
	set(&t.Commit, 50*time.Millisecond)
	set(&t.SnapshotInterval, 120*time.Second)
	set(&t.Apply, 10*time.Second)
	set(&t.JoinQuiet, 25*time.Millisecond)
	set(&t.JoinWindow, 250*time.Millisecond)
	set(&t.GroupTick, 500*time.Millisecond)
	set(&t.StateCheck, 5*time.Minute)
	set(&t.Retry, time.Second)
	set(&t.Stop, 5*time.Second)
	if t.SnapshotThreshold == 0 {
		t.SnapshotThreshold = 32
	}
	if t.TrailingLogs == 0 {
		t.TrailingLogs = 10240
	}
	return t
}

// Config says which replica a Service is and what it stands on.
type Config struct {
	// Dir is the replica's directory, see RaftDir; it is made with mode 0770.
	Dir string
	// Self is the address by which the others reach this replica; it is one of
	// Replicas (1, 3, 5 or 7), whose first has rank 0 on its host.
	Self     string
	Replicas []string
	// Established says that this host's engines have ranks: a database without
	// peers that is empty all the same has been lost, and is not begun anew.
	Established bool
	// System is the system's name; joins of another are refused.
	System string
	Logger *slog.Logger

	// Listener gives the peers' connections, authenticated; Dial reaches a peer.
	Listener net.Listener
	Dial     func(ctx context.Context, addr string) (net.Conn, error)

	Timers Timers

	// OnLead is called when this replica has become leader and has caught up; ctx
	// ends when the lead does. Requests wait until it returns. It may itself call
	// the service with its ctx. An error gives the lead away. May be nil.
	OnLead func(ctx context.Context) error
	// Push sends the group map to an engine of this host. It is called by the
	// leader, one call at a time; an error has it called again. May be nil.
	Push func(ctx context.Context, g GroupMap) error
	// RankEnabled asks whether a pool still has a rank enabled and returns that
	// pool's name, or the empty string. When nil, the pools' records decide.
	RankEnabled func(ctx context.Context, rank Rank) (pool string, err error)
	// Local reports whether a joining engine is the leader's own first one, which
	// the server readies itself. When nil: same address as Self and index 0.
	Local func(r JoinRequest) bool

	// Stores and Transport replace files and network, for simulation.
	Stores    *Stores
	Transport raft.Transport
	// NewID makes ids of operations that have none; uuid.NewString when nil.
	NewID func() string
	// Now is the clock whose time goes into entries; time.Now when nil. Nothing else
	// is decided by it.
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	if !slices.Contains(c.Replicas, c.Self) {
		return c, NotReplica(c.Replicas)
	}
	if n := len(c.Replicas); n%2 == 0 || n > 7 {
		return c, fault.New(fault.EvenReplicas, "cannot run the management service with %d replicas: it takes 1, 3, 5 or 7", n).
			WithHint("list an odd number of servers in mgmt_svc_replicas")
	}
	if sorted := slices.Sorted(slices.Values(c.Replicas)); len(slices.Compact(sorted)) != len(c.Replicas) {
		return c, fault.New(fault.Config, "cannot run the management service: a replica is listed twice in %s", strings.Join(c.Replicas, ","))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnLead == nil {
		c.OnLead = func(context.Context) error { return nil }
	}
	if c.Local == nil {
		self := c.Self
		c.Local = func(r JoinRequest) bool { return r.Addr == self && r.Index == 0 }
	}
	c.Timers = c.Timers.withDefaults()
	return c, nil
}

func (c *Config) raft(logger *slog.Logger) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.Self)
	rc.HeartbeatTimeout, rc.ElectionTimeout = c.Timers.Heartbeat, c.Timers.Election
	rc.LeaderLeaseTimeout, rc.CommitTimeout = c.Timers.Lease, c.Timers.Commit
	rc.SnapshotInterval, rc.SnapshotThreshold = c.Timers.SnapshotInterval, c.Timers.SnapshotThreshold
	rc.TrailingLogs = c.Timers.TrailingLogs
	rc.Logger = raftLogger(logger)
	rc.NoLegacyTelemetry = true
	return rc
}

// NotReplica is the answer of a server that has no replica.
func NotReplica(replicas []string) error {
	list := strings.Join(replicas, ",")
	return fault.New(fault.NotReplica, "cannot do this here: this server has no replica of the management service").
		WithHint("ask one of %s", list).WithData("replicas", list)
}
