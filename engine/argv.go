package engine

import (
	"strconv"
)

// Args is what the command line of one engine is made from. Pointer fields are
// emitted only when set, since 0 is a valid value of theirs.
type Args struct {
	// Modules is the internal comma list of modules; empty means the engine's own.
	Modules string
	// Targets is the number of storage targets.
	Targets int
	// Helpers is the number of helper streams (nr_xs_helpers).
	Helpers int
	// FirstCore is the first CPU core to use.
	FirstCore *int
	// System is the name of the system, at most 15 characters.
	System string
	// SocketDir is the directory of the dRPC sockets.
	SocketDir string
	// Tiers is the number of storage tiers, 1 to 4.
	Tiers int
	// NVMeConf is the path of daos_nvme.conf, empty without block devices.
	NVMeConf string
	// BypassHealthCheck turns the health check of NVMe devices off.
	BypassHealthCheck bool
	// NUMANode is the NUMA node to stay on.
	NUMANode *int
	// Index is the position of the engine in the configuration.
	Index int
	// MemSizeMiB is the memory for DMA in MiB, 0 without block devices.
	MemSizeMiB int
	// HugepageSizeMiB is the size of one hugepage in MiB, 0 when none are used.
	HugepageSizeMiB int
	// Check starts the engine in checker mode.
	Check bool
	// SCMMount is the mount point of the first tier.
	SCMMount string
}

// Argv returns the words after the program's name, in the order that servers of
// all releases use. The option for secondary endpoints is never among them: the
// servers know it, but every engine refuses it and exits.
func (a Args) Argv() []string {
	var words []string
	text := func(flag, value string) {
		if value != "" {
			words = append(words, flag, value)
		}
	}
	number := func(flag string, value int) {
		words = append(words, flag, strconv.Itoa(value))
	}
	nonZero := func(flag string, value int) {
		if value != 0 {
			number(flag, value)
		}
	}
	optional := func(flag string, value *int) {
		if value != nil {
			number(flag, *value)
		}
	}
	toggle := func(flag string, on bool) {
		if on {
			words = append(words, flag)
		}
	}

	text("-m", a.Modules)
	nonZero("-t", a.Targets)
	number("-x", a.Helpers)
	optional("-f", a.FirstCore)
	text("-g", a.System)
	text("-d", a.SocketDir)
	nonZero("-T", a.Tiers)
	text("-n", a.NVMeConf)
	toggle("-b", a.BypassHealthCheck)
	optional("-p", a.NUMANode)
	number("-I", a.Index)
	number("-r", a.MemSizeMiB)
	number("-H", a.HugepageSizeMiB)
	toggle("-C", a.Check)
	text("-s", a.SCMMount)
	return words
}
