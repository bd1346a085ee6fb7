package server

import (
	"os"
	"strings"

	"daosbox/commands/config"
	"daosbox/engine"
	"daosbox/storage"
)

// layoutOf is the storage of an engine as the configuration describes it.
func layoutOf(cfg *config.Server, index int, hostname string) storage.Layout {
	e := cfg.Engines[index]
	l := storage.Layout{
		Engine:   index,
		Host:     hostname,
		Metadata: storage.Metadata{Path: cfg.ControlMetadata.Path, Device: cfg.ControlMetadata.Device},
		Conf:     confOf(cfg, e),
	}
	if scm := e.SCM(); scm != nil {
		l.SCM = storage.Tier{
			Class: storage.Class(scm.Class), Mount: scm.ScmMount, SizeGiB: uint64(scm.ScmSize),
			Devices: scm.ScmList, Hugepages: !scm.HugepagesDisabled(),
		}
		if e.PinnedNUMANode != nil {
			l.SCM.NUMANode = int(*e.PinnedNUMANode)
		}
	}
	for _, tier := range e.Bdevs() {
		l.Bdevs = append(l.Bdevs, storage.Tier{
			Class: storage.Class(tier.Class), SizeGiB: uint64(tier.BdevSize), Devices: tier.BdevList,
			Number: tier.BdevNumber, Roles: rolesOf(tier),
		})
	}
	return l
}

func rolesOf(tier *config.Tier) storage.Roles {
	var roles storage.Roles
	for role, bit := range map[config.Role]storage.Roles{
		config.RoleData: storage.RoleData, config.RoleMeta: storage.RoleMeta, config.RoleWAL: storage.RoleWAL,
	} {
		if tier.HasRole(role) {
			roles |= bit
		}
	}
	return roles
}

func confOf(cfg *config.Server, e *config.Engine) storage.ConfOptions {
	o := storage.ConfOptions{
		Hotplug:   !cfg.DisableHotplug,
		SmallPool: e.SPDKIobuf.SmallPoolCount, LargePool: e.SPDKIobuf.LargePoolCount,
		AccelEngine: string(e.Acceleration.Engine),
	}
	for _, option := range e.Acceleration.Options {
		o.AccelMove = o.AccelMove || option == config.AccelMove
		o.AccelCRC = o.AccelCRC || option == config.AccelCRC
	}
	if e.SPDKRPCServer.Enable {
		o.RPCSocket = e.SPDKRPCServer.SockAddr
	}
	if e.BdevAutoFaulty.Enable {
		o.AutoFaulty, o.MaxIOErrs, o.MaxCsumErrs = true, e.BdevAutoFaulty.MaxIOErrs, e.BdevAutoFaulty.MaxCsumErrs
	}
	return o
}

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
		// An engine with one target and no metadata role counts as two; the
		// system's own stream of a metadata device counts as one.
		streams := e.Targets
		if e.HasRole(config.RoleMeta) {
			streams++
		} else if streams == 1 {
			streams = 2
		}
		a.MemSizeMiB, a.HugepageSizeMiB = streams*targetMiB, hugepageMiB
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
