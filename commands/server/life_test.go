package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/matryer/is"
)

// engineOn is the process of the only engine of a host: engines are named by it.
func (s *testSystem) engineOn(i int) int {
	s.t.Helper()
	sockets, err := filepath.Glob(filepath.Join(s.hosts[i].dir, "run", "daos_engine_*.sock"))
	if err != nil || len(sockets) != 1 {
		s.t.Fatalf("host %d has the sockets %v", i, sockets)
	}
	pid, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(sockets[0]), "daos_engine_"), ".sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

func (s *testSystem) pools() map[string]string {
	s.t.Helper()
	found := make(map[string]string)
	eventually(s.t, "list of pools", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		list, err := control.Ask(ctx, s.client(pki.Admin), control.PoolList, &control.PoolListReq{}, nil)
		for _, p := range list.Pools {
			found[p.Label] = p.UUID
		}
		return err
	})
	return found
}

// on is the member of a host.
func (s *testSystem) on(i int) cluster.Member {
	s.t.Helper()
	for _, m := range s.waitJoined(len(s.hosts)).Members {
		if m.Addr == s.hosts[i].addr {
			return m
		}
	}
	s.t.Fatalf("host %d has no member", i)
	return cluster.Member{}
}

// waitState waits until a rank has one of some states.
func (s *testSystem) waitState(rank hostlist.Rank, want cluster.MemberState) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("rank %d becomes %v", rank, want), func() error {
		m, err := s.member(rank)
		if err == nil && m.State&want == 0 {
			err = fmt.Errorf("it is %v", m.State)
		}
		return err
	})
}

// TestLife takes a system of three hosts through deaths and restarts.
func TestLife(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 3, 3)
	for i := range sys.hosts {
		sys.engineEnv(i, "DAOS_EMULATOR_SWIM_PERIOD_MS=100")
	}
	sys.engineEnvMore(2, "DAOS_EMULATOR_RELEASE=2.6") // both framings in one system
	sys.up()
	ctx := context.Background()
	admin := sys.client(pki.Admin)
	created, err := control.Ask(ctx, admin, control.PoolCreate, createReq("kept", 24<<30), nil)
	is.NoErr(err)
	second := sys.on(1)

	// Its engine is killed: the rank leaves the joined ones in seconds.
	is.NoErr(syscall.Kill(sys.engineOn(1), syscall.SIGKILL))
	sys.waitState(second.Rank, cluster.StateErrored|cluster.StateExcluded)
	is.True(strings.Contains(sys.hosts[1].log.String(), "id=engine_died"))
	sys.waitState(second.Rank, cluster.StateExcluded) // the others noticed as well
	start := new(control.SystemStartReq)
	start.Ranks = hostlist.Ranks(second.Rank)
	started, err := control.Ask(ctx, admin, control.SystemStart, start, nil)
	is.NoErr(err)
	is.Equal(len(started.Results), 1)
	is.True(!started.Results[0].Errored)
	is.Equal(sys.rejoined(second).UUID, second.UUID)
	is.Equal(sys.pools(), map[string]string{"kept": created.UUID})

	// The leader goes: another leads, and what was acknowledged is there.
	leader, err := control.Ask(ctx, admin, control.LeaderQuery, &control.LeaderQueryReq{}, nil)
	is.NoErr(err)
	gone := 0
	for i, h := range sys.hosts {
		if h.addr == leader.CurrentLeader {
			gone = i
		}
	}
	before := sys.on(gone)
	is.Equal(sys.stop(gone), cli.OK)
	is.Equal(sys.pools(), map[string]string{"kept": created.UUID})
	again, err := control.Ask(ctx, sys.client(pki.Admin), control.LeaderQuery, &control.LeaderQueryReq{}, nil)
	is.NoErr(err)
	is.True(again.CurrentLeader != leader.CurrentLeader)
	sys.start(gone)
	is.Equal(sys.rejoined(before).UUID, before.UUID) // back without a format
	for i, h := range sys.hosts {
		if i == gone {
			continue
		}
		is.Equal(len(lines(h.log.String(), "ERROR")), 0)
		is.Equal(strings.Count(h.log.String(), "failed to heartbeat"), 0) // raft repeats itself, the log does not
		is.True(strings.Count(h.log.String(), "does not answer") <= 2)
	}

	// All go, and come back as they were.
	members := sys.waitJoined(3).Members
	sys.stopAll()
	for i := range sys.hosts {
		sys.start(i)
	}
	for _, m := range members {
		after := sys.rejoined(m)
		is.Equal(after.UUID, m.UUID)
		is.Equal(after.Addr, m.Addr)
	}
	is.Equal(sys.pools(), map[string]string{"kept": created.UUID})
	info, err := control.Ask(ctx, sys.client(pki.Admin), control.PoolQuery, &control.PoolQueryReq{ID: "kept"}, nil)
	is.NoErr(err)
	is.Equal(info.UUID, created.UUID)

	// An engine that was away ends itself when it learns that it is excluded, and
	// is started again.
	victim := sys.on(1)
	pid := sys.engineOn(1)
	is.NoErr(syscall.Kill(pid, syscall.SIGSTOP))
	sys.waitState(victim.Rank, cluster.StateExcluded)
	is.NoErr(syscall.Kill(pid, syscall.SIGCONT))
	sys.rejoined(victim)
	is.True(strings.Contains(sys.hosts[1].log.String(), "ended itself, starting it again"))
}

