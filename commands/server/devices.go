package server

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
	"daosbox/storage"

	"google.golang.org/protobuf/proto"
)

// smdQuery tells what the running engines say of their block devices and of the
// pools on them. Engines that do not run are left out, unless none does or the one
// that was asked for.
func (s *server) smdQuery(ctx context.Context, _ control.Caller, req *control.SmdQueryReq, _ control.Report) (control.SmdQueryResp, error) {
	resp := control.SmdQueryResp{Info: storage.SMDInfo{Devices: []storage.SMDDevice{}, Pools: make(map[string][]storage.SMDPool)}}
	var asked, running []*localEngine
	for _, e := range s.engines {
		if req.Rank != nil && e.rank() != *req.Rank {
			continue
		}
		asked = append(asked, e)
		if e.inst.Status().State == engine.Ready {
			running = append(running, e)
		}
	}
	if len(asked) > 0 && len(running) == 0 {
		return resp, fault.New(fault.InstanceNotReady, "cannot ask about block devices: no engine runs on this host").
			WithHint("see `dmg system query`, and start the ranks with `dmg system start`")
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, e := range running {
		wait.Go(func() {
			info, faults := e.smdInfo(ctx, req)
			mu.Lock()
			defer mu.Unlock()
			resp.Faults = append(resp.Faults, faults...)
			resp.Info.Devices = append(resp.Info.Devices, info.Devices...)
			for id, parts := range info.Pools {
				resp.Info.Pools[id] = append(resp.Info.Pools[id], parts...)
			}
		})
	}
	wait.Wait()
	sortInfo(&resp.Info)
	slices.SortFunc(resp.Faults, func(a, b *fault.Error) int { return cmp.Compare(a.What, b.What) })
	return resp, nil
}

// sortInfo makes the order independent of which engine answered first.
func sortInfo(info *storage.SMDInfo) {
	slices.SortFunc(info.Devices, func(a, b storage.SMDDevice) int {
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.UUID, b.UUID))
	})
	for parts := range maps.Values(info.Pools) {
		slices.SortFunc(parts, func(a, b storage.SMDPool) int { return cmp.Compare(a.Rank, b.Rank) })
	}
}

// smdInfo is one engine's part of the answer, as far as it could be told.
func (e *localEngine) smdInfo(ctx context.Context, req *control.SmdQueryReq) (info storage.SMDInfo, faults []*fault.Error) {
	if !req.OmitDevices {
		devices, err := e.smdDevices(ctx)
		if err != nil {
			faults = append(faults, e.fault(err))
		}
		for _, d := range devices {
			if req.UUID != "" && d.UUID != req.UUID {
				continue
			}
			if req.Health && hasHealth(d.Controller.DevState) {
				health, err := e.deviceHealth(ctx, &pb.BioHealthReq{DevUuid: d.UUID})
				if err != nil {
					faults = append(faults, e.fault(err))
				} else {
					d.Controller.HealthStats = healthOf(health)
				}
			}
			info.Devices = append(info.Devices, d)
		}
	}
	if !req.OmitPools {
		pools, err := e.smdPools(ctx)
		if err != nil {
			faults = append(faults, e.fault(err))
		}
		info.Pools = make(map[string][]storage.SMDPool)
		for _, p := range pools {
			if req.UUID == "" || p.UUID == req.UUID {
				info.Pools[p.UUID] = append(info.Pools[p.UUID], p)
			}
		}
	}
	return info, faults
}

// fault is err with the engine's rank, for the one who asked about ranks.
func (e *localEngine) fault(err error) *fault.Error {
	known, ok := fault.As(err)
	if !ok {
		known = fault.Wrap(fault.Unknown, err, "cannot ask engine %d", e.index)
	}
	told := *known
	told.Data = maps.Clone(told.Data)
	if rank := e.rank(); rank != hostlist.NilRank {
		told.WithData(control.DataRank, strconv.FormatUint(uint64(rank), 10))
	}
	return &told
}

