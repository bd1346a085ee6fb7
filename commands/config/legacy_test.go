package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// An engine with everything it needs, to be extended by the tests.
const goodEngine = `
- targets: 1
  fabric_iface: eth0
  fabric_iface_port: 31416
`

// legacyCase is a document with an old key and what must be in the result.
type legacyCase struct {
	doc string
	// holds looks at the result; nil when there is none to look at.
	server  func(*Server) bool
	agent   func(*Agent) bool
	control func(*Control) bool
}

// engineDoc is a server's document whose one engine has the given lines.
func engineDoc(lines string) string { return "engines:" + goodEngine + lines }

const flatStorage = `
  scm_class: ram
  scm_mount: /m
  scm_size: 8
  bdev_class: file
  bdev_list: [/b, /a]
  bdev_size: 16
`

func firstTiers(check func(scm, bdev *Tier) bool) func(*Server) bool {
	return func(s *Server) bool {
		return len(s.Engines) == 1 && len(s.Engines[0].Storage) == 2 && check(s.Engines[0].Storage[0], s.Engines[0].Storage[1])
	}
}

// legacyCases has one case for every row of the table, by "file level key".
func legacyCases() map[string]legacyCase {
	any := func(*Server) bool { return true }
	anyAgent := func(*Agent) bool { return true }
	anyControl := func(*Control) bool { return true }
	cases := map[string]legacyCase{
		"daos_server.yml  servers":            {doc: "servers:" + goodEngine, server: func(s *Server) bool { return len(s.Engines) == 1 && s.Engines[0].Targets == 1 }},
		"daos_server.yml  access_points":      {doc: "access_points: [h1]", server: func(s *Server) bool { return s.MgmtSvcReplicas[0] == "h1" }},
		"daos_server.yml  enable_hotplug":     {doc: "enable_hotplug: false", server: func(s *Server) bool { return s.DisableHotplug }},
		"daos_server.yml  enable_vmd":         {doc: "enable_vmd: no", server: func(s *Server) bool { return s.DisableVMD }},
		"daos_server.yml  nr_hugepages":       {doc: "nr_hugepages: -1", server: func(s *Server) bool { return s.DisableHugepages && s.NrHugepages == 0 }},
		"daos_server.yml  scm_mount_path":     {doc: "scm_mount_path: /m\n" + engineDoc("  scm_class: ram\n"), server: func(s *Server) bool { return s.Engines[0].Storage[0].ScmMount == "/m" }},
		"daos_server.yml  crt_ctx_share_addr": {doc: "crt_ctx_share_addr: 1\n" + engineDoc(""), server: func(s *Server) bool { return s.Engines[0].EnvVars[0] == "CRT_CTX_SHARE_ADDR=1" }},
		"daos_server.yml  ca_cert": {doc: "ca_cert: a", server: func(s *Server) bool {
			return s.Transport.CACert == "a" && s.Transport.Key == "/etc/daos/certs/server.key"
		}},
		"daos_server.yml  cert": {doc: "cert: a", server: func(s *Server) bool { return s.Transport.Cert == "a" }},
		"daos_server.yml  key":  {doc: "key: a", server: func(s *Server) bool { return s.Transport.Key == "a" }},

		"daos_server.yml engines[] cpus":               {doc: "engines: [{cpus: [0-20, 30]}]", server: func(s *Server) bool { return s.Engines[0].Targets == 22 }},
		"daos_server.yml engines[] targets":            {doc: "engines: [{targets: [0-1, 4]}]", server: func(s *Server) bool { return s.Engines[0].Targets == 3 }},
		"daos_server.yml engines[] crt_ctx_share_addr": {doc: engineDoc("  crt_ctx_share_addr: 0\n  env_vars: [A=b]\n"), server: func(s *Server) bool { return s.Engines[0].EnvVars[1] == "CRT_CTX_SHARE_ADDR=0" }},
		"daos_server.yml engines[] scm_class":          {doc: engineDoc(flatStorage), server: firstTiers(func(a, _ *Tier) bool { return a.Class == ClassRAM })},
		"daos_server.yml engines[] scm_mount":          {doc: engineDoc(flatStorage), server: firstTiers(func(a, _ *Tier) bool { return a.ScmMount == "/m" })},
		"daos_server.yml engines[] scm_list":           {doc: engineDoc("  scm_class: dcpm\n  scm_list: [/dev/pmem0]\n"), server: func(s *Server) bool { return s.Engines[0].Storage[0].ScmList[0] == "/dev/pmem0" }},
		"daos_server.yml engines[] scm_size":           {doc: engineDoc(flatStorage), server: firstTiers(func(a, _ *Tier) bool { return a.ScmSize == 8 })},
		"daos_server.yml engines[] bdev_class":         {doc: engineDoc(flatStorage), server: firstTiers(func(_, b *Tier) bool { return b.Class == ClassFile })},
		"daos_server.yml engines[] bdev_list":          {doc: engineDoc(flatStorage), server: firstTiers(func(_, b *Tier) bool { return b.BdevList[0] == "/a" })},
		"daos_server.yml engines[] bdev_size":          {doc: engineDoc(flatStorage), server: firstTiers(func(_, b *Tier) bool { return b.BdevSize == 16 })},
		"daos_server.yml engines[] bdev_number":        {doc: engineDoc("  bdev_class: malloc\n  bdev_number: 2\n"), server: func(s *Server) bool { return s.Engines[0].Storage[0].BdevNumber == 2 }},
		"daos_server.yml engines[] bdev_busid_range":   {doc: engineDoc(flatStorage + "  bdev_busid_range: 128-143\n"), server: firstTiers(func(_, b *Tier) bool { return b.BdevBusRange.String() == "0x80-0x8f" })},

		"daos_server.yml transport_config server_name":              {doc: "transport_config: {server_name: server, key: k}", server: func(s *Server) bool { return s.Transport.Key == "k" }},
		"daos_server.yml transport_config pool_cert_max_clock_skew": {doc: "transport_config: {pool_cert_max_clock_skew: 5m}"},

		"daos_agent.yml  systems":                            {doc: "systems: [{name: x, access_pts: [h1], cert: c}]", agent: func(a *Agent) bool { return a.Name == "x" && a.AccessPoints[0] == "h1" && a.Transport.Cert == "c" }},
		"daos_agent.yml  mgmt_svc_replicas":                  {doc: "mgmt_svc_replicas: [h1]"},
		"daos_agent.yml credential_config pool_auth_enabled": {doc: "credential_config: {pool_auth_enabled: true}"},
		"daos_agent.yml credential_config node_cert_dir":     {doc: "credential_config: {node_cert_dir: /d}"},

		"daos_control.yml  systems":           {doc: "systems: [{name: x, access_pts: [h1]}]", control: func(c *Control) bool { return c.Name == "x" && c.HostList[0] == "h1" }},
		"daos_control.yml  mgmt_svc_replicas": {doc: "mgmt_svc_replicas: [h1]"},
	}
	for _, key := range []string{"fabric_ifaces", "bdev_include", "user_name", "group_name", "recreate_superblocks", "set_hugepages",
		"format_override", "firmware_helper_log_file", "modules", "attach", "systemmap", "path", "nvmeshmid"} {
		cases["daos_server.yml  "+key] = legacyCase{doc: key + ": x", server: any}
	}
	for _, key := range []string{"rank", "name", "socket_dir"} {
		cases["daos_server.yml engines[] "+key] = legacyCase{doc: engineDoc("  " + key + ": 1\n"), server: any}
	}
	for _, key := range []string{"hostlist", "host_file", "log_file_format", "path"} {
		cases["daos_agent.yml  "+key] = legacyCase{doc: key + ": x", agent: anyAgent}
	}
	for _, key := range []string{"access_points", "runtime_dir", "log_file", "host_file", "log_file_format", "path"} {
		cases["daos_control.yml  "+key] = legacyCase{doc: key + ": x", control: anyControl}
	}
	certs := map[string]func(Transport) string{
		"ca_cert": func(t Transport) string { return t.CACert },
		"cert":    func(t Transport) string { return t.Cert },
		"key":     func(t Transport) string { return t.Key },
	}
	for key, value := range certs {
		cases["daos_agent.yml  "+key] = legacyCase{doc: key + ": a", agent: func(a *Agent) bool { return value(a.Transport) == "a" }}
		cases["daos_control.yml  "+key] = legacyCase{doc: key + ": a", control: func(c *Control) bool { return value(c.Transport) == "a" }}
	}
	name := "transport_config server_name"
	doc := "transport_config:\n  server_name: server"
	cases["daos_agent.yml "+name] = legacyCase{doc: doc, agent: anyAgent}
	cases["daos_control.yml "+name] = legacyCase{doc: doc, control: anyControl}
	return cases
}

