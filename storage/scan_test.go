package storage

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// plant writes files ("path content") below dir.
func plant(t *testing.T, dir string, lines ...string) {
	t.Helper()
	is := is.New(t)
	for _, line := range lines {
		path, content, _ := strings.Cut(line, " ")
		path = filepath.Join(dir, path)
		is.NoErr(os.MkdirAll(filepath.Dir(path), 0o755))
		is.NoErr(os.WriteFile(path, []byte(content+"\n"), 0o644))
	}
}

func TestScanDevices(t *testing.T) {
	is := is.New(t)
	h, _ := fakeHost(t, 0)
	plant(t, h.Sys,
		"class/nvme/nvme0/model  SSD 9000  ", "class/nvme/nvme0/serial S1", "class/nvme/nvme0/firmware_rev F1",
		"class/nvme/nvme0/address 0000:81:00.0", "class/nvme/nvme0/transport pcie", "class/nvme/nvme0/state live",
		"class/nvme/nvme0/device/vendor 0x8086", "class/nvme/nvme0/device/class 0x010802", "class/nvme/nvme0/device/numa_node 1",
		"class/nvme/nvme0/nvme0n1/size 2048", "class/nvme/nvme0/nvme0c0n2/size 4096", "class/nvme/nvme0/nvme0c0n2/nsid 2",
		"class/nvme/nvme0/hwmon1/name nvme", "class/nvme/nvme0/ng0n1/dev 1:1",
		"class/nvme/nvme1/transport tcp",
		"class/nvme/nvme2/address 0000:82:00.0", "class/nvme/nvme2/state dead",
		"bus/nd/devices/nmem0/nfit/handle 0x1021", "bus/nd/devices/nmem0/nfit/phys_id 0x26", "bus/nd/devices/nmem0/nfit/id 8089-a2-1-2",
		"bus/nd/devices/namespace0.0/uuid "+testUUID, "bus/nd/devices/namespace0.0/numa_node 1", "bus/nd/devices/namespace0.0/block/pmem0/size 2097152",
		"bus/nd/devices/namespace0.1/uuid", "bus/nd/devices/region0/size 1",
		"devices/system/node/node0/meminfo Node 0 MemTotal: 100 kB\nNode 0 MemFree: 40 kB\nNode 0 MemUsed: 60 kB\nNode 0 HugePages_Total: 2",
		"devices/system/node/node10/meminfo Node 10 MemTotal: 1 kB", "devices/system/node/node2/meminfo Node 2 MemTotal: 2 kB")
	l := testLayout(t, Dir)
	_, err := h.Format(t.Context(), l, options(t, false), nil)
	is.NoErr(err)
	is.NoErr(os.WriteFile(filepath.Join(l.SCM.Mount, "used"), make([]byte, 1<<20), 0o600))

	s, err := h.Scan(t.Context(), []Layout{l, testLayout(t, RAM)})
	is.NoErr(err)
	is.Equal(len(s.NVMeDevices), 2) // not the one over TCP
	is.Equal(s.NVMeDevices[0], NVMeController{Model: "SSD 9000", Serial: "S1", FWRev: "F1", PCIAddr: "0000:81:00.0", VendorID: "0x8086",
		PCIType: "0x010802", SocketID: 1, DevState: "NORMAL", LEDState: "NA", SMDDevices: []SMDDevice{},
		Namespaces: []NVMeNamespace{{ID: 2, Size: 2 << 20}, {ID: 1, Size: 1 << 20}}})
	is.Equal(s.NVMeDevices[1].SocketID, int32(-1))
	is.Equal(s.NVMeDevices[1].DevState, "UNKNOWN")
	is.Equal(s.SCMModules, []SCMModule{{SocketID: 1, ControllerID: 0, ChannelID: 2, ChannelPosition: 1, PhysicalID: 0x26, UID: "8089-a2-1-2", HealthState: "Unknown"}})
	is.Equal(s.SCMNamespaces, []SCMNamespace{{UUID: testUUID, Name: "namespace0.0", BlockDevice: "pmem0", NumaNode: 1, Size: 1 << 30}})
	is.Equal(len(s.SCMMountPoints), 1) // what is not formatted is not there
	is.Equal(s.SCMMountPoints[0].TotalBytes, uint64(1<<30))
	is.True(s.SCMMountPoints[0].AvailBytes <= 1<<30-1<<20)
	is.True(s.SCMMountPoints[0].AvailBytes > 1<<30-2<<20)
	is.Equal(s.MemInfo.TotalKiB, uint64(64<<20))
	is.Equal(s.MemInfo.HugepageSizeKiB, uint64(2048))
	is.Equal(s.MemInfo.NUMANodeIndex, int32(-1))
	var nodes []int32
	for _, n := range s.MemInfo.NUMANodes {
		nodes = append(nodes, n.NUMANodeIndex)
	}
	is.Equal(nodes, []int32{0, 2, 10})
	is.Equal(s.MemInfo.NUMANodes[0].UsedKiB, uint64(60))
	is.Equal(s.MemInfo.NUMANodes[0].HugepagesTotal, uint64(2))
}

// The keys of 'storage scan' are there even where there is nothing, and no list
// is null.
func TestScanOfNothing(t *testing.T) {
	is := is.New(t)
	h, _ := fakeHost(t, 0)
	s, err := h.Scan(t.Context(), nil)
	is.NoErr(err)
	data, err := json.Marshal(s)
	is.NoErr(err)
	is.True(strings.HasPrefix(string(data), `{"nvme_devices":[],"scm_modules":[],"scm_namespaces":[],"scm_mount_points":[],"smd_info":null,"reboot_required":false,"mem_info":{"numa_node_index":-1,"hugepages_total":4,`))
	is.True(!strings.Contains(strings.Replace(string(data), `"smd_info":null`, "", 1), "null"))
	var empty HostStorage
	empty.NVMeDevices = []NVMeController{{}}
	empty.Normalize()
	data, err = json.Marshal(empty)
	is.NoErr(err)
	is.True(strings.Contains(string(data), `"health_stats":null,"namespaces":[],"smd_devices":[]`))
}

func TestScanThisHost(t *testing.T) {
	is := is.New(t)
	var h Host
	s, err := h.Scan(t.Context(), nil)
	is.NoErr(err)
	is.True(s.MemInfo.TotalKiB > 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = h.Scan(ctx, nil)
	is.Equal(fault.Of(err), fault.Canceled)
}

func TestScanWithoutProc(t *testing.T) {
	is := is.New(t)
	_, err := Host{Proc: t.TempDir()}.Scan(t.Context(), nil)
	is.Equal(fault.Of(err), fault.NotFound)
}
