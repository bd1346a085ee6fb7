package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/matryer/is"
	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

// leave puts what an engine leaves into the storage: a pool, and a raft database.
func leave(t *testing.T, l Layout) string {
	t.Helper()
	is := is.New(t)
	pool := filepath.Join(l.SCM.Mount, testUUID)
	is.NoErr(os.MkdirAll(pool, 0o755))
	is.NoErr(os.WriteFile(filepath.Join(pool, "vos-0"), []byte("data"), 0o600))
	is.NoErr(os.MkdirAll(l.RaftDir(), 0o755))
	return filepath.Join(pool, "vos-0")
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestFormatAndFormatAgain(t *testing.T) {
	for name, make := range map[string]func(*testing.T) Layout{
		"dir":            func(t *testing.T) Layout { return testLayout(t, Dir) },
		"ram":            func(t *testing.T) Layout { return testLayout(t, RAM) },
		"dir, md on ssd": func(t *testing.T) Layout { return metadataLayout(t, Dir) },
		"ram, md on ssd": func(t *testing.T) Layout { return metadataLayout(t, RAM) },
		"dir, no bdevs":  func(t *testing.T) Layout { l := testLayout(t, Dir); l.Bdevs = nil; return l },
		"dir, with owner": func(t *testing.T) Layout {
			l := testLayout(t, Dir)
			l.Owner = &Owner{os.Getuid(), os.Getgid()}
			return l
		},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			h, d := fakeHost(t, 0)
			l := make(t)
			c, err := h.Check(t.Context(), l)
			is.NoErr(err)
			is.Equal(c.State, NeedsFormat)

			o := options(t, false)
			var steps []string
			result, err := h.Format(t.Context(), l, o, func(s Step) { steps = append(steps, fmt.Sprint(s.Number, "/", s.Total, " ", s.Op)) })
			is.NoErr(err)
			is.True(strings.HasSuffix(steps[len(steps)-1], string(OpSuperblock))) // last of all
			is.Equal(result.SCM.Info, Success)
			is.Equal(len(result.Bdevs), len(l.Bdevs))
			for i, b := range result.Bdevs {
				is.Equal(b.Info, Success)
				is.Equal(b.PCIAddr, l.Bdevs[i].Devices[0])
				is.Equal(b.SMDDevices[0].Roles, l.Bdevs[i].Roles.String())
				info, err := os.Stat(b.PCIAddr)
				is.NoErr(err)
				is.Equal(info.Size(), int64(1<<30))
				is.Equal(info.Mode().Perm(), imageMode)
				is.True(allocated(info) < 1<<20) // sparse
			}
			if l.SCM.Class == RAM {
				is.Equal(d.options, "mpol=prefer:0,size=1g")
			}

			c, err = h.Check(t.Context(), l)
			is.NoErr(err)
			is.Equal(c.State, Ready)
			is.Equal(*c.Superblock, o.Superblock)
			pool := leave(t, l)

			result, err = h.Format(t.Context(), l, options(t, false), nil)
			is.Equal(fault.Of(err), fault.AlreadyFormatted)
			is.True(strings.Contains(fault.HintOf(err), "--force"))
			is.True(strings.Contains(result.SCM.Info, "exists"))
			is.True(exists(pool)) // nothing was lost

			again := options(t, true)
			_, err = h.Format(t.Context(), l, again, nil)
			is.NoErr(err)
			c, err = h.Check(t.Context(), l)
			is.NoErr(err)
			is.Equal(*c.Superblock, again.Superblock)
			is.True(!exists(pool))
			is.True(!exists(l.RaftDir()))
		})
	}
}

// Every call of a format is broken once, alone and as a crash. Whatever happens:
// there is a whole superblock or none, and the same format again brings it home.
func TestFormatBrokenAnywhere(t *testing.T) {
	if unix.Access("/dev/shm", unix.W_OK) == nil {
		t.Setenv("TMPDIR", "/dev/shm") // thousands of directories: seconds on a disk
	}
	type way struct {
		name  string
		make  func(*testing.T, Class) Layout
		class Class
		force bool
		adopt bool
	}
	for _, w := range []way{
		{"dir", testLayout, Dir, false, false},
		{"dir, force", testLayout, Dir, true, false},
		{"ram", testLayout, RAM, false, false},
		{"ram, force", testLayout, RAM, true, false},
		{"ram, adopt", testLayout, RAM, false, true},
		{"ram, md on ssd", metadataLayout, RAM, false, false},
		{"ram, md on ssd, force", metadataLayout, RAM, true, false},
		{"dir, md on ssd, force", metadataLayout, Dir, true, false},
	} {
		for _, dead := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, dead %v", w.name, dead), func(t *testing.T) {
				for n := 1; ; n++ {
					if n > 500 {
						t.Fatal("a format has more than 500 calls")
					}
					if !breakAt(t, w.make(t, w.class), n, dead, w.force, w.adopt) {
						return
					}
				}
			})
		}
	}
}

