package dmg

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/matryer/is"
)

// pmemHost is a host with persistent memory and SSDs; hosts differ in what does
// not count. Host 3 lists its SSDs in another order.
func pmemHost(i int, health bool) storage.HostStorage {
	h := storage.HostStorage{
		SCMModules:     []storage.SCMModule{{PhysicalID: uint32(28 + i), Capacity: 128 << 30, UID: fmt.Sprint("uid", i), PartNumber: "P1", HealthState: "Healthy"}},
		SCMMountPoints: []storage.MountPoint{{Class: "dcpm", Path: "/mnt/daos", Rank: 4}},
		MemInfo:        &storage.MemInfo{HugepageSizeKiB: 2048, FreeKiB: uint64(1000 * i), NUMANodes: []storage.MemInfo{}},
	}
	for n := range 2 {
		h.SCMNamespaces = append(h.SCMNamespaces, storage.SCMNamespace{UUID: fmt.Sprint("u", i, n), BlockDevice: fmt.Sprint("pmem", n), Name: fmt.Sprint("namespace", n, ".0"), NumaNode: uint32(n), Size: 500e9})
		c := storage.NVMeController{Model: "MODEL", Serial: fmt.Sprint("S", i, n), PCIAddr: fmt.Sprintf("0000:8%d:00.0", n), FWRev: "1.0", SocketID: int32(n),
			Namespaces: []storage.NVMeNamespace{{ID: 1, Size: 1600e9}}, DevState: "NORMAL", LEDState: "NA"}
		if n == 1 {
			c.SMDDevices = []storage.SMDDevice{{UUID: fmt.Sprint("d", i), Rank: 4, Roles: "data,meta", RoleBits: 3}}
		}
		if health {
			c.HealthStats = &storage.NVMeHealth{Temperature: 300, PowerCycles: uint64(i), ReadOnlyWarn: n == 1, MediaWearRaw: uint64(n), LinkMaxSpeed: 8e9, LinkMaxWidth: 4, LinkNegSpeed: 8e9, LinkNegWidth: 4}
		}
		h.NVMeDevices = append(h.NVMeDevices, c)
	}
	if i == 3 {
		h.NVMeDevices[0], h.NVMeDevices[1] = h.NVMeDevices[1], h.NVMeDevices[0]
	}
	return h
}

// scanSite has three equal hosts, one with bare modules, one that fails, one dead.
func scanSite(t *testing.T, secure bool) *site {
	return newSite(t, secure, 5, 6, func(i int, m *control.Mux) {
		control.Handle(m, control.StorageScan, func(_ context.Context, _ control.Caller, req *control.StorageScanReq, _ control.Report) (control.StorageScanResp, error) {
			switch h := pmemHost(i, req.Health); i {
			case 4:
				h.SCMNamespaces, h.NVMeDevices = nil, nil
				return control.StorageScanResp{Storage: h}, nil
			case 5:
				return control.StorageScanResp{}, fault.New(fault.Permission, "cannot read /sys: no access")
			default:
				return control.StorageScanResp{Storage: h}, nil
			}
		})
	})
}

func TestStorageScan(t *testing.T) {
	for _, secure := range []bool{true, false} {
		s := scanSite(t, secure)
		golden(t, "storage_scan", s.run("storage", "scan"))
		golden(t, "storage_scan_verbose", s.run("sto", "scan", "-v"))
		golden(t, "storage_scan_health", s.run("storage", "scan", "--nvme-health", "-l", s.list(1, 2, 4)))
	}
}

