package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"daosbox/cluster/fault"
)

// simTimers are the real ones, but for a lease that is as long as raft allows, so
// that an old leader believes in itself longest, and for frequent snapshots.
var simTimers = Timers{
	Heartbeat: 2 * time.Second, Election: 2 * time.Second, Lease: 2 * time.Second, Commit: 300 * time.Millisecond,
	SnapshotInterval: 4 * time.Second, SnapshotThreshold: 24, TrailingLogs: 30,
	StateCheck: 3 * time.Second, Apply: 5 * time.Second,
}

// Bounds after the last fault: until a write is accepted, and until all replicas
// are alike.
const (
	readyWithin = 30 * time.Second
	alikeWithin = 30 * time.Second
)

// world is one simulated system: replicas, network, disks, hosts and clients, all
// of one seed.
type world struct {
	seed  uint64
	plan  *rand.Rand // of the faults
	net   *simNet
	nodes []*simNode
	start time.Time
	hosts int
	over  chan struct{} // closed when hosts and clients are to stop

	mu      sync.Mutex
	wrong   []string
	history []step
	leads   map[uint64]string    // by term
	maps    map[uint32]string    // group maps by version
	hashes  map[uint64][2]string // state hashes by version, and whose
	acked   uint64               // greatest version that was acknowledged
	traced  [8]byte
	trace   []string
	stats   simStats
}

// simStats says what a run had, so that a simulation that tests nothing is seen.
type simStats struct {
	Acked, Unknown, Refused, Leads, Crashes, Faults int
}

func (s *simStats) add(o simStats) {
	s.Acked += o.Acked
	s.Unknown += o.Unknown
	s.Refused += o.Refused
	s.Leads += o.Leads
	s.Crashes += o.Crashes
	s.Faults += o.Faults
}

// simNode is one replica's host over its lives.
type simNode struct {
	w    *world
	addr string
	disk *simDisk
	pace float64      // its clock's: a fast one waits shorter than it should
	skew atomic.Int64 // of its clock

	starting atomic.Bool

	mu      sync.Mutex
	s       *Service // nil while it is down
	trans   *simTransport
	stop    context.CancelFunc
	done    chan struct{}
	crashed chan struct{} // closed when this life has crashed
}

func newWorld(seed uint64) *world {
	w := &world{seed: seed, plan: rand.New(rand.NewPCG(seed, 0)), net: newSimNet(seed), start: time.Now(), over: make(chan struct{}),
		leads: map[uint64]string{}, maps: map[uint32]string{}, hashes: map[uint64][2]string{}}
	w.hosts = []int{2, 4, 8, 16, 64}[w.plan.IntN(5)]
	n := []int{3, 3, 5, 7}[w.plan.IntN(4)]
	for i := range n {
		w.nodes = append(w.nodes, &simNode{w: w, addr: fmt.Sprint("r", i), disk: newSimDisk(seed, uint64(100+i)), pace: 0.35 + 0.65*w.plan.Float64()})
	}
	return w
}

func (w *world) replicas() (addrs []string) {
	for _, n := range w.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

// fail notes that a promise was broken.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(format, args...)
}

func (w *world) failLocked(format string, args ...any) {
	if len(w.wrong) < 20 {
		w.wrong = append(w.wrong, fmt.Sprintf("%v: ", time.Since(w.start))+fmt.Sprintf(format, args...))
	}
	w.tellLocked("WRONG "+format, args...)
}

// tell adds to the run's trace, by which runs of one seed are compared.
func (w *world) tell(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tellLocked(format, args...)
}

func (w *world) tellLocked(format string, args ...any) {
	line := fmt.Sprintf("%d ", time.Since(w.start)) + fmt.Sprintf(format, args...)
	h := fnv.New64a()
	h.Write(w.traced[:])
	h.Write([]byte(line))
	h.Sum(w.traced[:0])
	w.trace = append(w.trace, line)
}

// timers are what the node takes for the times of its configuration.
func (n *simNode) timers() Timers {
	t := simTimers
	for _, d := range []*time.Duration{&t.Heartbeat, &t.Election, &t.Lease} {
		*d = time.Duration(float64(*d) * n.pace)
	}
	return t
}

// launch starts a life of the node.
func (n *simNode) launch() {
	w := n.w
	trans := w.net.attach(n.addr)
	crashed, done := make(chan struct{}), make(chan struct{})
	var s *Service
	s, err := Open(Config{
		Self: n.addr, Replicas: w.replicas(), System: "daos_server", Transport: trans, Stores: n.disk.open(), Timers: n.timers(),
		Logger: simLogger(n.addr),
		Now:    func() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) },
		OnLead: func(ctx context.Context) error { return w.led(ctx, n, s) },
		Push:   w.pushed,
	})
	if err != nil {
		trans.detach()
		if fault.Of(err) == fault.Corrupt && !errors.Is(err, errCrashed) && !n.disk.sick() {
			w.fail("%s does not open: %v", n.addr, err)
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.mu.Lock()
	n.s, n.trans, n.stop, n.done, n.crashed = s, trans, cancel, done, crashed
	n.mu.Unlock()
	go func() {
		defer close(done)
		err := s.Run(ctx)
		trans.detach()
		n.mu.Lock()
		n.s = nil
		n.mu.Unlock()
		select {
		case <-crashed:
			return
		default:
		}
		if err != nil {
			w.fail("%s ended: %v", n.addr, err)
		}
	}()
}

func (d *simDisk) sick() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full || d.readOnly
}

