package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

func fileTier(roles Roles, paths ...string) Tier {
	return Tier{Class: File, SizeGiB: 4, Devices: paths, Roles: roles}
}

func TestNVMeConfOfRealSystems(t *testing.T) {
	files := captured(t, "daos_nvme")
	hotplug := ConfOptions{Hotplug: true}
	for name, l := range map[string]Layout{
		"daos_nvme-file.conf": {Host: "demo-1", Conf: hotplug, Bdevs: []Tier{fileTier(0, "/mnt/nvme/nvme0.img")}},
		"daos_nvme-md-on-ssd-file.conf": {Host: "demo-1", Conf: hotplug, Bdevs: []Tier{
			fileTier(RoleWAL|RoleMeta, "/mnt/nvme/nvme0.img"), fileTier(RoleData, "/mnt/nvme/nvme1.img")}},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			got, err := NVMeConf(l)
			is.NoErr(err)
			is.Equal(string(got), string(files[name])) // byte for byte
			devices, err := parseNVMeConf(got)
			is.NoErr(err)
			is.Equal(len(devices), len(l.Bdevs))
			for i, d := range devices {
				is.Equal(d.Device, l.Bdevs[i].Devices[0])
				is.Equal(d.Roles, l.Bdevs[i].Roles)
				is.Equal(d.Class, File)
			}
		})
	}
}

// everything has all that the writer can write.
func everything() Layout {
	return Layout{Host: "a_b", Bdevs: []Tier{
		{Class: NVMe, Devices: []string{"0000:81:00.0", "5d0505:01:00.0"}, Roles: RoleWAL},
		{Class: Kdev, Devices: []string{"/dev/sdx"}, Roles: RoleMeta},
		{Class: Malloc, Number: 2, SizeGiB: 1, Roles: RoleData},
	}, Conf: ConfOptions{Hotplug: true, BusBegin: 3, BusEnd: 255, VMD: true, AccelEngine: "spdk", AccelMove: true, AccelCRC: true,
		RPCSocket: "/run/spdk.sock", AutoFaulty: true, MaxIOErrs: 7, MaxCsumErrs: 9, SmallPool: 1, LargePool: 2}}
}

func TestNVMeConfEverything(t *testing.T) {
	is := is.New(t)
	data, err := NVMeConf(everything())
	is.NoErr(err)
	devices, err := parseNVMeConf(data)
	is.NoErr(err)
	is.Equal(devices, []Bdev{
		{Class: NVMe, Name: "Nvme_a_b_0_1_4", Roles: RoleWAL, Device: "0000:81:00.0"},
		{Class: NVMe, Name: "Nvme_a_b_1_1_4", Roles: RoleWAL, Device: "5d0505:01:00.0"},
		{Class: Kdev, Name: "AIO_a_b_0_2_2", Roles: RoleMeta, Device: "/dev/sdx"},
		{Class: Malloc, Name: "Malloc_a_b_0_3_1", Roles: RoleData, Blocks: 262144, BlockSize: 4096},
		{Class: Malloc, Name: "Malloc_a_b_1_3_1", Roles: RoleData, Blocks: 262144, BlockSize: 4096},
	})
	at := -1
	for _, method := range []string{"accel_props", "spdk_rpc_srv", "auto_faulty", "hotplug_busid_range", "bdev_set_options",
		"bdev_nvme_set_options", "bdev_nvme_attach_controller", "bdev_aio_create", "bdev_malloc_create", "bdev_nvme_set_hotplug",
		"vmd_enable", "iobuf_set_options"} {
		found := strings.Index(string(data), `"method": "`+method+`"`)
		is.True(found > at) // in this order
		at = found
	}
}

func TestNVMeConfOfNothing(t *testing.T) {
	is := is.New(t)
	for _, l := range []Layout{{}, {Bdevs: []Tier{{Class: NVMe}}}} {
		data, err := NVMeConf(l)
		is.NoErr(err)
		is.True(data == nil)
		data, err = NVMeConfINI(l)
		is.NoErr(err)
		is.True(data == nil)
		is.Equal(l.NVMeConfPath(), "")
		is.NoErr(WriteNVMeConf(l))
	}
	_, err := NVMeConf(Layout{Bdevs: []Tier{{Class: "tape"}}})
	is.Equal(fault.Of(err), codeBdevClass)
}

