package layout

import (
	"daosbox/cluster/fault"
	"daosbox/commands/config"
	"daosbox/storage"
)

// Parts of the host's memory that a RAM disk leaves alone, in MiB: for each target
// of an engine, but at least for one whole engine, and hugepages for each stream.
const (
	targetMiB    = 128
	engineMiB    = 1024
	streamMiB    = 1024
	leastDiskGiB = 4

	codeLowMemory fault.Code = 214
)

// SizeRAMDisks sets the sizes of RAM disks that the configuration leaves open: the
// memory of the host less hugepages, system_ram_reserved and what the engines
// themselves need, in equal parts, whole GiB. Sizes that are set stay.
func SizeRAMDisks(cfg *config.Server, memory storage.MemInfo) error {
	var open []*config.Tier
	for _, e := range cfg.Engines {
		if scm := e.SCM(); scm != nil && scm.Class == config.ClassRAM && scm.ScmSize == 0 {
			open = append(open, scm)
		}
	}
	if len(open) == 0 {
		return nil
	}
	engines := int64(len(cfg.Engines))
	total := int64(memory.TotalKiB >> 10)
	own := engines * int64(max(cfg.Engines[0].Targets*targetMiB, engineMiB))
	rest := total - hugepageMiB(cfg, memory) - int64(cfg.SystemRAMReserved)<<10 - own
	size := rest / engines >> 10
	if size < leastDiskGiB {
		return fault.New(codeLowMemory, "cannot size the RAM disks of %d engine(s): %d GiB of memory leave %d GiB for each, less than %d",
			engines, total>>10, max(size, 0), leastDiskGiB).
			WithHint("lower system_ram_reserved (now %d GiB) or nr_hugepages, use fewer engines, or set scm_size", cfg.SystemRAMReserved)
	}
	for _, scm := range open {
		scm.ScmSize = uint(size)
	}
	return nil
}

// hugepageMiB is what hugepages take: what is configured, else what the engines
// with block devices need at least.
func hugepageMiB(cfg *config.Server, memory storage.MemInfo) int64 {
	if cfg.DisableHugepages {
		return 0
	}
	if cfg.NrHugepages > 0 {
		return int64(cfg.NrHugepages) * int64(memory.HugepageSizeKiB) >> 10
	}
	var streams int64
	for _, e := range cfg.Engines {
		if len(e.Bdevs()) > 0 {
			streams += Streams(e)
		}
	}
	return streams * streamMiB
}

// Streams is how many streams of an engine need hugepages for block devices: one
// for each target and one for metadata; a single target without counts as two.
func Streams(e *config.Engine) int64 {
	n := int64(e.Targets)
	if e.HasRole(config.RoleMeta) {
		return n + 1
	}
	return max(n, 2)
}
