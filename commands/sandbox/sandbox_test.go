package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"

	"github.com/matryer/is"
	"go.uber.org/goleak"
)

// The tests below run the executable as a user does, in processes of their own.

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// built is the executable, made once for all tests that want it.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func executable(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a whole system")
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("/tmp", "daosbox-test-"); built.err != nil {
			return
		}
		if out, err := exec.Command("go", "build", "-o", filepath.Join(built.dir, "daosbox"), "daosbox").CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "daosbox")
}

// rig is a sandbox under test.
type rig struct {
	*testing.T
	daosbox string
	layout
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, daosbox: executable(t), layout: layout{filepath.Join(shortDir(t), "box")}}
	t.Cleanup(func() {
		if t.Failed() {
			r.showLogs()
		}
		_ = exec.Command(r.daosbox, "sandbox", "down", "--dir", r.dir, "--purge").Run()
		if left, _ := find(r.layout); len(left) > 0 {
			t.Errorf("%d processes are left, the first is %s", len(left), left[0].name())
		}
	})
	return r
}

// in is the sandbox in a subtest.
func (r *rig) in(t *testing.T) *rig {
	sub := *r
	sub.T = t
	return &sub
}

func (r *rig) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(r.logs(), "*"))
	for _, path := range logs {
		if text, _ := tail(path); text != "" {
			r.Logf("%s:\n%s", path, text)
		}
	}
}

// outcome is how a command ended.
type outcome struct {
	out, err string
	exit     int
}