// engineEnvMore adds to the variables of engineEnv.
func (s *testSystem) engineEnvMore(i int, vars ...string) {
	s.edit(i, "  env_vars: [", "  env_vars: ["+strings.Join(vars, ", ")+", ")
}

// TestStopBeforeUp ends servers in every phase of their start.
func TestStopBeforeUp(t *testing.T) {
	for _, test := range []struct {
		phase string
		fault string // of the emulator
		alone bool   // nobody to join
		wait  string // in the log
	}{
		{phase: "format wait", wait: "waiting for `dmg storage format`"},
		{phase: "start", fault: "start:hang", wait: "engine is started"},
		{phase: "report", fault: "notify_ready:hang", wait: "engine is started"},
		{phase: "join", alone: true, wait: "cannot join yet"},
		{phase: "set-up", fault: "set_up:hang", wait: "setting it up"},
	} {
		t.Run(test.phase, func(t *testing.T) {
			is := is.New(t)
			sys := newTestSystem(t, 1, 1)
			if test.fault != "" {
				sys.engineEnv(0, "DAOS_EMULATOR_FAULTS="+test.fault)
			}
			if test.alone {
				sys.edit(0, "mgmt_svc_replicas: [", "mgmt_svc_replicas: [127.0.0.8:1, 127.0.0.9:1, ")
			}
			var args []string
			if test.phase != "format wait" {
				args = append(args, "--auto-format")
			}
			sys.start(0, args...)
			eventually(t, test.phase, func() error {
				if !strings.Contains(sys.hosts[0].log.String(), test.wait) {
					return errors.New("not there yet")
				}
				return nil
			})
			begun := time.Now()
			is.Equal(sys.stop(0), cli.OK)
			is.True(time.Since(begun) < 10*time.Second)
			left, err := filepath.Glob(filepath.Join(sys.hosts[0].dir, "run", "*.sock"))
			is.NoErr(err)
			is.Equal(len(left), 0)
		})
	}
}

// TestStartDeadline gives up an engine that never reports ready, and starts it when
// asked once it does.
func TestStartDeadline(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	sys.engineEnv(0, "DAOS_EMULATOR_FAULTS=notify_ready:hang")
	log := new(syncBuffer)
	sys.hosts[0].log = log
	run := sys.direct(t, log, &startOptions{autoFormat: true, startTimeout: 300 * time.Millisecond})
	eventually(t, "the deadline", func() error {
		if !strings.Contains(log.String(), "engine did not start") {
			return errors.New("no word of it")
		}
		return nil
	})
	is.True(strings.Contains(log.String(), "did not report ready within 300ms"))
	is.NoErr(run())
}

// direct runs a server of host 0 with options that have no flag; the function that
// it returns ends it.
func (s *testSystem) direct(t *testing.T, out io.Writer, o *startOptions) func() error {
	t.Helper()
	tool := cli.NewTool(testEnv(t, s.hosts[0].dir, out), "daos_server")
	cfg, err := load(tool, s.hosts[0].config(), o.overrides)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := loadIdentity(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := newServer(ctx, tool, cfg, identity, cli.DaemonLog(out, cli.LevelTrace, false), o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.run(ctx) }()
	stop := func() error {
		cancel()
		select {
		case err := <-done:
			done <- err
			return err
		case <-time.After(30 * time.Second):
			return fault.New(fault.Timeout, "cannot stop the server")
		}
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// TestJoinLeavesNoGap fails to record the rank that a join gave: the start fails,
// says why, and the next one gets the same rank.
func TestJoinLeavesNoGap(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	sys.engineEnv(0, "DAOS_EMULATOR_FAULTS=set_rank:status=-1025@1")
	sys.start(0, "--auto-format")
	h := sys.hosts[0]
	eventually(t, "the failed start", func() error {
		if !strings.Contains(h.log.String(), "engine did not start") {
			return errors.New("no word of it")
		}
		return nil
	})
	sys.waitState(0, cluster.StateErrored) // the system is told
	before, err := sys.member(0)
	is.NoErr(err)
	is.Equal(sys.stop(0), cli.OK)
	// As if the superblock had not been written after the join.
	path := filepath.Join(h.dir, "scm", "superblock")
	sb, err := storage.ReadSuperblock(path)
	is.NoErr(err)
	sb.Rank, sb.ValidRank = nil, false
	is.NoErr(storage.WriteSuperblock(path, sb))
	h.edits = nil
	sys.writeConfig(0, sys.replicas)
	sys.start(0)
	after := sys.rejoined(before)
	is.Equal(after.UUID, before.UUID)
	is.Equal(after.Rank, before.Rank)
	sb, err = storage.ReadSuperblock(path)
	is.NoErr(err)
	is.True(sb.ValidRank && *sb.Rank == uint32(before.Rank))
}

// TestKilledServer kills a whole server: its engine goes with it, and the next
// start finds everything in order.
func TestKilledServer(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	c := sys.child(0, nil, "--auto-format")
	before := sys.waitJoined(1).Members[0]
	pid := sys.engineOn(0)
	is.NoErr(c.cmd.Process.Kill())
	<-c.done
	eventually(t, "the engine is gone", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
			return errors.New("it lives")
		}
		return nil
	})
	sys.start(0)
	is.Equal(sys.rejoined(before).UUID, before.UUID)
}
