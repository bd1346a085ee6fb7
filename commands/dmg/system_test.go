package dmg

import (
	"context"
	"strings"
	"testing"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// replicaSite has replicas 1 to 3, of which 3 is dead and 1 leads, unless nobody
// does.
func replicaSite(t *testing.T, secure, led bool) *site {
	var s *site
	s = newSite(t, secure, 2, 3, func(i int, m *control.Mux) {
		control.Handle(m, control.LeaderQuery, func(context.Context, control.Caller, *control.LeaderQueryReq, control.Report) (control.LeaderQueryResp, error) {
			resp := control.LeaderQueryResp{Replicas: []string{s.addr(1), s.addr(2), s.addr(3)}}
			if led {
				resp.CurrentLeader = s.addr(1)
			}
			return resp, nil
		})
	})
	return s
}

func TestLeaderQuery(t *testing.T) {
	is := is.New(t)
	for _, secure := range []bool{true, false} {
		s := replicaSite(t, secure, true)
		golden(t, "leader_query", s.run("system", "leader-query"))
		golden(t, "leader_query_down", s.run("sys", "leader-query", "-N"))
		response, text, status := s.run("system", "leader-query", "-j").body(t)
		is.Equal(text, "")
		is.Equal(status, 0.0)
		is.Equal(response, map[string]any{
			"current_leader": "127.0.7.1:PORT",
			"replicas":       []any{"127.0.7.1:PORT", "127.0.7.2:PORT", "127.0.7.3:PORT"},
			"down_replicas":  []any{"127.0.7.3:PORT"},
		})
	}
	r := replicaSite(t, false, false).run("system", "leader-query", "-j")
	is.Equal(r.exit, cli.NoLeader)
	response, text, _ := r.body(t)
	is.Equal(text, "leader query failed: no replica leads")
	is.Equal(response["current_leader"], "")

	r = newSite(t, false, 0, 2, nil).run("system", "leader-query")
	is.Equal(r.exit, cli.Unreachable)
	is.True(strings.Contains(r.stderr, "ERROR: dmg: leader query failed: cannot reach the management service"))
	is.True(strings.Contains(r.stderr, "HINT: dmg: "))
}

var testMembers = []cluster.Member{
	{Rank: 0, Addr: "10.0.0.1:10001", UUID: "00000000-0000-0000-0000-000000000000", State: cluster.StateJoined, FaultDomain: "/node1",
		Incarnation: 7, FabricURI: "ofi+tcp://10.0.0.1:31416", FabricContexts: 3, LastUpdate: time.Unix(1700000000, 0).UTC()},
	{Rank: 1, Addr: "10.0.0.1:10001", UUID: "00000000-0000-0000-0000-000000000001", State: cluster.StateJoined, FaultDomain: "/node1"},
	{Rank: 2, Addr: "10.0.0.2:10001", UUID: "00000000-0000-0000-0000-000000000002", State: cluster.StateExcluded, FaultDomain: "/node2", Info: "swim rank dead"},
	{Rank: 3, Addr: "10.0.0.2:10001", UUID: "00000000-0000-0000-0000-000000000003", State: cluster.StateJoined, FaultDomain: "/node2"},
}

// querySite leads a system of testMembers and hands each request to the test.
func querySite(t *testing.T, policy string) (*site, func() control.SystemQueryReq) {
	reqs := make(chan control.SystemQueryReq, 16)
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) {
		control.Handle(m, control.SystemQuery, func(_ context.Context, _ control.Caller, req *control.SystemQueryReq, _ control.Report) (control.SystemQueryResp, error) {
			reqs <- *req
			resp := control.SystemQueryResp{Providers: []string{"ofi+tcp"}, SysSelfHealPolicy: policy, Leader: "10.0.0.1:10001", GroupMapVersion: 5,
				AbsentRanks: hostlist.Ranks(), AbsentHosts: hostlist.Of()}
			for _, m := range testMembers {
				if (req.Ranks.Len() == 0 || req.Ranks.Contains(m.Rank)) && (req.States == 0 || req.States&m.State != 0) && req.Hosts.Len() == 0 {
					resp.Members = append(resp.Members, m)
				}
			}
			for _, rank := range req.Ranks.Slice() {
				if rank > 3 {
					resp.AbsentRanks.Add(rank)
				}
			}
			resp.AbsentHosts.Add(req.Hosts.Hosts()...)
			return resp, nil
		})
	})
	return s, func() control.SystemQueryReq { return <-reqs }
}

