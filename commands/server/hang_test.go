package server

import (
	"context"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/pki"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// A hung engine on the leader's host must not hold the service: calls and group
// updates go through other engines.
func TestHungEngineOfTheLeader(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 3, 3)
	sys.up()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	admin := sys.client(pki.Admin)
	created, err := control.Ask(ctx, admin, control.PoolCreate, createReq("blue", 24<<30), nil)
	is.NoErr(err)

	leader, err := control.Ask(ctx, admin, control.LeaderQuery, &control.LeaderQueryReq{}, nil)
	is.NoErr(err)
	query, err := control.Ask(ctx, admin, control.SystemQuery, &control.SystemQueryReq{}, nil)
	is.NoErr(err)
	before := query.GroupMapVersion
	pid := 0
	for i, h := range sys.hosts {
		if h.addr == leader.CurrentLeader {
			pid = sys.engineOn(i)
		}
	}
	is.True(pid != 0)
	is.NoErr(syscall.Kill(pid, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()

	began := time.Now()
	info, err := control.Ask(ctx, admin, control.PoolQuery, &control.PoolQueryReq{ID: "blue"}, nil)
	is.NoErr(err) // another engine answers
	is.Equal(info.UUID, created.UUID)
	t.Logf("a query beside a hung engine took %v", time.Since(began))
	eventually(t, "the hung rank is excluded and the others are told", func() error {
		query, err = control.Ask(ctx, admin, control.SystemQuery, &control.SystemQueryReq{States: cluster.StateExcluded}, nil)
		if err == nil && (len(query.Members) != 1 || query.GroupMapVersion <= before) {
			err = context.DeadlineExceeded
		}
		return err
	})
	_, err = control.Ask(ctx, admin, control.PoolList, &control.PoolListReq{}, nil)
	is.NoErr(err)
}
