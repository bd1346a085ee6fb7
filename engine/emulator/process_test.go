package emulator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/matryer/is"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

const (
	poolA = "5de2d957-da38-43f2-a609-cc85e25f1a27"
	poolB = "821486b3-d0a0-446b-8ec4-d1d51aaa2276"
	mib   = 1 << 20
)

func createReq(id, label string, scm uint64, ranks ...uint32) *pb.PoolCreateReq {
	tree := []uint32{0, 2, 1, uint32(len(ranks))}
	for i := range ranks {
		tree = append(tree, 1, uint32(i+2), 1)
	}
	return &pb.PoolCreateReq{
		Uuid: id, Sys: "test", User: "root@", UserGroup: "root@", Ranks: ranks, TierBytes: []uint64{scm, 0},
		Properties:   []*pb.PoolProperty{{Number: 1, Value: &pb.PoolProperty_Strval{Strval: label}}},
		FaultDomains: append(tree, ranks...),
	}
}

// Both framings: the whole life of one engine, from its notice to SIGTERM.
func TestLifeOfOneEngine(t *testing.T) {
	for _, framing := range []drpc.Framing{drpc.Datagram, drpc.Chunked} {
		t.Run(framing.String(), func(t *testing.T) {
			is := is.New(t)
			srv := newServer(t, framing)
			c := launch(t, srv, framing, t.TempDir(), 0, nil)
			ready := c.awaitReady()
			is.Equal(ready.GetNtgts(), uint32(2))
			is.Equal(ready.GetNctxs(), uint32(4))
			is.True(strings.HasPrefix(ready.GetUri(), "ofi+tcp://127.0.0.1:"))
			is.True(ready.GetIncarnation() > 2_900_000_000_000_000_000) // units of 1/16 ns since 2021
			is.Equal(ready.GetDrpcListenerSock(), filepath.Join(srv.dir, fmt.Sprintf("daos_engine_%d.sock", c.cmd.Process.Pid)))
			is.True(strings.Contains(c.out.String(), "EMULATOR"))

			// Before the rank is set.
			is.Equal(c.call(drpc.MethodPingRank, nil, nil), int32(0))
			update := groupOf(5, c)
			is.Equal(c.call(drpc.MethodGroupUpdate, update, nil), int32(-1036))
			is.Equal(c.call(drpc.MethodSetRank, &pb.SetRankReq{Rank: nilRank, MapVersion: 5}, nil), int32(-1003))
			is.Equal(c.call(drpc.MethodSetRank, new(pb.SetRankReq), nil), int32(-1003))
			is.Equal(c.call(drpc.MethodPoolQuery, &pb.PoolQueryReq{Id: poolA, SvcRanks: []uint32{0}}, nil), int32(-1014))

			c.must(drpc.MethodSetRank, &pb.SetRankReq{MapVersion: 5}, nil)
			is.Equal(c.call(drpc.MethodSetRank, &pb.SetRankReq{MapVersion: 5}, nil), int32(-1003)) // twice
			is.Equal(c.call(drpc.MethodGroupUpdate, groupOf(3, c), nil), int32(-1036))             // below the minimum
			is.Equal(c.call(drpc.MethodGroupUpdate, &pb.GroupUpdateReq{MapVersion: 9}, nil), int32(-1003))
			c.must(drpc.MethodGroupUpdate, update, nil)
			c.must(drpc.MethodGroupUpdate, groupOf(2+3, c), nil) // old: ignored
			c.must(drpc.MethodSetUp, nil, nil)

			// A pool lives and dies.
			created := new(pb.PoolCreateResp)
			c.must(drpc.MethodPoolCreate, createReq(poolA, "one", 128*mib, 0), created)
			is.Equal(created.GetSvcReps(), []uint32{0})
			updated := srv.await(t, "replicas updated", func(e *pb.RASEvent) bool { return e.GetPoolSvcInfo() != nil })
			is.Equal(updated.GetPoolUuid(), poolA)
			is.Equal(drpc.EventOf(framing, updated), drpc.EventPoolReplicasUpdated)
			is.Equal(c.call(drpc.MethodPoolCreate, createReq(poolA, "one", 128*mib, 0), nil), int32(-1004))
			is.Equal(c.call(drpc.MethodPoolCreate, createReq(poolB, "big", 2<<30, 0), nil), int32(-1007))
			is.Equal(c.call(drpc.MethodPoolCreate, createReq(poolB, "far", 64*mib, 7), nil), int32(-1019))

			query := new(pb.PoolQueryResp)
			c.must(drpc.MethodPoolQuery, &pb.PoolQueryReq{Id: poolA, SvcRanks: []uint32{0}}, query)
			is.Equal(query.GetTotalTargets(), uint32(2))
			is.Equal(query.GetTierStats()[0].GetTotal(), uint64(128*mib))
			is.True(query.GetTierStats()[0].GetFree() > 64*mib)
			is.Equal(query.GetDisabledRanks(), "[]")

			c.must(drpc.MethodPoolDestroy, &pb.PoolDestroyReq{Id: poolA, SvcRanks: []uint32{0}}, nil)
			is.Equal(c.call(drpc.MethodPoolQuery, &pb.PoolQueryReq{Id: poolA, SvcRanks: []uint32{0}}, nil), int32(-2020))

			is.NoErr(c.cmd.Process.Signal(syscall.SIGTERM))
			is.NoErr(c.wait()) // exit status 0
		})
	}
}