func TestNVMeConfINI(t *testing.T) {
	for want, l := range map[string]Layout{
		"[AIO]\n    AIO /a AIO_h_0 4096\n    AIO /b AIO_h_1 4096\n": {Host: "h", Bdevs: []Tier{fileTier(0, "/a", "/b")}},
		"[AIO]\n    AIO /dev/sdx AIO_h_0\n":                         {Host: "h", Bdevs: []Tier{{Class: Kdev, Devices: []string{"/dev/sdx"}}}},
		"[Malloc]\n    NumberOfLuns 2\n    LunSizeInMB 4000\n":      {Host: "h", Bdevs: []Tier{{Class: Malloc, Number: 2, SizeGiB: 4}}},
		"[Vmd]\n    Enable True\n\n[Nvme]\n    TransportID \"trtype:PCIe traddr:0000:81:00.0\" Nvme_h_0\n    RetryCount 4\n    TimeoutUsec 0\n" +
			"    ActionOnTimeout None\n    AdminPollRate 100000\n    HotplugEnable No\n    HotplugPollRate 0\n": {Host: "h", Conf: ConfOptions{VMD: true},
			Bdevs: []Tier{{Class: NVMe, Devices: []string{"0000:81:00.0"}}}},
	} {
		is := is.New(t)
		got, err := NVMeConfINI(l)
		is.NoErr(err)
		is.Equal(string(got), want)
	}
}

func TestCheckNVMeConf(t *testing.T) {
	is := is.New(t)
	l := Layout{Host: "h", SCM: Tier{Mount: t.TempDir()}, Bdevs: []Tier{fileTier(0, "/a")}}
	_, err := CheckNVMeConf(l.NVMeConfPath())
	is.True(errors.Is(err, fs.ErrNotExist))
	is.NoErr(WriteNVMeConf(l))
	devices, err := CheckNVMeConf(l.NVMeConfPath())
	is.NoErr(err)
	is.Equal(len(devices), 1)
	info, err := os.Stat(l.NVMeConfPath())
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), nvmeConfMode)
	good, err := os.ReadFile(l.NVMeConfPath())
	is.NoErr(err)
	for name, damage := range map[string]func(string) string{
		"older release":  func(s string) string { return strings.Replace(s, "transport_retry_count", "retry_count", 1) },
		"unknown method": func(s string) string { return strings.Replace(s, "bdev_aio_create", "bdev_uring_create", 1) },
		"wrong type":     func(s string) string { return strings.Replace(s, "65536", `"65536"`, 1) },
		"cut":            func(s string) string { return s[:len(s)/2] },
		"tail":           func(s string) string { return s + "{}" },
		"wrong place":    func(s string) string { return strings.Replace(s, `"subsystem": "bdev"`, `"subsystem": "vmd"`, 1) },
		"empty":          func(string) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			path := filepath.Join(t.TempDir(), "daos_nvme.conf")
			is.NoErr(os.WriteFile(path, []byte(damage(string(good))), 0o600))
			_, err := CheckNVMeConf(path)
			is.Equal(fault.Of(err), codeBadConf)
			is.True(fault.HintOf(err) != "")
		})
	}
}

func TestRolesOf(t *testing.T) {
	is := is.New(t)
	for name, want := range map[string]Roles{"AIO_demo-1_0_1_6": 6, "AIO_h_x_0_1_7": 7, "AIO_h_0_1_": 0, "AIO_h_0_1_9": 0, "": 0} {
		is.Equal(rolesOf(name), want) // name
	}
	is.Equal((RoleData | RoleWAL).String(), "data,wal")
	is.Equal(Roles(0).String(), "NA")
}

func FuzzParseNVMeConf(f *testing.F) {
	for _, data := range captured(f, "daos_nvme") {
		f.Add(data)
	}
	data, err := NVMeConf(everything())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		devices, err := parseNVMeConf(data)
		if err == nil && len(devices) > nvmeConfEntries {
			t.Fatalf("%d devices", len(devices))
		}
	})
}
