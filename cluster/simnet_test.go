package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// rpcTimeout is how long a simulated call waits for its answer.
const rpcTimeout = time.Second

var (
	errRPCTimeout = errors.New("the call timed out")
	errRPCRefused = errors.New("connection refused")
)

// simNet is the simulated network. What happens to a message is drawn from the
// numbers of its link, so that links do not disturb one another.
type simNet struct {
	seed uint64

	mu    sync.Mutex
	peers map[raft.ServerAddress]*simTransport // that are up
	links map[[2]string]*rand.Rand
	cut   map[[2]string]bool
	held  map[string]chan struct{} // paused nodes; closed when they go on
	loss  float64                  // share of messages
	twice float64
	slow  time.Duration // greatest delay
}

func newSimNet(seed uint64) *simNet {
	n := &simNet{seed: seed, peers: map[raft.ServerAddress]*simTransport{}, links: map[[2]string]*rand.Rand{}, held: map[string]chan struct{}{}}
	n.heal()
	return n
}

// heal ends all faults but pauses.
func (n *simNet) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut, n.loss, n.twice, n.slow = map[[2]string]bool{}, 0, 0, 2*time.Millisecond
}

func (n *simNet) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// hop is what happens to one message.
type hop struct {
	delay       time.Duration
	lost, twice bool
}

func (n *simNet) hop(from, to string) hop {
	n.mu.Lock()
	defer n.mu.Unlock()
	link := [2]string{from, to}
	r := n.links[link]
	if r == nil {
		h := fnv.New64a()
		io.WriteString(h, from+">"+to)
		r = rand.New(rand.NewPCG(n.seed, h.Sum64()))
		n.links[link] = r
	}
	h := hop{delay: 50*time.Microsecond + time.Duration(r.Int64N(int64(n.slow)))}
	h.lost, h.twice = r.Float64() < n.loss, r.Float64() < n.twice
	return h
}

// passes reports whether messages get through at this moment.
func (n *simNet) passes(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[[2]string{from, to}]
}

// travel takes the time of a message, or reports why it does not arrive. A lost
// message is waited for until the deadline.
func (n *simNet) travel(from, to string, h hop, deadline time.Time, quit <-chan struct{}) error {
	if !sleep(h.delay, quit) {
		return errRPCRefused
	}
	if h.lost || !n.passes(from, to) {
		sleep(time.Until(deadline), quit)
		return errRPCTimeout
	}
	return n.wake(to, deadline, quit)
}

// wake waits as long as a node is paused.
func (n *simNet) wake(node string, deadline time.Time, quit <-chan struct{}) error {
	n.mu.Lock()
	held := n.held[node]
	n.mu.Unlock()
	if held == nil {
		return nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-held:
		return nil
	case <-timer.C:
		return errRPCTimeout
	case <-quit:
		return errRPCRefused
	}
}

func sleep(d time.Duration, quit <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-quit:
		return false
	}
}

func (n *simNet) pause(node string) {
	n.set(func() {
		if n.held[node] == nil {
			n.held[node] = make(chan struct{})
		}
	})
}

func (n *simNet) resume(node string) {
	n.set(func() {
		if held := n.held[node]; held != nil {
			close(held)
			delete(n.held, node)
		}
	})
}

// attach makes the transport of a node that starts.
func (n *simNet) attach(addr string) *simTransport {
	t := &simTransport{net: n, addr: raft.ServerAddress(addr), inbox: make(chan raft.RPC), quit: make(chan struct{})}
	n.set(func() { n.peers[t.addr] = t })
	return t
}

func (n *simNet) peer(addr raft.ServerAddress) *simTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[addr]
}

// simTransport is one node's end of the network, for one life of it.
type simTransport struct {
	net   *simNet
	addr  raft.ServerAddress
	inbox chan raft.RPC
	once  sync.Once
	quit  chan struct{} // closed when the node is gone

	mu    sync.Mutex
	quick func(raft.RPC) // heartbeats pass the queue
}