func TestLegacyKeys(t *testing.T) {
	cases := legacyCases()
	for _, row := range legacyKeys() {
		id := fmt.Sprintf("%s %s %s", row.file, row.level, row.key)
		c, ok := cases[id]
		if !ok {
			t.Errorf("no case for %q", id)
			continue
		}
		delete(cases, id)
		t.Run(id, func(t *testing.T) { checkLegacy(t, row, c) })
	}
	for id := range cases {
		t.Errorf("case %q has no row in the table", id)
	}
}

func checkLegacy(t *testing.T, row legacyKey, c legacyCase) {
	is := is.New(t)
	var hints []Hint
	var err error
	held := true
	switch row.file {
	case serverFile:
		var s *Server
		if s, hints, err = ParseServer("f.yml", []byte(c.doc)); c.server != nil {
			held = c.server(s)
		}
	case agentFile:
		var a *Agent
		if a, hints, err = ParseAgent("f.yml", []byte(c.doc)); c.agent != nil {
			held = c.agent(a)
		}
	default:
		var x *Control
		if x, hints, err = ParseControl("f.yml", []byte(c.doc)); c.control != nil {
			held = c.control(x)
		}
	}
	if row.act == refuse {
		list := Problems(err)
		is.Equal(len(list), 1)                                                  // refused
		is.True(strings.HasSuffix(list[0].Data["key"], row.key))                // names the key
		is.True(list[0].Hint != "" && strings.Contains(list[0].What, "f.yml:")) // place and next step
		return
	}
	is.NoErr(err)
	is.True(held) // the value has its effect
	count := 0
	for _, h := range hints {
		if h.Key != row.key && !strings.HasSuffix(h.Key, "."+row.key) {
			continue
		}
		count++
		is.True(strings.HasPrefix(h.String(), "f.yml:"))                  // place
		is.True(strings.Contains(h.Text, row.key+" ("))                   // old key
		is.True(strings.Contains(h.Text, row.to))                         // successor
		is.True(row.act != drop || strings.Contains(h.Text, "no effect")) // honest
	}
	is.Equal(count, 1) // one hint
}

