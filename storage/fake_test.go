package storage

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/matryer/is"
)

// mountDisk is the real disk on which mounting a tmpfs is played: the directory
// itself takes the files, an unmount removes them, and the mount table is a file
// below root. So every test of formats runs as any user.
type mountDisk struct {
	disk
	table string
	size  uint64 // of every tmpfs, bytes
	// options of the last mount
	options string
}

func (d *mountDisk) Mount(_, target, fstype string, _ uintptr, data string) error {
	if d.mounted(target) {
		return &fs.PathError{Op: "mount", Path: target, Err: unix.EBUSY}
	}
	d.options = data
	f, err := os.OpenFile(d.table, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "40 20 0:40 / %s rw,noatime - %s tmpfs rw\n", target, fstype)
	return err
}

func (d *mountDisk) mounted(target string) bool {
	text, _ := os.ReadFile(d.table)
	return strings.Contains(string(text), " / "+target+" ")
}

func (d *mountDisk) Unmount(target string) error {
	text, err := os.ReadFile(d.table)
	if err != nil {
		return err
	}
	if !d.mounted(target) {
		return &fs.PathError{Op: "unmount", Path: target, Err: unix.EINVAL}
	}
	var kept []string
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.Contains(line, " / "+target+" ") {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(d.table, []byte(strings.Join(kept, "\n")), 0o600); err != nil {
		return err
	}
	entries, err := os.ReadDir(target)
	for _, entry := range entries {
		os.RemoveAll(filepath.Join(target, entry.Name()))
	}
	return err
}

func (d *mountDisk) Statfs(path string) (unix.Statfs_t, error) {
	st, err := d.disk.Statfs(path)
	if d.mounted(path) {
		st.Type, st.Bsize, st.Frsize, st.Blocks, st.Bavail = unix.TMPFS_MAGIC, 4096, 4096, d.size/4096, d.size/4096
	}
	return st, err
}

// fakeHost is a host with the given effective user, an empty mount table, 64 GiB
// of memory and NUMA.
func fakeHost(t *testing.T, euid int) (Host, *mountDisk) {
	t.Helper()
	is := is.New(t)
	root := t.TempDir()
	table := filepath.Join(root, "proc", "self", "mountinfo")
	is.NoErr(os.MkdirAll(filepath.Dir(table), 0o755))
	is.NoErr(os.WriteFile(table, []byte("20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"), 0o600))
	is.NoErr(os.WriteFile(filepath.Join(root, "proc", "meminfo"),
		[]byte("MemTotal: 67108864 kB\nMemFree: 1 kB\nMemAvailable: 67108864 kB\nHugePages_Total: 4\nHugepagesize: 2048 kB\n"), 0o600))
	is.NoErr(os.MkdirAll(filepath.Join(root, "sys", "devices", "system", "node", "node0"), 0o755))
	d := &mountDisk{disk: osDisk{}, table: table, size: 1 << 30}
	return Host{Proc: filepath.Join(root, "proc"), Sys: filepath.Join(root, "sys"), disk: d, euid: func() int { return euid }}, d
}

// testLayout has an SCM of the class and an image, both below a new directory.
func testLayout(t *testing.T, class Class) Layout {
	t.Helper()
	dir := t.TempDir()
	return Layout{Host: "h", SCM: Tier{Class: class, Mount: filepath.Join(dir, "scm"), SizeGiB: 1},
		Bdevs: []Tier{{Class: File, SizeGiB: 1, Devices: []string{filepath.Join(dir, "nvme0.img")}}}}
}

// metadataLayout is testLayout with its metadata on SSD.
func metadataLayout(t *testing.T, class Class) Layout {
	t.Helper()
	l := testLayout(t, class)
	l.Metadata.Path = filepath.Join(filepath.Dir(l.SCM.Mount), "deep", "md")
	l.Bdevs[0].Roles = RoleData | RoleMeta | RoleWAL
	return l
}

// options for a format with a new identity.
func options(t *testing.T, force bool) FormatOptions {
	t.Helper()
	is := is.New(t)
	sb, err := NewSuperblock("", "/h")
	is.NoErr(err)
	return FormatOptions{Superblock: sb, Force: force}
}

// Open gives files that are not synced: nobody cuts the power of a test.
func (d *mountDisk) Open(path string, flags int, mode fs.FileMode) (file, error) {
	f, err := d.disk.Open(path, flags, mode)
	if err != nil {
		return nil, err
	}
	return unsynced{f}, nil
}

type unsynced struct{ file }

func (unsynced) Sync() error { return nil }
