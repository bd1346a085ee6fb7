package server

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/commands/control"
	"daosbox/engine/drpc/pb"
	"daosbox/storage"

	"github.com/google/uuid"
	"github.com/matryer/is"
)

// askUsage asks host 0 for its usage.
func askUsage(t *testing.T, c *control.Client, addr string, memRatio float64) control.StorageScanResp {
	t.Helper()
	resp, err := control.Call(context.Background(), c, addr, control.StorageScan, &control.StorageScanReq{Usage: true, MemRatio: memRatio}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// fill creates a pool of the given bytes per rank and tier.
func fill(c *control.Client, label string, memRatio float64, tiers ...uint64) error {
	_, err := control.Ask(context.Background(), c, control.PoolCreate, &control.PoolCreateReq{
		UUID: uuid.NewString(), Label: label, User: "zoe@", Group: "lab@", NumSvcReps: 1, TierBytes: tiers, MemRatio: memRatio}, nil)
	return err
}

// TestUsage: what a server calls usable a pool can have, and no more.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		name     string
		edits    []string
		memRatio float64
		devices  int
	}{
		{name: "NVMe", devices: 2, edits: []string{"bdev_list: [", "bdev_list: [DIR/nvme2.img, "}},
		{name: "no NVMe", devices: 0, edits: []string{"  - class: file\n    bdev_list: [DIR/nvme.img]\n    bdev_size: 16\n", ""}},
		{name: "metadata with data", devices: 1, memRatio: 0.5, edits: []string{
			"    bdev_size: 16\n", "    bdev_size: 32\n    bdev_roles: [wal, meta, data]\n", "engines:", "control_metadata: {path: DIR/meta}\nengines:"}},
		{name: "metadata apart", devices: 2, memRatio: 1, edits: []string{
			"    bdev_size: 16\n", "    bdev_size: 32\n    bdev_roles: [wal, meta]\n  - class: file\n    bdev_list: [DIR/data.img]\n    bdev_size: 20\n    bdev_roles: [data]\n",
			"engines:", "control_metadata: {path: DIR/meta}\nengines:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			sys := newTestSystem(t, 1, 1)
			for i := range c.edits {
				c.edits[i] = strings.ReplaceAll(c.edits[i], "DIR", sys.hosts[0].dir)
			}
			sys.edit(0, c.edits...)
			sys.up()
			admin, addr := sys.client(pki.Admin), sys.hosts[0].addr
			resp := askUsage(t, admin, addr, c.memRatio)
			is.Equal(len(resp.Faults), 0)
			is.Equal(len(resp.Storage.SCMNamespaces), 1)
			mount := resp.Storage.SCMNamespaces[0].Mount
			is.Equal(mount.Rank, uint32(0))
			is.Equal(*mount, resp.Storage.SCMMountPoints[0])
			var data, cluster uint64
			devices := devicesOf(resp)
			is.Equal(len(devices), c.devices)
			for _, d := range devices {
				is.True(d.TotalBytes > 0 && d.AvailBytes == d.TotalBytes && d.UsableBytes > 0 && d.UsableBytes <= d.AvailBytes)
				is.Equal(d.Controller == nil, true) // it stands in its controller
				if cluster = d.ClusterSize; holds(&d, storage.RoleData) {
					data += d.UsableBytes
				}
			}
			ratio := c.memRatio
			if ratio == 0 {
				ratio = 1
			}
			meta := uint64(float64(mount.UsableBytes) / ratio)
			if c.devices > 0 { // beyond what the database of the pool's service may need
				is.Equal(fault.Of(fill(admin, "more", c.memRatio, meta, data+4*cluster)), fault.NoSpace)
			}
			is.NoErr(fill(admin, "most", c.memRatio, meta, data))

			resp = askUsage(t, admin, addr, c.memRatio)
			is.True(resp.Storage.SCMMountPoints[0].UsableBytes < mount.UsableBytes/100)
			for _, d := range devicesOf(resp) {
				is.True(d.UsableBytes < d.TotalBytes/2)
				is.True(d.AvailBytes < d.TotalBytes)
			}
		})
	}
}

func devicesOf(resp control.StorageScanResp) (devices []storage.SMDDevice) {
	for _, c := range resp.Storage.NVMeDevices {
		devices = append(devices, c.SMDDevices...)
	}
	return devices
}

