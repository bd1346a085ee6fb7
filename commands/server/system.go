package server

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
)

// serveSystem sets the handlers of the management service's system methods.
func (s *server) serveSystem() {
	control.Handle(s.mux, control.SystemJoin, s.systemJoin)
	control.Handle(s.mux, control.SystemEvent, s.systemEvent)
	control.Handle(s.mux, control.LeaderQuery, s.leaderQuery)
	control.Handle(s.mux, control.SystemQuery, s.systemQuery)
	control.Handle(s.mux, control.SystemStop, s.systemStop)
	control.Handle(s.mux, control.SystemStart, s.systemStart)
	control.Handle(s.mux, control.SystemGetProp, s.systemGetProp)
	control.Handle(s.mux, control.AttachInfo, s.attachInfo)
	control.Handle(s.mux, control.EngineCall, s.engineCall)
}

func (s *server) systemJoin(ctx context.Context, caller control.Caller, req *control.JoinReq, _ control.Report) (control.JoinResp, error) {
	service, err := s.leader()
	if err != nil {
		return control.JoinResp{}, err
	}
	if err := notErasing(service); err != nil {
		return control.JoinResp{}, err
	}
	// 0.0.0.0 means: the address that I call from.
	if host, port, err := net.SplitHostPort(req.Addr); err == nil && host == "0.0.0.0" && caller.Addr != nil {
		if from, _, err := net.SplitHostPort(caller.Addr.String()); err == nil {
			req.Addr = net.JoinHostPort(from, port)
		}
	}
	result, err := service.Join(ctx, req.JoinRequest)
	if err != nil {
		return control.JoinResp{}, err
	}
	return control.JoinResp{JoinResult: result}, nil
}

// systemEvent acts on what other servers report.
func (s *server) systemEvent(ctx context.Context, _ control.Caller, req *control.EventReq, _ control.Report) (control.Empty, error) {
	service, err := s.leader()
	if err != nil {
		return control.Empty{}, err
	}
	e := req.Event
	switch e.Name {
	case "engine_died":
		_, err = service.HandleEngineDied(ctx, e.Rank, e.Incarnation, e.Msg)
	case "swim_rank_dead":
		_, err = service.HandleRankDead(ctx, e.Rank, e.Incarnation)
	case "pool_replicas_updated":
		_, err = service.HandlePoolReplicas(ctx, e.PoolUUID, e.Replicas, e.Version)
		switch fault.Of(err) {
		case fault.NotFound, fault.Busy:
			err = nil // a pool whose creation failed, or that is gone or going
		}
	default:
		s.log.Debug("an event that nobody acts on", "id", e.Name, "host", e.Hostname)
	}
	return control.Empty{}, err
}

// leaderQuery answers on any replica.
func (s *server) leaderQuery(context.Context, control.Caller, *control.LeaderQueryReq, control.Report) (control.LeaderQueryResp, error) {
	service, err := s.leader()
	if err != nil {
		return control.LeaderQueryResp{}, err
	}
	down := service.Down()
	if down == nil {
		down = []string{}
	}
	return control.LeaderQueryResp{CurrentLeader: service.Leader(), Replicas: service.Replicas(), DownReplicas: down}, nil
}

// selection is what a selector picks of the members.
type selection struct {
	members     []*cluster.Member
	absentRanks *hostlist.RankSet
	absentHosts *hostlist.Set
}

