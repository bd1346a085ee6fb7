package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// exclude excludes ranks, or lifts that.
func (s *testSystem) exclude(lift bool, ranks ...hostlist.Rank) control.SystemRanksResp {
	s.t.Helper()
	req := &control.SystemExcludeReq{Clear: lift}
	req.Ranks = hostlist.Ranks(ranks...)
	resp, err := control.Ask(context.Background(), s.client(pki.Admin), control.SystemExclude, req, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

// ranksIn are the ranks that a pool uses wholly, and the others it has.
func (s *testSystem) ranksIn(pool string) (enabled, disabled string) {
	s.t.Helper()
	req := &control.PoolQueryReq{ID: pool, Mask: "enabled_engines,disabled_engines"}
	info, err := control.Ask(context.Background(), s.client(pki.Admin), control.PoolQuery, req, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return info.EnabledRanks.String(), info.DisabledRanks.String()
}

// wantOK fails the test unless all rows went well.
func (s *testSystem) wantOK(pools ...control.PoolRanksResp) {
	s.t.Helper()
	for _, pool := range pools {
		for _, r := range pool.Results {
			if r.Errored {
				s.t.Errorf("pool %s, rank %d: %s", pool.ID, r.Rank, r.Msg)
			}
		}
	}
}

// TestAdminister excludes a rank and lets it back, drains and reintegrates, and sets
// what the system remembers, with three replicas and engines.
func TestAdminister(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 3, 3)
	for i := range sys.hosts {
		sys.engineEnv(i, "DAOS_EMULATOR_SWIM_PERIOD_MS=100")
	}
	sys.up()
	ctx, admin := context.Background(), sys.client(pki.Admin)
	_, err := control.Ask(ctx, admin, control.PoolCreate, createReq("blue", 18<<30), nil)
	is.NoErr(err)
	sys.properties(is, admin)
	sys.drains(is, admin)

	victim := sys.on(1)
	got := sys.exclude(false, victim.Rank, 7)
	is.Equal(got.AbsentRanks.String(), "7")
	is.Equal(got.Results, []control.RankResult{{Rank: victim.Rank, Addr: victim.Addr, Action: control.ActionExclude, State: "adminexcluded"}})
	eventually(t, "the engine ends itself", func() error {
		if !strings.Contains(sys.hosts[1].log.String(), "engine_self_terminated") {
			return errors.New("it has not said so")
		}
		return nil
	})
	eventually(t, "it does not come back", func() error {
		if log := sys.hosts[1].log.String(); !strings.Contains(log, "not starting it again") && !strings.Contains(log, "the administrator has excluded it") {
			return errors.New("no word of it")
		}
		return nil
	})
	member, err := sys.member(victim.Rank)
	is.NoErr(err)
	is.Equal(member.State, cluster.StateAdminExcluded)
	start := new(control.SystemStartReq)
	start.Ranks = hostlist.Ranks(victim.Rank)
	_, err = control.Ask(ctx, admin, control.SystemStart, start, nil)
	is.Equal(fault.Of(err), cluster.RankAdminExcluded)

	got = sys.exclude(true, victim.Rank)
	is.Equal(got.Results[0].State, "excluded")
	is.Equal(got.Results[0].Action, control.ActionClearExclude)
	started, err := control.Ask(ctx, admin, control.SystemStart, start, nil)
	is.NoErr(err)
	is.True(!started.Results[0].Errored)
	sys.rejoined(victim)
	is.Equal(sys.exclude(true, victim.Rank).Results[0].State, "joined") // nothing to lift any more

	// What was set is there when all have started again.
	sys.stopAll()
	for i := range sys.hosts {
		sys.start(i)
	}
	sys.waitJoined(3)
	props, err := control.Ask(ctx, sys.client(pki.Admin), control.SystemGetProp, &control.SystemGetPropReq{Keys: []string{"POOL_SCRUB_MODE", "self_heal"}}, nil)
	is.NoErr(err)
	is.Equal(props.Properties[0].Value, "timed")
	is.Equal(props.Properties[1].Value, "exclude;pool_rebuild")
	attrs, err := control.Ask(ctx, sys.client(pki.Admin), control.SystemGetAttr, &control.SystemGetAttrReq{}, nil)
	is.NoErr(err)
	is.Equal(attrs.Attributes, map[string]string{"site": "north"})
}

// properties sets and reads what the system remembers.
func (s *testSystem) properties(is *is.I, admin *control.Client) {
	ctx := context.Background()
	set := func(properties map[string]string) error {
		_, err := control.Ask(ctx, admin, control.SystemSetProp, &control.SystemSetPropReq{Properties: properties}, nil)
		return err
	}
	is.NoErr(set(map[string]string{"Pool_Scrub_Mode": "timed", "pool_scrub_thresh": "5", "self_heal": "exclude;pool_rebuild"}))
	for key, value := range map[string]string{"daos_version": "3", "nothing": "1", "self_heal": "rebuild", "pool_scrub_mode": "fast", "pool_scrub_thresh": "-1"} {
		is.Equal(fault.Of(set(map[string]string{key: value})), fault.Usage)
	}
	is.Equal(fault.Of(set(nil)), fault.Usage)
	// The pool there is was told, one to come is.
	_, err := control.Ask(ctx, admin, control.PoolCreate, createReq("green", 18<<30), nil)
	is.NoErr(err)
	for _, pool := range []string{"blue", "green"} {
		props, err := control.Ask(ctx, admin, control.PoolGetProp, &control.PoolGetPropReq{ID: pool}, nil)
		is.NoErr(err)
		found := 0
		for _, p := range props.Properties {
			switch p.Name {
			case "scrub":
				is.Equal(*p.Value, uint64(2)) // timed
				found++
			case "scrub_thresh":
				is.Equal(*p.Value, uint64(5))
				found++
			}
		}
		is.Equal(found, 2)
	}

	attr := func(attributes map[string]string) error {
		_, err := control.Ask(ctx, admin, control.SystemSetAttr, &control.SystemSetAttrReq{Attributes: attributes}, nil)
		return err
	}
	is.NoErr(attr(map[string]string{"site": "north", "gone": "soon"}))
	is.NoErr(attr(map[string]string{"gone": ""}))
	is.Equal(fault.Of(attr(map[string]string{"prop.self_heal": "none"})), fault.Refused)
	is.Equal(fault.Of(attr(nil)), fault.Usage)
	_, err = control.Ask(ctx, admin, control.SystemGetAttr, &control.SystemGetAttrReq{Keys: []string{"gone"}}, nil)
	is.Equal(fault.Of(err), fault.NotFound)

	_, err = control.Ask(ctx, admin, control.SystemSelfHealEval, &control.SystemSelfHealEvalReq{}, nil)
	is.NoErr(err)
	version, err := control.Ask(ctx, admin, control.SystemVersion, &control.SystemVersionReq{}, nil)
	is.NoErr(err)
	is.Equal(version.Name, serverName)
	cleaned, err := control.Ask(ctx, admin, control.SystemCleanup, &control.SystemCleanupReq{Machine: "client17"}, nil)
	is.NoErr(err)
	is.Equal(len(cleaned.Results), 2)
	is.Equal(cleaned.Results[0].Count, uint32(0))
}

// drains moves targets of pools away and back.
func (s *testSystem) drains(is *is.I, admin *control.Client) {
	ctx := context.Background()
	drain := &control.SystemDrainReq{}
	drain.Hosts = hostlist.Of(s.hosts[2].addr)
	rank := s.on(2).Rank
	others := hostlist.Ranks()
	for _, m := range s.waitJoined(3).Members {
		if m.Rank != rank {
			others.Add(m.Rank)
		}
	}
	drained, err := control.Ask(ctx, admin, control.SystemDrain, drain, nil)
	is.NoErr(err)
	is.Equal(len(drained.Responses), 2)
	is.Equal(drained.Responses[0].ID, "blue")
	s.wantOK(drained.Responses...)
	enabled, disabled := s.ranksIn("blue")
	is.Equal(enabled, others.String())
	is.Equal(disabled, fmt.Sprint(rank))
	targets, err := control.Ask(ctx, admin, control.PoolQueryTargets, &control.PoolQueryTargetsReq{ID: "blue", Rank: rank}, nil)
	is.NoErr(err)
	is.Equal(len(targets.Infos), 2)
	is.Equal(targets.Infos[0].State, "down_out")

	drain.Reint, drain.OpID = true, ""
	back, err := control.Ask(ctx, admin, control.SystemDrain, drain, nil)
	is.NoErr(err)
	s.wantOK(back.Responses...)
	_, disabled = s.ranksIn("blue")
	is.Equal(disabled, "")
	drain.OpID = ""
	none, err := control.Ask(ctx, admin, control.SystemDrain, drain, nil)
	is.NoErr(err)
	is.Equal(len(none.Responses), 0) // all are in use again

	// One target of one pool, excluded and taken back.
	req := &control.PoolRanksReq{ID: "green", Ranks: hostlist.Ranks(rank, 99), Targets: []uint32{1}, Force: true}
	excluded, err := control.Ask(ctx, admin, control.PoolExclude, req, nil)
	is.NoErr(err)
	is.Equal(len(excluded.Results), 2)
	is.True(!excluded.Results[0].Errored)
	is.True(excluded.Results[1].Errored) // no such rank
	targets, err = control.Ask(ctx, admin, control.PoolQueryTargets, &control.PoolQueryTargetsReq{ID: "green", Rank: rank}, nil)
	is.NoErr(err)
	is.Equal(targets.Infos[0].State, "up_in")
	is.True(targets.Infos[1].State != "up_in")
	is.True(targets.Infos[0].Space[0].Total > 0)
	req = &control.PoolRanksReq{ID: "green", Ranks: hostlist.Ranks(rank)}
	taken, err := control.Ask(ctx, admin, control.PoolReintegrate, req, nil)
	is.NoErr(err)
	s.wantOK(taken)
	_, err = control.Ask(ctx, admin, control.PoolReintegrate, &control.PoolRanksReq{ID: "green"}, nil)
	is.Equal(fault.Of(err), fault.Usage)

	rebuild, err := control.Ask(ctx, admin, control.SystemRebuild, &control.SystemRebuildReq{OpCode: control.RebuildStart}, nil)
	is.NoErr(err)
	is.Equal(rebuild.Results, []control.PoolRebuildResult{{ID: "blue", OpCode: control.RebuildStart}, {ID: "green", OpCode: control.RebuildStart}})
	_, err = control.Ask(ctx, admin, control.SystemRebuild, &control.SystemRebuildReq{OpCode: 3}, nil)
	is.Equal(fault.Of(err), fault.Usage)
	_, err = control.Ask(ctx, admin, control.PoolRebuildStart, &control.PoolRebuildReq{ID: "blue"}, nil)
	is.NoErr(err)
	_, err = control.Ask(ctx, admin, control.PoolRebuildStop, &control.PoolRebuildReq{ID: "blue"}, nil)
	is.Equal(fault.StatusOf(err), int32(-1005)) // there is none to stop
	_, err = control.Ask(ctx, admin, control.PoolUpgrade, &control.PoolUpgradeReq{ID: "blue"}, nil)
	is.NoErr(err)
}

// TestExtend adds a rank to a pool, once, whatever is repeated.
func TestExtend(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 2, 1)
	sys.up()
	ctx, admin := context.Background(), sys.client(pki.Admin)
	first, second := sys.on(0).Rank, sys.on(1).Rank
	create := createReq("blue", 8<<30)
	create.Ranks = hostlist.Ranks(first)
	_, err := control.Ask(ctx, admin, control.PoolCreate, create, nil)
	is.NoErr(err)
	extend := &control.PoolExtendReq{ID: "blue", Ranks: hostlist.Ranks(second)}
	extend.OpID = "extension"
	for range 2 { // its answer may be lost
		_, err = control.Ask(ctx, admin, control.PoolExtend, extend, nil)
		is.NoErr(err)
	}
	enabled, _ := sys.ranksIn("blue")
	is.Equal(enabled, hostlist.Ranks(first, second).String())
	again := &control.PoolExtendReq{ID: "blue", Ranks: hostlist.Ranks(second)}
	_, err = control.Ask(ctx, admin, control.PoolExtend, again, nil)
	is.Equal(fault.Of(err), fault.Exists) // another one of the same
	_, err = control.Ask(ctx, admin, control.PoolExtend, &control.PoolExtendReq{ID: "blue", Ranks: hostlist.Ranks(9)}, nil)
	is.Equal(fault.Of(err), fault.NotFound)
	_, err = control.Ask(ctx, admin, control.PoolExtend, &control.PoolExtendReq{ID: "red", Ranks: hostlist.Ranks(9)}, nil)
	is.Equal(fault.Of(err), fault.NotFound)
	// The record knows the rank: a drain of the whole system finds it there.
	drain := new(control.SystemDrainReq)
	drain.Ranks = hostlist.Ranks(second)
	drained, err := control.Ask(ctx, admin, control.SystemDrain, drain, nil)
	is.NoErr(err)
	is.Equal(len(drained.Responses), 1)
}
