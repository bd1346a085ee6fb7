package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// Every condition with both kinds of user and both classes.
func TestStartAction(t *testing.T) {
	for _, c := range []struct {
		name  string
		class Class
		cond  Condition
		root  Action
		user  Action
	}{
		{"ready", RAM, Condition{State: Ready, Present: true}, Proceed, Proceed},
		{"ready", Dir, Condition{State: Ready, Present: true}, Proceed, Proceed},
		{"mounted, unformatted", RAM, Condition{State: NeedsFormat, Present: true}, AwaitFormat, CreateSuperblock},
		{"not mounted", RAM, Condition{State: NeedsFormat}, AwaitFormat, Fail},
		{"empty directory", Dir, Condition{State: NeedsFormat, Present: true}, AwaitFormat, AwaitFormat},
		{"no directory", Dir, Condition{State: NeedsFormat}, AwaitFormat, AwaitFormat},
		{"rebooted, md on ssd", RAM, Condition{State: NeedsMount}, MountFirst, Fail},
		{"directory gone, md on ssd", Dir, Condition{State: NeedsMount}, MountFirst, MountFirst},
		{"refused", RAM, Condition{State: Refused, Err: fault.New(fault.Corrupt, "x")}, Fail, Fail},
		{"refused", Dir, Condition{State: Refused, Err: fault.New(fault.Corrupt, "x")}, Fail, Fail},
		{"zero value", Dir, Condition{}, Fail, Fail},
	} {
		t.Run(string(c.class)+" "+c.name, func(t *testing.T) {
			is := is.New(t)
			l := Layout{SCM: Tier{Class: c.class, Mount: "/mnt/daos0", SizeGiB: 4}}
			for euid, want := range map[int]Action{0: c.root, 1000: c.user} {
				got, err := StartAction(l, c.cond, euid)
				is.Equal(got, want)
				is.Equal(err != nil, want == Fail)
			}
		})
	}
}

func TestStartActionSaysHowToMount(t *testing.T) {
	is := is.New(t)
	l := Layout{SCM: Tier{Class: RAM, Mount: "/mnt/daos0", SizeGiB: 4}}
	_, err := StartAction(l, Condition{State: NeedsFormat, Reason: "nothing is mounted on /mnt/daos0"}, 1000)
	is.Equal(fault.Of(err), fault.Permission)
	is.Equal(err.Error(), "cannot start engine 0: nothing is mounted on /mnt/daos0 and only root can mount a tmpfs")
	is.True(strings.Contains(fault.HintOf(err), "mount -t tmpfs -o size=4g"))
}

func TestLayoutPaths(t *testing.T) {
	is := is.New(t)
	l := Layout{Engine: 1, SCM: Tier{Class: RAM, Mount: "/mnt/daos1/"}, Metadata: Metadata{Path: "/mnt/md"},
		Bdevs: []Tier{{Class: File, Devices: []string{"/a"}, Roles: RoleData}, {Class: File, Devices: []string{"/b"}}}}
	is.True(!l.MetadataOnSSD()) // a tier has no role
	is.Equal(l.SuperblockPath(), "/mnt/daos1/superblock")
	is.Equal(l.NVMeConfPath(), "/mnt/daos1/daos_nvme.conf")
	is.Equal(l.RaftDir(), "/mnt/daos1/control_raft")
	l.Bdevs[1].Roles = RoleWAL
	is.Equal(l.SuperblockPath(), "/mnt/md/daos_control/engine1/superblock")
	is.Equal(l.NVMeConfPath(), "/mnt/md/daos_control/engine1/daos_nvme.conf")
	is.Equal(l.RaftDir(), "/mnt/md/daos_control/control_raft")
}

