package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/commands/fabric"
	"daosbox/engine"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
	"daosbox/storage"
)

// serveHost sets the handlers of the methods that a server answers for itself.
func (s *server) serveHost() {
	control.Handle(s.mux, control.StorageScan, s.storageScan)
	control.Handle(s.mux, control.StorageFormat, s.storageFormat)
	control.Handle(s.mux, control.SmdQuery, s.smdQuery)
	control.Handle(s.mux, control.NetworkScan, s.networkScan)
	control.Handle(s.mux, control.SetLogMasks, s.setLogMasks)
	control.Handle(s.mux, control.PrepShutdown, s.prepShutdown)
	control.Handle(s.mux, control.StopRanks, s.stopRanks)
	control.Handle(s.mux, control.StartRanks, s.startRanks)
}

func (s *server) layouts() []storage.Layout {
	all := make([]storage.Layout, len(s.engines))
	for i, e := range s.engines {
		all[i] = e.layout
	}
	return all
}

func (s *server) storageScan(ctx context.Context, _ control.Caller, req *control.StorageScanReq, _ control.Report) (control.StorageScanResp, error) {
	found, err := s.host.Scan(ctx, s.layouts())
	if err != nil {
		return control.StorageScanResp{}, err
	}
	for i := range found.SCMMountPoints {
		for _, e := range s.engines {
			if e.layout.SCM.Mount == found.SCMMountPoints[i].Path {
				found.SCMMountPoints[i].Rank = uint32(e.rank())
			}
		}
	}
	resp := control.StorageScanResp{Storage: found}
	if req.Usage {
		if err := s.addUsage(ctx, &resp, req.MemRatio); err != nil {
			return control.StorageScanResp{}, err
		}
	}
	resp.Storage.Normalize()
	return resp, nil
}

