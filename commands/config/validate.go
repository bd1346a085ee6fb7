package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// validator adds the problems of one configuration that the decoder cannot see.
type validator struct {
	*problems
	source source
}

// bad records a problem of the value at key, unless an earlier step complained
// about the same place: one mistake is told once.
func (v validator) bad(code fault.Code, key, hint, format string, args ...any) {
	if !v.source.known(key) {
		v.add(v.source.position(key), code, key, hint, format, args...)
	}
}

// validate checks the rules of a server. Without engines only the rules that hold
// for every server are checked: it runs in discovery mode.
func (s *Server) validate(p *problems) {
	v := validator{p, s.source}
	v.name(s.Name)
	v.replicas(s)
	if s.ControlMetadata.Device != "" && s.ControlMetadata.Path == "" {
		v.bad(codeMetadataNoPath, "control_metadata.path", "set control_metadata.path to where the device shall be mounted",
			"control_metadata.device is set without a path")
	}
	if s.SystemRAMReserved <= 0 {
		v.bad(codeSysReservedZero, "system_ram_reserved", "give the GiB of memory to keep for the system, or leave the key out for 64",
			"%d is not a positive number of GiB", s.SystemRAMReserved)
	}
	if s.EngineAutoRestartMinDelay < 0 {
		v.bad(codeBadConfig, "engine_auto_restart_min_delay", "give seconds, or leave the key out for 300", "%d is negative", s.EngineAutoRestartMinDelay)
	}
	v.ports(s)
	v.address(s)
	v.faultDomain(s)
	v.environment("client_env_vars", s.ClientEnvVars)
	if strings.Contains(s.Provider, ",") {
		v.bad(codeBadConfig, "provider", "name one provider", "%q names more than one provider", s.Provider)
	}
	if s.Discovery() {
		return
	}
	if s.Provider == "" {
		v.bad(codeBadProvider, "provider", "set provider, for example to ofi+tcp", "no network provider is set")
	}
	for i, e := range s.Engines {
		v.engine(item("engines", i), s, e)
	}
	v.acrossEngines(s)
	v.hugepages(s)
	v.exclusions(s)
}

func (v validator) name(name string) {
	if name == "" || len(name) > maxNameLength {
		v.bad(codeBadConfig, "name", "choose a name of 1 to 15 bytes", "the system name %q has %d bytes", name, len(name))
	}
}

func (v validator) replicas(s *Server) {
	seen := map[string]int{}
	for i, replica := range s.MgmtSvcReplicas {
		key := item("mgmt_svc_replicas", i)
		replica = withPort(replica, s.Port)
		host, port, err := net.SplitHostPort(replica)
		if err != nil || host == "" || strings.ContainsAny(host, "[]*?, /") {
			v.bad(codeBadReplicas, key, "write HOST or HOST:PORT", "%q is no address", replica)
			continue
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			v.bad(codeBadControlPort, key, "use a port from 1 to 65535", "%q is no port", port)
			continue
		}
		id := strings.ToLower(replica)
		if first, ok := seen[id]; ok {
			v.bad(codeBadReplicas, key, "list each replica once", "%s repeats replica %d of the list", replica, first+1)
			continue
		}
		seen[id] = i
	}
	switch n := len(s.MgmtSvcReplicas); {
	case n == 0:
		v.bad(codeBadReplicas, "mgmt_svc_replicas", "name at least one host", "the list of replicas is empty")
	case n%2 == 0:
		v.bad(fault.EvenReplicas, "mgmt_svc_replicas", "an odd number survives as many failures with one replica less: add or remove one",
			"the number of replicas (%d) is even", n)
	}
}

func (v validator) ports(s *Server) {
	if s.Port <= 0 || s.Port > 65535 {
		v.bad(codeBadControlPort, "port", "use a port from 1 to 65535; the usual one is 10001", "%d is no port", s.Port)
	}
	switch {
	case s.TelemetryPort < 0 || s.TelemetryPort > 65535:
		v.bad(codeBadTelemetryPort, "telemetry_port", "use a port from 1 to 65535, or 0 for no telemetry", "%d is no port", s.TelemetryPort)
	case s.TelemetryPort != 0 && s.TelemetryPort == s.Port:
		v.bad(codeBadTelemetryPort, "telemetry_port", "choose another port; the usual one is 9191", "port %d is the control port already", s.Port)
	}
}

