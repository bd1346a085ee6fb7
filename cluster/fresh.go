package cluster

import (
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A replica whose disk was lost starts empty and has forgotten what it had
// acknowledged. If it voted at once, it could make a replica leader that lacks
// entries which only the lost disk and a third replica held. So an empty replica
// votes only for others that are as empty as itself (a new system) until it has
// caught up with a leader. With such a vote it takes the system for new, and votes
// as any other from then on: if all replicas of a new system stopped before the
// first entries were known to be committed, none could be elected otherwise.

// freshKey is set in the stable store while the replica has never caught up.
var freshKey = []byte("daosbox-fresh")

// firstIndex is where the log of an empty replica ends: the configuration.
const firstIndex = 1

func markFresh(stable raft.StableStore) error { return stable.SetUint64(freshKey, 1) }

type freshness struct {
	stores *Stores
	is     atomic.Bool
	raft   atomic.Pointer[raft.Raft] // nil until raft has started

	mu           sync.Mutex
	term, commit uint64 // what the newest leader said, of this run
}

// loadFreshness reads the mark. A system of one replica has nobody to forget for.
func loadFreshness(stores *Stores, replicas int) (*freshness, error) {
	f := &freshness{stores: stores}
	value, err := stores.Stable.GetUint64(freshKey)
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
func (f *freshness) heard(term, commit uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if term > f.term || term == f.term && commit > f.commit {
		f.term, f.commit = term, commit
	}
}

// mayVote reports whether the replica may vote for a candidate whose log ends at
// an index.
func (f *freshness) mayVote(candidateLast uint64) bool {
	if !f.is.Load() || candidateLast <= firstIndex {
		return true
	}
	f.look()
	return !f.is.Load()
}

// look clears the mark when the replica has caught up: it has applied what the
// leader said was committed, and that was an entry of the leader's own term. A new
// leader does not know at first how much is committed; an entry of its own term is
// after all of it.
func (f *freshness) look() {
	r := f.raft.Load()
	if !f.is.Load() || r == nil {
		return
	}
	f.mu.Lock()
	term, commit := f.term, f.commit
	f.mu.Unlock()
	if commit <= firstIndex || r.AppliedIndex() < commit || f.stores.termAt(commit) != term {
		return
	}
	// A failure is tried again at the next look.
	_ = f.clear()
}

// clear takes the mark away: the replica has caught up, or leads, or takes the
// system for new. No lock is held while the disk is waited for; to do it twice does
// no harm.
func (f *freshness) clear() error {
	if !f.is.Load() {
		return nil
	}
	if err := f.stores.Stable.SetUint64(freshKey, 0); err != nil {
		return err
	}
	f.is.Store(false)
	return nil
}

// voteGuard stands between the network and raft and answers what raft must not
// see: the requests for votes that a fresh replica refuses, and old snapshots.
type voteGuard struct {
	raft.Transport
	fresh  *freshness
	logger *slog.Logger
	every  time.Duration // how often a fresh replica looks whether it has caught up
	told   time.Time     // when it was last said that no vote is given
	out    chan raft.RPC
	quit   chan struct{}
	done   chan struct{}
	tasks  sync.WaitGroup
}

func newVoteGuard(inner raft.Transport, fresh *freshness, logger *slog.Logger, every time.Duration) *voteGuard {
	g := &voteGuard{Transport: inner, fresh: fresh, logger: logger, every: every, out: make(chan raft.RPC),
		quit: make(chan struct{}), done: make(chan struct{})}
	go g.run()
	return g
}

func (g *voteGuard) stop() {
	close(g.quit)
	<-g.done
	g.tasks.Wait()
}

// Consumer implements raft.Transport.
func (g *voteGuard) Consumer() <-chan raft.RPC { return g.out }

// SetHeartbeatHandler implements raft.Transport. Heartbeats pass raft's queue, so
// that a slow disk does not hold them up, but only if they change nothing: one of a
// newer term would write that term beside raft's own goroutine, and could take back
// what that wrote meanwhile.
func (g *voteGuard) SetHeartbeatHandler(handler func(raft.RPC)) {
	g.Transport.SetHeartbeatHandler(func(rpc raft.RPC) {
		req, ok := rpc.Command.(*raft.AppendEntriesRequest)
		r := g.fresh.raft.Load()
		if ok && r != nil && req.Term == r.CurrentTerm() && r.State() == raft.Follower {
			handler(rpc)
			return
		}
		select {
		case g.out <- rpc:
		case <-g.quit:
		}
	})
}

// RequestPreVote implements raft.WithPreVote.
func (g *voteGuard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if with, ok := g.Transport.(raft.WithPreVote); ok {
		return with.RequestPreVote(id, target, args, resp)
	}
	return raft.ErrUnsupportedProtocol
}

func (g *voteGuard) run() {
	defer close(g.done)
	var tick <-chan time.Time
	if g.fresh.is.Load() {
		ticker := time.NewTicker(g.every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case rpc := <-g.Transport.Consumer():
			if g.refuse(rpc) || g.known(rpc) {
				continue
			}
			select {
			case g.out <- g.noteVote(rpc):
			case <-g.quit:
				return
			}
		case <-tick:
			if g.fresh.look(); !g.fresh.is.Load() {
				tick = nil
			}
		case <-g.quit:
			return
		}
	}
}

// refuse answers a request for a vote that must not be given, and takes note of
// what leaders say.
func (g *voteGuard) refuse(rpc raft.RPC) bool {
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		g.fresh.heard(req.Term, req.LeaderCommitIndex)
	case *raft.RequestVoteRequest:
		if g.fresh.mayVote(req.LastLogIndex) {
			return false
		}
		g.tell(string(req.ID))
		rpc.Respond(&raft.RequestVoteResponse{RPCHeader: req.RPCHeader, Term: req.Term}, nil)
		return true
	case *raft.RequestPreVoteRequest:
		if g.fresh.mayVote(req.LastLogIndex) {
			return false
		}
		g.tell(string(req.ID))
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: req.RPCHeader, Term: req.Term}, nil)
		return true
	}
	return false
}

