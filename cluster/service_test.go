package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"
	"go.uber.org/goleak"

	"daosbox/cluster/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quick = Timers{
	Heartbeat: 150 * time.Millisecond, Election: 150 * time.Millisecond, Lease: 100 * time.Millisecond,
	Commit: 10 * time.Millisecond, GroupTick: 20 * time.Millisecond, Retry: 20 * time.Millisecond,
}

// replica is one replica of a test system, which can be stopped and started.
type replica struct {
	t    *testing.T
	cfg  Config
	s    *Service
	done chan error
	stop context.CancelFunc
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

func newReplicas(t *testing.T, n int, change func(*Config)) []*replica {
	t.Helper()
	var addrs []string
	var lns []net.Listener
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		lns = append(lns, ln)
		addrs = append(addrs, ln.Addr().String())
	}
	base := t.TempDir()
	var all []*replica
	for i, ln := range lns {
		cfg := Config{Dir: filepath.Join(base, fmt.Sprint(i), RaftDir), Self: addrs[i], Replicas: addrs, System: "daos_server",
			Listener: ln, Dial: dialTCP, Timers: quick}
		if change != nil {
			change(&cfg)
		}
		r := &replica{t: t, cfg: cfg}
		all = append(all, r)
		t.Cleanup(r.kill)
	}
	return all
}

