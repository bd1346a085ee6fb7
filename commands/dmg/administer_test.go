package dmg

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// answerer serves one method with what the test sets and keeps the last request.
type answerer[Req, Resp any] struct {
	resp Resp
	err  error
	reqs chan Req
}

func answering[Req, Resp any](m *control.Mux, method control.Method[Req, Resp], a *answerer[Req, Resp]) {
	a.reqs = make(chan Req, 16)
	control.Handle(m, method, func(_ context.Context, _ control.Caller, req *Req, _ control.Report) (Resp, error) {
		a.reqs <- *req
		return a.resp, a.err
	})
}

// bodyOf is the body of a -j run as compact JSON.
func bodyOf(t *testing.T, r ran) string {
	t.Helper()
	var e struct{ Response any }
	is.New(t).NoErr(json.Unmarshal([]byte(r.stdout), &e))
	text, err := json.Marshal(e.Response)
	is.New(t).NoErr(err)
	return string(text)
}

func TestSystemExclude(t *testing.T) {
	is := is.New(t)
	exclude := &answerer[control.SystemExcludeReq, control.SystemRanksResp]{}
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) { answering(m, control.SystemExclude, exclude) })
	exclude.resp = control.SystemRanksResp{
		Results: []control.RankResult{
			{Rank: 1, Addr: "10.0.0.1:10001", Action: control.ActionExclude, State: "adminexcluded"},
			{Rank: 2, Addr: "10.0.0.1:10001", Action: control.ActionExclude, State: "adminexcluded"}},
		AbsentRanks: hostlist.Ranks(), AbsentHosts: hostlist.Of(),
	}
	r := s.run("system", "exclude", "-r", "1-2")
	is.Equal(r, ran{cli.OK, "updated ranks: 1-2\n", ""})
	req := <-exclude.reqs
	is.Equal(req.Ranks.String(), "1-2")
	is.True(!req.Clear)
	is.True(req.OpID != "") // done once, however often it is sent

	r = s.run("system", "clear-exclude", "--rank-hosts", "node[1-2]", "-j")
	is.Equal(bodyOf(t, r), `{"Results":[`+
		`{"Action":"set admin-excluded state","Addr":"10.0.0.1:10001","Errored":false,"Msg":"","Rank":1,"state":"adminexcluded"},`+
		`{"Action":"set admin-excluded state","Addr":"10.0.0.1:10001","Errored":false,"Msg":"","Rank":2,"state":"adminexcluded"}]}`)
	req = <-exclude.reqs
	is.Equal(req.Hosts.String(), "node[1-2]")
	is.True(req.Clear)

	exclude.resp.Results[1].Errored, exclude.resp.Results[1].Msg = true, "no such rank"
	r = s.run("system", "exclude", "-r", "1-2")
	is.Equal(r.exit, cli.Partial)
	is.Equal(r.stdout, "updated ranks: 1\n")
	is.True(strings.Contains(r.stderr, "rank 2: no such rank"))

	exclude.resp = control.SystemRanksResp{AbsentRanks: hostlist.Ranks(9), AbsentHosts: hostlist.Of()}
	r = s.run("system", "exclude", "-r", "9")
	is.Equal(r.exit, cli.Failed)
	is.True(strings.Contains(r.stderr, "system exclude failed: non-existent ranks 9"))

	for _, verb := range []string{"exclude", "clear-exclude", "drain", "reintegrate"} {
		r = s.run("system", verb)
		is.Equal(r.exit, cli.Usage)
		is.True(strings.Contains(r.stderr, "no ranks or hosts specified"))
		is.Equal(s.run("system", verb, "-r", "1", "--rank-hosts", "a").exit, cli.Usage)
	}
}