// What this build cannot do is refused by the check, by the plan and at start, and
// the message names what is missing.
func TestUnsupported(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Layout)
		code   fault.Code
		says   string
	}{
		"dcpm":            {func(l *Layout) { l.SCM.Class = DCPM }, fault.Refused, "class dcpm needs hardware support"},
		"nvme":            {func(l *Layout) { l.Bdevs = []Tier{{Class: NVMe, Devices: []string{"0000:81:00.0"}}} }, fault.Refused, "class nvme needs hardware support"},
		"kdev":            {func(l *Layout) { l.Bdevs = []Tier{{Class: Kdev, Devices: []string{"/dev/x"}}} }, fault.Refused, "class kdev needs hardware support"},
		"metadata device": {func(l *Layout) { l.Metadata.Device = "/dev/sdx" }, fault.Refused, "control_metadata.device /dev/sdx"},
		"no scm":          {func(l *Layout) { l.SCM.Class = File }, codeScmMissing, "no SCM class"},
		"no class":        {func(l *Layout) { l.Bdevs[0].Class = "tape" }, codeBdevClass, "tape"},
		"relative mount":  {func(l *Layout) { l.SCM.Mount = "mnt" }, fault.Config, "scm_mount"},
		"root directory":  {func(l *Layout) { l.SCM.Mount = "//" }, fault.Config, "scm_mount"},
		"no size":         {func(l *Layout) { l.SCM.SizeGiB = 0 }, codeScmSize, "0 GiB"},
		"huge size":       {func(l *Layout) { l.SCM.SizeGiB = 1 << 60 }, codeScmSize, "GiB"},
		"image no size":   {func(l *Layout) { l.Bdevs[0].SizeGiB = 0 }, fault.Config, "bdev_size"},
		"relative image":  {func(l *Layout) { l.Bdevs[0].Devices = []string{"x"} }, fault.Config, "not absolute"},
		"no malloc":       {func(l *Layout) { l.Bdevs[0] = Tier{Class: Malloc, SizeGiB: 1} }, fault.Config, "bdev_number"},
		"relative path":   {func(l *Layout) { l.Metadata.Path = "md" }, fault.Config, "control_metadata.path"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			h, _ := fakeHost(t, 0)
			l := testLayout(t, Dir)
			c.change(&l)
			cond, err := h.Check(t.Context(), l)
			is.NoErr(err)
			is.Equal(cond.State, Refused)
			_, err = StartAction(l, cond, 0)
			is.Equal(fault.Of(err), c.code)
			is.True(strings.Contains(err.Error(), c.says))
			is.True(fault.HintOf(err) != "")
			result, err := h.Format(t.Context(), l, options(t, true), nil)
			is.Equal(fault.Of(err), c.code)
			is.True(strings.Contains(result.SCM.Info, c.says))
		})
	}
}

func TestCheckOfMounts(t *testing.T) {
	is := is.New(t)
	h, d := fakeHost(t, 0)
	l := testLayout(t, RAM)
	is.NoErr(os.Mkdir(l.SCM.Mount, 0o755))
	// A superblock below the mount point is nobody's.
	is.NoErr(WriteSuperblock(l.SuperblockPath(), Superblock{UUID: testUUID}))
	c, err := h.Check(t.Context(), l)
	is.NoErr(err)
	is.Equal(c.State, NeedsFormat)
	is.Equal(c.Kind, "SCM")
	is.True(!c.HasSuperblock)

	is.NoErr(d.Mount("tmpfs", l.SCM.Mount, "tmpfs", 0, ""))
	c, err = h.Check(t.Context(), l)
	is.NoErr(err)
	is.Equal(c.State, Ready) // now it is in the tmpfs, as far as anybody sees

	d.size = 2 << 30
	c, err = h.Check(t.Context(), l)
	is.NoErr(err)
	is.Equal(fault.Of(c.Err), codeRamdiskSize)

	is.NoErr(d.Unmount(l.SCM.Mount))
	is.NoErr(d.Mount("tmpfs", l.SCM.Mount, "ext4", 0, ""))
	c, err = h.Check(t.Context(), l)
	is.NoErr(err)
	is.Equal(fault.Of(c.Err), codeTargetMounted)
}

