// Package storage knows what a server keeps on its disks and how it gets there:
// where the files of an engine are (Layout), whether they are there (Host.Check),
// what a start has to do about it (StartAction), and the plan that makes them
// (PlanFormat, Plan.Execute). It also reads and writes the two files that the
// control plane owns, the superblock and daos_nvme.conf, and takes the inventory
// of the host (Host.Scan).
//
// Whatever changes a disk is first a list of steps, each of which may be done
// twice; the superblock is written last, so that a format that was cut off is
// never mistaken for a finished one. DESIGN.md argues the rest.
package storage

import (
	"path/filepath"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// Class is what a storage tier is made of; its text is that of the configuration.
type Class string

// The classes of SCM tiers (ram, dcpm, dir) and of block tiers.
const (
	// RAM is a tmpfs: lost at reboot, made by root.
	RAM Class = "ram"
	// DCPM is persistent memory with ext4 and DAX; needs hardware support.
	DCPM Class = "dcpm"
	// Dir is a plain directory that stands for SCM in an evaluation. Real
	// engines refuse it; any user may format it.
	Dir Class = "dir"
	// NVMe is SSDs by PCI address; needs hardware support.
	NVMe Class = "nvme"
	// File is image files, used by the engine through asynchronous I/O.
	File Class = "file"
	// Kdev is kernel block devices; needs hardware support.
	Kdev Class = "kdev"
	// Malloc is memory of the engine, lost when it ends.
	Malloc Class = "malloc"
)

// SCM reports whether a tier of this class can be an engine's first tier.
func (c Class) SCM() bool { return c == RAM || c == DCPM || c == Dir }

// Roles are the uses of a block tier when metadata lives on SSD; their bits
// stand at the end of each device's name in daos_nvme.conf.
type Roles uint8

// The bits of Roles.
const (
	RoleData Roles = 1 << iota
	RoleMeta
	RoleWAL
)

// String is the comma list that tables show, "NA" for none.
func (r Roles) String() string {
	var names []string
	for _, role := range []struct {
		bit  Roles
		name string
	}{{RoleData, "data"}, {RoleMeta, "meta"}, {RoleWAL, "wal"}} {
		if r&role.bit != 0 {
			names = append(names, role.name)
		}
	}
	if len(names) == 0 {
		return "NA"
	}
	return strings.Join(names, ",")
}

// Tier is one tier of an engine's storage.
type Tier struct {
	Class Class
	// Mount is the mount point or directory of an SCM tier, absolute.
	Mount string
	// SizeGiB is the size of the tmpfs or directory, or of each file or malloc
	// device.
	SizeGiB uint64
	// Devices are the pmem device, PCI addresses, image paths or kernel devices.
	Devices []string
	// Number is how many malloc devices there are.
	Number int
	// Roles of a block tier, 0 without metadata on SSD.
	Roles Roles
	// Hugepages asks for huge=always on a tmpfs.
	Hugepages bool
	// NUMANode is where a tmpfs prefers its memory.
	NUMANode int
}

// Owner is who gets the files that format makes.
type Owner struct{ UID, GID int }

// Metadata is the control_metadata section of the configuration.
type Metadata struct {
	// Path of the directory, or the mount point of Device; empty when unused.
	Path string
	// Device with an ext4 of its own; needs hardware support.
	Device string
}

// Layout is the storage of one engine, all of it resolved.
type Layout struct {
	// Engine is the index on this host, from 0.
	Engine int
	// Host is the name that device names in daos_nvme.conf carry.
	Host string
	// SCM is tier 0, Bdevs are tiers 1 and up.
	SCM   Tier
	Bdevs []Tier
	// Metadata is the place of the control plane's files when metadata is on SSD.
	Metadata Metadata
	// Owner of what is made; nil leaves it to the process.
	Owner *Owner
	// Conf are the settings of daos_nvme.conf beside the devices.
	Conf ConfOptions
}

const (
	superblockName = "superblock"
	nvmeConfName   = "daos_nvme.conf"
	raftName       = "control_raft"
	metadataName   = "daos_control"
)

// MetadataOnSSD reports whether the control plane's files are in the metadata
// directory: its path is set and every block tier has roles.
func (l Layout) MetadataOnSSD() bool {
	if l.Metadata.Path == "" || len(l.Bdevs) == 0 {
		return false
	}
	for _, tier := range l.Bdevs {
		if tier.Roles == 0 {
			return false
		}
	}
	return true
}

// MetadataDir is daos_control below the metadata path, "" when metadata is not
// on SSD.
func (l Layout) MetadataDir() string {
	if !l.MetadataOnSSD() {
		return ""
	}
	return filepath.Join(l.Metadata.Path, metadataName)
}

// Dir is the directory of the engine's superblock and daos_nvme.conf.
func (l Layout) Dir() string {
	if dir := l.MetadataDir(); dir != "" {
		return filepath.Join(dir, "engine"+strconv.Itoa(l.Engine))
	}
	return filepath.Clean(l.SCM.Mount)
}

// SuperblockPath is where the engine's superblock is.
func (l Layout) SuperblockPath() string { return filepath.Join(l.Dir(), superblockName) }

// NVMeConfPath is the file of the engine's -n option, "" when there is no block
// device and hence no file.
func (l Layout) NVMeConfPath() string {
	if !l.hasBdevs() {
		return ""
	}
	return filepath.Join(l.Dir(), nvmeConfName)
}

// RaftDir is where the management database would be if this engine's storage
// holds it; a server uses the one of its engine 0.
func (l Layout) RaftDir() string {
	if dir := l.MetadataDir(); dir != "" {
		return filepath.Join(dir, raftName)
	}
	return filepath.Join(filepath.Clean(l.SCM.Mount), raftName)
}

func (l Layout) hasBdevs() bool {
	for _, tier := range l.Bdevs {
		if tier.Class != NVMe || len(tier.Devices) > 0 {
			return true
		}
	}
	return false
}

// Supported says why this build cannot run on the layout, nil when it can: a
// class that needs hardware support, a path that is not absolute, a size of 0.
func (l Layout) Supported() error {
	switch l.SCM.Class {
	case RAM, Dir:
	case DCPM:
		return needsHardware(l.Engine, 0, DCPM, "ram or dir")
	default:
		return fault.New(codeScmMissing, "cannot use storage of engine %d: tier 0 has class %q, which is no SCM class",
			l.Engine, l.SCM.Class).WithHint("make the first tier one of class ram, dir or dcpm")
	}
	if !filepath.IsAbs(l.SCM.Mount) || filepath.Clean(l.SCM.Mount) == "/" {
		return fault.New(fault.Config, "cannot use storage of engine %d: scm_mount %q is no absolute path below /",
			l.Engine, l.SCM.Mount).WithHint("set scm_mount to the absolute path of a directory of its own")
	}
	if l.SCM.SizeGiB == 0 || l.SCM.SizeGiB > maxSizeGiB {
		return fault.New(codeScmSize, "cannot use storage of engine %d: size of %s is %d GiB",
			l.Engine, l.SCM.Mount, l.SCM.SizeGiB).WithHint("set scm_size to the size in GiB")
	}
	if l.Metadata.Device != "" {
		return fault.New(fault.Refused, "cannot use storage of engine %d: control_metadata.device %s needs block device support, which this build does not have",
			l.Engine, l.Metadata.Device).WithHint("remove control_metadata.device and give only control_metadata.path, on a local filesystem")
	}
	if l.Metadata.Path != "" && !filepath.IsAbs(l.Metadata.Path) {
		return fault.New(fault.Config, "cannot use storage of engine %d: control_metadata.path %q is not absolute",
			l.Engine, l.Metadata.Path).WithHint("set control_metadata.path to an absolute path")
	}
	for i, tier := range l.Bdevs {
		if err := l.bdevSupported(i+1, tier); err != nil {
			return err
		}
	}
	return nil
}

// maxSizeGiB keeps sizes in bytes within an int64; it is 1 EiB.
const maxSizeGiB = 1 << 30

func (l Layout) bdevSupported(number int, tier Tier) error {
	switch tier.Class {
	case NVMe:
		if len(tier.Devices) == 0 {
			return nil
		}
		return needsHardware(l.Engine, number, tier.Class, "file or malloc")
	case Kdev:
		return needsHardware(l.Engine, number, tier.Class, "file or malloc")
	case File:
		for _, path := range tier.Devices {
			if !filepath.IsAbs(path) {
				return fault.New(fault.Config, "cannot use tier %d of engine %d: image path %q is not absolute",
					number, l.Engine, path).WithHint("write absolute paths into bdev_list")
			}
		}
	case Malloc:
		if tier.Number < 1 || tier.Number > maxMalloc {
			return fault.New(fault.Config, "cannot use tier %d of engine %d: bdev_number is %d, not 1 to %d",
				number, l.Engine, tier.Number, maxMalloc).WithHint("set bdev_number to the number of devices")
		}
	default:
		return fault.New(codeBdevClass, "cannot use tier %d of engine %d: class %q is no block class",
			number, l.Engine, tier.Class).WithHint("use file, malloc, nvme or kdev")
	}
	if tier.SizeGiB == 0 || tier.SizeGiB > maxSizeGiB {
		return fault.New(fault.Config, "cannot use tier %d of engine %d: bdev_size is %d GiB",
			number, l.Engine, tier.SizeGiB).WithHint("set bdev_size to the size of one device in GiB")
	}
	return nil
}

// maxMalloc bounds the devices of a malloc tier.
const maxMalloc = 256

func needsHardware(engine, tier int, class Class, instead string) error {
	return fault.New(fault.Refused, "cannot use tier %d of engine %d: class %s needs hardware support, which this build does not have",
		tier, engine, class).WithHint("use class %s", instead)
}

// Codes of the inherited fault table that only storage raises.
const (
	codeTargetMounted fault.Code = 104
	codeScmSize       fault.Code = 201
	codeLowMemory     fault.Code = 214
	codeRamdiskSize   fault.Code = 215
	codeScmMissing    fault.Code = 216
	codeNoHugepages   fault.Code = 218
	codeBdevClass     fault.Code = 301
	codeBadConf       fault.Code = 804
	codeBadFilesystem fault.Code = 1001
)

func gib(n uint64) int64 { return int64(n) << 30 }