func simLogger(addr string) *slog.Logger {
	if os.Getenv("SIM_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("on", addr)
}

// crash ends a life as a loss of power does.
func (n *simNode) crash() {
	n.mu.Lock()
	if n.s == nil {
		n.mu.Unlock()
		return
	}
	n.s = nil
	close(n.crashed)
	trans, stop := n.trans, n.stop
	n.mu.Unlock()
	n.w.tell("%s crashes", n.addr)
	n.w.mu.Lock()
	n.w.stats.Crashes++
	n.w.mu.Unlock()
	trans.detach()
	n.disk.crash()
	stop()
}

// quit ends a life in an orderly way.
func (n *simNode) quit() {
	n.mu.Lock()
	stop := n.stop
	n.s = nil // what it still answers counts
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// relaunch starts the node again when its last life is over.
func (n *simNode) relaunch() {
	if !n.starting.CompareAndSwap(false, true) {
		return // another fault ends here too
	}
	defer n.starting.Store(false)
	n.gone()
	if s, _ := n.service(); s == nil {
		n.launch()
	}
}

// gone waits for the end of a life that was ended.
func (n *simNode) gone() {
	n.mu.Lock()
	running, done := n.s != nil, n.done
	n.mu.Unlock()
	if !running && done != nil {
		<-done
	}
}

func (n *simNode) service() (*Service, chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.s, n.crashed
}

func (w *world) node(addr string) *simNode {
	at := slices.IndexFunc(w.nodes, func(n *simNode) bool { return n.addr == addr })
	if at < 0 {
		return nil
	}
	return w.nodes[at]
}

// leader returns the node that leads, nil when none does.
func (w *world) leader() *simNode {
	for _, n := range w.nodes {
		if s, _ := n.service(); s != nil && s.IsLeader() {
			return n
		}
	}
	return nil
}

// led is what a new leader does: it holds all that was acknowledged, and it is
// alone in its term. Now and then it fails.
func (w *world) led(ctx context.Context, n *simNode, s *Service) error {
	r := s.current()
	term := r.CurrentTerm()
	if r.State() != raft.Leader || r.CurrentTerm() != term {
		return errors.New("the lead is over") // the term is another's
	}
	view := s.Local()
	w.mu.Lock()
	w.stats.Leads++
	if other, ok := w.leads[term]; ok && other != n.addr {
		w.failLocked("%s and %s lead in term %d", other, n.addr, term)
	}
	w.leads[term] = n.addr
	if view.Version() < w.acked {
		w.failLocked("%s leads with version %d, though %d was acknowledged", n.addr, view.Version(), w.acked)
	}
	w.tellLocked("%s leads in term %d at version %d", n.addr, term, view.Version())
	flaky := len(w.leads)%7 == 3
	w.mu.Unlock()
	if flaky && !w.ended() {
		return errors.New("this replica cannot lead now")
	}
	_, err := s.Apply(ctx, "", SetAttributes{map[string]string{MgmtPrefix + "term": fmt.Sprint(term)}})
	return err
}

func (w *world) ended() bool {
	select {
	case <-w.over:
		return true
	default:
		return false
	}
}

// pushed is an engine that takes a group map: a version has one content, whoever
// leads.
func (w *world) pushed(ctx context.Context, g GroupMap) error {
	h := w.net.hop("push", "engine")
	if !sleep(h.delay, ctx.Done()) {
		return ctx.Err()
	}
	if h.lost {
		return errRPCTimeout
	}
	text := fmt.Sprint(g.Entries)
	w.mu.Lock()
	defer w.mu.Unlock()
	if other, ok := w.maps[g.Version]; ok && other != text {
		w.failLocked("group map %d has two contents:\n%s\n%s", g.Version, other, text)
	}
	w.maps[g.Version] = text
	return nil
}

// look compares what the replicas are at this moment: one leader in a term, one
// hash for a version.
func (w *world) look() {
	for _, n := range w.nodes {
		s, _ := n.service()
		if s == nil {
			continue
		}
		version, sum := s.Hash()
		w.mu.Lock()
		if other, ok := w.hashes[version]; ok && other[0] != sum {
			w.failLocked("%s and %s differ at version %d", other[1], n.addr, version)
		}
		w.hashes[version] = [2]string{sum, n.addr}
		w.mu.Unlock()
	}
}

// alike reports whether all replicas have the same state.
func (w *world) alike() bool {
	seen := map[string]bool{}
	for _, n := range w.nodes {
		s, _ := n.service()
		if s == nil {
			return false
		}
		version, sum := s.Hash()
		seen[fmt.Sprint(version, sum)] = true
	}
	return len(seen) == 1
}
