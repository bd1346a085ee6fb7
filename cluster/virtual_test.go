package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/matryer/is"
)

// The whole service on virtual time, in memory: what a simulation stands on.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		addrs := []string{"r0", "r1", "r2"}
		var transports []*raft.InmemTransport
		for _, addr := range addrs {
			_, trans := raft.NewInmemTransport(raft.ServerAddress(addr))
			transports = append(transports, trans)
		}
		var all []*replica
		for i, addr := range addrs {
			for j, peer := range addrs {
				if i != j {
					transports[i].Connect(raft.ServerAddress(peer), transports[j])
				}
			}
			store := raft.NewInmemStore()
			r := &replica{t: t, cfg: Config{Self: addr, Replicas: addrs, System: "daos_server", Transport: transports[i],
				Stores: &Stores{Log: store, Stable: store, Snapshots: raft.NewInmemSnapshotStore()}}}
			s, err := Open(r.cfg)
			is.NoErr(err)
			ctx, cancel := context.WithCancel(t.Context())
			r.s, r.stop, r.done = s, cancel, make(chan error, 1)
			go func() { r.done <- s.Run(ctx) }()
			all = append(all, r)
		}
		start := time.Now()
		row, err := leaderOf(t, all).s.Join(t.Context(), engine(1))
		is.NoErr(err)
		is.Equal(row.Rank, Rank(1))
		is.True(time.Since(start) < 20*time.Second) // of virtual time
		for i, r := range all {
			transports[i].DisconnectAll()
			r.kill()
		}
		synctest.Wait()
	})
}