// detach ends all calls from and to the node.
func (t *simTransport) detach() {
	t.once.Do(func() { close(t.quit) })
	t.net.set(func() {
		if t.net.peers[t.addr] == t {
			delete(t.net.peers, t.addr)
		}
	})
}

func (t *simTransport) Consumer() <-chan raft.RPC              { return t.inbox }
func (t *simTransport) LocalAddr() raft.ServerAddress          { return t.addr }
func (t *simTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

func (t *simTransport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte {
	return []byte(addr)
}

func (t *simTransport) SetHeartbeatHandler(handler func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quick = handler
}

func (t *simTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func call[R any](t *simTransport, target raft.ServerAddress, cmd any, resp *R, again bool) error {
	answer, err := t.call(target, cmd, nil, again)
	if err == nil {
		*resp = *answer.(*R)
	}
	return err
}

func (t *simTransport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := *req // raft uses it again, maybe before this one arrives
	return call(t, to, &sent, resp, true)
}

func (t *simTransport) RequestVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return call(t, to, req, resp, true)
}

func (t *simTransport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return call(t, to, req, resp, true)
}

func (t *simTransport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return call(t, to, req, resp, false)
}

func (t *simTransport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	content, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	answer, err := t.call(to, req, content, false)
	if err == nil {
		*resp = *answer.(*raft.InstallSnapshotResponse)
	}
	return err
}

// call carries a request there and its answer back.
func (t *simTransport) call(target raft.ServerAddress, cmd any, data []byte, again bool) (any, error) {
	from, to := string(t.addr), string(target)
	deadline := time.Now().Add(rpcTimeout)
	if err := t.net.wake(from, deadline, t.quit); err != nil {
		return nil, err
	}
	there := t.net.hop(from, to)
	if again && there.twice {
		late := t.net.hop(from, to)
		go func() {
			if t.net.travel(from, to, late, deadline, t.quit) == nil {
				t.deliver(target, cmd, nil, deadline)
			}
		}()
	}
	if err := t.net.travel(from, to, there, deadline, t.quit); err != nil {
		return nil, err
	}
	answer, err := t.deliver(target, cmd, data, deadline)
	if err != nil {
		return nil, err
	}
	if err := t.net.travel(to, from, t.net.hop(to, from), deadline, t.quit); err != nil {
		return nil, err
	}
	return answer.Response, answer.Error
}

// deliver hands a request to the peer and waits for what it says.
func (t *simTransport) deliver(target raft.ServerAddress, cmd any, data []byte, deadline time.Time) (raft.RPCResponse, error) {
	none := raft.RPCResponse{}
	peer := t.net.peer(target)
	if peer == nil {
		return none, errRPCRefused
	}
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: cmd, RespChan: answer}
	if data != nil {
		rpc.Reader = bytes.NewReader(data)
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	if quick := peer.heartbeat(cmd); quick != nil {
		quick(rpc)
	} else {
		select {
		case peer.inbox <- rpc:
		case <-peer.quit:
			return none, errRPCRefused
		case <-t.quit:
			return none, errRPCRefused
		case <-timer.C:
			return none, errRPCTimeout
		}
	}
	select {
	case got := <-answer:
		return got, nil
	case <-peer.quit:
		return none, fmt.Errorf("connection reset by %s", target)
	case <-t.quit:
		return none, errRPCRefused
	case <-timer.C:
		return none, errRPCTimeout
	}
}

// heartbeat returns the handler of heartbeats if the request is one.
func (t *simTransport) heartbeat(cmd any) func(raft.RPC) {
	req, ok := cmd.(*raft.AppendEntriesRequest)
	if !ok || req.PrevLogEntry != 0 || req.PrevLogTerm != 0 || len(req.Entries) != 0 || req.LeaderCommitIndex != 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.quick
}
