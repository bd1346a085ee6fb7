package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

func TestPropagation(t *testing.T) {
	is := is.New(t)
	s, hints, err := CheckServer("f", []byte(`
provider: ofi+tcp
fabric_iface: eth0
crt_timeout: 30
disable_srx: true
fabric_auth_key: k
bypass_health_chk: true
port: 10002
mgmt_svc_replicas: [a, 'b:1', '::1']
engine_binary: emulator
engines:
- {targets: 1, fabric_iface_port: 1, storage: [{class: ram, scm_mount: /m}], acceleration: {engine: spdk}}
- {targets: 1, fabric_iface_port: 2, storage: [{class: ram, scm_mount: /n}], provider: ofi+verbs, fabric_iface: ib0, crt_timeout: 5,
   engine_binary: /x, acceleration: {options: [crc]}}
`), ServerOverrides{})
	is.NoErr(err)
	is.Equal(len(hints), 0)
	is.Equal(s.MgmtSvcReplicas, []string{"a:10002", "b:1", "[::1]:10002"})
	a, b := s.Engines[0], s.Engines[1]
	is.Equal([]string{a.Provider, a.FabricIface, a.FabricAuthKey, a.EngineBinary}, []string{"ofi+tcp", "eth0", "k", "emulator"})
	is.Equal([]string{b.Provider, b.FabricIface, b.FabricAuthKey, b.EngineBinary}, []string{"ofi+verbs", "ib0", "k", "/x"})
	is.Equal([]uint32{a.CrtTimeout, b.CrtTimeout}, []uint32{30, 5})
	is.True(a.DisableSRX && b.DisableSRX)
	is.True(a.BypassHealthCheck == nil) // not handed down
	is.Equal(a.Acceleration.Options, []AccelOption{AccelMove, AccelCRC})
	is.Equal(len(b.Acceleration.Options), 0)
	is.True(a.Emulated() && !b.Emulated())
	is.Equal(s.RestartDelay(), 5*time.Minute)
	is.Equal(s.Path(), "f")
}

func TestDefaults(t *testing.T) {
	is := is.New(t)
	s, _, err := CheckServer("f", []byte("port: 10005\ntransport_config: {key: /k}\n"), ServerOverrides{})
	is.NoErr(err)
	is.Equal(s.MgmtSvcReplicas, []string{"localhost:10005"})
	is.Equal(s.Transport, Transport{ClientCertDir: "/etc/daos/certs/clients", CACert: "/etc/daos/certs/daosCA.crt", Cert: "/etc/daos/certs/server.crt", Key: "/k"})
	is.Equal(s.SystemRAMReserved, 64)

	a, _, err := CheckAgent("f", []byte("access_points: ['h[1-2]', h2, 'x:7']\n"), AgentOverrides{})
	is.NoErr(err)
	is.Equal(a.AccessPoints, []string{"h1:10001", "h2:10001", "x:7"})
	is.Equal(a.Transport.Cert, "/etc/daos/certs/agent.crt")

	c, _, err := OpenControl("", ControlOverrides{})
	is.NoErr(err)
	is.Equal(c.HostList, []string{"localhost:10001"})
	is.Equal(c.Transport.Key, "/etc/daos/certs/admin.key")
	is.Equal(c.Path(), "")
}

func TestServerOverrides(t *testing.T) {
	is := is.New(t)
	targets, helpers, core := 3, 0, 0
	o := ServerOverrides{Insecure: true, Port: 7, ScmMount: "/x", Modules: "vos", Targets: &targets, Helpers: &helpers, FirstCore: &core,
		Name: "other", SocketDir: "/s", Debug: true, JSONLog: true, EngineBinary: "/e"}
	s, _, err := CheckServer("f", []byte(twoEngines), o)
	is.NoErr(err)
	is.True(s.Transport.AllowInsecure && s.ControlLogJSON)
	is.Equal(s.MgmtSvcReplicas, []string{"h1:7"})
	is.Equal([]string{s.Name, s.SocketDir, s.Engines[0].Storage[0].ScmMount, s.Engines[1].Storage[0].ScmMount}, []string{"other", "/s", "/x", "/m1"})
	is.Equal(s.ControlLogMask, LevelDebug)
	for _, e := range s.Engines {
		is.Equal(e.Targets, 3)
		is.Equal(e.NrXSHelpers, 0)
		is.Equal(*e.FirstCore, 0)
		is.Equal(e.Modules, "vos")
		is.Equal(e.EngineBinary, "/e")
	}
	_, _, err = CheckServer("f", nil, ServerOverrides{ScmMount: "/x"})
	is.Equal(fault.Of(err), fault.Usage)
}

func TestClientOverrides(t *testing.T) {
	is := is.New(t)
	a, _, err := CheckAgent("f", []byte("log_file: /a\n"), AgentOverrides{Insecure: true, RuntimeDir: "/r", LogFile: "/l", Debug: true, JSONLog: true})
	is.NoErr(err)
	is.True(a.Transport.AllowInsecure && a.ControlLogJSON)
	is.Equal([]string{a.RuntimeDir, a.LogFile, string(a.ControlLogMask)}, []string{"/r", "/l", "TRACE"})

	c, _, err := CheckControl("f", []byte("hostlist: [x]\nport: 9\n"), ControlOverrides{Insecure: true, HostList: "n[1-2]:5,m"})
	is.NoErr(err)
	is.True(c.Transport.AllowInsecure)
	is.Equal(c.HostList, []string{"m:9", "n1:5", "n2:5"})
	_, _, err = CheckControl("f", []byte("hostlist: [x]\n"), ControlOverrides{HostList: "n[2-"})
	is.Equal(fault.Of(err), fault.Usage) // the flag is wrong, not the file
	is.True(!strings.Contains(err.Error(), "f:"))
}