func TestSystemQuery(t *testing.T) {
	is := is.New(t)
	s, req := querySite(t, "exclude;pool_exclude;pool_rebuild")
	golden(t, "system_query", s.run("system", "query"))
	is.Equal(req().States, cluster.MemberState(0))
	golden(t, "system_query_verbose", s.run("system", "query", "-v", "--ranks=0,2-3,7-8"))
	is.Equal(req().Ranks.String(), "0,2-3,7-8")
	golden(t, "system_query_absent", s.run("system", "query", "-r", "1,9"))
	req()
	golden(t, "system_query_hosts", s.run("system", "query", "--rank-hosts", "node[7-8]"))
	is.Equal(req().Hosts.String(), "node[7-8]")
	golden(t, "system_query_none", s.run("system", "query", "--with-states", "Stopped,unresponsive"))
	is.Equal(req().States, cluster.StateStopped|cluster.StateUnresponsive)
	is.Equal(s.run("system", "query", "--not-ok").stdout, "Rank State    \n---- -----    \n2    Excluded \n")
	is.Equal(req().States, cluster.StatesAll&^cluster.StateJoined)

	s, _ = querySite(t, "exclude")
	golden(t, "system_query_policy", s.run("system", "query"))

	for _, wrong := range [][]string{{"--not-ok", "--with-states=joined"}, {"--ranks=0", "--rank-hosts=node1"}, {"--ranks=x"}, {"--ranks=[]"}, {"--with-states=fine"}, {"--with-states=unknown"}, {"more"}} {
		is.Equal(s.run(append([]string{"system", "query"}, wrong...)...).exit, cli.Usage)
	}
}

func TestSystemQueryJSON(t *testing.T) {
	is := is.New(t)
	s, _ := querySite(t, "none")
	response, text, _ := s.run("system", "query", "--json", "-j").body(t)
	is.Equal(text, "")
	is.Equal(keys(response), "members providers sys_self_heal_policy")
	members := response["members"].([]any)
	is.Equal(len(members), 4)
	is.Equal(keys(members[0]), "addr fabric_contexts fabric_uri fault_domain incarnation info last_update rank secondary_fabric_contexts secondary_fabric_uris state uuid")
	is.Equal(members[2].(map[string]any)["state"], "excluded")
	is.Equal(len(nulls("", response)), 0)

	r := s.run("system", "query", "-j", "--ranks=0,9")
	is.Equal(r.exit, cli.Partial)
	response, text, _ = r.body(t)
	is.Equal(keys(response), "members providers sys_self_heal_policy") // what is absent is in the error only
	is.Equal(text, "system query failed: non-existent ranks 9")
	is.Equal(s.run("system", "query", "-j", "--ranks=9").exit, cli.Failed)
}

// ranksSite answers stop and start with results; bad ranks fail.
func ranksSite(t *testing.T, results []control.RankResult) (*site, chan control.SystemStopReq) {
	stops := make(chan control.SystemStopReq, 16)
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) {
		control.Handle(m, control.SystemStop, func(_ context.Context, _ control.Caller, req *control.SystemStopReq, report control.Report) (control.SystemRanksResp, error) {
			report(control.Progress{Subject: "10.0.0.1:10001", Text: "stopping ranks", Done: 1, Total: 2})
			stops <- *req
			return control.SystemRanksResp{Results: results, AbsentRanks: hostlist.Ranks(), AbsentHosts: hostlist.Of()}, nil
		})
		control.Handle(m, control.SystemStart, func(context.Context, control.Caller, *control.SystemStartReq, control.Report) (control.SystemRanksResp, error) {
			return control.SystemRanksResp{Results: results, AbsentRanks: hostlist.Ranks(8)}, nil
		})
	})
	return s, stops
}

