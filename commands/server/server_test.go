package server

import (
	"context"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/google/uuid"
	"github.com/matryer/is"
)

func createReq(label string, total uint64) *control.PoolCreateReq {
	return &control.PoolCreateReq{UUID: uuid.NewString(), Label: label, User: "root@", Group: "root@", TotalBytes: total}
}

func TestSystemComesUp(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 3, 3)
	sys.up()
	ctx := context.Background()
	admin := sys.client(pki.Admin)

	members := sys.waitJoined(3).Members
	for i, m := range members {
		is.Equal(m.Rank, hostlist.Rank(i)) // ranks 0 to 2
	}
	leader, err := control.Ask(ctx, admin, control.LeaderQuery, &control.LeaderQueryReq{}, nil)
	is.NoErr(err)
	is.True(leader.CurrentLeader != "")
	is.Equal(len(leader.Replicas), 3)

	created, err := control.Ask(ctx, admin, control.PoolCreate, createReq("blue", 24<<30), nil)
	is.NoErr(err) // create a pool
	is.Equal(len(created.TargetRanks), 3)
	_, err = control.Ask(ctx, admin, control.PoolCreate, createReq("blue", 24<<30), nil)
	is.Equal(fault.Of(err), fault.DuplicateLabel) // the same label twice
	_, err = control.Ask(ctx, admin, control.PoolCreate, createReq("huge", 1<<50), nil)
	is.Equal(fault.Of(err), fault.NoSpace)                // more than there is
	is.Equal(fault.StatusOf(err), int32(-1007))           // told by the engine
	is.True(strings.Contains(err.Error(), "DER_NOSPACE")) // plainly
	_, err = control.Ask(ctx, admin, control.PoolDestroy, &control.PoolDestroyReq{ID: "nosuch"}, nil)
	is.Equal(fault.Of(err), fault.NotFound) // destroy what is not there

	info, err := control.Ask(ctx, admin, control.PoolQuery, &control.PoolQueryReq{ID: "blue"}, nil)
	is.NoErr(err)
	is.Equal(info.UUID, created.UUID)
	is.Equal(info.TotalTargets, uint32(6))
	list, err := control.Ask(ctx, admin, control.PoolList, &control.PoolListReq{}, nil)
	is.NoErr(err)
	is.Equal(len(list.Pools), 1) // the failed one left nothing

	destroy := &control.PoolDestroyReq{ID: "blue"}
	_, err = control.Ask(ctx, admin, control.PoolDestroy, destroy, nil)
	is.NoErr(err)
	_, err = control.Ask(ctx, admin, control.PoolDestroy, destroy, nil)
	is.NoErr(err) // the retry of the same operation
	for i := range sys.hosts {
		is.Equal(sys.stop(i), cli.OK)
	}
}
