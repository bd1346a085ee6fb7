package config

import (
	"math"
	"strconv"
)

func (a *Agent) validate(p *problems) {
	v := validator{p, a.source}
	v.name(a.Name)
	v.clientPort(a.Port)
	if len(a.AccessPoints) == 0 {
		v.bad(codeBadConfig, "access_points", "name the hosts of the management service", "the list is empty")
	}
	if a.RuntimeDir == "" {
		v.bad(codeBadConfig, "runtime_dir", "name a directory, or leave the key out for "+DefaultRuntimeDir, "no directory is given")
	}
	if len(a.ExcludeFabricIfaces) > 0 && len(a.IncludeFabricIfaces) > 0 {
		v.bad(codeBadConfig, "include_fabric_ifaces", "keep one of the two", "include_fabric_ifaces and exclude_fabric_ifaces are both set")
	}
	v.users(a.CredentialConfig)
	v.agentTelemetry(a)
	for i, node := range a.FabricIfaces {
		key := item("fabric_ifaces", i)
		if node.NUMANode < 0 {
			v.bad(codeBadConfig, join(key, "numa_node"), "count nodes from 0", "%d is negative", node.NUMANode)
		}
		for j, device := range node.Devices {
			if device.Iface == "" {
				v.bad(codeBadConfig, join(item(join(key, "devices"), j), "iface"), "name the interface", "the device has no interface")
			}
		}
	}
}

func (v validator) clientPort(port int) {
	if port <= 0 || port > 65535 {
		v.bad(codeClientPort, "port", "use a port from 1 to 65535; the usual one is 10001", "%d is no port", port)
	}
}

func (v validator) users(c CredentialConfig) {
	if c.CacheExpiration < 0 {
		v.bad(codeBadConfig, "credential_config.cache_expiration", "give 0 for no cache", "%v is negative", c.CacheExpiration)
	}
	for _, uid := range sortedKeys(c.ClientUserMap) {
		if uid == "default" {
			continue
		}
		key := join("credential_config.client_user_map", uid)
		if n, err := strconv.ParseUint(uid, 10, 32); err != nil || n == math.MaxUint32 {
			v.bad(codeBadConfig, key, "use a number below 4294967295, or \"default\"", "%q is no user id", uid)
		}
	}
}

func (v validator) agentTelemetry(a *Agent) {
	if a.TelemetryPort < 0 || a.TelemetryPort > 65535 {
		v.bad(codeBadTelemetryPort, "telemetry_port", "use a port from 1 to 65535, or 0 for no telemetry", "%d is no port", a.TelemetryPort)
	}
	if a.TelemetryEnabled && a.TelemetryPort == 0 {
		v.bad(codeBadConfig, "telemetry_enabled", "set telemetry_port, for example to 9192", "telemetry is enabled without a port")
	}
	needs := map[string]bool{
		"telemetry_retain":         a.TelemetryRetain != 0,
		"telemetry_enabled_procs":  a.TelemetryEnabledProc != nil,
		"telemetry_disabled_procs": a.TelemetryDisabledProc != nil,
	}
	for _, key := range sortedKeys(needs) {
		if needs[key] && !a.TelemetryEnabled {
			v.bad(codeBadConfig, key, "set telemetry_enabled: true", "the key needs telemetry_enabled")
		}
	}
	if a.TelemetryRetain < 0 {
		v.bad(codeBadConfig, "telemetry_retain", "give a positive time", "%v is negative", a.TelemetryRetain)
	}
	if a.TelemetryEnabledProc != nil && a.TelemetryDisabledProc != nil {
		v.bad(codeBadConfig, "telemetry_disabled_procs", "keep one of the two", "telemetry_enabled_procs and telemetry_disabled_procs are both set")
	}
	if re := a.TelemetryEnabledProc; re != nil && re.String() == "" {
		v.bad(codeBadConfig, "telemetry_enabled_procs", "give a pattern, or remove the key", "the pattern is empty")
	}
	if re := a.TelemetryDisabledProc; re != nil && re.String() == "" {
		v.bad(codeBadConfig, "telemetry_disabled_procs", "give a pattern, or remove the key", "the pattern is empty")
	}
}

func (c *Control) validate(p *problems) {
	v := validator{p, c.source}
	v.name(c.Name)
	v.clientPort(c.Port)
	if len(c.HostList) == 0 {
		v.bad(codeClientHostList, "hostlist", "name at least one server", "the list of hosts is empty")
	}
}