// breakAt formats with the n-th call broken and again without; false when the
// format has fewer calls.
func breakAt(t *testing.T, l Layout, n int, dead, force, adopt bool) bool {
	t.Helper()
	is := is.New(t)
	h, d := fakeHost(t, 0)
	if force {
		_, err := h.Format(t.Context(), l, options(t, false), nil)
		is.NoErr(err)
		leave(t, l)
	}
	if adopt {
		is.NoErr(os.Mkdir(l.SCM.Mount, 0o755))
		is.NoErr(d.Mount("tmpfs", l.SCM.Mount, "tmpfs", 0, ""))
	}
	o := options(t, force)
	o.Adopt = adopt
	broken := h
	b := &breaker{disk: d, at: n, err: errIO, dead: dead}
	broken.disk = b
	_, first := broken.Format(t.Context(), l, o, nil)
	if b.calls < n {
		is.NoErr(first)
		return false
	}

	c, err := h.Check(t.Context(), l)
	is.NoErr(err)
	if c.State == Refused {
		t.Fatalf("call %d broken: %v", n, c.Err)
	}
	if first == nil && c.State != Ready {
		t.Fatalf("call %d broken and not noticed: %s", n, c.Reason)
	}
	_, err = h.Format(t.Context(), l, o, nil)
	if err != nil && (force || c.State != Ready || fault.Of(err) != fault.AlreadyFormatted) {
		t.Fatalf("call %d broken (%v), then %s, then again: %v", n, first, c.State, err)
	}
	c, err = h.Check(t.Context(), l)
	is.NoErr(err)
	is.Equal(c.State, Ready)
	is.Equal(c.Superblock.UUID, o.Superblock.UUID)
	is.True(!exists(l.SuperblockPath() + stagingSuffix))
	devices, err := CheckNVMeConf(l.NVMeConfPath())
	is.NoErr(err)
	is.Equal(len(devices), 1)
	return true
}

// One cause after the other is told with its next step, and the SCM record or the
// device's record has it.
func TestFormatSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		op   Op
		err  error
		code fault.Code
		hint string
	}{
		"full disk at superblock": {OpSuperblock, syscall.ENOSPC, fault.NoSpace, "free space"},
		"quota at superblock":     {OpSuperblock, syscall.EDQUOT, fault.NoSpace, "free space"},
		"no access to directory":  {OpMakeDir, syscall.EACCES, fault.Permission, "access"},
		"read-only":               {OpMakeDir, syscall.EROFS, fault.Permission, "read-only"},
		"full disk at image":      {OpCreateImage, syscall.ENOSPC, fault.NoSpace, "free space"},
		"full disk at config":     {OpWriteNVMeConf, syscall.ENOSPC, fault.NoSpace, "free space"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			h, d := fakeHost(t, 1000)
			l := testLayout(t, Dir)
			broken := h
			b := &breaker{disk: d, err: c.err, dead: true}
			broken.disk = b
			result, err := broken.Format(t.Context(), l, options(t, false), func(s Step) {
				if s.Op == c.op {
					// The next call looks whether it is there, or cleans up.
					b.at = b.calls + 2
				}
			})
			is.Equal(fault.Of(err), c.code)
			is.True(strings.HasPrefix(err.Error(), "cannot "+string(c.op)))
			is.True(strings.Contains(fault.HintOf(err), c.hint))
			if c.op == OpCreateImage || c.op == OpWriteNVMeConf {
				is.True(strings.Contains(result.Bdevs[0].Info, c.hint))
			} else {
				is.True(strings.Contains(result.SCM.Info, c.hint))
				is.True(strings.HasPrefix(result.Bdevs[0].Info, "skipped"))
			}
			is.True(!exists(l.SuperblockPath()))
			_, err = h.Format(t.Context(), l, options(t, false), nil) // with the cause removed
			is.NoErr(err)
		})
	}
}

func TestFormatSparesStrangers(t *testing.T) {
	is := is.New(t)
	h, _ := fakeHost(t, 0)

	l := testLayout(t, Dir)
	is.NoErr(os.Mkdir(l.SCM.Mount, 0o755))
	diary := filepath.Join(l.SCM.Mount, "diary")
	is.NoErr(os.WriteFile(diary, []byte("dear"), 0o600))
	for _, force := range []bool{false, true} {
		_, err := h.Format(t.Context(), l, options(t, force), nil)
		is.Equal(fault.Of(err), fault.Refused) // force or not
		is.True(strings.Contains(err.Error(), "diary"))
	}
	is.True(exists(diary))

	l = testLayout(t, Dir)
	image := l.Bdevs[0].Devices[0]
	is.NoErr(os.WriteFile(image, []byte("something"), 0o600))
	_, err := h.Format(t.Context(), l, options(t, false), nil)
	is.Equal(fault.Of(err), fault.AlreadyFormatted)
	is.NoErr(os.Remove(image))
	is.NoErr(os.Symlink(diary, image))
	_, err = h.Format(t.Context(), l, options(t, true), nil)
	is.Equal(fault.Of(err), fault.Refused) // a link is not followed
	text, err := os.ReadFile(diary)
	is.NoErr(err)
	is.Equal(string(text), "dear")

	l = testLayout(t, Dir)
	l.SCM.Mount = filepath.Join(l.SCM.Mount, "below")
	_, err = h.Format(t.Context(), l, options(t, false), nil)
	is.Equal(fault.Of(err), fault.NotFound) // missing parent
	is.True(strings.Contains(fault.HintOf(err), filepath.Dir(l.SCM.Mount)))
}

