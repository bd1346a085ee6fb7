package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"daosbox/cluster/fault"
)

// Service owns one replica of the management service. Open it, Run it, ask it.
// Its methods may be called from any goroutine; before Run has started raft and
// after it has ended they answer fault.NotReady.
type Service struct {
	cfg    Config
	stores *Stores
	fresh  *freshness
	fsm    *machine
	joins  chan *pendingJoin

	fatal chan error // room for one: why the replica cannot go on

	mu      sync.Mutex
	raft    *raft.Raft // nil unless running
	lead    *lead      // nil unless leading
	down    map[string]bool
	running bool
	closed  bool
	stop    context.CancelFunc
	done    chan struct{}
}

// Open opens the replica's files, making them when there are none, and reads all
// of them. A damaged file is fault.Corrupt and is left as it is.
func Open(cfg Config) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	stores := cfg.Stores
	if stores == nil {
		if _, err := os.Stat(cfg.Dir); errors.Is(err, fs.ErrNotExist) && cfg.alone() {
			return nil, lost(cfg.Dir)
		}
		if stores, err = openStores(cfg.Dir, raftLogger(cfg.Logger)); err != nil {
			return nil, err
		}
	}
	s := &Service{cfg: cfg, stores: stores, joins: make(chan *pendingJoin), fatal: make(chan error, 1), done: make(chan struct{})}
	s.fsm = newMachine(s.fail)
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, stores.close())
	}
	return s, nil
}

// alone reports whether the database should be here and nowhere else.
func (c *Config) alone() bool { return c.Established && len(c.Replicas) == 1 }

func lost(dir string) error {
	return fault.New(fault.Corrupt, "cannot open the system database %s: it is empty, while this host's engines have ranks in it", dir).
		WithHint("it was removed or damaged: put a copy back; without one the system has to be formatted anew, its pools are lost")
}

// prepare checks the stores and gives empty ones their first entry.
func (s *Service) prepare() error {
	empty, err := s.stores.verify(s.cfg.Dir)
	if err != nil {
		return err
	}
	if empty && s.cfg.alone() {
		return lost(s.cfg.Dir)
	}
	if empty {
		if err := s.bootstrap(); err != nil {
			return err
		}
	}
	s.fresh, err = loadFreshness(s.stores, len(s.cfg.Replicas))
	if err != nil {
		return storeFault(s.cfg.Dir, err)
	}
	return nil
}

// bootstrap writes the first entry: the configuration with all replicas as
// voters. It is the same on each, so that none has to be first.
func (s *Service) bootstrap() error {
	if err := markFresh(s.stores.Stable); err != nil {
		return storeFault(s.cfg.Dir, err)
	}
	var conf raft.Configuration
	for _, addr := range slices.Sorted(slices.Values(s.cfg.Replicas)) {
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(addr), Address: raft.ServerAddress(addr)})
	}
	// The transport is only asked to encode addresses, which the text is.
	_, trans := raft.NewInmemTransport(raft.ServerAddress(s.cfg.Self))
	rc := s.cfg.raft(s.cfg.Logger)
	if err := s.stores.resetTerm(); err != nil {
		return storeFault(s.cfg.Dir, err)
	}
	if err := raft.BootstrapCluster(rc, s.stores.Log, s.stores.Stable, s.stores.Snapshots, trans, conf); err != nil {
		return storeFault(s.cfg.Dir, err)
	}
	s.cfg.Logger.Info("made a new replica of the system database", "dir", s.cfg.Dir, "replicas", s.cfg.Replicas)
	return nil
}

// checkConfiguration tells when the replicas that the database knows are not those
// of the configuration file; the database's count.
func (s *Service) checkConfiguration(r *raft.Raft) {
	future := r.GetConfiguration()
	if future.Error() != nil {
		return // stopped already
	}
	var known []string
	for _, server := range future.Configuration().Servers {
		known = append(known, string(server.Address))
	}
	slices.Sort(known)
	if !slices.Equal(known, slices.Sorted(slices.Values(s.cfg.Replicas))) {
		s.cfg.Logger.Warn("the configured replicas are not those of the system database, which count",
			"configured", s.cfg.Replicas, "database", known)
	}
}

// fail ends Run with err.
func (s *Service) fail(err error) {
	select {
	case s.fatal <- err:
	default: // one reason is enough
	}
}

// Run starts the replica and returns when ctx ends (nil), Close is called (nil) or
// the replica cannot go on. All its goroutines and files are closed then. It can
// be called once.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	if s.running || s.closed {
		s.mu.Unlock()
		return fault.New(fault.Internal, "cannot run the management service: it runs or ran already")
	}
	s.running, s.stop = true, cancel
	s.mu.Unlock()
	defer close(s.done)

	err := s.run(ctx)
	return errors.Join(err, s.stores.close())
}