// askDevices calls the engine; what follows "cannot" in the error.
func (e *localEngine) askDevices(ctx context.Context, m drpc.Method, req proto.Message, resp interface {
	proto.Message
	GetStatus() int32
}, what string) error {
	err := e.call(ctx, m, req, resp)
	if err == nil {
		err = drpc.StatusError(resp.GetStatus())
	}
	if err != nil {
		return fault.Wrap(fault.Of(err), err, "cannot %s of engine %d", what, e.index)
	}
	return nil
}

func (e *localEngine) smdDevices(ctx context.Context) ([]storage.SMDDevice, error) {
	resp := new(pb.SmdDevResp)
	if err := e.askDevices(ctx, drpc.MethodSmdListDevs, &pb.SmdDevReq{}, resp, "list the devices"); err != nil {
		return nil, err
	}
	devices := make([]storage.SMDDevice, len(resp.GetDevices()))
	for i, d := range resp.GetDevices() {
		devices[i] = e.smdDevice(d)
	}
	return devices, nil
}

func (e *localEngine) smdPools(ctx context.Context) ([]storage.SMDPool, error) {
	resp := new(pb.SmdPoolResp)
	if err := e.askDevices(ctx, drpc.MethodSmdListPools, &pb.SmdPoolReq{}, resp, "list the pools on the devices"); err != nil {
		return nil, err
	}
	pools := make([]storage.SMDPool, len(resp.GetPools()))
	for i, p := range resp.GetPools() {
		pools[i] = storage.SMDPool{UUID: p.GetUuid(), Rank: uint32(e.rank()),
			TargetIDs: append([]int32{}, p.GetTgtIds()...), Blobs: append([]uint64{}, p.GetBlobs()...)}
	}
	return pools, nil
}

func (e *localEngine) deviceHealth(ctx context.Context, req *pb.BioHealthReq) (*pb.BioHealthResp, error) {
	resp := new(pb.BioHealthResp)
	err := e.askDevices(ctx, drpc.MethodBioHealthQuery, req, resp, "tell the state of device "+req.GetDevUuid())
	return resp, err
}

// systemTarget stands for the engine's own stream among the targets of a device.
const systemTarget = 1024

// smdDevice is a device as an engine lists it. Image files and memory have no
// controller; what stands for it has only a state.
func (e *localEngine) smdDevice(d *pb.SmdDevice) storage.SMDDevice {
	roles := storage.Roles(d.GetRoleBits() & uint32(storage.RoleData|storage.RoleMeta|storage.RoleWAL))
	return storage.SMDDevice{
		UUID: d.GetUuid(), Rank: uint32(e.rank()), RoleBits: d.GetRoleBits(), Roles: roles.String(),
		TargetIDs:  slices.DeleteFunc(append([]int32{}, d.GetTgtIds()...), func(id int32) bool { return id == systemTarget }),
		HasSysXS:   slices.Contains(d.GetTgtIds(), systemTarget),
		TotalBytes: d.GetTotalBytes(), AvailBytes: d.GetAvailBytes(), UsableBytes: d.GetUsableBytes(), ClusterSize: d.GetClusterSize(),
		MetaSize: d.GetMetaSize(), MetaWALSize: d.GetMetaWalSize(), RDBSize: d.GetRdbSize(), RDBWALSize: d.GetRdbWalSize(),
		Controller: controllerOf(d.GetCtrlr()), NamespaceID: d.GetCtrlrNamespaceId(),
	}
}

func controllerOf(c *pb.NvmeController) *storage.NVMeController {
	state := c.GetDevState().String()
	if c == nil {
		state = deviceNormal // engines before 2.6 name no controller
	}
	out := &storage.NVMeController{
		PCIAddr: c.GetPciAddr(), Model: c.GetModel(), Serial: c.GetSerial(), FWRev: c.GetFwRev(), VendorID: c.GetVendorId(),
		PCIType: c.GetPciDevType(), SocketID: c.GetSocketId(), DevState: state, LEDState: c.GetLedState().String(),
		Namespaces: []storage.NVMeNamespace{}, SMDDevices: []storage.SMDDevice{},
	}
	for _, n := range c.GetNamespaces() {
		out.Namespaces = append(out.Namespaces, storage.NVMeNamespace{ID: n.GetId(), Size: n.GetSize()})
	}
	if out.PCIAddr == "" {
		out.SocketID = -1 // of no socket, rather than of the first
	}
	return out
}