func TestMetadataOnSSDAfterReboot(t *testing.T) {
	for _, class := range []Class{RAM, Dir} {
		t.Run(string(class), func(t *testing.T) {
			is := is.New(t)
			h, d := fakeHost(t, 0)
			l := metadataLayout(t, class)
			c, err := h.Check(t.Context(), l)
			is.NoErr(err)
			is.Equal(c.Kind, "Metadata")
			is.Equal(fault.Of(h.Mount(t.Context(), l)), fault.NotReady) // not formatted
			o := options(t, false)
			_, err = h.Format(t.Context(), l, o, nil)
			is.NoErr(err)
			is.NoErr(h.Unmount(l)) // the engine has ended
			is.NoErr(h.Unmount(l)) // twice is once
			if class == RAM {
				is.True(!d.mounted(l.SCM.Mount))
			} else {
				is.NoErr(os.RemoveAll(l.SCM.Mount))
			}
			c, err = h.Check(t.Context(), l)
			is.NoErr(err)
			is.Equal(c.State, NeedsMount)
			is.NoErr(h.Mount(t.Context(), l))
			is.NoErr(h.Mount(t.Context(), l))
			c, err = h.Check(t.Context(), l)
			is.NoErr(err)
			is.Equal(c.State, Ready)
			is.Equal(c.Superblock.UUID, o.Superblock.UUID)
		})
	}
}

func TestMetadataFilesystem(t *testing.T) {
	is := is.New(t)
	h, d := fakeHost(t, 0)
	l := metadataLayout(t, Dir)
	at := filepath.Dir(l.SCM.Mount)
	is.NoErr(os.WriteFile(d.table, []byte("20 1 8:1 / / rw - ext4 /dev/root rw\n21 20 8:2 / "+at+" rw,nosuid - xfs /dev/x rw\n"), 0o600))
	c, err := h.Check(t.Context(), l)
	is.NoErr(err)
	is.Equal(fault.Of(c.Err), codeBadFilesystem)
	is.True(strings.Contains(c.Err.Error(), "nosuid"))
}

func TestRemoveSuperblock(t *testing.T) {
	is := is.New(t)
	h, _ := fakeHost(t, 1000)
	l := testLayout(t, Dir)
	_, err := h.Format(t.Context(), l, options(t, false), nil)
	is.NoErr(err)
	pool := leave(t, l)
	is.NoErr(h.RemoveSuperblock(l))
	is.NoErr(h.RemoveSuperblock(l))
	_, err = h.Format(t.Context(), l, options(t, false), nil)
	is.Equal(fault.Of(err), fault.AlreadyFormatted) // the data is still there
	is.True(exists(pool))
	_, err = h.Format(t.Context(), l, options(t, true), nil)
	is.NoErr(err)
}

func TestParseMountinfo(t *testing.T) {
	is := is.New(t)
	all, err := parseMountinfo("20 1 8:1 / / rw,relatime shared:1 master:2 - ext4 /dev/root rw\n" +
		`40 20 0:40 / /mnt/a\040b rw,nosuid - tmpfs tmpfs rw,size=1024k` + "\n")
	is.NoErr(err)
	is.Equal(all, []mount{{target: "/", fstype: "ext4"}, {target: "/mnt/a b", fstype: "tmpfs", nosuid: true}})
	m, ok := mountOf(all, "/mnt/a b/c")
	is.True(ok)
	is.Equal(m.fstype, "tmpfs")
	m, ok = mountOf(all, "/mnt/a bc")
	is.True(ok)
	is.Equal(m.fstype, "ext4")
	is.Equal(unescapeOctal(`\134\9\1`), `\\9\1`)
	_, err = parseMountinfo("nonsense\n")
	is.Equal(fault.Of(err), fault.Corrupt)
	_, err = Host{}.mounts()
	is.NoErr(err) // of this machine
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add("20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n")
	f.Add(`40 20 0:40 / /mnt/a\040b rw - tmpfs tmpfs rw`)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseMountinfo(text)
		if err != nil && all != nil {
			t.Fatal("both")
		}
	})
}
