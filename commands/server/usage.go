package server

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"daosbox/cluster/fault"
	"daosbox/commands/control"
	"daosbox/engine"
	"daosbox/engine/drpc/pb"
	"daosbox/storage"
)

// addUsage adds what the engines use: the SCM of each as a namespace with its
// mount, and each device of a running engine as a controller of its own with its
// sizes. Engines that cannot tell are among the faults of the answer.
func (s *server) addUsage(ctx context.Context, resp *control.StorageScanResp, memRatio float64) error {
	if memRatio == 0 {
		memRatio = 1
	}
	if !(memRatio >= leastMemRatio && memRatio <= 1) {
		return fault.New(fault.Usage, "cannot use memory ratio %v: it is not from %v to 1", memRatio, leastMemRatio)
	}
	addMounts(&resp.Storage)
	found := make([][]storage.NVMeController, len(s.engines))
	faults := make([][]*fault.Error, len(s.engines))
	var wait sync.WaitGroup
	for i, e := range s.engines {
		if len(e.layout.Bdevs) == 0 {
			continue
		}
		var scm uint64
		for _, m := range resp.Storage.SCMMountPoints {
			if m.Path == e.layout.SCM.Mount {
				scm = m.UsableBytes
			}
		}
		wait.Go(func() { found[i], faults[i] = e.usage(ctx, scm, memRatio) })
	}
	wait.Wait()
	resp.Storage.NVMeDevices = append(resp.Storage.NVMeDevices, slices.Concat(found...)...)
	resp.Faults = slices.Concat(faults...)
	return nil
}

// leastMemRatio is the least share of metadata in memory that a command line can
// ask for, a hundredth of a percent.
const leastMemRatio = 0.0001

// addMounts gives each mount point its namespace. Memory and directories have none
// of their own and get one by this name.
func addMounts(s *storage.HostStorage) {
	const noDevice = "ramdisk"
	for i := range s.SCMMountPoints {
		m := s.SCMMountPoints[i]
		on := slices.IndexFunc(s.SCMNamespaces, func(n storage.SCMNamespace) bool {
			return slices.ContainsFunc(m.DeviceList, func(device string) bool { return filepath.Base(device) == n.BlockDevice })
		})
		if on >= 0 {
			s.SCMNamespaces[on].Mount = &m
			continue
		}
		s.SCMNamespaces = append(s.SCMNamespaces, storage.SCMNamespace{BlockDevice: noDevice, Size: m.TotalBytes, Mount: &m})
	}
}

// usage is the engine's devices with their sizes. scm is what of its SCM pools may
// use, memRatio the share of metadata that lives there.
func (e *localEngine) usage(ctx context.Context, scm uint64, memRatio float64) ([]storage.NVMeController, []*fault.Error) {
	if state := e.inst.Status().State; state != engine.Ready {
		return nil, []*fault.Error{e.fault(fault.New(fault.InstanceNotReady, "cannot tell what is free on the devices of engine %d: it is %s", e.index, state).
			WithHint("start it with `dmg system start`, or see the server's log"))}
	}
	devices, err := e.smdDevices(ctx)
	if err != nil {
		return nil, []*fault.Error{e.fault(err)}
	}
	var faults []*fault.Error
	var meta, rdb uint64
	if slices.ContainsFunc(devices, func(d storage.SMDDevice) bool { return holds(&d, storage.RoleMeta) }) {
		meta, rdb = uint64(float64(scm/uint64(e.cfg.Targets))/memRatio), e.rdbSize()
	}
	for i := range devices {
		d := &devices[i]
		if !hasHealth(d.Controller.DevState) {
			continue
		}
		h, err := e.deviceHealth(ctx, &pb.BioHealthReq{DevUuid: d.UUID, MetaSize: meta, RdbSize: rdb})
		if err != nil {
			faults = append(faults, e.fault(err))
			continue
		}
		d.TotalBytes, d.AvailBytes, d.ClusterSize = h.GetTotalBytes(), h.GetAvailBytes(), h.GetClusterSize()
		d.MetaSize, d.MetaWALSize, d.RDBSize, d.RDBWALSize = meta, h.GetMetaWalSize(), rdb, h.GetRdbWalSize()
		if d.Controller.DevState != deviceNormal {
			d.AvailBytes = 0 // nothing may be put on it
		}
	}
	setUsable(devices, e.cfg.Targets)
	return byController(devices), faults
}

