package server

import (
	"context"
	"strings"
	"sync"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// serveAdminister sets the handlers by which an administrator changes a running
// system.
func (s *server) serveAdminister() {
	control.Handle(s.mux, control.SystemExclude, s.systemExclude)
	control.Handle(s.mux, control.SystemDrain, s.systemDrain)
	control.Handle(s.mux, control.SystemCleanup, s.systemCleanup)
	control.Handle(s.mux, control.SystemRebuild, s.systemRebuild)
	control.Handle(s.mux, control.SystemVersion, s.systemVersion)
	s.serveErase()
	s.serveProperties()
	s.servePoolTargets()
}

// pickNamed resolves a selector that must name something.
func (s *server) pickNamed(ctx context.Context, sel control.Selector) (*cluster.Service, *cluster.View, selection, error) {
	service, err := s.leader()
	if err != nil {
		return nil, nil, selection{}, err
	}
	if !sel.Named() {
		return nil, nil, selection{}, fault.New(fault.Usage, "cannot act: no ranks or hosts specified").WithHint("use --ranks or --rank-hosts")
	}
	view, err := service.Read(ctx)
	if err != nil {
		return nil, nil, selection{}, err
	}
	picked, err := pick(view, sel)
	return service, view, picked, err
}

// systemExclude keeps ranks out of the system in the administrator's name, or ends
// that. The engines are told at once; those that are excluded end themselves.
func (s *server) systemExclude(ctx context.Context, _ control.Caller, req *control.SystemExcludeReq, _ control.Report) (control.SystemRanksResp, error) {
	resp := control.SystemRanksResp{Results: []control.RankResult{}}
	service, view, picked, err := s.pickNamed(ctx, req.Selector)
	if err != nil {
		return resp, err
	}
	resp.AbsentRanks, resp.AbsentHosts = picked.absentRanks, picked.absentHosts
	if len(picked.members) == 0 {
		return resp, nil
	}
	action := control.ActionExclude
	if req.Clear {
		action = control.ActionClearExclude
	}
	rows, err := service.AdminExclude(ctx, req.OpID, memberRanks(picked.members), req.Clear)
	if err != nil {
		return resp, err
	}
	for _, row := range rows {
		result := control.RankResult{Rank: row.Rank, Action: action, State: strings.ToLower(row.State.String())}
		if m := view.Member(row.Rank); m != nil {
			result.Addr = m.Addr
		}
		// A rank that is as it should be already has nothing to be told about.
		if row.State == cluster.StateUnknown {
			result.Errored, result.Msg = true, row.Why
		}
		resp.Results = append(resp.Results, result)
	}
	s.log.Info("administrator changed which ranks are excluded", "action", action, "ranks", hostlist.Ranks(memberRanks(picked.members)...))
	return resp, nil
}

func memberRanks(members []*cluster.Member) []hostlist.Rank {
	ranks := make([]hostlist.Rank, len(members))
	for i, m := range members {
		ranks[i] = m.Rank
	}
	return ranks
}

// eachPool does something with every pool that is Ready, some at a time, and
// returns what came of it in the order of their labels.
func eachPool[T any](view *cluster.View, do func(*cluster.PoolRecord) (T, bool)) []T {
	type outcome struct {
		value T
		ok    bool
	}
	pools := view.Pools()
	outcomes := make([]outcome, len(pools))
	slots := make(chan struct{}, listQueries)
	var wait sync.WaitGroup
	for i, pool := range pools {
		if pool.State != cluster.PoolReady {
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			outcomes[i].value, outcomes[i].ok = do(pool)
		})
	}
	wait.Wait()
	found := []T{}
	for _, o := range outcomes {
		if o.ok {
			found = append(found, o.value)
		}
	}
	return found
}

// poolID is what answers call a pool that the request did not name.
func poolID(pool *cluster.PoolRecord) string {
	if pool.Label != "" {
		return pool.Label
	}
	return pool.UUID
}

// systemDrain drains ranks in all pools that use them, or takes them back into
// those that do without them.
func (s *server) systemDrain(ctx context.Context, _ control.Caller, req *control.SystemDrainReq, report control.Report) (control.SystemDrainResp, error) {
	resp := control.SystemDrainResp{Responses: []control.PoolRanksResp{}}
	service, view, picked, err := s.pickNamed(ctx, req.Selector)
	if err != nil {
		return resp, err
	}
	resp.AbsentRanks, resp.AbsentHosts = picked.absentRanks, picked.absentHosts
	wanted := memberRanks(picked.members)
	if len(wanted) == 0 {
		return resp, nil
	}
	resp.Responses = eachPool(view, func(pool *cluster.PoolRecord) (control.PoolRanksResp, bool) {
		one := control.PoolRanksResp{ID: poolID(pool)}
		ranks, err := s.concerned(ctx, pool, wanted, req.Reint)
		if err == nil && ranks.Len() == 0 {
			return one, false
		}
		if err == nil {
			one.Results, err = s.drainPool(ctx, service, pool, ranks, req.Reint)
		}
		if err != nil {
			one.Results = failedRanks(ranks, wanted, err)
		}
		report(control.Progress{Subject: one.ID, Text: "moved targets of pool " + one.ID})
		return one, true
	})
	return resp, nil
}

