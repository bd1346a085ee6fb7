package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

// Host is the machine whose storage is looked at and changed. The zero value is
// this one.
type Host struct {
	// Proc and Sys stand for /proc and /sys when set.
	Proc, Sys string
	// disk and euid stand for the operating system in tests.
	disk disk
	euid func() int
}

func (h Host) proc() string {
	if h.Proc != "" {
		return h.Proc
	}
	return "/proc"
}

func (h Host) sys() string {
	if h.Sys != "" {
		return h.Sys
	}
	return "/sys"
}

func (h Host) user() int {
	if h.euid != nil {
		return h.euid()
	}
	return os.Geteuid()
}

func (h Host) ops() disk {
	if h.disk != nil {
		return h.disk
	}
	return osDisk{}
}

// State says what stands between an engine's storage and a start.
type State int

const (
	// Ready storage is mounted and has a superblock.
	Ready State = iota + 1
	// NeedsFormat is storage without a superblock.
	NeedsFormat
	// NeedsMount is storage whose superblock is in the metadata directory while
	// its RAM disk is gone, as after a reboot; Host.Mount makes it again.
	NeedsMount
	// Refused is storage that must not be touched; Condition.Err says why.
	Refused
)

var stateNames = [...]string{"", "ready", "needs format", "needs mount", "refused"}

func (s State) String() string {
	if s < 1 || int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// Condition is what Host.Check found.
type Condition struct {
	State State
	// Reason is a line for the log that says why the state is what it is.
	Reason string
	// Err is the fault behind Refused.
	Err error
	// Kind of format that is needed, as the event engine_format_required has it:
	// "SCM" or "Metadata".
	Kind string
	// CanMount is set for root. NUMA and HugepagesOK say what the kernel can do
	// for a tmpfs.
	CanMount, NUMA, HugepagesOK bool
	// Mounts counts the mounts on the SCM mount point; they hide each other.
	Mounts int
	// Present is set when the SCM is there: a tmpfs is mounted, or the directory
	// of class dir exists.
	Present bool
	// Superblock is set when one was read. A corrupt one is not, and HasSuperblock
	// tells it from none.
	Superblock    *Superblock
	HasSuperblock bool
	// Ours is set for a directory of class dir that a format has claimed.
	Ours bool
	// Contents are some names in the SCM that a format without force would lose.
	Contents []string
}

const (
	// claimName marks a directory of class dir that format may erase. It is made
	// only in an empty directory, so that a wrong scm_mount never costs anyone
	// their files.
	claimName = ".daos_dir"
	// contentsShown bounds Condition.Contents.
	contentsShown = 8
)

// Check looks at the storage of one engine and changes nothing. An error means
// that it could not look; what it found wrong is in the condition.
func (h Host) Check(ctx context.Context, l Layout) (Condition, error) {
	if err := ctx.Err(); err != nil {
		return Condition{}, err
	}
	if err := l.Supported(); err != nil {
		return refused(Condition{}, err), nil
	}
	all, err := h.mounts()
	if err != nil {
		return Condition{}, err
	}
	c := Condition{Kind: "SCM", CanMount: h.user() == 0, NUMA: h.has("devices", "system", "node"),
		HugepagesOK: h.has("kernel", "mm", "transparent_hugepage")}
	if err := h.metadataUsable(l, all); err != nil {
		return refused(c, err), nil
	}
	if l.SCM.Class == RAM {
		err = h.lookRAM(l, all, &c)
	} else {
		err = h.lookDir(l, &c)
	}
	if err != nil {
		return refused(c, err), nil
	}
	if c.Present {
		if err := h.lookInside(l, &c); err != nil {
			return refused(c, err), nil
		}
	}
	return h.lookSuperblock(l, c), nil
}

// has reports whether a directory of sysfs exists; those of a kernel's features
// do exactly when they are compiled in.
func (h Host) has(parts ...string) bool {
	_, err := h.ops().Stat(filepath.Join(append([]string{h.sys()}, parts...)...))
	return err == nil
}

func refused(c Condition, err error) Condition {
	c.State, c.Err, c.Reason = Refused, err, err.Error()
	return c
}

func (h Host) lookRAM(l Layout, all []mount, c *Condition) error {
	dir := filepath.Clean(l.SCM.Mount)
	at := mountedAt(all, realPath(dir))
	c.Mounts = len(at)
	if len(at) == 0 {
		return nil
	}
	if top := at[len(at)-1]; top.fstype != "tmpfs" {
		return fault.New(codeTargetMounted, "cannot use %s as SCM of class ram: %s is mounted there, not tmpfs", dir, top.fstype).
			WithHint("unmount it, or name another scm_mount")
	}
	st, err := h.ops().Statfs(dir)
	if err != nil {
		return explain(err, dir, "look at the filesystem of "+dir)
	}
	size := int64(st.Blocks) * st.Bsize
	if size > gib(l.SCM.SizeGiB) {
		return fault.New(codeRamdiskSize, "cannot use %s: its tmpfs has %d bytes, more than the %d GiB of scm_size", dir, size, l.SCM.SizeGiB).
			WithHint("run 'mount -o remount,size=%dg %s', or unmount it", l.SCM.SizeGiB, dir)
	}
	c.Present = true
	return nil
}

func (h Host) lookDir(l Layout, c *Condition) error {
	dir := filepath.Clean(l.SCM.Mount)
	info, err := h.ops().Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain(err, dir, "look at SCM directory "+dir)
	}
	if !info.IsDir() {
		return fault.New(fault.Config, "cannot use %s as SCM of class dir: not a directory", dir).
			WithHint("name a directory in scm_mount")
	}
	c.Present = true
	return nil
}

