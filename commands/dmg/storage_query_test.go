package dmg

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/matryer/is"
)

const someUUID = "6f450a68-8c7d-4da9-8900-02691650f6a2"

// smdSite has devices on servers 1 and 2; 3 cannot tell all, 4 nothing, 5 has none.
func smdSite(t *testing.T) (*site, chan control.SmdQueryReq) {
	reqs := make(chan control.SmdQueryReq, 16)
	return newSite(t, false, 5, 5, func(i int, m *control.Mux) {
		control.Handle(m, control.SmdQuery, func(_ context.Context, _ control.Caller, req *control.SmdQueryReq, _ control.Report) (resp control.SmdQueryResp, err error) {
			reqs <- *req
			if i == 4 {
				return resp, fault.New(fault.InstanceNotReady, "cannot ask about block devices: no engine runs on this host").WithHint("start it")
			}
			if i == 5 {
				return resp, nil
			}
			if i == 3 {
				resp.Faults = []*fault.Error{fault.New(fault.Engine, "cannot tell the state of device x of engine 1: DER_NVME_IO(-2042)").WithStatus(-2042)}
			}
			rank := uint32(i)
			if !req.OmitDevices {
				resp.Info.Devices = []storage.SMDDevice{
					{UUID: fmt.Sprint("dev-a", i), Rank: rank, Roles: "NA", TargetIDs: []int32{0, 1}, Controller: &storage.NVMeController{DevState: "NORMAL", LEDState: "NA", SocketID: -1}},
					{UUID: fmt.Sprint("dev-b", i), Rank: rank, Roles: "data,meta,wal", RoleBits: 7, TargetIDs: []int32{2}, HasSysXS: true, NamespaceID: 1,
						Controller: &storage.NVMeController{PCIAddr: "0000:81:00.0", DevState: "EVICTED", LEDState: "ON"}},
				}
				if req.Health {
					resp.Info.Devices[0].Controller.HealthStats = &storage.NVMeHealth{Temperature: 300, MediaErrs: 2}
				}
			}
			if !req.OmitPools {
				resp.Info.Pools = map[string][]storage.SMDPool{
					someUUID: {{UUID: someUUID, Rank: rank, TargetIDs: []int32{0, 1}, Blobs: []uint64{4294967296, 4294967297}}},
				}
			}
			return resp, nil
		})
	}), reqs
}

func TestListDevices(t *testing.T) {
	is := is.New(t)
	s, reqs := smdSite(t)
	golden(t, "storage_query_list_devices", s.run("storage", "query", "list-devices"))
	golden(t, "storage_query_list_devices_health", s.run("storage", "query", "list-devices", "-b", "-l", s.list(1)))
	golden(t, "storage_query_list_devices_evicted", s.run("storage", "query", "list-devices", "-e", "-l", s.list(1, 5)))
	golden(t, "storage_query_list_pools", s.run("storage", "query", "list-pools"))
	golden(t, "storage_query_list_pools_verbose", s.run("storage", "query", "list-pools", "--verbose", "-l", s.list(1, 5)))
	for len(reqs) > 0 {
		<-reqs
	}
	s.run("storage", "query", "list-devices", "-r", "3", "-u", strings.ToUpper(someUUID), "--health", "-l", s.list(1))
	req := <-reqs
	is.Equal(uint32(*req.Rank), uint32(3))
	is.Equal(req.UUID, someUUID)
	is.True(req.Health && req.OmitPools && !req.OmitDevices)
	s.run("storage", "query", "list-pools", "-l", s.list(1))
	req = <-reqs
	is.True(req.Rank == nil && !req.Health && !req.OmitPools && req.OmitDevices)

	for _, line := range []string{"list-devices -u x", "list-pools -u x", "list-devices -r x", "list-devices -r 4294967295", "list-devices extra", "bogus", ""} {
		r := s.run(append([]string{"storage", "query"}, strings.Fields(line)...)...)
		is.Equal(r.exit, cli.Usage)
		is.True(strings.Contains(r.stderr, "HINT: dmg: "))
	}
}

func TestListDevicesJSON(t *testing.T) {
	is := is.New(t)
	s, _ := smdSite(t)
	r := s.run("storage", "query", "list-devices", "-j", "-b")
	is.Equal(r.exit, cli.Partial)
	response, text, _ := r.body(t)
	is.Equal(text, "2 host(s) had errors")
	is.Equal(keys(response), "host_errors host_storage_map")
	is.Equal(len(response["host_storage_map"].(map[string]any)), 4)
	is.Equal(response["host_errors"].(map[string]any)["cannot tell the state of device x of engine 1: DER_NVME_IO(-2042)"], "127.0.7.3:PORT")

	response, _, _ = s.run("storage", "query", "list-devices", "-j", "-b", "-l", s.list(1)).body(t)
	g := sole(t, response["host_storage_map"])
	is.Equal(keys(g), "hosts storage")
	info := g["storage"].(map[string]any)["smd_info"].(map[string]any)
	is.Equal(keys(info), "devices pools")
	is.Equal(info["pools"], map[string]any{})
	device := info["devices"].([]any)[0].(map[string]any)
	is.Equal(keys(device), "avail_bytes cluster_size ctrlr ctrlr_namespace_id has_sys_xs meta_size meta_wal_size rank rdb_size rdb_wal_size role_bits roles tgt_ids total_bytes usable_bytes uuid")
	is.Equal(device["ctrlr"].(map[string]any)["health_stats"].(map[string]any)["media_errs"], 2.0)
	is.Equal(nulls("", g), []string{".storage.mem_info", ".storage.smd_info.devices[].ctrlr.health_stats"})

	response, _, _ = s.run("storage", "query", "list-pools", "-j", "-l", s.list(1, 5)).body(t)
	is.Equal(len(response["host_storage_map"].(map[string]any)), 2)
	response, _, _ = s.run("storage", "query", "list-pools", "-j", "-l", s.list(1)).body(t)
	info = sole(t, response["host_storage_map"])["storage"].(map[string]any)["smd_info"].(map[string]any)
	is.Equal(keys(info["pools"].(map[string]any)[someUUID].([]any)[0]), "blobs rank tgt_ids uuid")
}