func (s *server) drainPool(ctx context.Context, service *cluster.Service, pool *cluster.PoolRecord, ranks *hostlist.RankSet, reint bool) ([]control.PoolRankResult, error) {
	req := &control.PoolRanksReq{ID: pool.UUID, Ranks: ranks}
	if reint {
		return s.eachRank(ctx, service, pool, "reintegrate ranks of", req, s.reintRank)
	}
	return s.eachRank(ctx, service, pool, "drain ranks of", req, s.drainRank)
}

// concerned are those of the wanted ranks that a pool has: all for a drain, those
// not wholly in use for the way back.
func (s *server) concerned(ctx context.Context, pool *cluster.PoolRecord, wanted []hostlist.Rank, reint bool) (*hostlist.RankSet, error) {
	has, err := s.ranksOfPool(ctx, pool)
	if err != nil {
		return nil, err
	}
	ranks := hostlist.Ranks()
	for _, rank := range wanted {
		if has.disabled.Contains(rank) || !reint && has.enabled.Contains(rank) {
			ranks.Add(rank)
		}
	}
	return ranks, nil
}

// failedRanks is the outcome of a pool that could not be worked on at all; known is
// nil when it could not even tell its ranks.
func failedRanks(known *hostlist.RankSet, wanted []hostlist.Rank, err error) []control.PoolRankResult {
	ranks := wanted
	if known != nil {
		ranks = known.Slice()
	}
	results := make([]control.PoolRankResult, len(ranks))
	for i, rank := range ranks {
		results[i] = control.PoolRankResult{Rank: rank, Errored: true, Msg: err.Error()}
	}
	return results
}

// systemCleanup closes what processes of a machine left open in all pools.
func (s *server) systemCleanup(ctx context.Context, _ control.Caller, req *control.SystemCleanupReq, _ control.Report) (control.SystemCleanupResp, error) {
	resp := control.SystemCleanupResp{Results: []control.CleanupResult{}}
	service, err := s.leader()
	if err != nil {
		return resp, err
	}
	if req.Machine == "" {
		return resp, fault.New(fault.Usage, "cannot clean up: no machine is named")
	}
	view, err := service.Read(ctx)
	if err != nil {
		return resp, err
	}
	resp.Results = eachPool(view, func(pool *cluster.PoolRecord) (control.CleanupResult, bool) {
		answer := new(pb.PoolEvictResp)
		err := s.askPool(ctx, drpc.MethodPoolEvict, &pb.PoolEvictReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas), Machine: req.Machine}, answer)
		result := control.CleanupResult{PoolID: pool.UUID, Count: uint32(max(answer.GetCount(), 0))}
		if err != nil {
			result.Status, result.Msg = fault.StatusOf(err), err.Error()
			if result.Status == 0 {
				result.Status = int32(drpc.StatusMisc) // it did not come from an engine
			}
		}
		return result, true
	})
	return resp, nil
}

// systemRebuild starts or stops the rebuilds of all pools.
func (s *server) systemRebuild(ctx context.Context, _ control.Caller, req *control.SystemRebuildReq, _ control.Report) (control.SystemRebuildResp, error) {
	resp := control.SystemRebuildResp{Results: []control.PoolRebuildResult{}}
	service, err := s.leader()
	if err != nil {
		return resp, err
	}
	if req.OpCode != control.RebuildStart && req.OpCode != control.RebuildStop || req.OpCode == control.RebuildStart && req.Force {
		return resp, fault.New(fault.Usage, "cannot manage rebuilds: operation %d with force=%t is none", req.OpCode, req.Force)
	}
	view, err := service.Read(ctx)
	if err != nil {
		return resp, err
	}
	resp.Results = eachPool(view, func(pool *cluster.PoolRecord) (control.PoolRebuildResult, bool) {
		result := control.PoolRebuildResult{ID: poolID(pool), OpCode: req.OpCode}
		held, unlock, err := service.LockPool(ctx, pool.UUID, "manage the rebuild of")
		if err == nil {
			err = s.rebuild(held, pool, req.OpCode, req.Force)
			unlock()
		}
		if err != nil {
			result.Errored, result.Msg = true, err.Error()
		}
		return result, true
	})
	return resp, nil
}

// serverName is what the server calls itself in answers that scripts know.
const serverName = "DAOS Control Server"

// systemVersion is answered by any replica: one that is asked is one that runs, and
// all of a system are of one release but for the time of an upgrade.
func (s *server) systemVersion(context.Context, control.Caller, *control.SystemVersionReq, control.Report) (control.SystemVersionResp, error) {
	if _, err := s.leader(); err != nil {
		return control.SystemVersionResp{}, err
	}
	return control.SystemVersionResp{Name: serverName, Version: cli.Version, BuildInfo: "speaks DAOS " + cli.DAOSVersion}, nil
}
