package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// storage checks the tiers of one engine.
func (v validator) storage(key string, s *Server, e *Engine) {
	list := join(key, "storage")
	if len(e.Storage) == 0 {
		v.bad(codeBadConfig, list, "add a tier with class, scm_mount and, if wanted, tiers of block devices", "the engine has no storage")
		return
	}
	scm := 0
	for i, t := range e.Storage {
		tier := item(list, i)
		switch {
		case t.Class.IsSCM():
			scm++
			v.scm(tier, e, t)
		case t.Class.IsBdev():
			v.bdev(tier, t)
		default:
			v.bad(codeBadConfig, join(tier, "class"), "use dcpm or ram for the first tier, nvme, file or kdev for others", "the tier has no class")
		}
		v.foreign(tier, t)
	}
	switch {
	case scm == 0 && !v.source.anyBadClass(list, len(e.Storage)):
		v.bad(codeScmTierMissing, list, "make the first tier one of class ram or dcpm", "the engine has no SCM tier")
	case scm > 1:
		v.bad(codeBadConfig, list, "keep one", "the engine has %d SCM tiers", scm)
	case scm == 1 && !e.Storage[0].Class.IsSCM():
		v.bad(codeBadConfig, list, "move the SCM tier to the front", "the SCM tier is not the first")
	}
	if len(e.Storage) > maxTiers {
		v.bad(codeBadConfig, list, "", "the engine has %d tiers, more than %d", len(e.Storage), maxTiers)
	}
	v.roles(list, s, e)
}

const maxTiers = 4

// anyBadClass reports whether a class in the list could not be read, so that
// nobody knows which tiers there are.
func (s source) anyBadClass(list string, n int) bool {
	for i := range n {
		if s.known(join(item(list, i), "class")) {
			return true
		}
	}
	return false
}

func (v validator) scm(key string, e *Engine, t *Tier) {
	if t.ScmMount == "" {
		v.bad(codeBadConfig, join(key, "scm_mount"), "set scm_mount, for example to /mnt/daos0", "the tier has no mount point")
	} else if !filepath.IsAbs(t.ScmMount) {
		v.bad(codeBadConfig, join(key, "scm_mount"), "write the path from the root", "%q is not an absolute path", t.ScmMount)
	}
	if len(t.ScmList) > 1 {
		v.bad(codeBadConfig, join(key, "scm_list"), "keep one device", "%d devices are listed, one is possible", len(t.ScmList))
	}
	switch t.Class {
	case ClassDCPM:
		if t.ScmSize != 0 {
			v.bad(codeBadConfig, join(key, "scm_size"), "remove scm_size", "persistent memory has the size of its device")
		}
		if len(t.ScmList) == 0 {
			v.bad(codeBadConfig, join(key, "scm_list"), "name the device, for example [/dev/pmem0]", "class dcpm needs a device")
		}
	case ClassRAM:
		if len(t.ScmList) > 0 {
			v.bad(codeBadConfig, join(key, "scm_list"), "remove scm_list, or use class dcpm", "a RAM disk has no devices")
		}
		if t.ScmSize != 0 && t.ScmSize < minRamdiskGiB {
			v.bad(codeRamdiskTooSmall, join(key, "scm_size"), "give 4 or more, or leave the key out for the automatic size",
				"%d GiB are less than the %d GiB an engine needs", t.ScmSize, minRamdiskGiB)
		}
	case ClassDir:
		v.dir(key, e, t)
	}
}

// dir checks our class for evaluation, a directory in place of memory.
func (v validator) dir(key string, e *Engine, t *Tier) {
	if !e.Emulated() {
		v.bad(codeBadConfig, join(key, "class"), "set engine_binary: emulator to evaluate, or use class ram or dcpm",
			"class dir is for the emulated engine; a real engine needs memory")
	}
	if t.ScmSize == 0 {
		v.bad(codeBadConfig, join(key, "scm_size"), "set scm_size to the GiB that the engine may use", "class dir has no size of its own")
	}
	if len(t.ScmList) > 0 {
		v.bad(codeBadConfig, join(key, "scm_list"), "remove scm_list", "a directory has no devices")
	}
}

func (v validator) bdev(key string, t *Tier) {
	list := join(key, "bdev_list")
	if t.BdevSize < 0 {
		v.bad(codeBadConfig, join(key, "bdev_size"), "give GiB", "%d is negative", t.BdevSize)
	}
	if t.BdevNumber < 0 {
		v.bad(codeBadConfig, join(key, "bdev_number"), "give the number of devices", "%d is negative", t.BdevNumber)
	}
	addresses := 0
	for _, device := range t.BdevList {
		if isPCI(device) {
			addresses++
		}
	}
	switch {
	case addresses != 0 && addresses != len(t.BdevList):
		v.bad(codeBadConfig, list, "use one kind in a tier", "PCI addresses and paths are mixed")
	case t.Class == ClassNVMe && addresses == 0:
		v.bad(codeBadConfig, list, "list PCI addresses, as in 0000:81:00.0; \"daos_server nvme scan\" shows them", "class nvme has no PCI address")
	case t.Class == ClassNVMe:
		v.addresses(list, t.BdevList)
	case t.Class == ClassMalloc:
		if t.BdevNumber == 0 {
			v.bad(codeBadConfig, join(key, "bdev_number"), "give the number of devices", "class malloc has no devices")
		}
		v.sized(key, t)
	case len(t.BdevList) == 0:
		v.bad(codeBadConfig, list, "list the paths", "class %s has no devices", t.Class)
	default:
		v.paths(list, t.BdevList)
	}
	if t.Class == ClassFile {
		v.sized(key, t)
	}
}

