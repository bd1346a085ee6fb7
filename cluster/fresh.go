package cluster

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// A replica whose disk was lost starts empty and has forgotten what it had
// acknowledged. If it voted at once, it could make a replica leader that lacks
// entries which only the lost disk and a third replica held. So an empty replica
// votes only for others that are as empty as itself (a new system) until it has
// caught up with a leader.

// freshKey is set in the stable store while the replica has never caught up.
var freshKey = []byte("daosbox-fresh")

// firstIndex is where the log of an empty replica ends: the configuration.
const firstIndex = 1

func markFresh(stable raft.StableStore) error { return stable.SetUint64(freshKey, 1) }

type freshness struct {
	stable raft.StableStore
	is     atomic.Bool
	commit atomic.Uint64             // highest commit index that a leader has told
	raft   atomic.Pointer[raft.Raft] // nil until raft has started
	mu     sync.Mutex
}

// loadFreshness reads the mark. A system of one replica has nobody to forget for.
func loadFreshness(stable raft.StableStore, replicas int) (*freshness, error) {
	f := &freshness{stable: stable}
	value, err := stable.GetUint64(freshKey)
	if err != nil && !unset(err) {
		return nil, err
	}
	f.is.Store(value == 1 && replicas > 1)
	return f, nil
}

// unset reports whether a stable store says that a key was never set; raft's
// contract is this text.
func unset(err error) bool { return err.Error() == "not found" }

// heard notes what a leader says is committed.
func (f *freshness) heard(commit uint64) {
	for old := f.commit.Load(); commit > old && !f.commit.CompareAndSwap(old, commit); old = f.commit.Load() {
	}
}

// mayVote reports whether the replica may vote for a candidate whose log ends at
// an index.
func (f *freshness) mayVote(candidateLast uint64, applied uint64) bool {
	if !f.is.Load() || candidateLast <= firstIndex {
		return true
	}
	return f.caughtUp(applied)
}

// caughtUp clears the mark when all that a leader said was committed is applied.
func (f *freshness) caughtUp(applied uint64) bool {
	if !f.is.Load() {
		return true
	}
	if commit := f.commit.Load(); commit <= firstIndex || applied < commit {
		return false
	}
	return f.clear() == nil // a failure is tried again at the next vote
}

// clear takes the mark away: the replica has caught up, or leads.
func (f *freshness) clear() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.is.Load() {
		return nil
	}
	if err := f.stable.SetUint64(freshKey, 0); err != nil {
		return err
	}
	f.is.Store(false)
	return nil
}

// voteGuard stands between the network and raft and answers the requests for
// votes that a fresh replica must refuse.
type voteGuard struct {
	raft.Transport
	fresh  *freshness
	logger *slog.Logger
	out    chan raft.RPC
	quit   chan struct{}
	done   chan struct{}
}

func newVoteGuard(inner raft.Transport, fresh *freshness, logger *slog.Logger) *voteGuard {
	g := &voteGuard{Transport: inner, fresh: fresh, logger: logger, out: make(chan raft.RPC),
		quit: make(chan struct{}), done: make(chan struct{})}
	go g.run()
	return g
}

func (g *voteGuard) stop() {
	close(g.quit)
	<-g.done
}

// Consumer implements raft.Transport.
func (g *voteGuard) Consumer() <-chan raft.RPC { return g.out }

// RequestPreVote implements raft.WithPreVote.
func (g *voteGuard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if with, ok := g.Transport.(raft.WithPreVote); ok {
		return with.RequestPreVote(id, target, args, resp)
	}
	return raft.ErrUnsupportedProtocol
}

func (g *voteGuard) run() {
	defer close(g.done)
	for {
		select {
		case rpc := <-g.Transport.Consumer():
			if g.refuse(rpc) {
				continue
			}
			select {
			case g.out <- rpc:
			case <-g.quit:
				return
			}
		case <-g.quit:
			return
		}
	}
}

// refuse answers a request for a vote that must not be given, and takes note of
// what leaders say.
func (g *voteGuard) refuse(rpc raft.RPC) bool {
	var applied uint64
	if r := g.fresh.raft.Load(); r != nil {
		applied = r.AppliedIndex()
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		g.fresh.heard(req.LeaderCommitIndex)
		g.fresh.caughtUp(applied)
	case *raft.RequestVoteRequest:
		if g.fresh.mayVote(req.LastLogIndex, applied) {
			return false
		}
		g.tell(string(req.ID))
		rpc.Respond(&raft.RequestVoteResponse{RPCHeader: req.RPCHeader, Term: req.Term}, nil)
		return true
	case *raft.RequestPreVoteRequest:
		if g.fresh.mayVote(req.LastLogIndex, applied) {
			return false
		}
		g.tell(string(req.ID))
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: req.RPCHeader, Term: req.Term}, nil)
		return true
	}
	return false
}

func (g *voteGuard) tell(candidate string) {
	g.logger.Warn("does not vote: this replica is empty and has not caught up with a leader yet; if it is new or lost its disk, start the other replicas", "candidate", candidate)
}