func rankResults(bad ...hostlist.Rank) []control.RankResult {
	set := hostlist.Ranks(bad...)
	var all []control.RankResult
	for rank := range hostlist.Rank(4) {
		r := control.RankResult{Rank: rank, Addr: "10.0.0.1:10001", Action: "stop", State: "stopped"}
		if set.Contains(rank) {
			r.State, r.Errored, r.Msg = "errored", true, "engine does not end"
		}
		all = append(all, r)
	}
	return all
}

func TestSystemStopStart(t *testing.T) {
	is := is.New(t)
	s, stops := ranksSite(t, rankResults())
	golden(t, "system_stop", s.run("system", "stop"))
	req := <-stops
	is.Equal(req.Force, true) // a plain stop kills
	is.True(req.OpID != "")
	s.run("system", "stop", "--full")
	req = <-stops
	is.Equal(req.Force, false)
	is.Equal(req.Full, true)
	s.run("system", "stop", "--rank-hosts=node[1-2]", "--ignore-admin-excluded")
	req = <-stops
	is.Equal(req.Hosts.String(), "node[1-2]")
	is.Equal(req.IgnoreAdminExcluded, true)
	golden(t, "system_start_absent", s.run("system", "start", "-r", "0-3,8"))
	for _, wrong := range [][]string{{"--full", "--force"}, {"--full", "-r0"}, {"--full", "--rank-hosts=a"}, {"-r0", "--rank-hosts=a"}} {
		is.Equal(s.run(append([]string{"system", "stop"}, wrong...)...).exit, cli.Usage)
	}

	s, _ = ranksSite(t, rankResults(1, 3))
	golden(t, "system_stop_partial", s.run("system", "stop", "--force"))
	r := s.run("system", "stop", "-j")
	is.Equal(r.exit, cli.Partial)
	response, text, _ := r.body(t)
	is.Equal(text, "system stop failed: 2 of 4 rank(s) had errors")
	is.Equal(keys(response), "Results")
	is.Equal(response["Results"].([]any)[0], map[string]any{"state": "stopped", "Addr": "10.0.0.1:10001", "Rank": 0.0, "Action": "stop", "Errored": false, "Msg": ""})

	s, _ = ranksSite(t, rankResults(0, 1, 2, 3))
	is.Equal(s.run("system", "stop").exit, cli.Failed)
	s, _ = ranksSite(t, nil)
	is.Equal(s.run("system", "stop").stdout, "No results returned\n")
	response, _, _ = s.run("system", "stop", "-j").body(t)
	is.Equal(response["Results"], []any{})
	s, _ = ranksSite(t, append(rankResults(), rankResults()[0]))
	r = s.run("system", "stop")
	is.Equal(r.exit, cli.Failed)
	is.True(strings.Contains(r.stderr, "has rank 0 twice"))
}

// Errors of the leader keep their meaning and status.
func TestSystemErrors(t *testing.T) {
	is := is.New(t)
	s := newSite(t, false, 1, 1, func(_ int, m *control.Mux) {
		control.Handle(m, control.SystemStop, func(context.Context, control.Caller, *control.SystemStopReq, control.Report) (control.SystemRanksResp, error) {
			return control.SystemRanksResp{}, fault.New(fault.Busy, "cannot stop: another stop runs").WithStatus(-1012).WithHint("wait")
		})
	})
	r := s.run("system", "stop", "-j")
	_, text, status := r.body(t)
	is.Equal(text, "system stop failed: cannot stop: another stop runs")
	is.Equal(status, -1012.0)
	is.Equal(r.stderr, "ERROR: dmg: system stop failed: cannot stop: another stop runs\nHINT: dmg: wait\n")
}