func TestSystemDrain(t *testing.T) {
	is := is.New(t)
	drain := &answerer[control.SystemDrainReq, control.SystemDrainResp]{}
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) { answering(m, control.SystemDrain, drain) })
	r := s.run("system", "drain", "-r", "1")
	is.Equal(r, ran{cli.OK, "No pool ranks processed\n", ""})
	is.Equal(bodyOf(t, s.run("system", "drain", "-r", "1", "-j")), `{"responses":[]}`)
	is.True(!(<-drain.reqs).Reint)
	<-drain.reqs

	drain.resp = control.SystemDrainResp{Responses: []control.PoolRanksResp{
		{ID: "blue", Results: []control.PoolRankResult{{Rank: 1}, {Rank: 2}, {Rank: 3, Errored: true, Msg: "DER_BUSY(-1012): busy"}}},
		{ID: "green", Results: []control.PoolRankResult{{Rank: 1}}},
	}}
	golden(t, "system_drain", s.run("system", "reint", "-r", "1-3"))
	is.True((<-drain.reqs).Reint)
	r = s.run("system", "drain", "-r", "1-3", "-j")
	is.Equal(r.exit, cli.Partial)
	is.Equal(bodyOf(t, r), `{"responses":[`+
		`{"id":"blue","results":[{"errored":false,"msg":"","rank":1},{"errored":false,"msg":"","rank":2},{"errored":true,"msg":"DER_BUSY(-1012): busy","rank":3}]},`+
		`{"id":"green","results":[{"errored":false,"msg":"","rank":1}]}]}`)
}

func TestSystemCleanup(t *testing.T) {
	is := is.New(t)
	cleanup := &answerer[control.SystemCleanupReq, control.SystemCleanupResp]{}
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) { answering(m, control.SystemCleanup, cleanup) })
	cleanup.resp.Results = []control.CleanupResult{{PoolID: blueID}}
	is.Equal(s.run("system", "cleanup", "client17"), ran{cli.OK, "No handles cleaned up\n", ""})
	is.Equal((<-cleanup.reqs).Machine, "client17")
	cleanup.resp.Results[0].Count = 3
	is.Equal(s.run("system", "cleanup", "client17").stdout, "System Cleanup Success\n")
	golden(t, "system_cleanup", s.run("system", "cleanup", "-v", "client17"))
	is.Equal(bodyOf(t, s.run("system", "cleanup", "client17", "-j")), `{"results":[{"count":3,"msg":"","pool_id":"`+blueID+`","status":0}]}`)
	cleanup.resp.Results = append(cleanup.resp.Results, control.CleanupResult{PoolID: greenID, Status: -1006, Msg: "peer is away"})
	r := s.run("system", "cleanup", "client17")
	is.Equal(r.exit, cli.Partial)
	is.True(strings.Contains(r.stderr, "system cleanup failed: 1 of 2 pool(s) had errors: pool "+greenID+": peer is away"))
	is.Equal(s.run("system", "cleanup").exit, cli.Usage)
	is.Equal(s.run("system", "cleanup", "a", "b").exit, cli.Usage)
}

func TestSystemAttributes(t *testing.T) {
	is := is.New(t)
	set := &answerer[control.SystemSetAttrReq, control.Empty]{}
	get := &answerer[control.SystemGetAttrReq, control.SystemGetAttrResp]{}
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) {
		answering(m, control.SystemSetAttr, set)
		answering(m, control.SystemGetAttr, get)
	})
	is.Equal(s.run("system", "set-attr", `site:north,'a,b':c\:d`), ran{cli.OK, "system set-attr succeeded\n", ""})
	is.Equal((<-set.reqs).Attributes, map[string]string{"site": "north", "a,b": "c:d"})
	is.Equal(s.run("system", "del-attr", "site,x"), ran{cli.OK, "system del-attr succeeded\n", ""})
	is.Equal((<-set.reqs).Attributes, map[string]string{"site": "", "x": ""})
	is.Equal(bodyOf(t, s.run("system", "set-attr", "a:b", "-j")), "null")
	for _, bad := range [][]string{{"set-attr"}, {"set-attr", "a"}, {"set-attr", "a:"}, {"set-attr", ":b"}, {"set-attr", "a:b,a:c"}, {"del-attr"}, {"del-attr", ""}, {"get-attr", "a", "b"}} {
		is.Equal(s.run(append([]string{"system"}, bad...)...).exit, cli.Usage)
	}

	is.Equal(s.run("system", "get-attr").stdout, "No system attributes found.\n")
	is.Equal(len((<-get.reqs).Keys), 0)
	is.Equal(bodyOf(t, s.run("system", "get-attr", "-j")), `{"attributes":{}}`)
	<-get.reqs
	get.resp.Attributes = map[string]string{"site": "north", "a": "b"}
	golden(t, "system_get_attr", s.run("system", "get-attr", "site,a"))
	is.Equal((<-get.reqs).Keys, []string{"site", "a"})
	get.err = fault.New(fault.NotFound, "cannot get system attribute %q: there is none", "z")
	r := s.run("system", "get-attr", "z")
	is.Equal(r.exit, cli.Failed)
	is.True(strings.Contains(r.stderr, "system get-attr failed: cannot get system attribute"))
}