func (v validator) sized(key string, t *Tier) {
	if t.BdevSize == 0 {
		v.bad(codeBadConfig, join(key, "bdev_size"), "give the GiB of each device", "class %s has no size", t.Class)
	}
}

func (v validator) addresses(key string, list []string) {
	for _, address := range list {
		if _, ok := parsePCI(address); !ok {
			v.bad(codeBadConfig, key, "write DDDD:BB:DD.F, as in 0000:81:00.0", "%q is no PCI address", address)
		}
	}
}

func (v validator) paths(key string, list []string) {
	for _, path := range list {
		if !filepath.IsAbs(path) {
			v.bad(codeBadConfig, key, "write paths from the root", "%q is not an absolute path", path)
		}
	}
}

// foreign tells of keys that belong to tiers of another kind.
func (v validator) foreign(key string, t *Tier) {
	switch {
	case t.Class.IsSCM():
		given := map[string]bool{
			"bdev_list": len(t.BdevList) > 0, "bdev_size": t.BdevSize != 0, "bdev_number": t.BdevNumber != 0,
			"bdev_busid_range": t.BdevBusRange != nil, "bdev_roles": len(t.BdevRoles) > 0,
		}
		v.foreignKeys(key, t.Class, given, "a tier of block devices")
	case t.Class.IsBdev():
		given := map[string]bool{
			"scm_mount": t.ScmMount != "", "scm_size": t.ScmSize != 0, "scm_list": len(t.ScmList) > 0,
			"scm_hugepages_disabled": t.ScmHugepagesDisabled != nil,
		}
		v.foreignKeys(key, t.Class, given, "the SCM tier")
	}
}

func (v validator) foreignKeys(key string, class Class, given map[string]bool, home string) {
	for _, name := range sortedKeys(given) {
		if given[name] {
			v.bad(codeBadConfig, join(key, name), "move it to "+home, "%s means nothing for class %s", name, class)
		}
	}
}

// roles checks what the block tiers of an engine are used for.
func (v validator) roles(key string, s *Server, e *Engine) {
	tiers := e.Bdevs()
	v.oneKind(key, tiers)
	with := 0
	for _, t := range tiers {
		if len(t.BdevRoles) > 0 {
			with++
		}
	}
	scm := e.SCM()
	switch {
	case with == 0:
		if len(tiers) > 1 {
			v.bad(codeTiersWithoutRoles, key, "give every tier bdev_roles, or use one tier", "%d tiers of block devices have no roles", len(tiers))
		}
	case with < len(tiers):
		v.bad(codeRolesMissing, key, "give every tier bdev_roles, or none", "%d of %d tiers of block devices have no roles", len(tiers)-with, len(tiers))
	case scm != nil && scm.Class == ClassDCPM:
		v.bad(codeRolesWithDCPM, key, "use class ram, or remove bdev_roles", "block devices cannot have roles beside persistent memory")
	case len(tiers) > 3:
		v.bad(codeTooManyRoleTiers, key, "use at most 3", "%d tiers have roles", len(tiers))
	default:
		v.roleCounts(key, tiers)
	}
	v.metadata(key, s, e)
}

func (v validator) oneKind(key string, tiers []*Tier) {
	real, emulated := 0, 0
	for _, t := range tiers {
		switch {
		case t.Class == ClassNVMe && len(t.BdevList) > 0:
			real++
		case t.Class.IsEmulated():
			emulated++
		}
	}
	if real > 0 && emulated > 0 {
		v.bad(codeTierTypeMismatch, key, "use one kind in an engine", "NVMe SSDs and emulated devices are mixed")
	}
}

func (v validator) roleCounts(key string, tiers []*Tier) {
	for _, t := range tiers {
		if t.HasRole(RoleWAL) && t.HasRole(RoleData) && !t.HasRole(RoleMeta) {
			v.bad(codeWALDataNoMeta, key, "put meta beside wal or data", "a tier has the roles wal and data without meta")
		}
	}
	var wrong []string
	for _, role := range []Role{RoleWAL, RoleMeta, RoleData} {
		has := func(t *Tier) bool { return t.HasRole(role) }
		if first := slices.IndexFunc(tiers, has); first < 0 || slices.ContainsFunc(tiers[first+1:], has) {
			wrong = append(wrong, string(role))
		}
	}
	if len(wrong) > 0 {
		v.bad(codeRolesBadNr, key, "give each of wal, meta and data to exactly one tier", "not exactly one tier has the role %s", strings.Join(wrong, ", "))
	}
}

func (v validator) metadata(key string, s *Server, e *Engine) {
	switch path := s.ControlMetadata.Path; {
	case path != "" && !e.HasRole(RoleMeta):
		v.bad(codeMetadataNoRoles, key, "give a tier of block devices the role meta, or remove control_metadata",
			"control_metadata is set, but no tier has the role meta")
	case path == "" && e.HasRole(RoleMeta):
		v.bad(codeRolesNoMetadata, key, "set control_metadata.path to a directory that survives a reboot",
			"a tier has the role meta, but control_metadata.path is not set")
	}
}