// address checks control_addr, which must be one that a socket can be bound to.
func (v validator) address(s *Server) {
	if s.ControlAddr == "" {
		return
	}
	if ip, err := netip.ParseAddr(s.ControlAddr); err != nil || !ip.Is4() || ip.IsUnspecified() || ip.IsMulticast() {
		v.bad(codeBadConfig, "control_addr", "write an address of this host, as in 127.0.0.2", "%q is no IPv4 address of a host", s.ControlAddr)
	}
	if s.ControlIface != "" {
		v.hint(v.source.position("control_iface"), "control_iface", "control_iface has no effect because control_addr is set: keep one of the two")
	}
}

// maxFaultLayers is the depth of a fault domain below its root.
const maxFaultLayers = 2

// faultDomain checks the form of fault_path; fault_cb is run at start.
func (v validator) faultDomain(s *Server) {
	if s.FaultPath != "" && s.FaultCB != "" {
		v.bad(codeFaultBoth, "fault_path", "keep one of fault_path and fault_cb", "fault_path and fault_cb are both set")
	}
	path := strings.ToLower(strings.TrimSpace(strings.Trim(s.FaultPath, `"'`)))
	if path == "" {
		return
	}
	const hint = "write /HOST or /RACK/HOST, either all or none as label=value"
	if !strings.HasPrefix(path, "/") {
		v.bad(codeFaultDomain, "fault_path", hint, "%q does not start with /", s.FaultPath)
		return
	}
	layers := strings.Split(path[1:], "/")
	labelled := 0
	for _, layer := range layers {
		label, value, hasLabel := strings.Cut(layer, "=")
		if strings.TrimSpace(layer) == "" || hasLabel && (label == "" || value == "") {
			v.bad(codeFaultDomain, "fault_path", hint, "%q has an empty level", s.FaultPath)
			return
		}
		if hasLabel {
			labelled++
		}
	}
	if labelled != 0 && labelled != len(layers) {
		v.bad(codeFaultDomain, "fault_path", hint, "only some levels of %q have labels", s.FaultPath)
	}
	if len(layers) > maxFaultLayers {
		v.bad(codeFaultLayers, "fault_path", hint, "%q has %d levels, more than %d", s.FaultPath, len(layers), maxFaultLayers)
	}
}

// environment checks pairs of the form NAME=VALUE. A value that has no effect, or
// hardly the wanted one, is no reason not to start.
func (v validator) environment(key string, pairs []string) {
	for i, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		at := item(key, i)
		switch {
		case !ok || name == "" || strings.ContainsAny(name, " \t\x00"):
			v.bad(codeBadConfig, at, "write NAME=VALUE", "%q sets no variable", pair)
		case value == "":
			v.hint(v.source.position(at), at, "%s has no value and is left out", name)
		case len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0]:
			v.hint(v.source.position(at), at, "the quotes become part of the value of %s: remove them if they are not meant to", name)
		}
	}
}

const maxHugepages = 1<<31 - 1

func (v validator) hugepages(s *Server) {
	if s.NrHugepages < 0 || s.NrHugepages > maxHugepages {
		v.bad(codeHugepagesRange, "nr_hugepages", "give 0 for the automatic number", "%d is outside of 0 to %d", s.NrHugepages, maxHugepages)
	}
	if !s.DisableHugepages {
		return
	}
	if s.NrHugepages > 0 {
		v.bad(codeNoHugepagesNr, "nr_hugepages", "remove nr_hugepages or disable_hugepages", "a number of huge pages is given but disable_hugepages is set")
	}
	for i, e := range s.Engines {
		for j, t := range e.Storage {
			if t.Class == ClassNVMe && len(t.BdevList) > 0 {
				v.bad(codeNoHugepagesNVMe, join(item(join(item("engines", i), "storage"), j), "class"),
					"remove disable_hugepages, or the NVMe tier", "NVMe SSDs need huge pages, which disable_hugepages turns off")
			}
		}
	}
}

// exclusions checks that no excluded device is used.
func (v validator) exclusions(s *Server) {
	users := map[pciAddress]int{}
	for n, e := range s.Engines {
		for _, t := range e.Bdevs() {
			for _, used := range t.BdevList {
				if address, ok := parsePCI(used); ok {
					users[address] = n
				}
			}
		}
	}
	for i, text := range s.BdevExclude {
		key := item("bdev_exclude", i)
		address, ok := parsePCI(text)
		if !ok {
			v.bad(codeBadConfig, key, "write DDDD:BB:DD.F, as in 0000:81:00.0", "%q is no PCI address", text)
		} else if n, used := users[address]; used {
			v.bad(codeBdevExcludeClash, key, "remove it from one of the two lists", "%s is excluded, but engines[%d] uses it", text, n)
		}
	}
}