// TestSmdQuery asks a host with a pool about its devices.
func TestSmdQuery(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	sys.up()
	admin, addr := sys.client(pki.Admin), sys.hosts[0].addr
	ask := func(req control.SmdQueryReq) control.SmdQueryResp {
		t.Helper()
		resp, err := control.Call(context.Background(), admin, addr, control.SmdQuery, &req, nil)
		is.NoErr(err)
		is.Equal(len(resp.Faults), 0)
		return resp
	}
	is.NoErr(fill(admin, "blue", 0, 1<<30, 4<<30))
	all := ask(control.SmdQueryReq{})
	is.Equal(len(all.Info.Devices), 1)
	is.Equal(len(all.Info.Pools), 1)
	d := all.Info.Devices[0]
	is.Equal(d.Rank, uint32(0))
	is.Equal(d.TargetIDs, []int32{0, 1})
	is.Equal(d.Roles, "NA")
	is.Equal(d.Controller.DevState, "NORMAL")
	is.Equal(d.Controller.LEDState, "NA")
	is.Equal(d.Controller.SocketID, int32(-1))
	is.True(d.Controller.HealthStats == nil)
	for id, parts := range all.Info.Pools {
		is.Equal(parts, []storage.SMDPool{{UUID: id, TargetIDs: []int32{0, 1}, Blobs: parts[0].Blobs, Rank: 0}})
		is.Equal(len(parts[0].Blobs), 2)
		is.Equal(len(ask(control.SmdQueryReq{OmitDevices: true, UUID: id}).Info.Pools), 1)
	}
	healthy := ask(control.SmdQueryReq{Health: true, OmitPools: true, UUID: d.UUID})
	is.True(healthy.Info.Devices[0].Controller.HealthStats.ClusterSize > 0)
	is.Equal(len(healthy.Info.Pools), 0)
	is.Equal(len(ask(control.SmdQueryReq{UUID: uuid.NewString()}).Info.Devices), 0)
	zero, seven := hostlist.Rank(0), hostlist.Rank(7)
	is.Equal(len(ask(control.SmdQueryReq{Rank: &zero}).Info.Devices), 1)
	is.Equal(len(ask(control.SmdQueryReq{Rank: &seven}).Info.Devices), 0)

	// Without its engine the host cannot tell, and says so.
	_, err := control.Ask(context.Background(), admin, control.SystemStop, &control.SystemStopReq{Force: true}, nil)
	is.NoErr(err)
	_, err = control.Call(context.Background(), admin, addr, control.SmdQuery, &control.SmdQueryReq{}, nil)
	is.Equal(fault.Of(err), fault.InstanceNotReady)
	is.True(fault.HintOf(err) != "")
	usage := askUsage(t, admin, addr, 0)
	is.Equal(len(usage.Faults), 1)
	is.Equal(usage.Faults[0].Data[control.DataRank], "0") // whose usage is missing
	is.Equal(len(devicesOf(usage)), 0)
	for _, ratio := range []float64{-1, 1.5, math.NaN(), 1e-300} {
		_, err = control.Call(context.Background(), admin, addr, control.StorageScan, &control.StorageScanReq{Usage: true, MemRatio: ratio}, nil)
		is.Equal(fault.Of(err), fault.Usage)
	}
}

// TestFormatTellsWhy: the codes of a format that was refused reach the caller.
func TestFormatTellsWhy(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 2, 1)
	sys.up()
	admin := sys.client(pki.Admin)
	resp, err := control.Call(context.Background(), admin, sys.hosts[1].addr, control.StorageFormat, &control.StorageFormatReq{}, nil)
	is.NoErr(err)
	is.Equal(resp.Failed, 1)
	is.Equal(len(resp.Faults), 1)
	is.Equal(resp.Faults[0].Code, fault.AlreadyFormatted)
	is.True(resp.Faults[0].Hint != "")
	is.Equal(resp.Faults[0].Data[control.DataRank], "1")
	is.Equal(resp.Storage.SCMMountPoints[0].Info, resp.Faults[0].What)
	_, err = control.Call(context.Background(), admin, sys.hosts[0].addr, control.StorageFormat, &control.StorageFormatReq{Force: true}, nil)
	is.Equal(fault.Of(err), fault.Refused) // the system's database is on it
}

// TestReplaceAfterForce: an engine that was given a new identity takes its former
// rank back when the format asks to replace it; one that has a rank keeps its data.
func TestReplaceAfterForce(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 2, 1)
	sys.up()
	admin, addr := sys.client(pki.Admin), sys.hosts[1].addr
	format := func(req control.StorageFormatReq) control.StorageFormatResp {
		resp, err := control.Call(context.Background(), admin, addr, control.StorageFormat, &req, nil)
		is.NoErr(err)
		return resp
	}
	stop := control.SystemStopReq{Force: true}
	stop.Ranks = hostlist.Ranks(1)
	_, err := control.Ask(context.Background(), admin, control.SystemStop, &stop, nil)
	is.NoErr(err)
	is.Equal(format(control.StorageFormatReq{Replace: true}).Faults[0].Code, fault.AlreadyFormatted)

	is.Equal(format(control.StorageFormatReq{Force: true}).Failed, 0)
	eventually(t, "the system refuses the new engine", func() error {
		if !strings.Contains(sys.hosts[1].log.String(), "engine did not start after its format") {
			return errors.New("no word of it")
		}
		return nil
	})
	is.Equal(format(control.StorageFormatReq{Replace: true}).Failed, 0)
	sys.waitJoined(2)
}