// pick resolves a selector: by rank, by host (with or without port), or all.
func pick(view *cluster.View, sel control.Selector) (selection, error) {
	out := selection{absentRanks: hostlist.Ranks(), absentHosts: hostlist.Of()}
	byRank, byHost := sel.Ranks != nil && sel.Ranks.Len() > 0, sel.Hosts != nil && sel.Hosts.Len() > 0
	switch {
	case byRank && byHost:
		return out, fault.New(fault.Usage, "cannot select by ranks and by hosts at once").WithHint("use --ranks or --rank-hosts")
	case byRank:
		for _, rank := range sel.Ranks.Slice() {
			if m := view.Member(rank); m != nil {
				out.members = append(out.members, m)
			} else {
				out.absentRanks.Add(rank)
			}
		}
	case byHost:
		for _, host := range sel.Hosts.Hosts() {
			found := membersOf(view, host)
			if len(found) == 0 {
				out.absentHosts.Add(host)
			}
			out.members = append(out.members, found...)
		}
		slices.SortFunc(out.members, func(a, b *cluster.Member) int { return int(a.Rank) - int(b.Rank) })
	default:
		out.members = view.Members(cluster.StatesAll)
	}
	return out, nil
}

func membersOf(view *cluster.View, host string) []*cluster.Member {
	var found []*cluster.Member
	for _, m := range view.Members(cluster.StatesAll) {
		if m.Addr == host || hostlist.StripPort(m.Addr) == host {
			found = append(found, m)
		}
	}
	if len(found) > 0 {
		return found
	}
	// A name: members are known by address.
	addrs, err := net.LookupHost(hostlist.StripPort(host))
	if err != nil {
		return nil
	}
	for _, m := range view.Members(cluster.StatesAll) {
		if slices.Contains(addrs, hostlist.StripPort(m.Addr)) {
			found = append(found, m)
		}
	}
	return found
}

func (s *server) systemQuery(ctx context.Context, _ control.Caller, req *control.SystemQueryReq, _ control.Report) (control.SystemQueryResp, error) {
	service, err := s.leader()
	if err != nil {
		return control.SystemQueryResp{}, err
	}
	view, err := service.Read(ctx)
	if err != nil {
		return control.SystemQueryResp{}, err
	}
	picked, err := pick(view, req.Selector)
	if err != nil {
		return control.SystemQueryResp{}, err
	}
	resp := control.SystemQueryResp{
		Members: []cluster.Member{}, Providers: s.providers(),
		SysSelfHealPolicy: selfHeal(view),
		AbsentRanks:       picked.absentRanks, AbsentHosts: picked.absentHosts,
		Leader: service.Leader(), GroupMapVersion: view.MapVersion(),
	}
	for _, m := range picked.members {
		if req.States == 0 || m.State&req.States != 0 {
			resp.Members = append(resp.Members, *m)
		}
	}
	return resp, nil
}

func (s *server) providers() []string {
	if s.cfg.Provider == "" {
		return []string{}
	}
	return []string{s.cfg.Provider}
}

// action is what is done to ranks of many hosts at once.
type action struct {
	name  string
	verb  string
	call  func(ctx context.Context, addr string, ranks *hostlist.RankSet) ([]control.RankResult, error)
	state cluster.MemberState // of a rank for which it went well
}

// actOnHosts does an action on all hosts of the members in parallel and records
// what came of it. A host that cannot be reached makes its ranks Unresponsive.
func (s *server) actOnHosts(ctx context.Context, service *cluster.Service, members []*cluster.Member, a action, report control.Report) ([]control.RankResult, error) {
	byHost := make(map[string][]*cluster.Member)
	for _, m := range members {
		byHost[m.Addr] = append(byHost[m.Addr], m)
	}
	var mu sync.Mutex
	var results []control.RankResult
	done := 0
	var wait sync.WaitGroup
	for addr, ranks := range byHost {
		wait.Go(func() {
			found := s.actOnHost(ctx, addr, ranks, a)
			mu.Lock()
			defer mu.Unlock()
			results = append(results, found...)
			done += len(ranks)
			report(control.Progress{Subject: addr, Text: a.verb + " ranks of " + addr, Done: done, Total: len(members)})
		})
	}
	wait.Wait()
	slices.SortFunc(results, func(x, y control.RankResult) int { return int(x.Rank) - int(y.Rank) })
	return results, s.record(ctx, service, results)
}