func (s *Service) run(ctx context.Context) error {
	trans, closeTransport := s.transport()
	defer closeTransport()
	guard := newVoteGuard(trans, s.fresh, s.cfg.Logger, s.cfg.Timers.Commit)
	defer guard.stop()
	notify := make(chan bool, 8)
	rc := s.cfg.raft(s.cfg.Logger)
	rc.NotifyCh = notify
	defer s.fsm.checks.tasks.Wait()
	life, end := context.WithCancel(ctx)
	defer end()
	log := &guardedLog{LogStore: s.stores.Log, logger: s.cfg.Logger, quit: life.Done(), broken: func(err error) { s.fail(storeFault(s.cfg.Dir, err)) }}
	stable := &guardedStable{StableStore: s.stores.Stable, logger: s.cfg.Logger, quit: life.Done(), turn: make(chan struct{}, 1)}
	r, err := startRaft(rc, s.fsm, log, stable, s.stores.Snapshots, guard)
	if r == nil {
		select {
		case cause := <-s.fatal: // says it better
			return cause
		default:
		}
		if err != nil {
			return storeFault(s.cfg.Dir, err)
		}
		return nil // stopped while it waited for the disk
	}
	s.fresh.raft.Store(r)
	s.checkConfiguration(r)
	observer, stopWatching := s.watchPeers(r)
	s.mu.Lock()
	s.raft, s.down = r, make(map[string]bool)
	s.mu.Unlock()

	err = s.own(ctx, r, notify, observer)

	s.mu.Lock()
	s.raft = nil
	s.mu.Unlock()
	end()
	s.shutdown(r, notify)
	stopWatching()
	return err
}

// own reacts to leadership until the end.
func (s *Service) own(ctx context.Context, r *raft.Raft, notify <-chan bool, peers <-chan raft.Observation) error {
	defer s.loseLead()
	for {
		select {
		case <-ctx.Done():
			s.transfer(r)
			return nil
		case err := <-s.fatal:
			s.cfg.Logger.Error("the system database cannot go on", "error", err)
			return err
		case leads := <-notify:
			s.loseLead()
			if leads {
				s.gainLead(ctx, r)
			}
		case o := <-peers:
			s.notePeer(o)
		}
	}
}

// transfer gives the lead away before stopping, so that the others need not wait
// for a time-out.
func (s *Service) transfer(r *raft.Raft) {
	if r.State() != raft.Leader || len(s.cfg.Replicas) == 1 {
		return
	}
	if err := wait(r.LeadershipTransfer(), s.cfg.Timers.Stop); err != nil {
		s.cfg.Logger.Warn("could not hand over the lead before stopping", "error", err)
	}
}

// shutdown stops raft while its notices are still taken, for raft waits for that.
func (s *Service) shutdown(r *raft.Raft, notify <-chan bool) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := r.Shutdown().Error(); err != nil {
			s.cfg.Logger.Warn("raft did not stop cleanly", "error", err)
		}
	}()
	for {
		select {
		case <-notify:
		case <-stopped:
			return
		}
	}
}

// transport returns the injected transport, or one over the server's port.
func (s *Service) transport() (raft.Transport, func()) {
	if s.cfg.Transport != nil {
		return s.cfg.Transport, func() {}
	}
	layer := newStreamLayer(s.cfg.Listener, s.cfg.Self, s.cfg.Dial)
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, Timeout: 10 * time.Second,
		Logger: raftLogger(s.cfg.Logger), MsgpackUseNewTimeFormat: true,
	})
	return trans, func() {
		trans.CloseStreams()
		trans.Close()
	}
}

// Close stops Run and waits for it, or releases the files when Run was never
// called. It may be called again.
func (s *Service) Close() error {
	s.mu.Lock()
	running, stop, closed := s.running, s.stop, s.closed
	s.closed = true
	s.mu.Unlock()
	if running {
		stop()
		<-s.done
		return nil
	}
	if closed {
		return nil
	}
	return s.stores.close()
}

// Replicas returns the addresses of the replicas.
func (s *Service) Replicas() []string { return slices.Clone(s.cfg.Replicas) }

// Leader returns the address of the leader as far as this replica knows, empty
// when there is none.
func (s *Service) Leader() string {
	r := s.current()
	if r == nil {
		return ""
	}
	addr, _ := r.LeaderWithID()
	return string(addr)
}

// IsLeader reports whether this replica leads and has finished its step-up.
func (s *Service) IsLeader() bool {
	s.mu.Lock()
	l := s.lead
	s.mu.Unlock()
	return l != nil && l.isReady()
}

// Down returns the replicas that do not answer the leader, sorted; only the
// leader knows.
func (s *Service) Down() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedKeys(s.down)
}

// Hash returns the hash of the replica's state and the version it belongs to.
func (s *Service) Hash() (version uint64, sum string) { return s.fsm.hash() }