// lookInside finds what a format would lose.
func (h Host) lookInside(l Layout, c *Condition) error {
	dir := filepath.Clean(l.SCM.Mount)
	known := []string{claimName, claimName + stagingSuffix, superblockName, superblockName + stagingSuffix, nvmeConfName, nvmeConfName + stagingSuffix}
	entries, err := h.ops().ReadDir(dir, contentsShown+len(known))
	if err != nil {
		return explain(err, dir, "read SCM directory "+dir)
	}
	for _, entry := range entries {
		if !slices.Contains(known, entry.Name()) && len(c.Contents) < contentsShown {
			c.Contents = append(c.Contents, entry.Name())
		}
	}
	slices.Sort(c.Contents)
	// Not looked up in entries: they may be a part of a large directory.
	_, err = h.ops().Lstat(filepath.Join(dir, claimName))
	c.Ours = err == nil
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return explain(err, dir, "read SCM directory "+dir)
}

func (h Host) lookSuperblock(l Layout, c Condition) Condition {
	dir := filepath.Clean(l.SCM.Mount)
	if l.MetadataOnSSD() {
		if _, err := h.ops().Stat(l.MetadataDir()); errors.Is(err, fs.ErrNotExist) {
			c.Kind = "Metadata"
		}
	} else if !c.Present {
		// What lies below the mount point is not the engine's.
		c.State = NeedsFormat
		c.Reason = "nothing is mounted on " + dir
		if l.SCM.Class == Dir {
			c.Reason = "directory " + dir + " does not exist"
		}
		return c
	}
	sb, err := readSuperblock(h.ops(), l.SuperblockPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.State = NeedsFormat
		c.Reason = "superblock " + l.SuperblockPath() + " does not exist"
		if len(c.Contents) > 0 {
			c.Reason += "; " + dir + " has " + strings.Join(c.Contents, ", ")
		}
		return c
	case err != nil:
		c.HasSuperblock = fault.Of(err) == fault.Corrupt
		return refused(c, err)
	}
	c.Superblock, c.HasSuperblock = &sb, true
	if !c.Present {
		c.State, c.Reason = NeedsMount, "metadata is intact and nothing is mounted on "+dir
		if l.SCM.Class == Dir {
			c.Reason = "metadata is intact and directory " + dir + " does not exist"
		}
		return c
	}
	c.State, c.Reason = Ready, "superblock "+l.SuperblockPath()+" is there"
	return c
}

// metadataUsable refuses metadata on a filesystem that loses locks (NFS) or that
// hides what the engine needs (nosuid).
func (h Host) metadataUsable(l Layout, all []mount) error {
	if !l.MetadataOnSSD() {
		return nil
	}
	dir := filepath.Clean(l.Metadata.Path)
	for {
		_, err := h.ops().Stat(dir)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return explain(err, dir, "look at control_metadata.path "+l.Metadata.Path)
		}
		dir = filepath.Dir(dir)
	}
	st, err := h.ops().Statfs(dir)
	if err != nil {
		return explain(err, dir, "look at the filesystem of "+dir)
	}
	why := ""
	if int64(st.Type) == unix.NFS_SUPER_MAGIC {
		why = "it is on NFS"
	} else if m, ok := mountOf(all, realPath(dir)); ok && m.nosuid {
		why = "its filesystem is mounted nosuid"
	}
	if why != "" {
		return fault.New(codeBadFilesystem, "cannot use control_metadata.path %s: %s", l.Metadata.Path, why).
			WithHint("name a directory on a local filesystem that is mounted without nosuid")
	}
	return nil
}