// A stop that is asked for before SetUp takes effect after it; other signals have
// no effect at all.
func TestStopBeforeSetUpStaysPending(t *testing.T) {
	is := is.New(t)
	c := launch(t, newServer(t, drpc.Chunked), drpc.Chunked, t.TempDir(), 0, nil)
	c.awaitReady()
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGINT} {
		is.NoErr(c.cmd.Process.Signal(sig))
	}
	c.must(drpc.MethodPingRank, nil, nil)
	c.must(drpc.MethodSetRank, &pb.SetRankReq{MapVersion: 1}, nil)
	c.must(drpc.MethodSetUp, nil, nil)
	is.NoErr(c.wait())
}

func TestDeaths(t *testing.T) {
	is := is.New(t)
	srv := newServer(t, drpc.Chunked)

	c := launch(t, srv, drpc.Chunked, t.TempDir(), 0, nil)
	c.join(0, 1)
	c.must(drpc.MethodSetUp, nil, nil)
	is.Equal(c.signaled(), syscall.SIGABRT) // second SetUp: answered, then aborted

	c = launch(t, srv, drpc.Chunked, t.TempDir(), 0, nil)
	c.join(0, 1)
	c.must(drpc.MethodGroupUpdate, &pb.GroupUpdateReq{MapVersion: 2, Engines: []*pb.GroupUpdateReq_Engine{{Rank: 8, Uri: "ofi+tcp://127.0.0.1:1"}}}, nil)
	is.Equal(c.signaled(), syscall.SIGKILL) // not in the map
	srv.await(t, "self terminated", func(e *pb.RASEvent) bool {
		return e.GetId() == 5 && e.GetType() == drpc.EventInfo && e.GetRank() == 0 && e.GetIncarnation() == 0
	})

	c = launch(t, srv, drpc.Chunked, t.TempDir(), 0, []string{"DAOS_EMULATOR_FAULTS=start:crash"})
	is.Equal(c.signaled(), syscall.SIGSEGV)

	c = launch(t, srv, drpc.Chunked, filepath.Join(t.TempDir(), "missing"), 0, nil)
	is.True(c.wait() != nil)
	is.True(strings.Contains(c.out.String(), "cannot use SCM mount"))

	srv.mu.Lock()
	srv.refuse = true
	srv.mu.Unlock()
	c = launch(t, srv, drpc.Chunked, t.TempDir(), 0, nil)
	is.True(c.wait() != nil)
	is.Equal(c.cmd.ProcessState.ExitCode(), 1)
	is.True(strings.Contains(c.out.String(), "cannot report ready"))
}

