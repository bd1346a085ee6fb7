package config

import (
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

const goodServer = `mgmt_svc_replicas: [h1]
provider: ofi+tcp
`

// Two engines that may stand beside each other.
const twoEngines = goodServer + `engines:
- targets: 4
  fabric_iface: eth0
  fabric_iface_port: 31416
  log_file: /l0
  storage:
  - {class: ram, scm_mount: /m0}
- targets: 4
  fabric_iface: eth0
  fabric_iface_port: 32416
  log_file: /l1
  storage:
  - {class: ram, scm_mount: /m1}
`

// oneEngine has the given lines in its only engine.
func oneEngine(lines string) string { return goodServer + "engines:" + goodEngine + lines }

// tiers is an engine with the given tiers, below a server with control metadata
// when meta is set.
func tiers(meta bool, list ...string) string {
	head := ""
	if meta {
		head = "control_metadata: {path: /var/daos}\n"
	}
	return head + oneEngine("  storage: ["+strings.Join(list, ", ")+"]\n")
}

const (
	ram  = "{class: ram, scm_mount: /m}"
	dcpm = "{class: dcpm, scm_mount: /m, scm_list: [/dev/pmem0]}"
)

func nvme(bus, roles string) string {
	text := `{class: nvme, bdev_list: ["0000:` + bus + `:00.0"]`
	if roles != "" {
		text += ", bdev_roles: [" + roles + "]"
	}
	return text + "}"
}

// replaced is the two-engine document with one text changed for another.
func replaced(old, fresh string) string { return strings.Replace(twoEngines, old, fresh, 1) }

func TestServerRules(t *testing.T) {
	plain := codeBadConfig
	for name, c := range map[string]struct {
		doc   string
		codes []fault.Code
		key   string // of the first problem
	}{
		"good":        {doc: twoEngines},
		"discovery":   {doc: "port: 10001\n"},
		"name empty":  {"name: ''\n", []fault.Code{plain}, "name"},
		"name long":   {"name: sixteen_letters_\n", []fault.Code{plain}, "name"},
		"port":        {"port: 0\nmgmt_svc_replicas: ['h:1']\n", []fault.Code{codeBadControlPort}, "port"},
		"telemetry":   {"telemetry_port: -1\n", []fault.Code{codeBadTelemetryPort}, "telemetry_port"},
		"same ports":  {"telemetry_port: 10001\n", []fault.Code{codeBadTelemetryPort}, "telemetry_port"},
		"no replicas": {"mgmt_svc_replicas: []\n", []fault.Code{codeBadReplicas}, "mgmt_svc_replicas"},
		"even":        {"mgmt_svc_replicas: [a, b]\n", []fault.Code{fault.EvenReplicas}, "mgmt_svc_replicas"},
		"repeated":    {"mgmt_svc_replicas: [a, 'A:10001', b]\n", []fault.Code{codeBadReplicas}, "mgmt_svc_replicas[1]"},
		"bad address": {"mgmt_svc_replicas: ['a:b:c']\n", []fault.Code{codeBadReplicas}, "mgmt_svc_replicas[0]"},
		"a range":     {"mgmt_svc_replicas: ['a[1-3]']\n", []fault.Code{codeBadReplicas}, "mgmt_svc_replicas[0]"},
		"bad port":    {"mgmt_svc_replicas: ['a:x']\n", []fault.Code{codeBadControlPort}, "mgmt_svc_replicas[0]"},
		"port zero":   {"mgmt_svc_replicas: ['a:0']\n", []fault.Code{codeBadControlPort}, "mgmt_svc_replicas[0]"},
		"address":     {doc: "control_addr: 127.0.0.2\n"},
		"no address":  {"control_addr: lo\n", []fault.Code{plain}, "control_addr"},
		"any address": {"control_addr: 0.0.0.0\n", []fault.Code{plain}, "control_addr"},
		"two places":  {doc: "control_addr: 127.0.0.2\ncontrol_iface: lo\n"},
		"IPv6":        {doc: "mgmt_svc_replicas: ['::1', '[::2]', '[::3]:10002']\n"},

		"metadata device":  {"control_metadata: {device: /dev/sdb}\n", []fault.Code{codeMetadataNoPath}, "control_metadata.path"},
		"reserved memory":  {"system_ram_reserved: 0\n", []fault.Code{codeSysReservedZero}, "system_ram_reserved"},
		"restart delay":    {"engine_auto_restart_min_delay: -1\n", []fault.Code{plain}, "engine_auto_restart_min_delay"},
		"two providers":    {"provider: ofi+tcp,ofi+verbs\n", []fault.Code{plain}, "provider"},
		"no provider":      {strings.Replace(oneEngine("  storage: ["+ram+"]\n"), "provider: ofi+tcp\n", "", 1), []fault.Code{codeBadProvider}, "provider"},
		"client variables": {"client_env_vars: [A, B=, C=\"d\", D='e', '=f', G=h]\n", []fault.Code{plain, plain}, "client_env_vars[0]"},
		"fault path":       {"fault_path: rack\n", []fault.Code{codeFaultDomain}, "fault_path"},
		"fault level":      {"fault_path: /a//b\n", []fault.Code{codeFaultDomain}, "fault_path"},
		"fault labels":     {"fault_path: /rack=a/b\n", []fault.Code{codeFaultDomain}, "fault_path"},
		"fault depth":      {"fault_path: /a/b/c\n", []fault.Code{codeFaultLayers}, "fault_path"},
		"fault both":       {"fault_path: /a\nfault_cb: /x\n", []fault.Code{codeFaultBoth}, "fault_path"},
		"fault good":       {doc: "fault_path: /rack=a/host=b\n"},

		"huge pages":      {twoEngines + "nr_hugepages: -2\n", []fault.Code{codeHugepagesRange}, "nr_hugepages"},
		"huge pages max":  {twoEngines + "nr_hugepages: 2147483648\n", []fault.Code{codeHugepagesRange}, "nr_hugepages"},
		"huge pages off":  {twoEngines + "nr_hugepages: 1\ndisable_hugepages: true\n", []fault.Code{codeNoHugepagesNr}, "nr_hugepages"},
		"huge pages NVMe": {"disable_hugepages: true\n" + tiers(false, ram, nvme("81", "")), []fault.Code{codeNoHugepagesNVMe}, "engines[0].storage[1].class"},
		"exclude":         {"bdev_exclude: ['0000:81:00.0', x]\n" + tiers(false, ram, nvme("81", "")), []fault.Code{codeBdevExcludeClash, plain}, "bdev_exclude[0]"},

		"empty engine":   {goodServer + "engines: [~]\n", []fault.Code{plain, plain, plain, plain}, "engines[0].targets"},
		"negative":       {oneEngine("  nr_xs_helpers: -1\n  first_core: -1\n  storage: [" + ram + "]\n"), []fault.Code{plain, plain}, "engines[0].nr_xs_helpers"},
		"interfaces":     {replaced("eth0", "eth0,eth1"), []fault.Code{plain}, "engines[0].fabric_iface"},
		"fabric port":    {replaced("31416", "-5"), []fault.Code{plain}, "engines[0].fabric_iface_port"},
		"secondary":      {oneEngine("  secondary_provider_endpoints: [1]\n  storage: [" + ram + "]\n"), []fault.Code{plain}, "engines[0].secondary_provider_endpoints"},
		"log mask":       {oneEngine("  log_mask: INFO,RCP=DEBUG\n  storage: [" + ram + "]\n"), []fault.Code{plain}, "engines[0].log_mask"},
		"debug mask":     {oneEngine("  env_vars: [DD_MASK=mgt, DD_SUBSYS=all]\n  storage: [" + ram + "]\n"), []fault.Code{plain}, "engines[0].env_vars"},
		"pass through":   {oneEngine("  env_pass_through: [A=b, FI_OFI_RXM_USE_SRX]\n  storage: [" + ram + "]\n"), []fault.Code{plain, plain}, "engines[0].env_pass_through[0]"},
		"shared receive": {replaced("/l1", "/l1\n  env_vars: [FI_OFI_RXM_USE_SRX=0]"), []fault.Code{plain}, "engines[1].env_vars"},

		"same endpoint":  {replaced("32416", "31416"), []fault.Code{fault.DuplicateFabricEndpoint}, "engines[1].fabric_iface_port"},
		"same log":       {replaced("/l1", "/l0"), []fault.Code{codeDuplicateLogFile}, "engines[1].log_file"},
		"same mount":     {replaced("/m1", "/m0"), []fault.Code{codeDuplicateScmMount}, "engines[1].storage[0].scm_mount"},
		"other targets":  {replaced("targets: 4", "targets: 5"), []fault.Code{codeTargetMismatch}, "engines[1].targets"},
		"other helpers":  {replaced("/l1", "/l1\n  nr_xs_helpers: 2"), []fault.Code{codeHelperMismatch}, "engines[1].nr_xs_helpers"},
		"other class":    {replaced("{class: ram, scm_mount: /m1}", "{class: dcpm, scm_mount: /m1, scm_list: [/dev/pmem0]}"), []fault.Code{codeScmClassMismatch}, "engines[1].storage[0].class"},
		"other pages":    {replaced("/m1", "/m1, scm_hugepages_disabled: true"), []fault.Code{codeScmHugepageMismatch}, "engines[1].storage[0].scm_hugepages_disabled"},
		"same pmem":      {strings.NewReplacer("ram, scm_mount: /m0", "dcpm, scm_mount: /m0, scm_list: [/p]", "ram, scm_mount: /m1", "dcpm, scm_mount: /m1, scm_list: [/p]").Replace(twoEngines), []fault.Code{codeDuplicateScmList}, "engines[1].storage[0].scm_list[0]"},
		"same SSD":       {strings.NewReplacer("/m0}", "/m0}\n  - "+nvme("81", ""), "/m1}", "/m1}\n  - "+nvme("81", "")).Replace(twoEngines), []fault.Code{codeOverlappingBdevs}, "engines[1].storage[1].bdev_list"},
		"unequal counts": {doc: replaced("/m0}", "/m0}\n  - "+nvme("81", ""))},
	} {
		t.Run(name, func(t *testing.T) { checkRule(t, c.doc, c.codes, c.key) })
	}
}

func TestStorageRules(t *testing.T) {
	plain := codeBadConfig
	one := func(codes ...fault.Code) []fault.Code { return codes }
	file := "{class: file, bdev_list: [/b], bdev_size: 1}"
	for name, c := range map[string]struct {
		doc   string
		codes []fault.Code
	}{
		"none":          {oneEngine("  storage: []\n"), one(plain)},
		"no SCM":        {tiers(false, nvme("81", "")), one(codeScmTierMissing)},
		"no class":      {tiers(false, ram, "{bdev_list: [/b]}"), one(plain)},
		"no mount":      {tiers(false, "{class: ram}"), one(plain)},
		"relative":      {tiers(false, "{class: ram, scm_mount: m}"), one(plain)},
		"dcpm":          {tiers(false, dcpm), nil},
		"dcpm size":     {tiers(false, "{class: dcpm, scm_mount: /m, scm_list: [/p], scm_size: 8}"), one(plain)},
		"dcpm list":     {tiers(false, "{class: dcpm, scm_mount: /m}"), one(plain)},
		"dcpm two":      {tiers(false, "{class: dcpm, scm_mount: /m, scm_list: [/p, /q]}"), one(plain)},
		"ram list":      {tiers(false, "{class: ram, scm_mount: /m, scm_list: [/p]}"), one(plain)},
		"ram small":     {tiers(false, "{class: ram, scm_mount: /m, scm_size: 3}"), one(codeRamdiskTooSmall)},
		"ram 4":         {tiers(false, "{class: ram, scm_mount: /m, scm_size: 4}"), nil},
		"SCM second":    {tiers(false, file, ram), one(plain)},
		"SCM twice":     {tiers(false, ram, "{class: ram, scm_mount: /n}"), one(plain)},
		"tiers":         {tiers(true, ram, nvme("81", "wal"), nvme("82", "meta"), nvme("83", "data"), nvme("84", "data")), one(plain, codeTooManyRoleTiers)},
		"file":          {tiers(false, ram, file), nil},
		"file empty":    {tiers(false, ram, "{class: file, bdev_size: 1}"), one(plain)},
		"file size":     {tiers(false, ram, "{class: file, bdev_list: [/b]}"), one(plain)},
		"file negative": {tiers(false, ram, "{class: file, bdev_list: [/b], bdev_size: -1}"), one(plain)},
		"file relative": {tiers(false, ram, "{class: file, bdev_list: [b], bdev_size: 1}"), one(plain)},
		"kdev empty":    {tiers(false, ram, "{class: kdev}"), one(plain)},
		"nvme empty":    {tiers(false, ram, "{class: nvme}"), one(plain)},
		"nvme path":     {tiers(false, ram, "{class: nvme, bdev_list: [/dev/nvme0]}"), one(plain)},
		"nvme bad":      {tiers(false, ram, `{class: nvme, bdev_list: ["0000:zz:00.0"]}`), one(plain)},
		"mixed list":    {tiers(false, ram, `{class: nvme, bdev_list: ["0000:81:00.0", /b]}`), one(plain)},
		"repeated":      {tiers(false, ram, `{class: nvme, bdev_list: ["0000:81:00.0", "0000:81:00.0"]}`), one(plain)},
		"malloc":        {tiers(false, ram, "{class: malloc, bdev_number: 1, bdev_size: 1}"), nil},
		"malloc none":   {tiers(false, ram, "{class: malloc}"), one(plain, plain)},
		"foreign":       {tiers(false, "{class: ram, scm_mount: /m, bdev_size: 1}", "{class: kdev, bdev_list: [/b], scm_size: 1}"), one(plain, plain)},

		"mixed tiers":    {tiers(true, ram, nvme("81", "wal, meta"), "{class: file, bdev_list: [/b], bdev_size: 1, bdev_roles: [data]}"), one(codeTierTypeMismatch)},
		"without roles":  {tiers(false, ram, nvme("81", ""), nvme("82", "")), one(codeTiersWithoutRoles)},
		"some roles":     {tiers(true, ram, nvme("81", "wal, meta, data"), nvme("82", "")), one(codeRolesMissing)},
		"roles dcpm":     {tiers(true, dcpm, nvme("81", "wal, meta, data")), one(codeRolesWithDCPM)},
		"role twice":     {tiers(true, ram, nvme("81", "wal, meta, data"), nvme("82", "data")), one(codeRolesBadNr)},
		"role missing":   {tiers(true, ram, nvme("81", "meta, data")), one(codeRolesBadNr)},
		"wal and data":   {tiers(true, ram, nvme("81", "wal, data"), nvme("82", "meta")), one(codeWALDataNoMeta)},
		"no metadata":    {tiers(false, ram, nvme("81", "wal, meta, data")), one(codeRolesNoMetadata)},
		"metadata alone": {tiers(true, ram), one(codeMetadataNoRoles)},
		"metadata bdev":  {tiers(true, ram, nvme("81", "")), one(codeMetadataNoRoles)},
		"all on one":     {tiers(true, ram, nvme("81", "wal, meta, data")), nil},
		"wal first":      {tiers(true, ram, nvme("81", "wal"), nvme("82", "meta, data")), nil},
		"wal and meta":   {tiers(true, ram, nvme("81", "wal, meta"), nvme("82", "data")), nil},
		"three":          {tiers(true, ram, nvme("81", "wal"), nvme("82", "meta"), nvme("83", "data")), nil},
	} {
		t.Run(name, func(t *testing.T) { checkRule(t, c.doc, c.codes, "") })
	}
}

func TestEnvironmentHints(t *testing.T) {
	is := is.New(t)
	s, hints, err := CheckServer("f", []byte(oneEngine("  env_vars: [A=, 'B=\"c\"', \"D='e'\", F=g]\n  storage: ["+ram+"]\n")), ServerOverrides{})
	is.NoErr(err)
	is.Equal(len(hints), 3)
	is.Equal(hints[0].Key, "engines[0].env_vars[0]")
	value, ok := s.Engines[0].Env("F")
	is.True(ok && value == "g")
	_, ok = s.Engines[0].Env("X")
	is.True(!ok)
}

// A fabric on the control port works on paper only, unless it has another address.
func TestFabricOnControlPort(t *testing.T) {
	for _, c := range []struct {
		top    string
		hinted bool
	}{
		{"", false},
		{"port: 31416\n", true},
		{"port: 31416\ncontrol_iface: eth0\n", true},
		{"port: 31416\ncontrol_iface: eth9\n", false},
		{"port: 31416\ncontrol_addr: 127.0.0.1\n", true},
		{"port: 31416\ncontrol_addr: 127.0.0.9\n", false},
	} {
		t.Run(c.top, func(t *testing.T) {
			is := is.New(t)
			doc := c.top + oneEngine("  storage: ["+ram+"]\n")
			if strings.Contains(c.top, "control_addr") { // an interface that every host has
				doc = strings.ReplaceAll(doc, "fabric_iface: eth0", "fabric_iface: lo")
			}
			is.True(strings.Contains(doc, "fabric_iface_port: 31416"))
			_, hints, err := CheckServer("f", []byte(doc), ServerOverrides{})
			is.NoErr(err)
			is.Equal(len(hints) == 1, c.hinted)
			if c.hinted {
				is.Equal(hints[0].Key, "engines[0].fabric_iface_port")
				is.True(hints[0].Line > 0)
				is.True(strings.Contains(hints[0].Text, "31416 is the control port, too"))
			}
		})
	}
}

// Class dir is for the emulated engine only.
func TestClassDir(t *testing.T) {
	dir := "  storage: [{class: dir, scm_mount: /m, scm_size: 1}]\n"
	plain := []fault.Code{codeBadConfig}
	checkRule(t, oneEngine(dir), plain, "engines[0].storage[0].class")
	checkRule(t, "engine_binary: /usr/bin/daos_engine\n"+oneEngine(dir), plain, "engines[0].storage[0].class")
	checkRule(t, "engine_binary: emulator\n"+oneEngine(dir), nil, "")
	checkRule(t, oneEngine(dir+"  engine_binary: /x/daos_engine_emulator\n"), nil, "")
	checkRule(t, "engine_binary: emulator\n"+oneEngine(strings.Replace(dir, ", scm_size: 1", "", 1)), plain, "engines[0].storage[0].scm_size")
	checkRule(t, "engine_binary: emulator\n"+oneEngine(strings.Replace(dir, "_size: 1", "_size: 1, scm_list: [/p]", 1)), plain, "engines[0].storage[0].scm_list")
}

func checkRule(t *testing.T, doc string, codes []fault.Code, key string) {
	t.Helper()
	is := is.New(t)
	_, _, err := CheckServer("f", []byte(doc), ServerOverrides{})
	if got := codesOf(err); !equalAnyOrder(got, codes) {
		t.Errorf("codes are %v, want %v: %v", got, codes, err)
		return
	}
	for _, p := range Problems(err) {
		is.True(p.Hint != "" || strings.Contains(p.What, "tiers, more than")) // says what to do
		if strings.Contains(doc, "\n") && p.Data["line"] == "0" && p.Data["key"] != "mgmt_svc_replicas" && p.Data["key"] != "provider" {
			t.Errorf("no place: %v", p)
		}
	}
	if key != "" {
		keys := map[string]bool{}
		for _, p := range Problems(err) {
			keys[p.Data["key"]] = true
		}
		is.True(keys[key]) // names the key
	}
}

func equalAnyOrder(a, b []fault.Code) bool {
	count := map[fault.Code]int{}
	for _, c := range a {
		count[c]++
	}
	for _, c := range b {
		count[c]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func TestLogSettings(t *testing.T) {
	for setting, texts := range map[LogSetting]map[string]string{ // what the error says, empty for none
		LogMask: {
			"": "", "err": "", "DEBUG,RPC=ERR,MEM=ERR": "", "rpc=info": "", "EMIT": "",
			"RPC=ERR,DEBUG": "must come first", "ALL=ERR": "cannot be assigned", "LOUD": `"LOUD" is no known log level`,
			"SPACE=ERR": `"SPACE" is no known subsystem`, "DEBUG,": "must come first", "DEBUG;RPC=ERR": "character ';'",
			"INFO,RPC=": "no known log level", "INFO" + strings.Repeat(",RPC=ERR", 200): "1604 characters are more than 1023",
		},
		LogStreams:    {"": "", "all": "", "mgmt,md": "", "ALL,MD": "beside other names", "mgt": `"MGT" is no known debug stream`},
		LogSubsystems: {"": "", "rpc,BULK": "", "all": "", "EPC": `"EPC" is no known subsystem`, "ALL,RPC": "beside other names"},
	} {
		for text, says := range texts {
			is := is.New(t)
			err := CheckLogSetting(setting, "log_mask", text)
			is.Equal(err == nil, says == "")
			if err != nil {
				is.True(strings.HasPrefix(err.Error(), "cannot use log_mask: "))
				is.True(strings.Contains(err.Error(), says))
				is.Equal(fault.Of(err), fault.Usage)
				is.True(fault.HintOf(err) != "")
			}
		}
	}
}

func TestAgentRules(t *testing.T) {
	for name, c := range map[string]struct {
		doc string
		key string // of the only problem
	}{
		"good":          {doc: "telemetry_port: 9192\ntelemetry_enabled: true\ntelemetry_retain: 1m\ntelemetry_enabled_procs: ^dfuse$\nprovideridx: 1\n"},
		"name":          {"name: ''\n", "name"},
		"port":          {"port: 0\n", "port"},
		"no servers":    {"access_points: []\n", "access_points"},
		"bad servers":   {"access_points: ['a[1-']\n", "access_points[0]"},
		"directory":     {"runtime_dir: ''\n", "runtime_dir"},
		"interfaces":    {"include_fabric_ifaces: [a]\nexclude_fabric_ifaces: [b]\n", "include_fabric_ifaces"},
		"enabled":       {"telemetry_enabled: true\n", "telemetry_enabled"},
		"retain":        {"telemetry_retain: 1m\n", "telemetry_retain"},
		"duration":      {"telemetry_retain: 1\n", "telemetry_retain"},
		"both patterns": {"telemetry_port: 1\ntelemetry_enabled: true\ntelemetry_enabled_procs: a\ntelemetry_disabled_procs: b\n", "telemetry_disabled_procs"},
		"empty pattern": {"telemetry_port: 1\ntelemetry_enabled: true\ntelemetry_enabled_procs: ''\n", "telemetry_enabled_procs"},
		"bad pattern":   {"telemetry_port: 1\ntelemetry_enabled: true\ntelemetry_enabled_procs: '('\n", "telemetry_enabled_procs"},
		"user":          {"credential_config: {client_user_map: {bob: {user: a}}}\n", "credential_config.client_user_map.bob"},
		"user reserved": {"credential_config: {client_user_map: {4294967295: {user: a}}}\n", "credential_config.client_user_map.4294967295"},
		"users":         {doc: "credential_config: {cache_expiration: 1m, client_user_map: {default: {user: a, group: b, groups: [c]}, 1000: {user: d}}}\n"},
		"device":        {"fabric_ifaces: [{numa_node: 0, devices: [{domain: a}]}]\n", "fabric_ifaces[0].devices[0].iface"},
		"numa":          {"fabric_ifaces: [{numa_node: -1}]\n", "fabric_ifaces[0].numa_node"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			_, _, err := CheckAgent("f", []byte(c.doc), AgentOverrides{})
			if c.key == "" {
				is.NoErr(err)
				return
			}
			list := Problems(err)
			is.Equal(len(list), 1)
			is.Equal(list[0].Data["key"], c.key)
		})
	}
}

func TestControlRules(t *testing.T) {
	is := is.New(t)
	_, _, err := CheckControl("f", []byte("name: ''\nport: 0\nhostlist: []\n"), ControlOverrides{})
	is.Equal(codesOf(err), []fault.Code{codeBadConfig, codeClientPort, codeClientHostList})
	_, _, err = CheckControl("f", []byte("hostlist: ['a[3-1']\n"), ControlOverrides{})
	is.Equal(len(Problems(err)), 1)
}
