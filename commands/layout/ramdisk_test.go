package layout

import (
	"testing"

	"daosbox/cluster/fault"
	"daosbox/commands/config"
	"daosbox/storage"

	"github.com/matryer/is"
)

func ramHost(engines, targets int, size uint) *config.Server {
	cfg := config.NewServer()
	for range engines {
		cfg.Engines = append(cfg.Engines, &config.Engine{Targets: targets, Storage: []*config.Tier{{Class: config.ClassRAM, ScmMount: "/mnt/daos", ScmSize: size}}})
	}
	return cfg
}

func TestSizeRAMDisks(t *testing.T) {
	is := is.New(t)
	memory := storage.MemInfo{TotalKiB: 256 << 20, HugepageSizeKiB: 2048}

	cfg := ramHost(2, 16, 0) // (256 - 64 reserved - 2*2) / 2
	is.NoErr(SizeRAMDisks(cfg, memory))
	is.Equal(cfg.Engines[0].SCM().ScmSize, uint(94))
	is.Equal(cfg.Engines[1].SCM().ScmSize, uint(94))

	cfg = ramHost(1, 4, 0) // one engine counts as 1 GiB at least; 16 GiB of hugepages
	cfg.NrHugepages = 8192
	is.NoErr(SizeRAMDisks(cfg, memory))
	is.Equal(cfg.Engines[0].SCM().ScmSize, uint(256-64-1-16))

	cfg = ramHost(1, 4, 0) // hugepages for four targets and the metadata stream
	cfg.Engines[0].Storage = append(cfg.Engines[0].Storage, &config.Tier{Class: config.ClassFile, BdevRoles: []config.Role{config.RoleData, config.RoleMeta, config.RoleWAL}})
	is.NoErr(SizeRAMDisks(cfg, memory))
	is.Equal(cfg.Engines[0].SCM().ScmSize, uint(256-64-1-5))

	cfg = ramHost(1, 4, 7)
	is.NoErr(SizeRAMDisks(cfg, storage.MemInfo{TotalKiB: 1 << 20}))
	is.Equal(cfg.Engines[0].SCM().ScmSize, uint(7)) // what is set stays

	err := SizeRAMDisks(ramHost(1, 4, 0), storage.MemInfo{TotalKiB: 24 << 20})
	is.Equal(fault.Of(err), codeLowMemory)
	is.True(fault.HintOf(err) != "")
}
