package config

import (
	"fmt"
	"strings"
)

// Summary tells a person what a resolved configuration means, several lines each
// ended by a newline.
func (s *Server) Summary() string {
	var b strings.Builder
	row(&b, "system", s.Name)
	row(&b, "replicas", strings.Join(s.MgmtSvcReplicas, ", "))
	iface := "all interfaces"
	switch {
	case s.ControlAddr != "":
		iface = s.ControlAddr
	case s.ControlIface != "":
		iface = "interface " + s.ControlIface
	}
	ports := fmt.Sprintf("control %d on %s", s.Port, iface)
	if s.TelemetryPort != 0 {
		ports += fmt.Sprintf(", telemetry %d", s.TelemetryPort)
	}
	row(&b, "ports", ports)
	row(&b, "security", s.Transport.summary())
	row(&b, "sockets", s.SocketDir)
	row(&b, "log", logSummary(s.ControlLogFile, s.ControlLogMask))
	if s.ControlMetadata.Path != "" {
		row(&b, "metadata", strings.TrimSpace(s.ControlMetadata.Dir()+" "+s.ControlMetadata.Device))
	}
	if s.Discovery() {
		row(&b, "engines", "none: the server only answers scans (discovery mode)")
		return b.String()
	}
	row(&b, "provider", s.Provider)
	row(&b, "engines", fmt.Sprint(len(s.Engines)))
	for i, e := range s.Engines {
		fmt.Fprintf(&b, "  %s: %s\n", item("engines", i), e.summary())
		for n, t := range e.Storage {
			fmt.Fprintf(&b, "    tier %d: %s\n", n, t.summary())
		}
	}
	return b.String()
}

func row(b *strings.Builder, name, value string) { fmt.Fprintf(b, "%-9s %s\n", name, value) }

func logSummary(file string, level LogLevel) string {
	if file == "" {
		file = "stderr"
	}
	return fmt.Sprintf("%s, level %s", file, level)
}

func (t Transport) summary() string {
	if t.AllowInsecure {
		return "OFF: allow_insecure, connections are neither encrypted nor authenticated"
	}
	text := fmt.Sprintf("certificate %s, key %s, CA %s", t.Cert, t.Key, t.CACert)
	if t.ClientCertDir != "" {
		text += ", clients " + t.ClientCertDir
	}
	return text
}

func (e *Engine) summary() string {
	parts := []string{
		fmt.Sprintf("%d targets", e.Targets),
		fmt.Sprintf("%d helpers", e.NrXSHelpers),
		fmt.Sprintf("%s port %d", e.FabricIface, e.FabricIfacePort),
	}
	if e.PinnedNUMANode != nil {
		parts = append(parts, fmt.Sprintf("NUMA node %d", *e.PinnedNUMANode))
	}
	if e.FirstCore != nil {
		parts = append(parts, fmt.Sprintf("first core %d", *e.FirstCore))
	}
	if e.LogFile != "" {
		parts = append(parts, "log "+e.LogFile)
	}
	switch {
	case e.Emulated():
		parts = append(parts, "EMULATED")
	case e.EngineBinary != "":
		parts = append(parts, "binary "+e.EngineBinary)
	}
	return strings.Join(parts, ", ")
}

func (t *Tier) summary() string {
	parts := []string{string(t.Class)}
	switch t.Class {
	case ClassRAM, ClassDir:
		size := "automatic size"
		if t.ScmSize != 0 {
			size = fmt.Sprintf("%d GiB", t.ScmSize)
		}
		parts = append(parts, t.ScmMount, size)
	case ClassDCPM:
		parts = append(parts, t.ScmMount, strings.Join(t.ScmList, " "))
	case ClassMalloc:
		parts = append(parts, fmt.Sprintf("%d x %d GiB", t.BdevNumber, t.BdevSize))
	default:
		parts = append(parts, strings.Join(t.BdevList, " "))
		if t.BdevSize != 0 {
			parts = append(parts, fmt.Sprintf("%d GiB each", t.BdevSize))
		}
	}
	if len(t.BdevRoles) > 0 {
		roles := make([]string, len(t.BdevRoles))
		for i, r := range t.BdevRoles {
			roles[i] = string(r)
		}
		parts = append(parts, "roles "+strings.Join(roles, "+"))
	}
	return strings.Join(parts, ", ")
}

// Summary is Server.Summary for an agent.
func (a *Agent) Summary() string {
	var b strings.Builder
	row(&b, "system", a.Name)
	row(&b, "servers", strings.Join(a.AccessPoints, ", "))
	row(&b, "security", a.Transport.summary())
	row(&b, "sockets", a.RuntimeDir)
	row(&b, "log", logSummary(a.LogFile, a.ControlLogMask))
	cache := "attach info kept until it changes"
	switch {
	case a.DisableCaching:
		cache = "off"
	case a.CacheExpiration != 0:
		cache = fmt.Sprintf("attach info kept for %d minutes", a.CacheExpiration)
	}
	row(&b, "cache", cache)
	if a.TelemetryPort != 0 {
		row(&b, "telemetry", fmt.Sprintf("port %d", a.TelemetryPort))
	}
	return b.String()
}

// Summary is Server.Summary for dmg.
func (c *Control) Summary() string {
	var b strings.Builder
	row(&b, "system", c.Name)
	row(&b, "hosts", strings.Join(c.HostList, ", "))
	row(&b, "security", c.Transport.summary())
	return b.String()
}