// first_core and pinned_numa_node exclude each other; the server runs with what
// is left and says so.
func TestAffinity(t *testing.T) {
	for name, c := range map[string]struct {
		first, second string
		pins, cores   [2]bool
		hints         int
	}{
		"pins":            {"pinned_numa_node: 0", "pinned_numa_node: 1", [2]bool{true, true}, [2]bool{}, 0},
		"cores":           {"first_core: 0", "first_core: 22", [2]bool{}, [2]bool{true, true}, 0},
		"core beats pins": {"first_core: 1\n  pinned_numa_node: 0", "pinned_numa_node: 1", [2]bool{}, [2]bool{true, false}, 2},
		"core 0 and pin":  {"first_core: 0\n  pinned_numa_node: 0", "pinned_numa_node: 1", [2]bool{true, true}, [2]bool{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			doc := strings.NewReplacer("log_file: /l0", c.first, "log_file: /l1", c.second).Replace(twoEngines)
			s, hints, err := CheckServer("f", []byte(doc), ServerOverrides{})
			is.NoErr(err)
			is.Equal(len(hints), c.hints)
			for i, e := range s.Engines {
				is.Equal(e.PinnedNUMANode != nil, c.pins[i])
				is.Equal(e.FirstCore != nil, c.cores[i])
			}
		})
	}
	is := is.New(t)
	s, _, err := ParseServer("f", []byte(replaced("log_file: /l0", "first_core: 1\n  pinned_numa_node: 0")))
	is.NoErr(err)
	is.Equal(codesOf(s.Validate()), []fault.Code{codeBadConfig}) // without Resolve it is a problem
}

func TestFind(t *testing.T) {
	is := is.New(t)
	home, conf := t.TempDir(), t.TempDir()
	write := func(path string) string {
		is.NoErr(os.WriteFile(path, []byte("name: a\n"), 0o600))
		return path
	}
	if _, err := os.Stat(EtcDir); err == nil {
		t.Skip(EtcDir + " exists on this host")
	}
	_, err := FindServer("", conf)
	is.Equal(fault.Of(err), codeNoPath)
	is.True(strings.Contains(err.Error(), conf+"/daos_server.yml, /etc/daos/daos_server.yml"))
	_, err = FindAgent("", conf)
	is.Equal(fault.Of(err), codeNoPath)
	path, err := FindControl("", home, conf)
	is.NoErr(err)
	is.Equal(path, "") // built-in values

	for _, want := range []string{filepath.Join(conf, "daos.yml"), filepath.Join(conf, "daos_control.yml"), filepath.Join(home, ".daos_control.yml")} {
		write(want)
		path, err = FindControl("", home, conf)
		is.NoErr(err)
		is.Equal(path, want) // newer places win
	}
	path, err = FindServer("/x/y.yml", conf)
	is.NoErr(err)
	is.Equal(path, "/x/y.yml")
	_, _, err = OpenServer("/x/y.yml", ServerOverrides{})
	is.Equal(fault.Of(err), fault.Config)
	is.True(fault.HintOf(err) != "")

	want := write(filepath.Join(conf, "daos_agent.yml"))
	path, err = FindAgent("", conf)
	is.NoErr(err)
	is.Equal(path, want)
	a, _, err := OpenAgent(path, AgentOverrides{})
	is.NoErr(err)
	is.Equal(a.Name, "a")
	c, hints, err := OpenControl(filepath.Join(conf, "daos.yml"), ControlOverrides{})
	is.NoErr(err)
	is.Equal(len(hints), 1) // the file has a new name
	is.Equal(c.Name, "a")
	_, _, err = LoadServer("")
	is.Equal(fault.Of(err), codeNoPath)
}

func TestCheckHost(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "callback")
	is.NoErr(os.WriteFile(script, []byte("#!/bin/sh\necho /a\n"), 0o755))
	doc := strings.NewReplacer("/l0", filepath.Join(dir, "l0"), "/l1", filepath.Join(dir, "l1"), "eth0", "lo").Replace(twoEngines)
	s, _, err := CheckServer("f", []byte(doc+"control_iface: lo\nfault_cb: "+script+"\nsocket_dir: "+dir+"\n"), ServerOverrides{})
	is.NoErr(err)
	is.NoErr(s.CheckHost())

	bad := s
	bad.SocketDir = filepath.Join(dir, "missing")
	bad.ControlLogFile = filepath.Join(dir, "missing", "log")
	bad.HelperLogFile = filepath.Join(script, "log")
	bad.ControlIface = "no-such-iface0"
	bad.FaultCB = filepath.Join(dir, "missing")
	bad.KernelConfigPath = filepath.Join(dir, "missing")
	bad.Engines[0].EngineBinary = dir
	bad.Engines[1].FabricIface = "no-such-iface0"
	want := []fault.Code{codeBadConfig, codeBadConfig, codeBadConfig, codeControlIface, codeCallbackNotFound, codeBadConfig, codeBadConfig, codeBadConfig}
	err = bad.CheckHost()
	if !equalAnyOrder(codesOf(err), want) {
		t.Errorf("codes are %v: %v", codesOf(err), err)
	}
	is.NoErr(os.Chmod(script, 0o777))
	bad.FaultCB = script
	is.True(strings.Contains(bad.CheckHost().Error(), "can be written by others"))
	is.NoErr(os.Chmod(script, 0o644))
	is.True(strings.Contains(bad.CheckHost().Error(), "cannot be executed"))

	a := NewAgent()
	a.RuntimeDir = dir
	is.NoErr(a.CheckHost())
	a.RuntimeDir = script
	is.Equal(codesOf(a.CheckHost()), []fault.Code{codeBadConfig})
}