func TestSystemProperties(t *testing.T) {
	is := is.New(t)
	set := &answerer[control.SystemSetPropReq, control.Empty]{}
	get := &answerer[control.SystemGetPropReq, control.SystemGetPropResp]{}
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) {
		answering(m, control.SystemSetProp, set)
		answering(m, control.SystemGetProp, get)
	})
	is.Equal(s.run("system", "set-prop", "Pool_Scrub_Mode:Timed,self_heal:exclude;pool_rebuild"), ran{cli.OK, "system set-prop succeeded\n", ""})
	is.Equal((<-set.reqs).Properties, map[string]string{"pool_scrub_mode": "timed", "self_heal": "exclude;pool_rebuild"})
	for _, bad := range []string{"daos_version:3", "daos_system:x", "nothing:1", "pool_scrub_mode:fast", "pool_scrub_thresh:-1", "pool_scrub_thresh:many",
		"self_heal:pool_exclude;exclude", "self_heal:exclude;exclude", "self_heal:none;exclude", "self_heal:rebuild", "pool_scrub_mode", "self_heal:none,SELF_HEAL:none"} {
		r := s.run("system", "set-prop", bad)
		is.Equal(r.exit, cli.Usage)
		is.Equal(len(set.reqs), 0) // nobody is asked
	}
	get.resp.Properties = []control.SystemProperty{{Key: "daos_system", Value: "daos_server", Description: "DAOS system name"},
		{Key: "self_heal", Value: "none", Description: "Self-heal policy for the system"}}
	golden(t, "system_get_prop", s.run("system", "get-prop", "daos_system,self_heal"))
	is.Equal((<-get.reqs).Keys, []string{"daos_system", "self_heal"})
	is.Equal(bodyOf(t, s.run("system", "get-prop", "-j")), `[{"description":"DAOS system name","key":"daos_system","value":"daos_server"},`+
		`{"description":"Self-heal policy for the system","key":"self_heal","value":"none"}]`)
}