func (r *rig) command(path string, args ...string) outcome {
	r.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		r.Fatal(err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func (r *rig) sandbox(verb string, args ...string) outcome {
	r.Helper()
	return r.command(r.daosbox, append(append([]string{"sandbox"}, strings.Fields(verb)...), append([]string{"--dir", r.dir}, args...)...)...)
}

func (r *rig) dmg(line string) outcome {
	r.Helper()
	return r.command(filepath.Join(r.bin(), "dmg"), strings.Fields(line)...)
}

// must fails the test unless a command went well.
func (r *rig) must(o outcome) outcome {
	r.Helper()
	if o.exit != 0 {
		r.Fatalf("exit %d: %s%s", o.exit, o.out, o.err)
	}
	return o
}

// ask runs dmg --json and decodes the response.
func ask[T any](r *rig, line string) (response T, status int32, exit int) {
	r.Helper()
	o := r.dmg("--json " + line)
	var envelope struct {
		Response T     `json:"response"`
		Status   int32 `json:"status"`
	}
	if err := json.Unmarshal([]byte(o.out), &envelope); err != nil {
		r.Fatalf("dmg %s: %v in %q, %s", line, err, o.out, o.err)
	}
	return envelope.Response, envelope.Status, o.exit
}

func (r *rig) members() map[hostlist.Rank]cluster.Member {
	r.Helper()
	all := make(map[hostlist.Rank]cluster.Member)
	resp, _, _ := ask[control.SystemQueryResp](r, "system query")
	for _, m := range resp.Members {
		all[m.Rank] = m
	}
	return all
}

func (r *rig) leader() string {
	r.Helper()
	resp, _, _ := ask[control.LeaderQueryResp](r, "system leader-query")
	return resp.CurrentLeader
}

// awaitMember waits until a rank is as wanted, and returns it.
func (r *rig) awaitMember(rank hostlist.Rank, wanted func(cluster.Member) bool) cluster.Member {
	r.Helper()
	var last cluster.Member
	await(r.T, func() bool { last = r.members()[rank]; return wanted(last) })
	return last
}

func (r *rig) pools() []string {
	r.Helper()
	resp, _, exit := ask[control.PoolListResp](r, "pool list --no-query")
	if exit != 0 {
		r.Fatal("pool list fails")
	}
	var ids []string
	for _, p := range resp.Pools {
		ids = append(ids, p.Label+" "+p.UUID)
	}
	return ids
}

func joined(m cluster.Member) bool { return m.State == cluster.StateJoined }

// hostAt is the number of the host with a control address.
func hostAt(addr string) string {
	return strings.TrimPrefix(hostlist.StripPort(addr), "127.0.0.")
}

func TestSystem(t *testing.T) {
	r := newRig(t)
	is := is.New(t)

	up := r.must(r.sandbox("up", "--hosts", "3"))
	is.True(strings.Contains(up.out, "system daos_server is up"))
	before := r.members()
	is.Equal(len(before), 3)
	for rank := range hostlist.Rank(3) {
		is.True(joined(before[rank]))
	}
	running, err := find(r.layout)
	is.NoErr(err)
	is.Equal(len(running), 7) // three servers, three engines, an agent

	r.must(r.sandbox("up"))
	again, err := find(r.layout)
	is.NoErr(err)
	is.Equal(len(again), len(running))
	for i := range again {
		is.Equal(again[i].pid, running[i].pid) // what runs is left alone
	}

	t.Run("pools", r.testPools)
	pools := r.pools()
	is.Equal(len(pools), 1)
	t.Run("killed engine", r.testKilledEngine)
	t.Run("killed server", r.testKilledServer)
	t.Run("killed leader", r.testKilledLeader)
	is.Equal(r.pools(), pools)

	t.Run("down and up", func(t *testing.T) {
		r := r.in(t)
		is := is.New(t)
		r.must(r.sandbox("down"))
		left, err := find(r.layout)
		is.NoErr(err)
		is.Equal(len(left), 0)
		is.Equal(r.sandbox("status").exit, 4)
		is.Equal(r.sandbox("fault kill", "--host", "1").exit, 1)
		r.must(r.sandbox("up"))
		after := r.members()
		is.Equal(len(after), 3)
		for rank, m := range after {
			is.True(joined(m))
			is.Equal(m.UUID, before[rank].UUID)
			is.Equal(m.Addr, before[rank].Addr)
			is.True(m.Incarnation > before[rank].Incarnation)
		}
		is.Equal(r.pools(), pools)
		is.Equal(r.must(r.sandbox("status")).exit, 0)
	})
	purged := r.must(r.sandbox("down", "--purge"))
	is.True(!strings.Contains(purged.out, "killed")) // all ended by themselves
	_, err = os.Stat(r.dir)
	is.True(errors.Is(err, os.ErrNotExist))
}

// The engines' verdicts reach the user with their status and a fitting exit code.
func (r *rig) testPools(t *testing.T) {
	r = r.in(t)
	is := is.New(t)
	r.must(r.dmg("pool create tank --size 9GB"))
	query, status, exit := ask[control.PoolInfo](r, "pool query tank")
	is.Equal(exit, 0)
	is.Equal(status, int32(0))
	is.Equal(query.State, "Ready")
	is.Equal(query.TotalEngines, uint32(3))

	twice := r.dmg("pool create tank --size 9GB")
	is.True(twice.exit != 0)
	is.True(strings.Contains(twice.err, "tank"))
	_, status, exit = ask[any](r, "pool create huge --size 10TB")
	is.True(exit != 0)
	is.Equal(status, int32(-1007)) // -DER_NOSPACE
	missing := r.dmg("pool destroy nobody")
	is.True(missing.exit != 0)
	is.True(strings.Contains(missing.err, "nobody"))
	is.Equal(len(r.pools()), 1) // what failed left nothing
}

func (r *rig) testKilledEngine(t *testing.T) {
	r = r.in(t)
	is := is.New(t)
	before := r.members()[1]
	r.must(r.sandbox("fault kill", "--rank", "1"))
	dead := r.awaitMember(1, func(m cluster.Member) bool { return !joined(m) })
	is.True(dead.State == cluster.StateErrored || dead.State == cluster.StateExcluded)
	is.Equal(r.sandbox("status").exit, 3)
	r.must(r.dmg("system start --ranks=1"))
	after := r.awaitMember(1, joined)
	is.True(after.Incarnation > before.Incarnation)
	is.Equal(after.UUID, before.UUID)
}

func (r *rig) testKilledServer(t *testing.T) {
	r = r.in(t)
	is := is.New(t)
	leader := r.leader()
	var victim cluster.Member
	for _, m := range r.members() {
		if m.Addr != leader {
			victim = m
		}
	}
	r.must(r.sandbox("fault kill", "--host", hostAt(victim.Addr)))
	await(t, func() bool { // its engine dies with it
		left, err := find(r.layout)
		return err == nil && len(only(left, engineProcess, 0)) == 2
	})
	is.Equal(r.dmg("system query").exit, 0) // the others go on
	r.must(r.sandbox("up"))
	after := r.members()[victim.Rank]
	is.True(joined(after))
	is.True(after.Incarnation > victim.Incarnation)
}

func (r *rig) testKilledLeader(t *testing.T) {
	r = r.in(t)
	is := is.New(t)
	leader, pools := r.leader(), r.pools()
	r.must(r.sandbox("fault kill", "--host", hostAt(leader)))
	await(t, func() bool { now := r.leader(); return now != "" && now != leader })
	is.Equal(r.pools(), pools)
	// The pool's own service may have lost its leader as well; it has another as
	// soon as the engines agree that a rank is dead.
	await(t, func() bool {
		query, _, _ := ask[control.PoolInfo](r, "pool query tank")
		return query.State == "Ready"
	})
	r.must(r.sandbox("up"))
	for _, m := range r.members() {
		is.True(joined(m))
	}
}

func TestTwoSandboxesAndPause(t *testing.T) {
	a, b := newRig(t), newRig(t)
	is := is.New(t)
	outcomes := make([]outcome, 2)
	var group sync.WaitGroup
	for i, r := range []*rig{a, b} {
		group.Go(func() { outcomes[i] = r.sandbox("up", "--hosts", "1", "--no-agent") })
	}
	group.Wait()
	a.must(outcomes[0])
	b.must(outcomes[1])
	a.must(a.sandbox("status"))

	a.must(a.sandbox("fault pause", "--host", "1"))
	is.Equal(a.sandbox("status").exit, 3)
	b.must(b.sandbox("status")) // the other is not concerned
	a.must(a.sandbox("fault resume", "--host", "1"))
	await(t, func() bool { return a.sandbox("status").exit == 0 })
	a.must(a.sandbox("fault pause", "--host", "1"))
	a.must(a.sandbox("down")) // also of what is paused
	b.must(b.sandbox("status"))
}

func TestInsecure(t *testing.T) {
	r := newRig(t)
	is := is.New(t)
	r.must(r.sandbox("up", "--hosts", "1", "--ranks-per-host", "2", "--insecure"))
	is.Equal(len(r.members()), 2)
	_, err := os.Stat(r.certs())
	is.True(errors.Is(err, os.ErrNotExist))
}

// Ctrl-C at any time leaves what up and down understand.
func TestInterruptedUp(t *testing.T) {
	r := newRig(t)
	is := is.New(t)
	cmd := exec.Command(r.daosbox, "sandbox", "up", "--dir", r.dir, "--hosts", "3")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	is.NoErr(cmd.Start())
	await(t, func() bool {
		running, err := find(r.layout)
		return err == nil && len(running) > 0
	})
	is.NoErr(cmd.Process.Signal(syscall.SIGINT))
	is.True(cmd.Wait() != nil)
	is.True(strings.Contains(errs.String(), "interrupted"))
	is.True(strings.Contains(errs.String(), "HINT"))
	r.must(r.sandbox("up"))
	is.Equal(len(r.members()), 3)
}

// A server that cannot start is told with its own words.
func TestServerThatCannotStart(t *testing.T) {
	r := newRig(t)
	is := is.New(t)
	r.must(r.sandbox("up", "--hosts", "1", "--no-agent"))
	r.must(r.sandbox("down"))
	data, err := os.ReadFile(r.serverConfig(1))
	is.NoErr(err)
	broken := regexp.MustCompile(`provider: .*`).ReplaceAllString(string(data), "provider: ofi+tcp\nprovidr: x")
	is.NoErr(os.WriteFile(r.serverConfig(1), []byte(broken), 0o644))
	failed := r.sandbox("up")
	is.Equal(failed.exit, 1)
	is.True(strings.Contains(failed.err, "providr"))         // the server's words
	is.True(strings.Contains(failed.err, r.output("host1"))) // and where they are
}

func TestPortInUse(t *testing.T) {
	a, b := newRig(t), newRig(t)
	is := is.New(t)
	a.must(a.sandbox("up", "--hosts", "1", "--no-agent"))
	m, err := readManifest(a.layout)
	is.NoErr(err)
	failed := b.sandbox("up", "--hosts", "1", "--no-agent", "--port", fmt.Sprint(m.Port))
	is.Equal(failed.exit, 1)
	is.True(strings.Contains(failed.err, m.control(1)))
	is.True(strings.Contains(failed.err, "HINT"))
}

func TestDemo(t *testing.T) {
	r := newRig(t)
	is := is.New(t)
	began := time.Now()
	o := r.must(r.sandbox("demo"))
	is.True(time.Since(began) < time.Minute)
	commands := regexp.MustCompile(`(?m)^\$ (\w+(?: \w+)*)`).FindAllString(o.out, -1)
	is.Equal(len(commands), 7)
	is.True(slices.IsSortedFunc([]int{
		strings.Index(o.out, "sandbox up"), strings.Index(o.out, "[0-2] Joined"), strings.Index(o.out, "Pool created"),
		strings.Index(o.out, "GetAttachInfo"), strings.Index(o.out, "$ daosbox sandbox down"), strings.Index(o.out, "went well"),
	}, func(a, b int) int { return a - b }))
	_, err := os.Stat(r.dir)
	is.True(errors.Is(err, os.ErrNotExist)) // nothing is left
}