// TestSetUsable works sizes out by hand; a cluster is 1 byte.
func TestSetUsable(t *testing.T) {
	const wal, meta, data = storage.RoleWAL, storage.RoleMeta, storage.RoleData
	dev := func(roles storage.Roles, avail uint64, targets ...int32) storage.SMDDevice {
		d := storage.SMDDevice{RoleBits: uint32(roles), ClusterSize: 1, TotalBytes: avail, AvailBytes: avail, TargetIDs: targets}
		if roles != 0 {
			d.MetaSize, d.MetaWALSize, d.RDBSize, d.RDBWALSize = 10, 4, 3, 2
		}
		return d
	}
	system := dev(meta|wal, 100)
	system.HasSysXS = true
	coarse := dev(0, 100, 0, 1)
	coarse.ClusterSize = 16
	for _, c := range []struct {
		name    string
		devices []storage.SMDDevice
		targets int
		want    []uint64
	}{
		{"one", []storage.SMDDevice{dev(0, 101, 0, 1)}, 2, []uint64{100}},
		{"whole clusters", []storage.SMDDevice{coarse}, 2, []uint64{96}},
		{"the smaller decides", []storage.SMDDevice{dev(0, 100, 0, 2), dev(0, 60, 1, 3)}, 4, []uint64{60, 60}},
		{"more targets on one", []storage.SMDDevice{dev(0, 90, 0, 2, 4), dev(0, 90, 1, 3)}, 5, []uint64{90, 60}},
		{"one is full", []storage.SMDDevice{dev(0, 0, 0), dev(0, 60, 1)}, 2, []uint64{0, 0}},
		{"one serves none", []storage.SMDDevice{dev(0, 100), dev(0, 60, 0)}, 1, []uint64{0, 60}},
		{"unsized", []storage.SMDDevice{{TargetIDs: []int32{0}}}, 1, []uint64{0}},
		{"all roles", []storage.SMDDevice{dev(wal|meta|data, 105, 0, 1)}, 2, []uint64{72}}, // (105-5)/2 - 14 for each
		{"no room for data", []storage.SMDDevice{dev(wal|meta|data, 30, 0, 1)}, 2, []uint64{0}},
		{"data apart", []storage.SMDDevice{dev(wal|meta, 105), dev(data, 40, 0, 1)}, 2, []uint64{20, 40}},
		{"metadata short of room", []storage.SMDDevice{dev(wal|meta, 25), dev(data, 40, 0, 1)}, 2, []uint64{12, 40}},
		{"three kinds", []storage.SMDDevice{dev(wal, 8), dev(meta, 23), dev(data, 40, 0, 1)}, 2, []uint64{0, 20, 40}},
		{"metadata in turn", []storage.SMDDevice{dev(wal|meta, 100), dev(wal|meta, 100), dev(data, 40, 0, 1, 2)}, 3, []uint64{20, 10, 39}},
		{"the system's own place", []storage.SMDDevice{dev(wal|meta, 28), system}, 3, []uint64{20, 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			setUsable(c.devices, c.targets)
			var got []uint64
			for _, d := range c.devices {
				got = append(got, d.UsableBytes)
			}
			is.Equal(got, c.want)
		})
	}
}

// TestDeviceOfAnEngine: what engines say of devices, of their system streams and of
// their controllers.
func TestDeviceOfAnEngine(t *testing.T) {
	is := is.New(t)
	e := &localEngine{member: 3}
	full := &pb.NvmeController{PciAddr: "0000:81:00.0", Model: "M", Serial: "S", FwRev: "1", SocketId: 1, DevState: pb.NvmeDevState_NEW,
		LedState: pb.LedState_ON, PciDevType: "vmd", VendorId: "8086", Namespaces: []*pb.NvmeController_Namespace{{Id: 1, Size: 7}}}
	d := e.smdDevice(&pb.SmdDevice{Uuid: "u", TgtIds: []int32{1, 1024, 2}, RoleBits: 7, Ctrlr: full, CtrlrNamespaceId: 1})
	is.Equal(d.TargetIDs, []int32{1, 2})
	is.True(d.HasSysXS)
	is.Equal(d.Rank, uint32(3))
	is.Equal(d.Roles, "data,meta,wal")
	is.Equal(*d.Controller, storage.NVMeController{PCIAddr: "0000:81:00.0", Model: "M", Serial: "S", FWRev: "1", SocketID: 1, DevState: "NEW", LEDState: "ON",
		PCIType: "vmd", VendorID: "8086", Namespaces: []storage.NVMeNamespace{{ID: 1, Size: 7}}, SMDDevices: []storage.SMDDevice{}})
	two := byController([]storage.SMDDevice{d, e.smdDevice(&pb.SmdDevice{Uuid: "v", Ctrlr: full, CtrlrNamespaceId: 2}), e.smdDevice(&pb.SmdDevice{Uuid: "w"})})
	is.Equal(len(two), 2) // two devices of one controller, and one of none
	is.Equal(len(two[0].SMDDevices), 2)
	is.Equal(two[1].DevState, "NORMAL") // engines that name no controller tell no state
	is.Equal(narrow[uint8](300), uint8(255))
}
