package storage

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/matryer/is"
	"golang.org/x/sys/unix"
)

const insideMountNamespace = "STORAGE_TEST_MOUNTS"

// TestRealTmpfs formats a real RAM disk: in a mount namespace of its own, so that
// nothing of it is left on this machine whatever happens.
func TestRealTmpfs(t *testing.T) {
	if os.Getenv(insideMountNamespace) != "" {
		realTmpfs(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a tmpfs")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestRealTmpfs$", "-test.v")
	cmd.Env = append(os.Environ(), insideMountNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if os.IsPermission(err) {
		t.Skip("no mount namespace of our own here: ", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func realTmpfs(t *testing.T) {
	is := is.New(t)
	// What happens here must not travel to the namespace outside.
	is.NoErr(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for _, l := range []Layout{testLayout(t, RAM), metadataLayout(t, RAM)} {
		// A path with a link in it is another in the mount table.
		link := filepath.Join(t.TempDir(), "link")
		is.NoErr(os.Symlink(filepath.Dir(l.SCM.Mount), link))
		l.SCM.Mount = filepath.Join(link, "scm")
		l.Owner = &Owner{UID: 65534, GID: 65534}
		var h Host
		o := options(t, false)
		_, err := h.Format(t.Context(), l, o, nil)
		is.NoErr(err)
		c, err := h.Check(t.Context(), l)
		is.NoErr(err)
		is.Equal(c.State, Ready)
		is.Equal(c.Mounts, 1)
		var st unix.Statfs_t
		is.NoErr(unix.Statfs(l.SCM.Mount, &st))
		is.Equal(int64(st.Type), int64(unix.TMPFS_MAGIC))
		is.Equal(int64(st.Blocks)*st.Bsize, int64(1<<30))
		is.True(st.Flags&unix.ST_NOATIME != 0)
		info, err := os.Stat(l.SCM.Mount)
		is.NoErr(err)
		is.Equal(info.Mode().Perm(), dirMode)
		is.Equal(info.Sys().(*syscall.Stat_t).Uid, uint32(65534))
		point, ok := h.MountPoint(t.Context(), l)
		is.True(ok)
		is.Equal(point.TotalBytes, uint64(1<<30))

		// A second tmpfs over the first is cleared away, too.
		is.NoErr(unix.Mount("tmpfs", l.SCM.Mount, "tmpfs", 0, "size=1m"))
		_, err = h.Format(t.Context(), l, options(t, true), nil)
		is.NoErr(err)
		c, err = h.Check(t.Context(), l)
		is.NoErr(err)
		is.Equal(c.Mounts, 1)

		// Somebody is in it: said so, and it stays.
		f, err := os.Open(l.SuperblockPath())
		is.NoErr(err)
		busy, err := os.Create(filepath.Join(l.SCM.Mount, "busy"))
		is.NoErr(err)
		_, err = h.Format(t.Context(), l, options(t, true), nil)
		is.True(err != nil)
		is.NoErr(f.Close())
		is.NoErr(busy.Close())
		_, err = h.Format(t.Context(), l, options(t, true), nil)
		is.NoErr(err)

		is.NoErr(h.Unmount(l))
		c, err = h.Check(t.Context(), l)
		is.NoErr(err)
		is.Equal(c.State == NeedsMount, l.MetadataOnSSD())
		if l.MetadataOnSSD() {
			is.NoErr(h.Mount(t.Context(), l))
		}
		is.NoErr(unix.Unmount(l.SCM.Mount, 0))
	}
}