func (s *server) actOnHost(ctx context.Context, addr string, members []*cluster.Member, a action) []control.RankResult {
	set := hostlist.Ranks()
	for _, m := range members {
		set.Add(m.Rank)
	}
	found, err := a.call(ctx, addr, set)
	answered := make(map[hostlist.Rank]bool)
	for i := range found {
		found[i].Addr, found[i].Action = addr, a.name
		answered[found[i].Rank] = true
		if found[i].State == "" {
			found[i].State = strings.ToLower(a.state.String())
		}
	}
	for _, m := range members {
		if answered[m.Rank] {
			continue
		}
		result := control.RankResult{Rank: m.Rank, Addr: addr, Action: a.name, Errored: true,
			State: strings.ToLower(cluster.StateErrored.String()), Msg: fmt.Sprintf("host %s has no engine of rank %d", addr, m.Rank)}
		if err != nil {
			result.Msg = err.Error()
			switch fault.Of(err) {
			case fault.Unreachable, fault.Timeout:
				result.State = strings.ToLower(cluster.StateUnresponsive.String())
			}
		}
		found = append(found, result)
	}
	return found
}

// record writes the outcome of an action into the membership.
func (s *server) record(ctx context.Context, service *cluster.Service, results []control.RankResult) error {
	var updates []cluster.StateUpdate
	for _, r := range results {
		state, err := cluster.ParseMemberState(r.State)
		if err != nil {
			state = cluster.StateErrored
		}
		updates = append(updates, cluster.StateUpdate{Rank: r.Rank, State: state, Info: cluster.Reason(r.Msg)})
	}
	if len(updates) == 0 {
		return nil
	}
	_, err := service.Apply(ctx, "", cluster.UpdateMembers{Updates: updates})
	return err
}

// actable leaves out the ranks that the administrator excluded, or refuses when
// the selection names some.
func actable(picked selection, sel control.Selector, ignore bool) ([]*cluster.Member, error) {
	named := sel.Ranks != nil && sel.Ranks.Len() > 0 || sel.Hosts != nil && sel.Hosts.Len() > 0
	var members []*cluster.Member
	excluded := hostlist.Ranks()
	for _, m := range picked.members {
		if m.State == cluster.StateAdminExcluded {
			excluded.Add(m.Rank)
			continue
		}
		members = append(members, m)
	}
	if named && excluded.Len() > 0 && !ignore {
		return nil, fault.New(cluster.RankAdminExcluded, "cannot act on ranks %s: the administrator excluded them", excluded).
			WithHint("leave them out, or pass --ignore-admin-excluded")
	}
	if len(members) == 0 && picked.absentRanks.Len()+picked.absentHosts.Len() == 0 {
		return nil, fault.New(fault.NotFound, "cannot act: no rank is selected")
	}
	return members, nil
}

func (s *server) systemStop(ctx context.Context, _ control.Caller, req *control.SystemStopReq, report control.Report) (control.SystemRanksResp, error) {
	var resp control.SystemRanksResp
	service, members, picked, err := s.selectFor(ctx, req.Selector, req.IgnoreAdminExcluded)
	if err != nil {
		return resp, err
	}
	resp.AbsentRanks, resp.AbsentHosts = picked.absentRanks, picked.absentHosts
	if req.Full {
		prepared, err := s.actOnHosts(ctx, service, members, action{name: "prep shutdown", verb: "preparing", state: cluster.StateStopping,
			call: s.ranksCaller(control.PrepShutdown, false)}, report)
		if err != nil || slices.ContainsFunc(prepared, func(r control.RankResult) bool { return r.Errored }) {
			resp.Results = prepared
			return resp, err
		}
	}
	resp.Results, err = s.actOnHosts(ctx, service, members, action{name: "stop", verb: "stopping", state: cluster.StateStopped,
		call: s.ranksCaller(control.StopRanks, !req.Full)}, report)
	return resp, err
}