// storageFormat formats the engines of this host in parallel and lets them start.
func (s *server) storageFormat(ctx context.Context, _ control.Caller, req *control.StorageFormatReq, report control.Report) (control.StorageFormatResp, error) {
	var resp control.StorageFormatResp
	if len(s.engines) == 0 {
		return resp, fault.New(fault.Config, "cannot format: this server has no engine configured").WithHint("add engines to its configuration")
	}
	if req.Force && req.Replace {
		return resp, fault.New(fault.Usage, "cannot format with force and replace at once")
	}
	if s.replica() != nil && req.Force {
		return resp, fault.New(fault.Refused, "cannot format %s: its replica of the management service is up and lives on this storage", s.self).
			WithHint("stop daos_server on this host and remove %s to give the system's database up", s.engines[0].layout.RaftDir())
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, e := range s.engines {
		wait.Go(func() {
			result, err := e.reformat(ctx, req, func(step storage.Step) {
				report(control.Progress{Subject: s.self, Text: step.String(), Done: step.Number, Total: step.Total})
			})
			mu.Lock()
			defer mu.Unlock()
			resp.Storage.SCMMountPoints = append(resp.Storage.SCMMountPoints, result.SCM)
			resp.Storage.NVMeDevices = append(resp.Storage.NVMeDevices, result.Bdevs...)
			if err != nil {
				resp.Failed++
				resp.Faults = append(resp.Faults, e.fault(err))
				s.log.Error("cannot format", "engine", e.index, "error", err)
			} else {
				s.log.Info("formatted", "engine", e.index, "scm", result.SCM.Path)
			}
		})
	}
	wait.Wait()
	slices.SortFunc(resp.Storage.SCMMountPoints, func(a, b storage.MountPoint) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(resp.Faults, func(a, b *fault.Error) int { return strings.Compare(a.What, b.What) })
	resp.Storage.Normalize()
	return resp, nil
}

// reformat formats one engine on request and lets it start. An engine that runs is
// stopped first, with force only.
func (e *localEngine) reformat(ctx context.Context, req *control.StorageFormatReq, progress func(storage.Step)) (storage.FormatResult, error) {
	if status := e.inst.Status(); !status.State.Idle() {
		if !req.Force {
			err := fault.New(fault.AlreadyFormatted, "cannot format engine %d: it is %s on formatted storage", e.index, status.State).
				WithHint("repeat with --force to stop it and give its data up")
			return storage.FormatResult{SCM: storage.MountPoint{Path: e.layout.SCM.Mount, Info: err.Error()}}, err
		}
		if err := e.inst.Stop(ctx, engine.Force); err != nil {
			return storage.FormatResult{SCM: storage.MountPoint{Path: e.layout.SCM.Mount, Info: err.Error()}}, err
		}
	}
	if err := e.mayFormat(); err != nil {
		return storage.FormatResult{SCM: storage.MountPoint{Path: e.layout.SCM.Mount, Info: err.Error()}}, err
	}
	force := req.Force || req.Replace && e.neverJoined() || e.erased()
	result, err := e.formatResult(ctx, storage.FormatOptions{Force: force}, progress)
	if err != nil {
		return result, err
	}
	e.mu.Lock()
	e.replace = req.Replace
	e.mu.Unlock()
	if e.inst.Status().State == engine.AwaitFormat {
		e.inst.Formatted()
		return result, nil
	}
	e.srv.spawn(func(ctx context.Context) {
		if err := e.inst.Start(ctx); err != nil && ctx.Err() == nil {
			e.srv.log.Error("engine did not start after its format", "engine", e.index, "error", err, "hint", fault.HintOf(err))
		}
	})
	return result, nil
}

// neverJoined reports whether the engine's storage was formatted but never got a
// rank, so that it holds nothing: the system refuses a new engine at the place of a
// rank that it knows, until a format asks to replace that.
func (e *localEngine) neverJoined() bool {
	superblock, err := storage.ReadSuperblock(e.layout.SuperblockPath())
	return err == nil && !superblock.ValidRank
}

func (s *server) networkScan(_ context.Context, _ control.Caller, req *control.NetworkScanReq, _ control.Report) (control.NetworkScanResp, error) {
	provider := req.Provider
	if provider == "" {
		provider = s.cfg.Provider
	}
	found, err := fabric.Scan("", provider)
	if err != nil {
		return control.NetworkScanResp{}, err
	}
	return control.NetworkScanResp{Fabric: found}, nil
}

// setLogMasks changes the log masks of the engines that run. What the request
// leaves out comes from the configuration.
func (s *server) setLogMasks(ctx context.Context, _ control.Caller, req *control.SetLogMasksReq, _ control.Report) (control.Empty, error) {
	called := 0
	var failures []error
	for _, e := range s.engines {
		if e.inst.Status().State != engine.Ready {
			continue
		}
		called++
		if err := e.setLogMasks(ctx, req); err != nil {
			failures = append(failures, err)
		}
	}
	if called == 0 {
		return control.Empty{}, fault.New(fault.InstanceNotReady, "cannot set log masks: no engine runs on this host")
	}
	return control.Empty{}, errors.Join(failures...)
}

func (e *localEngine) setLogMasks(ctx context.Context, req *control.SetLogMasksReq) error {
	given := func(value *string, key string) string {
		if value != nil {
			return *value
		}
		configured, _ := e.cfg.Env(key)
		return configured
	}
	masks := e.cfg.LogMask
	if req.Masks != nil {
		masks = *req.Masks
	}
	if masks == "" {
		masks = "ERR" // the engine's own default
	}
	merged := masks
	if subsystems := given(req.Subsystems, "DD_SUBSYS"); subsystems != "" {
		var err error
		if merged, err = engine.MergeLogMask(masks, subsystems); err != nil {
			return err
		}
	}
	resp := new(pb.SetLogMasksResp)
	err := e.call(ctx, drpc.MethodSetLogMasks, &pb.SetLogMasksReq{Sys: e.srv.cfg.Name, Masks: merged, Streams: given(req.Streams, "DD_MASK")}, resp)
	if err == nil {
		err = drpc.StatusError(resp.GetStatus())
	}
	if err != nil {
		return fault.Wrap(fault.Engine, err, "cannot set the log masks of engine %d", e.index)
	}
	return nil
}

// onRanks does something with each local engine of the wanted ranks in parallel.
func (s *server) onRanks(ranks *hostlist.RankSet, done cluster.MemberState, do func(*localEngine) error) control.RanksResp {
	resp := control.RanksResp{Results: []control.RankResult{}}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, e := range s.engines {
		rank := e.rank()
		if rank == hostlist.NilRank || ranks == nil || !ranks.Contains(rank) {
			continue
		}
		wait.Go(func() {
			result := control.RankResult{Rank: rank, State: strings.ToLower(done.String())}
			if err := do(e); err != nil {
				result.Errored, result.Msg = true, err.Error()
				result.State = strings.ToLower(cluster.StateErrored.String())
			}
			mu.Lock()
			defer mu.Unlock()
			resp.Results = append(resp.Results, result)
		})
	}
	wait.Wait()
	return resp
}

func (s *server) prepShutdown(ctx context.Context, _ control.Caller, req *control.RanksReq, _ control.Report) (control.RanksResp, error) {
	return s.onRanks(req.Ranks, cluster.StateStopping, func(e *localEngine) error {
		resp := new(pb.DaosResp)
		err := e.call(ctx, drpc.MethodPrepShutdown, nil, resp)
		if notServed(err) {
			return nil // stopped already
		}
		return errors.Join(err, drpc.StatusError(resp.GetStatus()))
	}), nil
}

func (s *server) stopRanks(ctx context.Context, _ control.Caller, req *control.RanksReq, _ control.Report) (control.RanksResp, error) {
	mode := engine.Ask
	if req.Force {
		mode = engine.Force
	}
	return s.onRanks(req.Ranks, cluster.StateStopped, func(e *localEngine) error {
		s.restart.forget(e.rank())
		return e.inst.Stop(ctx, mode)
	}), nil
}

func (s *server) startRanks(ctx context.Context, _ control.Caller, req *control.RanksReq, _ control.Report) (control.RanksResp, error) {
	return s.onRanks(req.Ranks, cluster.StateReady, func(e *localEngine) error {
		s.restart.forget(e.rank())
		return e.inst.Start(ctx)
	}), nil
}