// Local returns this replica's state, which may be older than the leader's.
func (s *Service) Local() *View {
	v, _ := s.fsm.read()
	return v
}

// Watch waits until this replica's state is newer than a version and returns it.
func (s *Service) Watch(ctx context.Context, newerThan uint64) (*View, error) {
	for {
		v, changed := s.fsm.read()
		if v.Version() > newerThan {
			return v, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ended(ctx, "wait for a change of the system database")
		}
	}
}

// Read returns a state that holds everything acknowledged before the call: the
// leader makes sure that it still leads. Other replicas answer fault.NotLeader.
func (s *Service) Read(ctx context.Context) (*View, error) {
	l, ctx, cancel, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if err := waitCtx(ctx, l.raft.VerifyLeader()); err != nil {
		return nil, s.raftFault(ctx, err, "read the system database")
	}
	return s.Local(), nil
}

// Apply carries out a mutation on the leader and returns when a majority has it.
// The id is the client's; a retry with the same id gets the first answer. An empty
// id makes the mutation repeatable. A refusal by the database is the error; the
// result is valid with it too. After fault.NotLeader with Data["outcome"]
// "unknown" the mutation may still happen: retry with the same id.
func (s *Service) Apply(ctx context.Context, id string, body Body) (Result, error) {
	l, ctx, cancel, err := s.enter(ctx)
	if err != nil {
		return Result{}, err
	}
	defer cancel()
	return s.commit(ctx, l, id, body)
}

func (s *Service) commit(ctx context.Context, l *lead, id string, body Body) (Result, error) {
	data, err := Command{ID: id, Time: s.cfg.Now(), Body: body}.Encode()
	if err != nil {
		return Result{}, err
	}
	deadline, _ := ctx.Deadline()
	future := l.raft.Apply(data, max(time.Until(deadline), time.Millisecond))
	if err := waitCtx(ctx, future); err != nil {
		return Result{}, s.raftFault(ctx, err, "change the system database")
	}
	switch res := future.Response().(type) {
	case Result:
		if res.Err != nil {
			return res, res.Err
		}
		return res, nil
	case error:
		return Result{}, res
	}
	return Result{}, fault.New(fault.Internal, "cannot change the system database: raft answered %T", future.Response())
}

// enter waits until this replica is a ready leader and bounds ctx.
func (s *Service) enter(ctx context.Context) (*lead, context.Context, context.CancelFunc, error) {
	ctx, cancel := s.bound(ctx)
	l, err := s.leading(ctx)
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	return l, ctx, cancel, nil
}

func (s *Service) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.cfg.Timers.Apply)
}

func (s *Service) current() *raft.Raft {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raft
}

// raftFault translates raft's errors.
func (s *Service) raftFault(ctx context.Context, err error, what string) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return s.notLeader()
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		f, _ := fault.As(s.notLeader())
		return f.WithData("outcome", "unknown")
	case errors.Is(err, raft.ErrRaftShutdown):
		return notRunning().WithData("outcome", "unknown")
	case errors.Is(err, raft.ErrEnqueueTimeout), ctx.Err() != nil:
		f, _ := fault.As(ended(ctx, what))
		return f.WithData("outcome", "unknown")
	}
	// The entry may have reached the disk all the same.
	return fault.Wrap(fault.Unknown, err, "cannot %s", what).WithData("outcome", "unknown")
}

// notLeader tells who leads.
func (s *Service) notLeader() error {
	list := strings.Join(s.cfg.Replicas, ",")
	leader := s.Leader()
	if leader == s.cfg.Self {
		leader = "" // it just lost the lead, or has not been told so yet
	}
	if leader == "" {
		return fault.New(fault.NotLeader, "cannot do this here: %s does not lead the management service, and no leader is known", s.cfg.Self).
			WithHint("try again; a leader needs %d of the %d replicas %s", len(s.cfg.Replicas)/2+1, len(s.cfg.Replicas), list).
			WithData("replicas", list)
	}
	return fault.New(fault.NotLeader, "cannot do this here: %s leads the management service", leader).
		WithHint("ask %s", leader).WithData("replicas", list).WithData("leader", leader)
}

func notRunning() *fault.Error {
	return fault.New(fault.NotReady, "cannot reach the management service: this replica is starting or stopping").
		WithHint("try again")
}

func ended(ctx context.Context, what string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.New(fault.Canceled, "cannot %s: the request was given up", what)
	}
	return fault.New(fault.Timeout, "cannot %s: not done in time", what).
		WithHint("see with `dmg system leader-query` whether a majority of the replicas answers")
}

// waitCtx waits for raft or the caller's end. The future is bounded by raft
// itself, which resolves all when it loses the lead or stops.
func waitCtx(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for raft: %w", ctx.Err())
	}
}

// wait is waitCtx for a step of stopping.
func wait(f raft.Future, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return waitCtx(ctx, f)
}
