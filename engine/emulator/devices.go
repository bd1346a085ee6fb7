package emulator

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// firstBlob is the first blob id that a blobstore gives.
const firstBlob = 1 << 32

// findDevice finds a device by its UUID; an empty one is refused as the engine
// refuses the null UUID.
func (e *engine) findDevice(id string) (*device, error) {
	if id == "" {
		return nil, drpc.StatusInval
	}
	for _, d := range e.store.ledger.devices {
		if d.UUID == id {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%w: device %s", drpc.StatusNonexist, id)
}

// targetsOf lists the targets that keep data on a device.
func (e *engine) targetsOf(d *device) (ids []int32) {
	data := e.store.ledger.role(roleData)
	for t := range e.opts.targets {
		if len(data) > 0 && data[t%len(data)] == d {
			ids = append(ids, int32(t))
		}
	}
	return ids
}

func (e *engine) listDevices(_ context.Context, _ *pb.SmdDevReq) (proto.Message, error) {
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	out := new(pb.SmdDevResp)
	for _, d := range e.store.ledger.devices {
		state := pb.NvmeDevState_NORMAL
		if d.Faulty {
			state = pb.NvmeDevState_EVICTED
		}
		out.Devices = append(out.Devices, &pb.SmdDevice{
			Uuid: d.UUID, TgtIds: e.targetsOf(d), RoleBits: uint32(d.roles), Ctrlr: &pb.NvmeController{DevState: state},
		})
	}
	return out, nil
}

func (e *engine) listDevicePools(_ context.Context, _ *pb.SmdPoolReq) (proto.Message, error) {
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	out := new(pb.SmdPoolResp)
	for _, held := range e.store.shards {
		if held.NVMe == 0 {
			continue
		}
		pool := &pb.SmdPoolResp_Pool{Uuid: held.UUID}
		for t := range held.Targets {
			pool.TgtIds = append(pool.TgtIds, int32(t))
			pool.Blobs = append(pool.Blobs, firstBlob+uint64(t))
		}
		out.Pools = append(out.Pools, pool)
	}
	slices.SortFunc(out.Pools, func(a, b *pb.SmdPoolResp_Pool) int { return slices.Compare([]byte(a.Uuid), []byte(b.Uuid)) })
	return out, nil
}

func (e *engine) deviceHealth(_ context.Context, req *pb.BioHealthReq) (proto.Message, error) {
	d, err := e.findDevice(req.GetDevUuid())
	if err != nil {
		return nil, err
	}
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	out := &pb.BioHealthResp{DevUuid: d.UUID, TotalBytes: d.total(), ClusterSize: d.cluster}
	out.AvailBytes = out.TotalBytes - min(e.store.nvmeUsedLocked()[d.UUID], out.TotalBytes)
	if req.GetMetaSize() != 0 {
		out.MetaWalSize = walSize(req.GetMetaSize())
	}
	if req.GetRdbSize() != 0 {
		out.RdbWalSize = walSize(req.GetRdbSize())
	}
	return out, nil
}

// setFaulty marks a device faulty and takes its targets out of the pools.
func (e *engine) setFaulty(ctx context.Context, req *pb.SetFaultyReq) (proto.Message, error) {
	d, err := e.findDevice(req.GetUuid())
	if err != nil {
		return nil, err
	}
	if err := e.markDevice(d, true); err != nil {
		return nil, err
	}
	e.tellDevice(ctx, "device_set_faulty", fmt.Sprintf("Device: %.8s set faulty", d.UUID), true)
	e.background(func(ctx context.Context) { e.excludeDevice(ctx, d) })
	return &pb.DevManageResp{Device: &pb.SmdDevice{Uuid: d.UUID}}, nil
}

func (e *engine) markDevice(d *device, faulty bool) error {
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	d.Faulty = faulty
	return e.store.saveStateLocked()
}

// excludeDevice asks the leader of each pool on a device to exclude its targets.
// Who leads is asked of the server, since not every rank has a replica.
func (e *engine) excludeDevice(ctx context.Context, d *device) {
	e.store.mu.Lock()
	var ids []string
	for id, held := range e.store.shards {
		if held.Takes.NVMe[d.UUID] != 0 {
			ids = append(ids, id)
		}
	}
	e.store.mu.Unlock()
	self, _ := e.group.self()
	var targets []uint32
	for _, t := range e.targetsOf(d) {
		targets = append(targets, uint32(t))
	}
	for _, id := range ids {
		replicas, err := e.poolReplicas(ctx, id)
		if err == nil {
			_, err = e.callPool(ctx, drpc.MethodPoolExclude, &pb.PoolExcludeReq{
				Sys: e.opts.group, Id: id, Rank: self, TargetIdx: targets, SvcRanks: replicas,
			})
		}
		if err != nil {
			e.log.Error("cannot exclude targets of faulty device", "pool", id, "device", d.UUID, "err", err)
		}
	}
}

// replaceDevice takes a faulty device back, or accepts another for it. The targets
// return to their pools by reintegration.
func (e *engine) replaceDevice(ctx context.Context, req *pb.DevReplaceReq) (proto.Message, error) {
	out := &pb.DevManageResp{Device: &pb.SmdDevice{Uuid: req.GetNewDevUuid()}}
	old, err := e.findDevice(req.GetOldDevUuid())
	if err != nil {
		return out, err
	}
	next, err := e.findDevice(req.GetNewDevUuid())
	switch {
	case err != nil:
		return out, err
	case !old.Faulty:
		err = fmt.Errorf("%w: device %s is not faulty", drpc.StatusInval, old.UUID)
	case next != old:
		err = fmt.Errorf("%w: device %s is in use", drpc.StatusBusy, next.UUID)
	default:
		err = e.markDevice(old, false)
	}
	text := fmt.Sprintf("Replaced device: %.8s with device: %.8s", old.UUID, next.UUID)
	if err != nil {
		text += fmt.Sprintf(" failed: %d", statusOf(err))
	}
	e.tellDevice(ctx, "device_replace", text, err == nil)
	return out, err
}

// manageLED finds no controller: files and memory have no LED.
func (e *engine) manageLED(_ context.Context, req *pb.LedManageReq) (proto.Message, error) {
	out := &pb.DevManageResp{Device: &pb.SmdDevice{Ctrlr: &pb.NvmeController{PciAddr: req.GetIds()}}}
	if req.GetIds() == "" {
		return out, drpc.StatusInval
	}
	return out, drpc.StatusNonexist
}