// usageSite has two equal hosts, one whose engine is down, one that is dead and two
// whose metadata lives on SSDs.
func usageSite(t *testing.T) (*site, chan control.StorageScanReq) {
	const gb = 1e9
	reqs := make(chan control.StorageScanReq, 16)
	return newSite(t, false, 5, 6, func(i int, m *control.Mux) {
		control.Handle(m, control.StorageScan, func(_ context.Context, _ control.Caller, req *control.StorageScanReq, _ control.Report) (resp control.StorageScanResp, err error) {
			reqs <- *req
			mount := storage.MountPoint{Path: fmt.Sprint("/mnt/daos", i), Rank: uint32(i), TotalBytes: 100 * gb, AvailBytes: 75 * gb, UsableBytes: 74 * gb}
			resp.Storage.SCMMountPoints = []storage.MountPoint{mount}
			resp.Storage.SCMNamespaces = []storage.SCMNamespace{{BlockDevice: "ramdisk", Size: 100 * gb, Mount: &mount}}
			device := func(roles storage.Roles, total, avail, usable uint64) {
				resp.Storage.NVMeDevices = append(resp.Storage.NVMeDevices, storage.NVMeController{DevState: "NORMAL", SMDDevices: []storage.SMDDevice{{
					UUID: fmt.Sprint(i, len(resp.Storage.NVMeDevices)), Rank: uint32(i), RoleBits: uint32(roles), Roles: roles.String(), TotalBytes: total, AvailBytes: avail, UsableBytes: usable}}})
			}
			switch i {
			case 1, 2:
				device(0, 1000*gb, 400*gb, 400*gb)
				device(0, 1000*gb, 400*gb, 400*gb)
			case 3:
				resp.Faults = []*fault.Error{fault.New(fault.InstanceNotReady, "cannot list the devices of engine 0: cannot call engine 0: it is Stopped").WithHint("start it")}
			case 4:
				device(storage.RoleMeta|storage.RoleWAL, 960*gb, 910*gb, 300*gb)
				device(storage.RoleData, 3800*gb, 1900*gb, 1800*gb)
			case 5:
				device(storage.RoleMeta|storage.RoleWAL, 960*gb, 960*gb, 960*gb)
			}
			return resp, nil
		})
	}), reqs
}

func TestStorageUsage(t *testing.T) {
	is := is.New(t)
	s, reqs := usageSite(t)
	golden(t, "storage_usage", s.run("storage", "query", "usage", "-l", s.list(1, 2, 3, 6)))
	golden(t, "storage_usage_md_on_ssd", s.run("storage", "query", "usage", "-l", s.list(4, 5)))
	for len(reqs) > 0 {
		is.Equal(<-reqs, control.StorageScanReq{Usage: true})
	}
	golden(t, "storage_usage_usable", s.run("storage", "query", "usage", "--show-usable", "--mem-ratio=25%"))
	for len(reqs) > 0 {
		is.Equal(<-reqs, control.StorageScanReq{Usage: true, MemRatio: 0.25})
	}
	r := s.run("storage", "query", "usage", "-j")
	is.Equal(r.exit, cli.Partial)
	response, _, _ := r.body(t)
	is.Equal(keys(response), "HostStorage host_errors")
	is.Equal(len(response["HostStorage"].(map[string]any)), 5) // each with its own ranks
	response, text, _ := s.run("storage", "query", "usage", "-j", "-l", s.list(1)).body(t)
	is.Equal(text, "")
	g := sole(t, response["HostStorage"])["storage"].(map[string]any)
	is.Equal(g["scm_namespaces"].([]any)[0].(map[string]any)["mount"].(map[string]any)["avail_bytes"], 75e9)
	is.Equal(g["nvme_devices"].([]any)[0].(map[string]any)["smd_devices"].([]any)[0].(map[string]any)["total_bytes"], 1e12)
	for _, line := range []string{"--mem-ratio=50", "-u --mem-ratio=0", "-u --mem-ratio=x", "-u --mem-ratio=1,2,97", "extra"} {
		r := s.run(append([]string{"storage", "query", "usage"}, strings.Fields(line)...)...)
		is.Equal(r.exit, cli.Usage)
		is.True(strings.Contains(r.stderr, "HINT: dmg: "))
	}
}