// byController turns devices with their controllers into controllers with their
// devices. What has no address stands for itself.
func byController(devices []storage.SMDDevice) []storage.NVMeController {
	var controllers []storage.NVMeController
	for _, d := range devices {
		c := *d.Controller
		d.Controller = nil
		i := slices.IndexFunc(controllers, func(known storage.NVMeController) bool { return c.PCIAddr != "" && known.PCIAddr == c.PCIAddr })
		if i < 0 {
			i, controllers = len(controllers), append(controllers, c)
		}
		controllers[i].SMDDevices = append(controllers[i].SMDDevices, d)
	}
	return controllers
}

// rdbSize is what the database of a pool's service takes of the SCM, which its
// replica on this engine mirrors on the SSDs.
func (e *localEngine) rdbSize() uint64 {
	const smallest = 128 // MiB, and the engine's own choice
	configured, _ := e.cfg.Env("DAOS_MD_CAP")
	n, err := strconv.ParseUint(configured, 10, 32)
	if err != nil || n < smallest {
		n = smallest
	}
	return n << 20
}

// holds reports whether a device has a role. Where metadata does not live on SSDs
// devices have no roles and all hold data.
func holds(d *storage.SMDDevice, role storage.Roles) bool {
	roles := storage.Roles(d.RoleBits)
	return roles&role != 0 || roles == 0 && role == storage.RoleData
}

// setUsable works out what pools can use of an engine's devices. An engine gives
// each of its targets the same and allocates whole clusters, so that the device
// with the least for a target decides; and where metadata lives on SSDS it takes
// its room, with its log, before data does.
func setUsable(devices []storage.SMDDevice, targets int) {
	shares := make([]uint64, len(devices)) // clusters for data of each target
	var least uint64
	known := false
	system := systemDevices(devices)
	for i := range devices {
		d := &devices[i]
		d.UsableBytes = 0
		on := targetsOn(devices, i, targets)
		if d.ClusterSize == 0 || on == 0 {
			continue
		}
		free := d.AvailBytes / d.ClusterSize
		clusters := func(bytes uint64) uint64 { return (bytes + d.ClusterSize - 1) / d.ClusterSize }
		var each, meta uint64 // clusters that metadata takes, for each target
		if holds(d, storage.RoleMeta) {
			meta = clusters(d.MetaSize)
			if system[storage.RoleMeta] == i {
				free -= min(free, clusters(d.RDBSize))
			}
		}
		if holds(d, storage.RoleWAL) {
			each = clusters(d.MetaWALSize)
			if system[storage.RoleWAL] == i {
				free -= min(free, clusters(d.RDBWALSize))
			}
		}
		share := free / on
		share -= min(share, each)
		if !holds(d, storage.RoleData) {
			d.UsableBytes = min(d.MetaSize, min(share, meta)*d.ClusterSize) * on
			continue
		}
		shares[i] = (share - min(share, meta)) * d.ClusterSize
		if !known || shares[i] < least {
			least, known = shares[i], true
		}
	}
	for i := range devices {
		if d := &devices[i]; shares[i] > 0 {
			d.UsableBytes = least / d.ClusterSize * d.ClusterSize * targetsOn(devices, i, targets)
		}
	}
}

// targetsOn is how many targets keep something on a device. Engines list those
// that keep data there; metadata alone is spread over its devices in turn.
func targetsOn(devices []storage.SMDDevice, index, targets int) uint64 {
	if d := &devices[index]; len(d.TargetIDs) > 0 || holds(d, storage.RoleData) {
		return uint64(len(d.TargetIDs))
	}
	before, all := 0, 0
	for i := range devices {
		if devices[i].RoleBits != devices[index].RoleBits {
			continue
		}
		if i < index {
			before++
		}
		all++
	}
	return uint64((targets + all - 1 - before) / all)
}

// systemDevices are where the engine keeps the metadata and the log of the service
// of pools: the device that says so, or else the first with the role.
func systemDevices(devices []storage.SMDDevice) map[storage.Roles]int {
	chosen := make(map[storage.Roles]int)
	for _, role := range []storage.Roles{storage.RoleMeta, storage.RoleWAL} {
		with := func(d storage.SMDDevice) bool { return holds(&d, role) }
		i := slices.IndexFunc(devices, func(d storage.SMDDevice) bool { return with(d) && d.HasSysXS })
		if i < 0 {
			i = slices.IndexFunc(devices, with)
		}
		chosen[role] = i
	}
	return chosen
}