// States of a device that matter here.
var (
	deviceNormal  = pb.NvmeDevState_NORMAL.String()
	deviceEvicted = pb.NvmeDevState_EVICTED.String()
)

// hasHealth reports whether an engine can tell more of a device in this state: one
// that it does not use, or that is gone, it cannot ask.
func hasHealth(state string) bool { return state == deviceNormal || state == deviceEvicted }

func healthOf(h *pb.BioHealthResp) *storage.NVMeHealth {
	return &storage.NVMeHealth{
		Timestamp: h.GetTimestamp(), WarnTempTime: h.GetWarnTempTime(), CritTempTime: h.GetCritTempTime(),
		CtrlBusyTime: h.GetCtrlBusyTime(), PowerCycles: h.GetPowerCycles(), PowerOnHours: h.GetPowerOnHours(),
		UnsafeShutdowns: h.GetUnsafeShutdowns(), MediaErrs: h.GetMediaErrs(), ErrLogEntries: h.GetErrLogEntries(),
		BioReadErrs: h.GetBioReadErrs(), BioWriteErrs: h.GetBioWriteErrs(), BioUnmapErrs: h.GetBioUnmapErrs(),
		ChecksumErrs: h.GetChecksumErrs(), Temperature: h.GetTemperature(), TempWarn: h.GetTempWarn(),
		AvailSpareWarn: h.GetAvailSpareWarn(), DevReliabilityWarn: h.GetDevReliabilityWarn(),
		ReadOnlyWarn: h.GetReadOnlyWarn(), VolatileMemWarn: h.GetVolatileMemWarn(),
		ProgramFailNorm: narrow[uint8](h.GetProgramFailCntNorm()), ProgramFailRaw: h.GetProgramFailCntRaw(),
		EraseFailNorm: narrow[uint8](h.GetEraseFailCntNorm()), EraseFailRaw: h.GetEraseFailCntRaw(),
		WearLevelingNorm: narrow[uint8](h.GetWearLevelingCntNorm()), WearLevelingMin: narrow[uint16](h.GetWearLevelingCntMin()),
		WearLevelingMax: narrow[uint16](h.GetWearLevelingCntMax()), WearLevelingAvg: narrow[uint16](h.GetWearLevelingCntAvg()),
		EndToEndErrRaw: h.GetEndtoendErrCntRaw(), CRCErrRaw: h.GetCrcErrCntRaw(), MediaWearRaw: h.GetMediaWearRaw(),
		HostReadsRaw: h.GetHostReadsRaw(), WorkloadTimerRaw: h.GetWorkloadTimerRaw(),
		ThermalThrottleStatus: narrow[uint8](h.GetThermalThrottleStatus()), ThermalThrottleEvents: h.GetThermalThrottleEventCnt(),
		RetryBufferOverflow: h.GetRetryBufferOverflowCnt(), PLLLockLoss: h.GetPllLockLossCnt(),
		NANDBytesWritten: h.GetNandBytesWritten(), HostBytesWritten: h.GetHostBytesWritten(),
		ClusterSize: h.GetClusterSize(), MetaWALSize: h.GetMetaWalSize(), RDBWALSize: h.GetRdbWalSize(),
		LinkPortID: h.GetLinkPortId(), LinkMaxSpeed: h.GetLinkMaxSpeed(), LinkMaxWidth: h.GetLinkMaxWidth(),
		LinkNegSpeed: h.GetLinkNegSpeed(), LinkNegWidth: h.GetLinkNegWidth(),
	}
}

// narrow fits a number that the device has in fewer bits.
func narrow[T uint8 | uint16](n uint32) T { return T(min(n, uint32(^T(0)))) }