// Three engines: a pool over all of them, the death of one, and its return.
func TestThreeEngines(t *testing.T) {
	is := is.New(t)
	srv := newServer(t, drpc.Chunked)
	var c [3]*child
	var scm [3]string
	var port [3]int
	for i := range c {
		scm[i], port[i] = t.TempDir(), freePort(t)
		c[i] = launch(t, srv, drpc.Chunked, scm[i], port[i], nil)
		c[i].join(uint32(i), 1)
	}
	// The map given to one reaches all, and only one asks for pools.
	c[2].must(drpc.MethodGroupUpdate, groupOf(4, c[0], c[1], c[2]), nil)
	for _, one := range c {
		until(t, "the map has arrived", func() bool {
			return one.call(drpc.MethodGetGroupStatus, &pb.GetGroupStatusReq{MapVersion: 4}, nil) == 0
		})
	}
	created := new(pb.PoolCreateResp)
	c[2].must(drpc.MethodPoolCreate, createReq(poolA, "all", 300*mib, 0, 1, 2), created)
	is.Equal(created.GetSvcReps(), []uint32{0, 1, 2})
	// 300 of 1024 MiB are taken everywhere: another 900 fit nowhere, and nothing is
	// left behind by the attempt.
	is.Equal(c[1].call(drpc.MethodPoolCreate, createReq(poolB, "more", 900*mib, 0, 1, 2), nil), int32(-1007))
	c[1].must(drpc.MethodPoolCreate, createReq(poolB, "less", 600*mib, 0, 1), nil)
	is.Equal(c[0].call(drpc.MethodPoolCreate, createReq("b12483dd-f2b8-443e-96f9-40db06dcd227", "none", 500*mib, 1, 2), nil), int32(-1007))
	_, err := os.Stat(filepath.Join(scm[2], "b12483dd-f2b8-443e-96f9-40db06dcd227"))
	is.True(os.IsNotExist(err)) // rolled back

	// Heartbeats are heard, then rank 0 (leader of the pools) dies.
	ask := &pb.PoolQueryReq{Id: poolA, SvcRanks: []uint32{0, 1, 2}, QueryMask: 1 | 2 | 4 | 8 | 16}
	query := new(pb.PoolQueryResp)
	c[1].must(drpc.MethodPoolQuery, ask, query)
	is.Equal(query.GetSvcLdr(), uint32(0))
	is.Equal(query.GetEnabledRanks(), "[0-2]")
	is.Equal(query.GetActiveTargets(), uint32(6))
	until(t, "rank 0 was heard", func() bool {
		return strings.Contains(readLog(t, srv), "heard of rank rank=0")
	})
	is.NoErr(c[0].cmd.Process.Kill())
	c[0].wait()
	for range 2 {
		srv.await(t, "rank 0 dead", func(e *pb.RASEvent) bool {
			return e.GetId() == 17 && e.GetRank() == 0 && e.GetIncarnation() == c[0].ready.GetIncarnation() && e.GetType() == 1
		})
	}
	// The pool service goes on without it.
	c[2].must(drpc.MethodPoolQuery, ask, query)
	is.Equal(query.GetSvcLdr(), uint32(1))
	is.Equal(query.GetDeadRanks(), "[0]")
	is.Equal(query.GetActiveTargets(), uint32(4))
	// Out of the map, it is excluded from the pool.
	c[1].must(drpc.MethodGroupUpdate, groupOf(7, c[1], c[2]), nil)
	until(t, "rank 0 is excluded", func() bool {
		c[2].must(drpc.MethodPoolQuery, ask, query)
		return query.GetDisabledRanks() == "[0]"
	})
	is.Equal(query.GetRebuild().GetState(), pb.PoolRebuildStatus_DONE)

	// It comes back with a larger incarnation and its shards, and is taken in again.
	before := c[0].ready.GetIncarnation()
	c[0] = launch(t, srv, drpc.Chunked, scm[0], port[0], nil)
	c[0].join(0, 8)
	is.True(c[0].ready.GetIncarnation() > before)
	c[1].must(drpc.MethodGroupUpdate, groupOf(9, c[0], c[1], c[2]), nil)
	until(t, "rank 0 leads again", func() bool {
		return c[2].call(drpc.MethodPoolQuery, ask, query) == 0 && query.GetSvcLdr() == 0
	})
	is.Equal(query.GetDisabledRanks(), "[0]") // known to the copy that it has taken over
	c[2].must(drpc.MethodPoolReint, &pb.PoolReintReq{Id: poolA, Rank: 0, SvcRanks: []uint32{0, 1, 2}, TierBytes: []uint64{300 * mib, 0}}, nil)
	c[1].must(drpc.MethodPoolQuery, ask, query)
	is.Equal(query.GetDisabledRanks(), "[]")
	is.Equal(query.GetDeadRanks(), "[]")
}