func (r *replica) start() {
	r.t.Helper()
	if r.cfg.Listener == nil {
		ln, err := net.Listen("tcp", r.cfg.Self)
		if err != nil {
			r.t.Fatal(err)
		}
		r.cfg.Listener = ln
	}
	s, err := Open(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.s, r.stop, r.done = s, cancel, make(chan error, 1)
	go func() { r.done <- s.Run(ctx) }()
}

func (r *replica) kill() {
	if r.s == nil {
		if r.cfg.Listener != nil {
			r.cfg.Listener.Close()
		}
		return
	}
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Run of %s: %v", r.cfg.Self, err)
		}
	case <-time.After(20 * time.Second):
		r.t.Errorf("%s does not stop", r.cfg.Self)
	}
	r.s, r.cfg.Listener = nil, nil
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func leaderOf(t *testing.T, all []*replica) *replica {
	t.Helper()
	var found *replica
	eventually(t, "a leader", func() bool {
		for _, r := range all {
			if r.s != nil && r.s.IsLeader() {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// must applies with the retries a client makes.
func apply(t *testing.T, all []*replica, id string, body Body) Result {
	t.Helper()
	var res Result
	eventually(t, fmt.Sprintf("%T accepted", body), func() bool {
		var err error
		res, err = leaderOf(t, all).s.Apply(t.Context(), id, body)
		if err != nil && fault.Of(err) != fault.NotLeader && fault.Of(err) != fault.NotReady {
			t.Fatalf("%T: %v", body, err)
		}
		return err == nil
	})
	return res
}

func startAll(all []*replica) {
	for _, r := range all {
		r.start()
	}
}

func TestThreeReplicas(t *testing.T) {
	is := is.New(t)
	all := newReplicas(t, 3, nil)
	startAll(all)
	first := leaderOf(t, all)

	var wg sync.WaitGroup
	ranks := make([]Rank, 64)
	before := first.s.Local().MapVersion()
	for n := range 64 {
		wg.Go(func() {
			row, err := first.s.Join(t.Context(), engine(n+1))
			if err != nil {
				t.Errorf("join %d: %v", n, err)
			}
			ranks[n] = row.Rank
		})
	}
	wg.Wait()
	slices.Sort(ranks)
	is.Equal(len(slices.Compact(ranks)), 64) // unique
	is.Equal(ranks[0], Rank(1))
	is.True(first.s.Local().MapVersion()-before <= 8) // few log entries for many joins

	apply(t, all, "create", AddPool{UUID: poolUUID(1), Label: "a"})
	view, err := first.s.Read(t.Context())
	is.NoErr(err)
	_, err = view.Pool("a")
	is.NoErr(err)

	for _, r := range all {
		if r == first {
			continue
		}
		_, err := r.s.Apply(t.Context(), "", IncMapVersion{})
		f, _ := fault.As(err)
		is.Equal(f.Code, fault.NotLeader)
		is.Equal(f.Data["leader"], first.cfg.Self)
		_, err = r.s.Read(t.Context())
		is.Equal(fault.Of(err), fault.NotLeader)
		_, err = r.s.Join(t.Context(), engine(99))
		is.Equal(fault.Of(err), fault.NotLeader)
		is.Equal(r.s.Leader(), first.cfg.Self)
	}

	first.kill() // all that was acknowledged is there under the next leader
	second := leaderOf(t, all)
	is.True(second != first)
	view, err = second.s.Read(t.Context())
	is.NoErr(err)
	is.Equal(len(view.Members(StateJoined)), 64)
	eventually(t, "the dead replica is noticed", func() bool { return slices.Equal(second.s.Down(), []string{first.cfg.Self}) })
	res := apply(t, all, "create", AddPool{UUID: poolUUID(1), Label: "a"}) // a retry over the change of leader
	is.True(res.Replayed)                                                  // and not a second create
	is.Equal(len(second.s.Local().Pools()), 1)

	first.start()
	eventually(t, "the replica is back", func() bool { return len(second.s.Down()) == 0 })
	for _, r := range all {
		r.kill()
	}
	startAll(all)
	last := leaderOf(t, all)
	eventually(t, "all alike", func() bool {
		sums := map[string]bool{}
		for _, r := range all {
			version, sum := r.s.Hash()
			sums[fmt.Sprint(version, sum)] = true
		}
		return len(sums) == 1
	})
	view, err = last.s.Read(t.Context())
	is.NoErr(err)
	is.Equal(len(view.Members(StateJoined)), 64)
	is.Equal(len(view.Pools()), 1)
	info, err := os.Stat(last.cfg.Dir)
	is.NoErr(err)
	is.True(info.IsDir())
}

// A replica that lost its disk does not vote for a leader that lacks what only
// the lost disk and an absent replica had.
func TestLostDisk(t *testing.T) {
	is := is.New(t)
	all := newReplicas(t, 3, nil)
	startAll(all)
	leaderOf(t, all)
	apply(t, all, "", SetAttributes{map[string]string{"old": "1"}})
	behind := all[0]
	if behind.s.IsLeader() {
		is.NoErr(behind.s.Resign(t.Context(), "test"))
		eventually(t, "another leads", func() bool { return !behind.s.IsLeader() })
		leaderOf(t, all[1:])
	}
	eventually(t, "all have it", func() bool {
		return behind.s.Local().Attribute("old") == "1" && !behind.s.fresh.is.Load()
	})
	behind.kill()
	apply(t, all[1:], "", SetAttributes{map[string]string{"new": "1"}}) // on 1 and 2 only
	all[1].kill()
	all[2].kill()
	is.NoErr(os.Rename(all[1].cfg.Dir, all[1].cfg.Dir+".lost"))
	behind.start()
	all[1].start() // empty: with replica 0, a majority without the new entry
	_, err := behind.s.Watch(shortly(t, 4*quick.Election), 1<<60)
	is.Equal(fault.Of(err), fault.Timeout)
	is.True(!behind.s.IsLeader() && !all[1].s.IsLeader() && all[1].s.fresh.is.Load())
	all[2].start() // it has the entry, and replica 0 helps
	view, err := leaderOf(t, all).s.Read(t.Context())
	is.NoErr(err)
	is.Equal(view.Attribute("new"), "1")
	eventually(t, "the empty replica is filled", func() bool { return all[1].s.Local().Attribute("new") == "1" })
	eventually(t, "and votes again", func() bool { return !all[1].s.fresh.is.Load() })
}

func shortly(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestStepUp(t *testing.T) {
	is := is.New(t)
	var self *Service
	release := make(chan struct{})
	fail := make(chan struct{}, 1)
	fail <- struct{}{}
	all := newReplicas(t, 1, func(c *Config) {
		c.OnLead = func(ctx context.Context) error {
			select {
			case <-fail:
				return errors.New("not yet") // tried again
			default:
			}
			if _, err := self.Apply(ctx, "", SetAttributes{map[string]string{"by": "stepup"}}); err != nil {
				return err
			}
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		}
	})
	s, err := Open(all[0].cfg)
	is.NoErr(err)
	self = s
	_, err = s.Apply(t.Context(), "", IncMapVersion{})
	is.Equal(fault.Of(err), fault.NotReady) // not running
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	_, err = s.Watch(t.Context(), 0)
	is.NoErr(err)
	_, err = s.Read(shortly(t, 50*time.Millisecond))
	is.Equal(fault.Of(err), fault.NotReady)
	is.True(!s.IsLeader())
	close(release)
	view, err := s.Read(t.Context())
	is.NoErr(err)
	is.Equal(view.Attribute("by"), "stepup")

	locked, unlock, err := s.LockPool(t.Context(), poolUUID(1), "destroy")
	is.NoErr(err)
	_, _, err = s.LockPool(t.Context(), poolUUID(1), "extend")
	is.Equal(fault.Of(err), fault.PoolLocked)
	unlock()
	is.True(locked.Err() != nil)
	locked, unlock, err = s.LockPool(t.Context(), poolUUID(1), "extend")
	is.NoErr(err)
	cancel()
	is.NoErr(<-done)
	<-locked.Done() // the lead is over
	unlock()
	_, err = s.Read(t.Context())
	is.Equal(fault.Of(err), fault.NotReady)
	is.NoErr(s.Close())
}

func TestEventsAndGroupUpdates(t *testing.T) {
	is := is.New(t)
	var mu sync.Mutex
	var pushed []GroupMap
	failures := 2
	all := newReplicas(t, 1, func(c *Config) {
		c.Push = func(_ context.Context, g GroupMap) error {
			mu.Lock()
			defer mu.Unlock()
			if failures > 0 {
				failures--
				return errors.New("no engine")
			}
			pushed = append(pushed, g)
			return nil
		}
	})
	last := func() GroupMap {
		mu.Lock()
		defer mu.Unlock()
		if len(pushed) == 0 {
			return GroupMap{}
		}
		return pushed[len(pushed)-1]
	}
	startAll(all)
	s := leaderOf(t, all).s
	for n := range 3 {
		r := engine(n + 1)
		if n == 0 {
			r.Rank, r.Addr = 0, all[0].cfg.Self
		}
		row, err := s.Join(t.Context(), r)
		is.NoErr(err)
		is.Equal(row.Local, n == 0)
		is.True(row.MapVersion > 0)
	}
	eventually(t, "three ranks told, after failures", func() bool { return len(last().Entries) == 3 })

	row, err := s.HandleRankDead(t.Context(), 2, 100)
	is.NoErr(err)
	is.True(row.Changed)
	eventually(t, "two ranks told", func() bool { return len(last().Entries) == 2 })
	version := s.Local().Version()
	row, err = s.HandleRankDead(t.Context(), 2, 100) // another engine's report
	is.NoErr(err)
	is.Equal(row.Changed, false)
	is.Equal(s.Local().Version(), version) // no log entry

	back := engine(3)
	back.Incarnation = 200
	_, err = s.Join(t.Context(), back)
	is.NoErr(err)
	row, err = s.HandleRankDead(t.Context(), 2, 100) // late
	is.NoErr(err)
	is.Equal(row.State, StateJoined)
	eventually(t, "three ranks told again", func() bool { return len(last().Entries) == 3 })

	row, err = s.HandleEngineDied(t.Context(), 1, 100, "signal: killed")
	is.NoErr(err)
	is.Equal(row.State, StateErrored)
	rows, err := s.AdminExclude(t.Context(), "x", []Rank{1, 9}, false)
	is.NoErr(err)
	is.Equal(rows[1].State, StateUnknown)
	eventually(t, "exclusion told", func() bool { return len(last().Entries) == 2 })

	told := last().Version
	s.RequestGroupUpdate(true) // nothing changed, yet the engines hear a new version
	eventually(t, "told again", func() bool { return last().Version > told })
	mu.Lock()
	is.True(slices.IsSortedFunc(pushed, func(a, b GroupMap) int { return int(a.Version) - int(b.Version) }))
	mu.Unlock()

	apply(t, all, "", AddPool{UUID: poolUUID(1), Label: "a", Storage: PoolStorage{CreationRanks: []Rank{2}}})
	p, err := s.HandlePoolReplicas(t.Context(), poolUUID(1), []Rank{2}, 3)
	is.NoErr(err)
	is.Equal(p.State, PoolReady)
	_, err = s.HandlePoolReplicas(t.Context(), poolUUID(2), nil, 3)
	is.Equal(fault.Of(err), fault.NotFound)

	lost := back
	lost.UUID, lost.Replace = engine(50).UUID, true
	_, err = s.Join(t.Context(), lost)
	is.Equal(fault.Of(err), ReplaceEnabledRank)
	zero := engine(60)
	zero.Rank, zero.System = 0, "other"
	_, err = s.Join(t.Context(), zero)
	is.Equal(fault.Of(err), fault.WrongSystem)
	apply(t, all, "", RemoveMembers{Ranks: []Rank{0}})
	zero.System = "daos_server"
	_, err = s.Join(t.Context(), zero)
	is.Equal(fault.Of(err), fault.Refused) // rank 0 is reserved
}

func TestSnapshotsAndCompaction(t *testing.T) {
	is := is.New(t)
	all := newReplicas(t, 1, func(c *Config) {
		c.Timers.SnapshotInterval, c.Timers.SnapshotThreshold, c.Timers.TrailingLogs = 10*time.Millisecond, 8, 4
	})
	startAll(all)
	for n := range 30 {
		apply(t, all, fmt.Sprint("op", n), SetAttributes{map[string]string{"n": fmt.Sprint(n)}})
	}
	eventually(t, "the log is cut", func() bool {
		first, err := all[0].s.stores.Log.FirstIndex()
		return err == nil && first > 1
	})
	_, before := all[0].s.Hash()
	all[0].kill()
	all[0].start()
	leaderOf(t, all)
	_, after := all[0].s.Hash()
	is.Equal(after, before)

	// A damaged newest snapshot is not passed over: the log may not reach back.
	all[0].kill()
	states, err := filepath.Glob(filepath.Join(all[0].cfg.Dir, "snapshots", "*", "state.bin"))
	is.NoErr(err)
	is.True(len(states) > 0)
	flip(t, slices.Max(states), 60)
	_, err = Open(all[0].cfg)
	is.Equal(fault.Of(err), fault.Corrupt)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 0x40
	if err := os.WriteFile(path, data, 0o660); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedConfigs(t *testing.T) {
	is := is.New(t)
	_, err := Open(Config{Self: "a:1", Replicas: []string{"b:1"}})
	is.Equal(fault.Of(err), fault.NotReplica)
	_, err = Open(Config{Self: "a:1", Replicas: []string{"a:1", "b:1"}})
	is.Equal(fault.Of(err), fault.EvenReplicas)
	_, err = Open(Config{Self: "a:1", Replicas: []string{"a:1", "a:1", "b:1"}})
	is.Equal(fault.Of(err), fault.Config)
}

// A log entry of a newer release stops the replica and loses nothing.
func TestUnknownOperationStops(t *testing.T) {
	is := is.New(t)
	all := newReplicas(t, 1, nil)
	all[0].start()
	s := leaderOf(t, all).s
	apply(t, all, "", IncMapVersion{})
	version, sum := s.Hash()
	s.current().Apply(marshal(entry{Schema: commandSchema, Op: 999, Body: marshal(1)}), time.Second)
	err := <-all[0].done
	is.Equal(fault.Of(err), fault.Unimplemented)
	is.True(fault.HintOf(err) != "")
	v2, sum2 := s.Hash()
	is.Equal(v2, version)
	is.Equal(sum2, sum)
	all[0].s, all[0].cfg.Listener = nil, nil
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