func TestFormatOfCorruptSuperblock(t *testing.T) {
	is := is.New(t)
	h, _ := fakeHost(t, 1000)
	l := testLayout(t, Dir)
	_, err := h.Format(t.Context(), l, options(t, false), nil)
	is.NoErr(err)
	pool := leave(t, l)
	is.NoErr(os.WriteFile(l.SuperblockPath(), []byte("uuid: gone\n"), 0o660))
	c, err := h.Check(t.Context(), l)
	is.NoErr(err)
	is.Equal(c.State, Refused)
	is.Equal(fault.Of(c.Err), fault.Corrupt)
	_, err = h.Format(t.Context(), l, options(t, false), nil)
	is.Equal(fault.Of(err), fault.Corrupt)
	is.True(exists(pool))
	_, err = h.Format(t.Context(), l, options(t, true), nil)
	is.NoErr(err)
	is.True(!exists(pool))
}

func TestFormatWithoutIdentityOrRoot(t *testing.T) {
	is := is.New(t)
	h, _ := fakeHost(t, 1000)
	_, err := h.Format(t.Context(), testLayout(t, Dir), FormatOptions{}, nil)
	is.Equal(fault.Of(err), fault.Internal)
	_, err = h.Format(t.Context(), testLayout(t, RAM), options(t, false), nil)
	is.Equal(fault.Of(err), fault.Permission)
	ctx, cancel := context.WithCancel(t.Context())
	l := testLayout(t, Dir)
	result, err := h.Format(ctx, l, options(t, false), func(Step) { cancel() })
	is.Equal(fault.Of(err), fault.Canceled)
	is.True(errors.Is(err, context.Canceled))
	is.True(result.SCM.Info != Success)
}

func TestAdoptErasesNothing(t *testing.T) {
	is := is.New(t)
	h, d := fakeHost(t, 1000)
	l := testLayout(t, RAM)
	is.NoErr(os.Mkdir(l.SCM.Mount, 0o755))
	is.NoErr(d.Mount("tmpfs", l.SCM.Mount, "tmpfs", 0, ""))
	pool := leave(t, l)
	is.NoErr(os.WriteFile(l.Bdevs[0].Devices[0], []byte("blobs"), 0o600))
	c, err := h.Check(t.Context(), l)
	is.NoErr(err)
	action, err := StartAction(l, c, 1000)
	is.NoErr(err)
	is.Equal(action, CreateSuperblock)
	o := options(t, false)
	o.Adopt = true
	_, err = h.Format(t.Context(), l, o, nil)
	is.NoErr(err)
	is.True(exists(pool))
	text, err := os.ReadFile(l.Bdevs[0].Devices[0])
	is.NoErr(err)
	is.Equal(string(text), "blobs")
	c, err = h.Check(t.Context(), l)
	is.NoErr(err)
	is.Equal(c.State, Ready)
}

func TestRAMWithContentsNeedsForce(t *testing.T) {
	for _, euid := range []int{0, 1000} {
		is := is.New(t)
		h, d := fakeHost(t, euid)
		l := testLayout(t, RAM)
		is.NoErr(os.Mkdir(l.SCM.Mount, 0o755))
		is.NoErr(d.Mount("tmpfs", l.SCM.Mount, "tmpfs", 0, ""))
		pool := leave(t, l)
		_, err := h.Format(t.Context(), l, options(t, false), nil)
		is.Equal(fault.Of(err), fault.AlreadyFormatted)
		is.True(exists(pool))
		_, err = h.Format(t.Context(), l, options(t, true), nil)
		is.NoErr(err)
		is.True(!exists(pool))
		is.Equal(d.options != "", euid == 0) // only root mounts anew
	}
}

func TestTmpfsOptions(t *testing.T) {
	is := is.New(t)
	tier := Tier{Class: RAM, SizeGiB: 16, Hugepages: true, NUMANode: 1}
	text, err := tmpfsOptions(tier, Condition{NUMA: true, HugepagesOK: true})
	is.NoErr(err)
	is.Equal(text, "mpol=prefer:1,size=16g,huge=always")
	text, err = tmpfsOptions(Tier{SizeGiB: 4}, Condition{})
	is.NoErr(err)
	is.Equal(text, "size=4g")
	_, err = tmpfsOptions(tier, Condition{})
	is.Equal(fault.Of(err), codeNoHugepages)
}

func TestFormatNeedsMemory(t *testing.T) {
	is := is.New(t)
	h, _ := fakeHost(t, 0)
	l := testLayout(t, RAM)
	l.SCM.SizeGiB = 100 // of 64
	_, err := h.Format(t.Context(), l, options(t, false), nil)
	is.Equal(fault.Of(err), codeLowMemory)
}