func readLog(t *testing.T, srv *server) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(srv.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A stopped engine that was excluded meanwhile learns it from its peers.
func TestResumedEngineKillsItself(t *testing.T) {
	is := is.New(t)
	srv := newServer(t, drpc.Chunked)
	var c [2]*child
	for i := range c {
		c[i] = launch(t, srv, drpc.Chunked, t.TempDir(), 0, nil)
		c[i].join(uint32(i), 1)
	}
	c[0].must(drpc.MethodGroupUpdate, groupOf(3, c[0], c[1]), nil)
	until(t, "rank 1 was heard", func() bool { return strings.Contains(readLog(t, srv), "heard of rank rank=1") })
	until(t, "rank 1 has the map", func() bool {
		return c[1].call(drpc.MethodGetGroupStatus, &pb.GetGroupStatusReq{MapVersion: 3}, nil) == 0
	})
	is.NoErr(c[1].cmd.Process.Signal(syscall.SIGSTOP))
	srv.await(t, "rank 1 dead", func(e *pb.RASEvent) bool { return e.GetId() == 17 && e.GetRank() == 1 })
	c[0].must(drpc.MethodGroupUpdate, groupOf(4, c[0]), nil)
	is.NoErr(c[1].cmd.Process.Signal(syscall.SIGCONT))
	is.Equal(c[1].signaled(), syscall.SIGKILL)
	srv.await(t, "self terminated", func(e *pb.RASEvent) bool { return e.GetId() == 5 && e.GetRank() == 1 })
}

// Pools survive a kill; what a kill left half done is cleaned up.
func TestRestartKeepsPools(t *testing.T) {
	is := is.New(t)
	srv := newServer(t, drpc.Chunked)
	scm := t.TempDir()
	c := launch(t, srv, drpc.Chunked, scm, 0, nil)
	c.join(0, 1)
	c.must(drpc.MethodGroupUpdate, groupOf(2, c), nil)
	c.must(drpc.MethodPoolCreate, createReq(poolA, "kept", 400*mib, 0), nil)
	c.must(drpc.MethodPoolSetProp, &pb.PoolSetPropReq{Id: poolA, SvcRanks: []uint32{0},
		Properties: []*pb.PoolProperty{{Number: 1, Value: &pb.PoolProperty_Strval{Strval: "renamed"}}}}, nil)
	is.NoErr(c.cmd.Process.Kill())
	c.wait()
	is.NoErr(os.MkdirAll(filepath.Join(scm, dirNewborns, poolB), 0o770))

	c = launch(t, srv, drpc.Chunked, scm, 0, nil)
	c.join(0, 3)
	c.must(drpc.MethodGroupUpdate, groupOf(4, c), nil)
	props := new(pb.PoolGetPropResp)
	c.must(drpc.MethodPoolGetProp, &pb.PoolGetPropReq{Id: poolA, SvcRanks: []uint32{0}, Properties: []*pb.PoolProperty{{Number: 1}}}, props)
	is.Equal(props.GetProperties()[0].GetStrval(), "renamed")
	is.Equal(c.call(drpc.MethodPoolCreate, createReq(poolB, "big", 700*mib, 0), nil), int32(-1007))
	_, err := os.Stat(filepath.Join(scm, dirNewborns, poolB))
	is.True(os.IsNotExist(err))
	c.must(drpc.MethodPoolDestroy, &pb.PoolDestroyReq{Id: poolA, SvcRanks: []uint32{0}}, nil)
	c.must(drpc.MethodPoolCreate, createReq(poolB, "big", 700*mib, 0), nil) // its space is free again
}

func TestMisbehaviour(t *testing.T) {
	is := is.New(t)
	srv := newServer(t, drpc.Chunked)
	c := launch(t, srv, drpc.Chunked, t.TempDir(), 0, []string{"DAOS_EMULATOR_FAULTS=pool_create:status=-1012@1,set_up:slow=10ms,pool_query:crash"})
	c.join(0, 1)
	c.must(drpc.MethodGroupUpdate, groupOf(2, c), nil)
	is.Equal(c.call(drpc.MethodPoolCreate, createReq(poolA, "x", 64*mib, 0), nil), int32(-1012))
	c.must(drpc.MethodPoolCreate, createReq(poolA, "x", 64*mib, 0), nil)
	err := drpc.Invoke(t.Context(), c.ready.GetDrpcListenerSock(), drpc.Chunked, drpc.MethodPoolQuery,
		&pb.PoolQueryReq{Id: poolA, SvcRanks: []uint32{0}}, new(pb.PoolQueryResp))
	is.True(err != nil)
	is.Equal(c.signaled(), syscall.SIGSEGV)

	c = launch(t, srv, drpc.Chunked, t.TempDir(), 0, []string{"DAOS_EMULATOR_FAULTS=pool_crate:hang"})
	is.True(c.wait() != nil)
	is.True(strings.Contains(c.out.String(), `there is no point "pool_crate"`))
}