func TestStorageScanJSON(t *testing.T) {
	is := is.New(t)
	s := scanSite(t, false)
	response, text, status := s.run("-j", "storage", "scan").body(t)
	is.Equal(text, "2 host(s) had errors")
	is.Equal(status, -1025.0)
	is.Equal(keys(response), "HostStorage host_errors")
	is.Equal(response["host_errors"], map[string]any{
		"cannot read /sys: no access":           "127.0.7.5:PORT",
		"cannot reach host: connection refused": "127.0.7.6:PORT",
	})
	is.Equal(len(response["HostStorage"].(map[string]any)), 2) // 1-3 agree in all that counts
	for hash, g := range response["HostStorage"].(map[string]any) {
		is.True(strings.Trim(hash, "0123456789") == "")
		is.Equal(keys(g), "hosts storage")
	}

	response, text, _ = s.run("storage", "scan", "-j", "--host-list="+s.list(1, 2, 3)).body(t)
	is.Equal(text, "")
	is.Equal(response["host_errors"], map[string]any{}) // an object, also when empty
	g := sole(t, response["HostStorage"])
	is.Equal(g["hosts"], "127.0.7.[1-3]:PORT")
	is.Equal(keys(g["storage"]), "mem_info nvme_devices reboot_required scm_modules scm_mount_points scm_namespaces smd_info")
	is.Equal(nulls("", g["storage"]), []string{".nvme_devices[].health_stats", ".nvme_devices[].smd_devices[].ctrlr", ".scm_namespaces[].mount", ".smd_info"})
	is.Equal(keys(g["storage"].(map[string]any)["nvme_devices"].([]any)[0]),
		"dev_state fw_rev health_stats info led_state model namespaces pci_addr pci_type serial smd_devices socket_id vendor_id")

	r := s.run("storage", "scan", "-j", "-l", s.list(6))
	is.Equal(r.exit, cli.Unreachable) // nobody answered
	response, _, _ = r.body(t)
	is.Equal(response["HostStorage"], map[string]any{})
	is.Equal(s.run("storage", "scan", "-l", s.list(5)).exit, cli.Permission)
	is.Equal(s.run("storage", "scan", "-l", s.list(1)).exit, cli.OK)
	is.Equal(s.run("storage", "scan", "-vn").exit, cli.Usage)
}

// formatSite has replicas of the management service on 1 (up) and 2 (not ready),
// and none on 3 and 4; on 4 a device fails.
func formatSite(t *testing.T, msUp bool, got func(i int, req control.StorageFormatReq)) *site {
	var s *site
	s = newSite(t, false, 4, 4, func(i int, m *control.Mux) {
		control.Handle(m, control.LeaderQuery, func(context.Context, control.Caller, *control.LeaderQueryReq, control.Report) (control.LeaderQueryResp, error) {
			replicas := []string{s.addr(1), s.addr(2)}
			switch {
			case i == 1 && msUp:
				return control.LeaderQueryResp{CurrentLeader: s.addr(1), Replicas: replicas}, nil
			case i <= 2:
				return control.LeaderQueryResp{}, fault.New(fault.NotReady, "cannot serve yet")
			}
			return control.LeaderQueryResp{}, cluster.NotReplica(replicas)
		})
		control.Handle(m, control.StorageFormat, func(_ context.Context, _ control.Caller, req *control.StorageFormatReq, report control.Report) (control.StorageFormatResp, error) {
			got(i, *req)
			report(control.Progress{Text: "making a file system", Done: 1, Total: 2})
			h := storage.HostStorage{SCMMountPoints: []storage.MountPoint{{Path: "/mnt/daos0", Info: success}, {Path: "/mnt/daos1", Info: success}},
				NVMeDevices: []storage.NVMeController{{PCIAddr: "0000:81:00.0", Info: success, SMDDevices: []storage.SMDDevice{{Roles: "data,meta,wal"}}}}}
			resp := control.StorageFormatResp{Storage: h}
			if i == 4 {
				resp.Failed = 1
				resp.Storage.SCMMountPoints[1].Info = "cannot format /mnt/daos1: it is mounted"
			}
			return resp, nil
		})
	})
	return s
}

