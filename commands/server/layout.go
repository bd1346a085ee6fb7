package server

import (
	"os"
	"strings"

	"daosbox/commands/config"
	"daosbox/commands/layout"
	"daosbox/engine"
	"daosbox/storage"
)

// targetMiB is the DMA memory of one target (config.md §10.1).
const targetMiB = 1024

// engineArgs is what the command line of an engine is made from.
func engineArgs(cfg *config.Server, e *config.Engine, index int, l storage.Layout) engine.Args {
	a := engine.Args{
		Modules: e.Modules, Targets: e.Targets, Helpers: e.NrXSHelpers, FirstCore: e.FirstCore,
		System: cfg.Name, SocketDir: cfg.SocketDir, Tiers: len(e.Storage), NVMeConf: l.NVMeConfPath(),
		BypassHealthCheck: e.BypassHealthCheck != nil && *e.BypassHealthCheck,
		Index:             index, SCMMount: l.SCM.Mount,
	}
	if e.PinnedNUMANode != nil {
		node := int(*e.PinnedNUMANode)
		a.NUMANode = &node
	}
	if a.NVMeConf != "" {
		a.MemSizeMiB, a.HugepageSizeMiB = int(layout.Streams(e))*targetMiB, hugepageMiB
	}
	return a
}

// hugepageMiB is the size of the hugepages that engines use.
const hugepageMiB = 2

// engineEnv is what the environment of an engine is made from.
func engineEnv(e *config.Engine, l storage.Layout, domain string) engine.EnvSpec {
	spec := engine.EnvSpec{
		Provider: e.Provider, Interface: e.FabricIface, Port: e.FabricIfacePort, Domain: domain,
		CRTTimeout: e.CrtTimeout, DisableSRX: e.DisableSRX, AuthKey: e.FabricAuthKey,
		LogMask: e.LogMask, LogFile: e.LogFile, SCMClass: string(l.SCM.Class), MDonSSD: l.MetadataOnSSD(),
		EnvVars: e.EnvVars, PassThrough: e.EnvPassThrough,
	}
	if len(l.Bdevs) > 0 {
		spec.BdevClass = string(l.Bdevs[0].Class)
	}
	return spec
}

// fabricDomain is the provider's device of an engine's interface. Over IP the
// interface is its own device; for RDMA the fabric library finds it.
func (s *server) fabricDomain(e *config.Engine) string {
	if strings.Contains(e.Provider, "verbs") || strings.Contains(e.Provider, "ucx") {
		return ""
	}
	return e.FabricIface
}

// hostname is the host's name, or "localhost" when the kernel does not tell.
func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}
