package dmg

import (
	"context"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/commands/fabric"

	"github.com/matryer/is"
)

func TestNetworkScan(t *testing.T) {
	is := is.New(t)
	asked := make(chan string, 16)
	s := newSite(t, true, 3, 4, func(i int, m *control.Mux) {
		control.Handle(m, control.NetworkScan, func(_ context.Context, _ control.Caller, req *control.NetworkScanReq, _ control.Report) (control.NetworkScanResp, error) {
			asked <- req.Provider
			h := fabric.Host{Providers: []string{"ofi+tcp"}, NumaCount: 2, CoresPerNuma: 8, Interfaces: []fabric.Interface{
				{Provider: "ofi+tcp", Device: "eth0", NetDevClass: fabric.Ethernet},
				{Provider: "ofi+tcp", Device: "eth1", NumaNode: 1, NetDevClass: fabric.Ethernet},
				{Provider: "ofi+tcp", Device: "eth2", NumaNode: 1, NetDevClass: fabric.Ethernet},
			}}
			if i == 2 { // the same in another order
				h.Interfaces[0], h.Interfaces[2] = h.Interfaces[2], h.Interfaces[0]
			}
			if i == 3 {
				h = fabric.Host{}
			}
			return control.NetworkScanResp{Fabric: h}, nil
		})
	})
	golden(t, "network_scan", s.run("network", "scan"))
	is.Equal(<-asked, "") // each server's own
	for range 2 {
		<-asked
	}
	response, _, _ := s.run("net", "scan", "-p", "all", "-j", "-l", s.list(1, 2)).body(t)
	is.Equal(<-asked, "all")
	is.Equal(keys(response), "HostFabrics host_errors")
	g := sole(t, response["HostFabrics"])
	is.Equal(keys(g), "HostFabric HostSet")
	is.Equal(g["HostSet"], "127.0.7.[1-2]:PORT")
	is.Equal(keys(g["HostFabric"]), "CoresPerNuma Interfaces NumaCount Providers")
	is.Equal(g["HostFabric"].(map[string]any)["Interfaces"].([]any)[0],
		map[string]any{"Provider": "ofi+tcp", "Device": g["HostFabric"].(map[string]any)["Interfaces"].([]any)[0].(map[string]any)["Device"],
			"NumaNode": g["HostFabric"].(map[string]any)["Interfaces"].([]any)[0].(map[string]any)["NumaNode"], "Priority": 0.0, "NetDevClass": 1.0})
	response, _, _ = s.run("network", "scan", "-j", "-l", s.list(3)).body(t)
	is.Equal(len(nulls("", response)), 0)
}

func TestSetLogMasks(t *testing.T) {
	is := is.New(t)
	reqs := make(chan control.SetLogMasksReq, 16)
	s := newSite(t, false, 3, 4, func(i int, m *control.Mux) {
		control.Handle(m, control.SetLogMasks, func(_ context.Context, _ control.Caller, req *control.SetLogMasksReq, _ control.Report) (control.Empty, error) {
			reqs <- *req
			if i == 3 {
				return control.Empty{}, fault.New(fault.InstanceNotReady, "cannot set log masks: no engine runs on this host")
			}
			return control.Empty{}, nil
		})
	})
	golden(t, "set_logmasks", s.run("server", "set-logmasks", "-m", "err,MGMT=debug", "-d", ""))
	for range 3 {
		req := <-reqs
		is.Equal(*req.Masks, "err,MGMT=debug")
		is.Equal(*req.Streams, "")     // all
		is.True(req.Subsystems == nil) // as configured
	}
	response, text, _ := s.run("srv", "slm", "-j").body(t)
	is.Equal(text, "2 host(s) had errors")
	is.Equal(keys(response), "HostStorage host_errors")
	g := sole(t, response["HostStorage"])
	is.Equal(g["hosts"], "127.0.7.[1-2]:PORT")
	is.Equal(g["storage"].(map[string]any)["nvme_devices"], []any{})
	for range 3 {
		is.True((<-reqs).Masks == nil)
	}
}

func TestCheckLogMasks(t *testing.T) {
	is := is.New(t)
	for _, c := range []struct{ flag, value, why string }{
		{"-m", "err,rpc=debug,MGMT=WARN", ""}, {"-m", "", ""}, {"-d", "MD,net", ""}, {"-s", "rpc,BULK", ""},
		{"-m", "LOUD", `cannot use --masks="LOUD": "LOUD" is no known log level`},
		{"-d", "ALL,MD", `cannot use --streams="ALL,MD": ALL stands beside other names`},
		{"-s", "EPC", `cannot use --subsystems="EPC": "EPC" is no known subsystem`},
	} {
		o := &setLogMasksOptions{}
		*map[string]**string{"-m": &o.masks, "-d": &o.streams, "-s": &o.subsystems}[c.flag] = &c.value
		err := o.check()
		is.Equal(err != nil, c.why != "")
		if err != nil {
			is.Equal(err.Error(), c.why)
			is.Equal(cli.ExitOf(err), cli.Usage)
		}
	}
}