func TestStorageFormat(t *testing.T) {
	is := is.New(t)
	reqs := make(chan control.StorageFormatReq, 16)
	s := formatSite(t, false, func(_ int, req control.StorageFormatReq) { reqs <- req })
	golden(t, "storage_format", s.run("storage", "format"))
	golden(t, "storage_format_verbose", s.run("storage", "format", "--verbose", "--force"))
	for range 4 {
		is.Equal((<-reqs).Force, false)
	}
	for range 4 {
		req := <-reqs
		is.Equal(req.Force, true)
		is.Equal(req.System, "daos_server")
	}
	response, _, _ := s.run("storage", "format", "-j", "--replace", "-l", s.list(3)).body(t)
	is.Equal((<-reqs).Replace, true)
	is.Equal(keys(response), "HostStorage host_errors")
	g := sole(t, response["HostStorage"])
	is.Equal(keys(g["storage"]), "mem_info nvme_devices reboot_required scm_modules scm_mount_points scm_namespaces smd_info")
	is.Equal(g["storage"].(map[string]any)["scm_mount_points"].([]any)[0].(map[string]any)["info"], success)

	is.Equal(s.run("storage", "format", "--replace").exit, cli.Usage)
	is.Equal(s.run("storage", "format", "--replace", "-l", s.list(3, 4)).exit, cli.Usage)
	is.Equal(s.run("storage", "format", "--replace", "--force", "-l", s.list(3)).exit, cli.Usage)
}

// A format never pulls the storage from under a management service that is up.
func TestStorageFormatRefused(t *testing.T) {
	formatted := make(chan int, 16)
	s := formatSite(t, true, func(i int, _ control.StorageFormatReq) { formatted <- i })
	for _, c := range []struct {
		name   string
		conf   []int
		list   string
		exit   cli.Exit
		reason string
	}{
		{"all", []int{1, 2, 3}, "", cli.Refused, "is up on 127.0.7.1:PORT"},
		{"a replica that is not configured", []int{3}, "", cli.Refused, "is up on 127.0.7.1:PORT"},
		{"a listed replica", []int{3}, s.list(1, 3), cli.Refused, "is up on 127.0.7.1:PORT"},
		{"a listed host without replica", []int{1, 2, 3}, s.list(3), cli.OK, ""},
		{"a listed replica that waits for its format", []int{1}, s.list(2), cli.OK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			s.configure("admin", c.conf...)
			args := []string{"storage", "format", "--force"}
			if c.list != "" {
				args = append(args, "-l", c.list)
			}
			r := s.run(args...)
			t.Log(r.stderr)
			is.Equal(r.exit, c.exit)
			is.True(strings.Contains(r.stderr, c.reason))
			is.Equal(len(formatted) > 0, c.exit == cli.OK)
			for len(formatted) > 0 {
				<-formatted
			}
		})
	}
}

// What is told is the same for all hosts of a group.
func TestGathering(t *testing.T) {
	is := is.New(t)
	host := func(rank uint32, path string, free uint64) answer[storage.HostStorage] {
		s := storage.HostStorage{SCMMountPoints: []storage.MountPoint{{Path: path, Rank: rank, AvailBytes: free}},
			NVMeDevices: []storage.NVMeController{{PCIAddr: "a", Serial: fmt.Sprint(rank), SMDDevices: []storage.SMDDevice{{Rank: rank, UUID: path}}}}}
		return answer[storage.HostStorage]{fmt.Sprint("node", rank), s}
	}
	groups := func(same func(storage.HostStorage) any, answers ...answer[storage.HostStorage]) int {
		all, err := gather(answers, same)
		is.NoErr(err)
		return len(all)
	}
	is.Equal(groups(sameInSummary, host(1, "/a", 7), host(2, "/b", 8)), 1)
	is.Equal(groups(sameStorage, host(1, "/a", 7), host(2, "/a", 7)), 2) // ranks are told
	is.Equal(groups(sameStorage, host(1, "/a", 7), host(1, "/a", 8)), 1) // free space is of the moment
	is.Equal(groups(sameStorage), 0)
	one := host(1, "/a", 7)
	is.Equal(sameInSummary(one.value) != nil, true)
	is.Equal(one.value.SCMMountPoints[0].Rank, uint32(1)) // gathering changes nothing
	is.Equal(one.value.NVMeDevices[0].SMDDevices[0].Rank, uint32(1))
	is.Equal(one.value.NVMeDevices[0].Serial, "1")
}