func TestSystemRebuild(t *testing.T) {
	is := is.New(t)
	rebuild := &answerer[control.SystemRebuildReq, control.SystemRebuildResp]{}
	eval := &answerer[control.SystemSelfHealEvalReq, control.Empty]{}
	version := &answerer[control.SystemVersionReq, control.SystemVersionResp]{
		resp: control.SystemVersionResp{Name: "DAOS Control Server", Version: "0.1.0", BuildInfo: "speaks DAOS 2.8.0"}}
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) {
		answering(m, control.SystemRebuild, rebuild)
		answering(m, control.SystemSelfHealEval, eval)
		answering(m, control.SystemVersion, version)
	})
	rebuild.resp.Results = []control.PoolRebuildResult{{ID: "blue", OpCode: control.RebuildStart}, {ID: "green", OpCode: control.RebuildStart}}
	is.Equal(s.run("system", "rebuild", "start", "-v"), ran{cli.OK, "System-rebuild start request succeeded on 2 pools [blue green]\n", ""})
	is.Equal((<-rebuild.reqs).OpCode, control.RebuildStart)
	rebuild.resp.Results[0].Errored, rebuild.resp.Results[0].Msg = true, "DER_NONEXIST(-1005): not there"
	r := s.run("system", "rebuild", "stop", "--force")
	is.Equal(r.exit, cli.Partial)
	is.Equal(r.stdout, "System-rebuild stop request succeeded on 1 pools\n")
	is.True(strings.Contains(r.stderr, "system rebuild stop failed: 1 of 2 pool(s) had errors: pool blue: DER_NONEXIST"))
	is.True((<-rebuild.reqs).Force)
	is.Equal(s.run("system", "rebuild", "start", "--force").exit, cli.Usage)
	is.Equal(bodyOf(t, s.run("system", "rebuild", "stop", "-j")), `{"results":[{"errored":true,"id":"blue","msg":"DER_NONEXIST(-1005): not there","op_code":1},`+
		`{"errored":false,"id":"green","msg":"","op_code":1}]}`)

	is.Equal(s.run("system", "self-heal", "eval"), ran{cli.OK, "System self-heal eval request succeeded\n", ""})
	is.Equal(bodyOf(t, s.run("system", "self-heal", "eval", "-j")), "{}")
	is.Equal(s.run("server-version").stdout, "DAOS Control Server version 0.1.0\nspeaks DAOS 2.8.0\n")
	is.Equal(bodyOf(t, s.run("server-version", "-j")), `{"build_info":"speaks DAOS 2.8.0","name":"DAOS Control Server","version":"0.1.0"}`)
}

func TestSystemErase(t *testing.T) {
	is := is.New(t)
	erase := &answerer[control.SystemEraseReq, control.Empty]{}
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) { answering(m, control.SystemErase, erase) })
	is.Equal(s.run("system", "erase"), ran{cli.OK, "", ""})
	is.Equal(bodyOf(t, s.run("system", "erase", "-j")), "null")
	is.Equal(s.run("system", "erase", "now").exit, cli.Usage)
	erase.err = fault.New(fault.Refused, "cannot erase the system: ranks 0-2 are up")
	r := s.run("system", "erase")
	is.Equal(r.exit, cli.Refused)
	is.True(strings.Contains(r.stderr, "system erase failed: cannot erase the system: ranks 0-2 are up"))
}