// noteVote has a vote of a fresh replica for one as empty as itself take its mark
// away before the candidate hears of the vote. What it returns goes to raft.
func (g *voteGuard) noteVote(rpc raft.RPC) raft.RPC {
	if _, ok := rpc.Command.(*raft.RequestVoteRequest); !ok || !g.fresh.is.Load() {
		return rpc
	}
	inner := rpc
	answer := make(chan raft.RPCResponse, 1)
	inner.RespChan = answer
	g.tasks.Go(func() {
		select {
		case got := <-answer:
			vote, ok := got.Response.(*raft.RequestVoteResponse)
			if ok && vote.Granted {
				if err := g.fresh.clear(); err != nil {
					vote.Granted = false // not given as long as it is not noted
				}
			}
			rpc.Respond(got.Response, got.Error)
		case <-g.quit:
		}
	})
	return inner
}

// known answers a snapshot of what this replica already has, as a leader sends it
// that missed the answers to its entries. Raft would go back to the snapshot's
// state and remove the log behind it, yet still count on the entries it removed.
func (g *voteGuard) known(rpc raft.RPC) bool {
	req, ok := rpc.Command.(*raft.InstallSnapshotRequest)
	r := g.fresh.raft.Load()
	if !ok || r == nil || req.Term < r.CurrentTerm() {
		return false
	}
	has := g.fresh.stores.hasEntry(req.LastLogIndex, req.LastLogTerm)
	if !has && (r.AppliedIndex() < req.LastLogIndex || lastLog(r) <= req.LastLogIndex) {
		return false
	}
	// Without the entry the leader could not go on after this snapshot: it is
	// refused until there is a newer one.
	g.tasks.Go(func() {
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: req.RPCHeader, Term: req.Term, Success: has && err == nil}, err)
	})
	return true
}

// lastLog returns the last entry that raft believes to be in its log.
func lastLog(r *raft.Raft) uint64 {
	index, err := strconv.ParseUint(r.Stats()["last_log_index"], 10, 64)
	if err != nil {
		return 0
	}
	return index
}

// tellEvery keeps a replica that waits from filling the log.
const tellEvery = time.Minute

func (g *voteGuard) tell(candidate string) {
	if now := time.Now(); g.told.IsZero() || now.Sub(g.told) >= tellEvery {
		g.told = now
		g.logger.Warn("does not vote: this replica is empty and has not caught up with a leader yet; if it is new or lost its disk, start the other replicas", "candidate", candidate)
	}
}
