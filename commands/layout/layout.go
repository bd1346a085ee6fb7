// Package layout makes the storage layout of an engine from the server's
// configuration: the one reading of it that daos_server and its helper share.
package layout

import (
	"daosbox/commands/config"
	"daosbox/storage"
)

// Of is the storage of engine index as the resolved configuration describes it.
// The host's name becomes part of the names of block devices.
func Of(cfg *config.Server, index int, hostname string) storage.Layout {
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