func TestLegacyHintPlace(t *testing.T) {
	is := is.New(t)
	_, hints, err := ParseServer("/etc/daos/daos_server.yml", []byte("port: 1\n\naccess_points: [h1]\n"))
	is.NoErr(err)
	is.Equal(len(hints), 1)
	is.Equal(hints[0].String(), "/etc/daos/daos_server.yml:3:1: access_points (0.4-2.6) is now called mgmt_svc_replicas")
}

func TestLegacyClash(t *testing.T) {
	for _, c := range []struct {
		doc, key string
		code     int
	}{
		{"access_points: [a]\nmgmt_svc_replicas: [b]\n", "access_points", 701},
		{"enable_hotplug: true\ndisable_hotplug: false\n", "enable_hotplug", 735},
		{"enable_vmd: true\ndisable_vmd: false\n", "enable_vmd", 727},
		{"servers: []\nengines: []\n", "servers", 701},
		{"cert: a\ntransport_config: {cert: b}\n", "cert", 701},
		{"engines:\n- scm_class: ram\n  storage: []\n", "engines[0]", 701},
		{"engines:\n- scm_mount: /m\n", "engines[0].scm_mount", 701},
		{"engines:\n- {cpus: [1], targets: 1}\n", "engines[0].cpus", 701},
		{"engines:\n- {cpus: [7-2]}\n", "engines[0].cpus", int(fault.Config)},
		{"engines:\n- {cpus: [0-99999999]}\n", "engines[0].cpus", int(fault.Config)},
		{"engines:\n- {crt_ctx_share_addr: yes}\n", "engines[0].crt_ctx_share_addr", int(fault.Config)},
	} {
		t.Run(c.doc, func(t *testing.T) {
			is := is.New(t)
			_, _, err := ParseServer("f", []byte(c.doc))
			list := Problems(err)
			is.Equal(len(list), 1)
			is.Equal(int(list[0].Code), c.code)
			is.Equal(list[0].Data["key"], c.key)
		})
	}
	t.Run("systems", func(t *testing.T) {
		is := is.New(t)
		_, _, err := ParseControl("f", []byte("systems: [{name: a}, {name: b}]"))
		is.Equal(len(Problems(err)), 1)
		_, _, err = ParseControl("f", []byte("name: a\nsystems: [{name: b}]"))
		is.Equal(len(Problems(err)), 1)
	})
}

// An empty nvme list was the old way to say that there are no block devices.
func TestLegacyNoBdev(t *testing.T) {
	is := is.New(t)
	s, _, err := ParseServer("f", []byte(engineDoc("  scm_class: ram\n  scm_mount: /m\n  bdev_class: nvme\n  bdev_list: []\n  bdev_busid_range: \"\"\n")))
	is.NoErr(err)
	is.Equal(len(s.Engines[0].Storage), 1)
}