func TestPoolTargets(t *testing.T) {
	is := is.New(t)
	ranks := make(map[string]*answerer[control.PoolRanksReq, control.PoolRanksResp])
	extend := &answerer[control.PoolExtendReq, control.Empty]{}
	upgrade := &answerer[control.PoolUpgradeReq, control.Empty]{}
	query := &answerer[control.PoolQueryTargetsReq, control.PoolQueryTargetsResp]{}
	start, stop := &answerer[control.PoolRebuildReq, control.Empty]{}, &answerer[control.PoolRebuildReq, control.Empty]{}
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) {
		for _, kind := range poolRanksKinds() {
			ranks[kind.use] = &answerer[control.PoolRanksReq, control.PoolRanksResp]{resp: control.PoolRanksResp{ID: "blue",
				Results: []control.PoolRankResult{{Rank: 2}, {Rank: 3, Errored: true, Msg: "DER_NONEXIST(-1005): not there"}}}}
			answering(m, kind.method, ranks[kind.use])
		}
		answering(m, control.PoolExtend, extend)
		answering(m, control.PoolUpgrade, upgrade)
		answering(m, control.PoolQueryTargets, query)
		answering(m, control.PoolRebuildStart, start)
		answering(m, control.PoolRebuildStop, stop)
	})
	for _, kind := range poolRanksKinds() {
		golden(t, "pool_ranks_"+kind.use, s.run("pool", kind.use, "blue", "--ranks=2-3", "--target-idx=0,2"))
		req := <-ranks[kind.use].reqs
		is.Equal(req.Ranks.String(), "2-3")
		is.Equal(req.Targets, []uint32{0, 2})
		is.Equal(req.ID, "blue")
		is.Equal(s.run("pool", kind.use, "blue").exit, cli.Usage)
		is.Equal(s.run("pool", kind.use, "--ranks=1").exit, cli.Usage)
		is.Equal(s.run("pool", kind.use, "blue", "--ranks=1", "--target-idx=x").exit, cli.Usage)
		is.Equal(s.run("pool", kind.use, "blue", "--ranks=1", "-f").exit == cli.Usage, !kind.force)
	}
	is.Equal(bodyOf(t, s.run("pool", "reint", "blue", "--rank=2", "-j")),
		`{"id":"blue","results":[{"errored":false,"msg":"","rank":2},{"errored":true,"msg":"DER_NONEXIST(-1005): not there","rank":3}]}`)

	is.Equal(s.run("pool", "extend", "blue", "--ranks=4"), ran{cli.OK, "Extend command succeeded\n", ""})
	is.Equal((<-extend.reqs).Ranks.String(), "4")
	is.Equal(s.run("pool", "extend", "blue").exit, cli.Usage)
	is.Equal(s.run("pool", "upgrade", "blue"), ran{cli.OK, "Pool-upgrade command succeeded\n", ""})
	is.Equal(bodyOf(t, s.run("pool", "upgrade", "blue", "-j")), "null")
	is.Equal(s.run("pool", "rebuild", "start", "blue"), ran{cli.OK, "Pool-rebuild start request succeeded\n", ""})
	is.True(!(<-start.reqs).Force)
	is.Equal(s.run("pool", "rebuild", "stop", "-f", "blue"), ran{cli.OK, "Pool-rebuild stop request succeeded\n", ""})
	is.True((<-stop.reqs).Force)

	query.resp.Infos = []control.PoolTarget{
		{State: "up_in", Space: []control.TierStats{{Total: 6e9, Free: 5e9, MediaType: "scm"}, {Total: 9e10, Free: 8e10, MediaType: "nvme"}}},
		{State: "down", Space: []control.TierStats{{MediaType: "scm"}, {MediaType: "nvme"}}},
	}
	golden(t, "pool_query_targets", s.run("pool", "query-targets", "blue", "--rank", "3", "--target-idx", "0-1"))
	req := <-query.reqs
	is.Equal(req.Rank, hostlist.Rank(3))
	is.Equal(req.Targets, []uint32{0, 1})
	is.Equal(bodyOf(t, s.run("pool", "query-targets", "blue", "--rank=3", "-j"))[:80],
		`{"Infos":[{"md_on_ssd_active":false,"mem_file_bytes":0,"space":[{"free":50000000`)
	for _, bad := range [][]string{{"blue"}, {"blue", "--rank=1-2"}, {"blue", "--rank=x"}, {"--rank=1"}, {"blue", "--rank=1", "--target-idx=-"}} {
		is.Equal(s.run(append([]string{"pool", "query-targets"}, bad...)...).exit, cli.Usage)
	}
}

func TestOldTargetSpellings(t *testing.T) {
	for old, now := range map[string]string{
		"p e --pool=1234 --rank=3":                  "pool exclude 1234 --ranks=3",
		"pool drain --pool 1234 --rank 3":           "pool drain 1234 --ranks=3",
		"p r blue --rank 3 --target-idx 1":          "pool reintegrate blue --ranks=3 --target-idx=1",
		"pool reint blue --rank 3":                  "pool reintegrate blue --ranks=3",
		"sy e":                                      "system erase",
		"p ext --pool=1 --ranks=4 -s 1G -n 2G":      "pool extend 1 --ranks=4",
		"exclude --pool=12 --rank=3 --target=1":     "pool exclude 12 --ranks=3 --target-idx=1",
		"exclude -p 12 -r 3 -t 1 --svc=0 --group=g": "pool exclude 12 --ranks=3 --target-idx=1 --sys=g",
	} {
		t.Run(old, func(t *testing.T) {
			is := is.New(t)
			a, root := words(t)
			m, err := rewrite(root, a.globals(), strings.Fields(old))
			is.NoErr(err)
			is.True(m.old)
			is.Equal(strings.Join(m.args, " "), now)
		})
	}
}