func (s *server) systemStart(ctx context.Context, _ control.Caller, req *control.SystemStartReq, report control.Report) (control.SystemRanksResp, error) {
	var resp control.SystemRanksResp
	service, members, picked, err := s.selectFor(ctx, req.Selector, req.IgnoreAdminExcluded)
	if err == nil {
		err = notErasing(service)
	}
	if err != nil {
		return resp, err
	}
	resp.AbsentRanks, resp.AbsentHosts = picked.absentRanks, picked.absentHosts
	resp.Results, err = s.actOnHosts(ctx, service, members, action{name: "start", verb: "starting", state: cluster.StateReady,
		call: s.ranksCaller(control.StartRanks, false)}, report)
	return resp, err
}

func (s *server) selectFor(ctx context.Context, sel control.Selector, ignore bool) (*cluster.Service, []*cluster.Member, selection, error) {
	service, err := s.leader()
	if err != nil {
		return nil, nil, selection{}, err
	}
	view, err := service.Read(ctx)
	if err != nil {
		return nil, nil, selection{}, err
	}
	picked, err := pick(view, sel)
	if err != nil {
		return nil, nil, picked, err
	}
	members, err := actable(picked, sel, ignore)
	return service, members, picked, err
}

func (s *server) ranksCaller(m control.Method[control.RanksReq, control.RanksResp], force bool) func(context.Context, string, *hostlist.RankSet) ([]control.RankResult, error) {
	return func(ctx context.Context, addr string, ranks *hostlist.RankSet) ([]control.RankResult, error) {
		resp, err := control.Call(ctx, s.client, addr, m, &control.RanksReq{Ranks: ranks, Force: force}, nil)
		return resp.Results, err
	}
}

// selfHealDefault is the policy of a system that nobody changed.
const selfHealDefault = "exclude;pool_exclude;pool_rebuild"

func selfHeal(view *cluster.View) string {
	if policy := view.Attribute(cluster.PropSelfHeal); policy != "" {
		return policy
	}
	return selfHealDefault
}

// systemProperties are the properties there are, sorted by key.
func (s *server) systemProperties(view *cluster.View) []control.SystemProperty {
	value := func(key, unset string) string {
		if v := view.Attribute(cluster.PropPrefix + key); v != "" {
			return v
		}
		return unset
	}
	return []control.SystemProperty{
		{Key: "daos_system", Value: s.cfg.Name, Description: "DAOS system name"},
		{Key: "daos_version", Value: cli.DAOSVersion, Description: "DAOS version"},
		{Key: "pool_scrub_mode", Value: value("pool_scrub_mode", "off"), Description: "Checksum scrubbing mode"},
		{Key: "pool_scrub_thresh", Value: value("pool_scrub_thresh", "0"), Description: "Checksum scrubbing threshold"},
		{Key: "self_heal", Value: value("self_heal", selfHealDefault), Description: "Self-heal policy for the system"},
	}
}

func (s *server) systemGetProp(ctx context.Context, _ control.Caller, req *control.SystemGetPropReq, _ control.Report) (control.SystemGetPropResp, error) {
	service, err := s.leader()
	if err != nil {
		return control.SystemGetPropResp{}, err
	}
	view, err := service.Read(ctx)
	if err != nil {
		return control.SystemGetPropResp{}, err
	}
	all := s.systemProperties(view)
	if len(req.Keys) == 0 {
		return control.SystemGetPropResp{Properties: all}, nil
	}
	var found []control.SystemProperty
	for _, key := range req.Keys {
		i := slices.IndexFunc(all, func(p control.SystemProperty) bool { return strings.EqualFold(p.Key, key) })
		if i < 0 {
			return control.SystemGetPropResp{}, fault.New(fault.NotFound, "cannot get system property %q: there is none", key)
		}
		found = append(found, all[i])
	}
	return control.SystemGetPropResp{Properties: found}, nil
}
