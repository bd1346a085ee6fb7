package dmg

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/matryer/is"
)

// TestPoolUsage: each wrong command line is refused before any server is asked.
func TestPoolUsage(t *testing.T) {
	dir := t.TempDir()
	is.New(t).NoErr(os.WriteFile(filepath.Join(dir, "empty.acl"), []byte("# nobody\n"), 0o600))
	for _, c := range []struct{ args, want string }{
		{"pool query", "missing argument: POOL"},
		{"pool query blue red", "unexpected arguments: red"},
		{"pool query not/a/label", "neither a label nor a UUID"},
		{"pool destroy", "missing argument: POOL"},
		{"pool list blue", "unexpected arguments: blue"},
		{"pool list -n -r", "without asking the pools"},
		{"pool create", "without a size"},
		{"pool create blue", "without a size"},
		{"pool create -z 1T", "missing argument: LABEL"},
		{"pool create blue red -z 1T", "unexpected arguments: red"},
		{"pool create blue -z 1T -p red", "unexpected arguments"},
		{"pool create blue -z 1T -P label:red", "property label"},
		{"pool create " + blueID + " -z 1T", "it is a UUID"},
		{"pool create bl=ue -z 1T", "other characters"},
		{"pool create blue -z 1T -s 1G", "both --size and --scm-size"},
		{"pool create blue -z 1T --data-size 1G", "both --size and --meta-size"},
		{"pool create blue -s 1T --meta-size 1G", "both --scm-size"},
		{"pool create blue -n 1T", "--nvme-size alone"},
		{"pool create blue --data-size 1T", "--data-size alone"},
		{"pool create blue -s 1T --mem-ratio 50", "--mem-ratio"},
		{"pool create blue -s 1T -t 6", "--tier-ratio"},
		{"pool create blue -s 1T -k 6", "--nranks"},
		{"pool create blue --meta-size 1T -k 6", "--nranks"},
		{"pool create blue -z 50% -k 6", "--nranks"},
		{"pool create blue -z 50% -t 6", "--tier-ratio"},
		{"pool create blue -z 1T -k 6 -r 0-5", "--ranks"},
		{"pool create blue -z 0", "size 0"},
		{"pool create blue -s 0", "0 bytes"},
		{"pool create blue -z 101%", "1% to 100%"},
		{"pool create blue -z 1T -t 1,2,97", "two tiers"},
		{"pool create blue -z 1T --mem-ratio 1,2,97", "one percentage"},
		{"pool create blue -z 1T -r []", "no ranks"},
		{"pool create blue -z 1T -r 4294967295", "rank above"},
		{"pool create blue -z 1T -P svc_list:1", "read-only"},
		{"pool create blue -z 1T -P rd_fac:1 -P rf:2", "twice"},
		{"pool create blue -z 1T -u a@b@c", "more than one @"},
		{"pool create blue -z 1T -g @", "no name before @"},
		{"pool create blue -z 1T -a empty.acl", "no access control entry"},
		{"pool create blue -z 1T -a missing.acl", "no such file"},
		{"pool create blue --bogus", "unknown flag"},
		{"pool set-prop blue", "missing argument: KEY:VALUE"},
		{"pool set-prop blue reclaim", "has no value"},
		{"pool set-prop blue reclaim:snapshot", "not allowed"},
		{"pool set-prop blue perf_domain:root", "fixed when the pool is created"},
		{"pool set-prop blue recliam:time", "unknown pool property"},
		{"pool set-prop blue reclaim:time reclaim:lazy", "unexpected arguments"},
		{"pool get-prop blue label,label", "twice"},
		{"pool get-prop blue policy", "unknown pool property"},
		{"pool update-acl blue", "either --acl-file or --entry"},
		{"pool update-acl blue -a x -e A::y@:r", "either --acl-file or --entry"},
		{"pool update-acl blue -e A::y:r", "has no @"},
		{"pool overwrite-acl blue", "missing flag: --acl-file"},
		{"pool delete-acl blue", "missing flag: --principal"},
		{"pool delete-acl blue -p zoe@", "neither a user nor a group"},
		{"pool", "it needs one of the commands"},
		{"pool bogus", "unknown command"},
	} {
		exit, out, errs := runDmg(t, dir, append([]string{"-i"}, strings.Fields(c.args)...)...)
		if exit != cli.Usage || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("dmg %s: exit %d, %q, %q; want exit 2 and %q", c.args, exit, out, errs, c.want)
		}
	}
}

func TestPoolHints(t *testing.T) {
	is := is.New(t)
	_, _, errs := runDmg(t, t.TempDir(), "pool", "set-prop", "blue", "recliam:time")
	is.True(strings.Contains(errs, "HINT: dmg: did you mean reclaim?"))
	_, _, errs = runDmg(t, t.TempDir(), "pool", "set-prop", "blue", "policy:type=io_size")
	is.True(strings.Contains(errs, "HINT: dmg: data_thresh"))
}

// TestPoolOldSpellings: command lines of earlier releases ask the same of the
// server, and a notice tells the new form once.
func TestPoolOldSpellings(t *testing.T) {
	for _, c := range []struct {
		args, method, now string
	}{
		{"pool query --pool=" + blueID, "pool.query", "pool query " + blueID},
		{"pool q --pool " + blueID, "pool.query", "pool query " + blueID},
		{"pool destroy --pool=" + blueID + " -f", "pool.destroy", "pool destroy " + blueID + " -f"},
		{"pool destroy -u " + blueID + " -f", "pool.destroy", "pool destroy " + blueID + " -f"},
		{"pool d --pool=" + blueID + " -S daos_server", "pool.destroy", "pool destroy " + blueID},
		{"pool evict --pool=" + blueID, "pool.evict", "pool evict " + blueID},
		{"pool ev " + blueID, "pool.evict", "pool evict " + blueID},
		{"pool l", "pool.list", "pool list"},
		{"p ls", "pool.list", "pool list"},
		{"pool ga --pool=" + blueID, "pool.get-acl", "pool get-acl " + blueID},
		{"pool ua --pool=" + blueID + " -e A::zoe@:rw", "pool.update-acl", "pool update-acl " + blueID},
		{"pool oa --pool=" + blueID + " -a list.acl", "pool.overwrite-acl", "pool overwrite-acl " + blueID},
		{"pool da --pool=" + blueID + " -p u:zoe@", "pool.delete-acl", "pool delete-acl " + blueID},
		{"pool gp " + blueID, "pool.get-prop", "pool get-prop " + blueID},
		{"pool sp --pool=" + blueID + " -n reclaim -v time", "pool.set-prop", "pool set-prop " + blueID + " reclaim:time"},
		{"pool query -b blue", "pool.query", "pool query blue"},
		{"pool create -z 1T -p blue -u zoe -g lab", "pool.create", "pool create blue -z 1T"},
		{"pool create -z 1T --name blue -u zoe -g lab", "pool.create", "pool create blue -z 1T"},
		{"pool create -z 1T --label blue --scm-ratio 10 -u zoe -g lab", "pool.create", "--tier-ratio=10"},
		{"pool create --scm-size=6G --nvme-size=94G --user=zoe --group=lab", "pool.create", ""},
		{"pool c -s 6G -n 94G -u zoe@ -g lab@ -r 0,1 -v 1 -S daos_server", "pool.create", "pool create -s 6G"},
	} {
		t.Run(c.args, func(t *testing.T) {
			is := is.New(t)
			s := startPools(t, newFakePools(), false)
			is.NoErr(os.WriteFile(filepath.Join(s.dir, "list.acl"), []byte("A::zoe@:r\n"), 0o600))
			exit, _, errs := s.run(t, strings.Fields(c.args)...)
			if exit != cli.OK {
				t.Fatal(errs)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			is.True(s.requests[c.method] != nil)
			if _, now, _ := strings.Cut(errs, "is the old spelling of "); !strings.Contains(now, c.now) {
				t.Errorf("%s: %s", c.now, errs)
			}
			is.Equal(strings.Contains(errs, `this one gets "pool-`), strings.Contains(c.args, "6G"))
		})
	}
}

// TestPoolWrongSystem: the old flag for the system's name means something.
func TestPoolWrongSystem(t *testing.T) {
	is := is.New(t)
	s := startPools(t, newFakePools(), false)
	exit, _, errs := s.run(t, "pool", "destroy", "blue", "-S", "other")
	is.Equal(exit, cli.Failed)
	is.True(strings.Contains(errs, `cannot serve system "other"`))
}

func TestPoolOutfile(t *testing.T) {
	is := is.New(t)
	s := startPools(t, newFakePools(), false)
	exit, out, _ := s.run(t, "pool", "get-acl", "blue", "-O", "list.acl")
	is.Equal(exit, cli.OK)
	is.Equal(out, "Wrote ACL to output file: list.acl\n")
	entries, err := readACL(filepath.Join(s.dir, "list.acl")) // what is written can be read
	is.NoErr(err)
	is.Equal(entries, s.acl.Entries)

	exit, _, errs := s.run(t, "pool", "get-acl", "blue", "--outfile", "list.acl")
	is.Equal(exit, cli.Refused)
	is.True(strings.Contains(errs, "it exists"))
	exit, _, _ = s.run(t, "pool", "get-acl", "blue", "--outfile", "list.acl", "-f", "-v")
	is.Equal(exit, cli.OK)
	text, err := os.ReadFile(filepath.Join(s.dir, "list.acl"))
	is.NoErr(err)
	is.True(strings.Contains(string(text), "# Allow:Group:Owner-Group:Read\n"))
	left, err := filepath.Glob(filepath.Join(s.dir, ".dmg-*"))
	is.NoErr(err)
	is.Equal(len(left), 0)

	exit, _, _ = s.run(t, "-j", "pool", "get-acl", "blue", "-O", "other.acl")
	is.Equal(exit, cli.OK)
	_, err = os.Stat(filepath.Join(s.dir, "other.acl"))
	is.True(os.IsNotExist(err)) // programs have the answer

	exit, _, errs = runDmg(t, s.dir, "pool", "get-acl", "blue", "-o", "old.acl")
	is.True(exit != cli.OK)
	is.True(strings.Contains(errs, "write the list to a file with -O"))
}

// TestPoolOwner: without flags the pool belongs to who makes it.
func TestPoolOwner(t *testing.T) {
	is := is.New(t)
	who, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	group, err2 := user.LookupGroupId(strconv.Itoa(os.Getegid()))
	if err != nil || err2 != nil {
		t.Skip("this account has no name")
	}
	s := startPools(t, newFakePools(), false)
	exit, _, _ := s.run(t, "pool", "create", "blue", "-z", "1T")
	is.Equal(exit, cli.OK)
	req := request[control.PoolCreateReq](t, s.fakePools, "pool.create")
	is.Equal(req.User, who.Username+"@")
	is.Equal(req.Group, group.Name+"@")
}

func smd(rank uint32, usable uint64, roles storage.Roles) storage.NVMeController {
	return storage.NVMeController{DevState: "NORMAL", SMDDevices: []storage.SMDDevice{{Rank: rank, TargetIDs: []int32{0}, TotalBytes: usable, UsableBytes: usable, RoleBits: uint32(roles)}}}
}

// TestPoolShare: a share is of what the poorest of the ranks has, tier by tier.
func TestPoolShare(t *testing.T) {
	is := is.New(t)
	const gib = 1 << 30
	f := newFakePools()
	f.members = []cluster.Member{{Rank: 0, State: cluster.StateJoined}, {Rank: 1, State: cluster.StateJoined}, {Rank: 2, State: cluster.StateExcluded}}
	f.storage = storage.HostStorage{
		SCMMountPoints: []storage.MountPoint{{Rank: 0, UsableBytes: 10 * gib}, {Rank: 1, AvailBytes: 9 * gib, UsableBytes: 8 * gib}, {Rank: 2}},
		NVMeDevices:    []storage.NVMeController{smd(0, 50*gib, 0), smd(0, 30*gib, 0), smd(1, 100*gib, 0)},
	}
	s := startPools(t, f, false)
	exit, out, errs := s.run(t, "pool", "create", "blue", "--size=50%", "-u", "zoe", "-g", "lab")
	is.Equal(errs, "")
	is.Equal(exit, cli.OK)
	is.True(strings.HasPrefix(out, "Creating pool blue: share of storage, 50% of what is free on each rank\n"))
	req := request[control.PoolCreateReq](t, f, "pool.create")
	is.Equal(req.TierBytes, []uint64{4 * gib, 40 * gib})
	is.Equal(req.TotalBytes, uint64(0))
	is.True(request[control.StorageScanReq](t, f, "storage.scan").Usage)

	exit, _, _ = s.run(t, "pool", "create", "blue", "--size=100%", "--ranks=0", "-u", "zoe", "-g", "lab")
	is.Equal(exit, cli.OK)
	is.Equal(request[control.PoolCreateReq](t, f, "pool.create").TierBytes, []uint64{10 * gib, 80 * gib})

	exit, _, errs = s.run(t, "pool", "create", "blue", "--size=100%", "--ranks=0-2", "-u", "zoe", "-g", "lab")
	is.Equal(exit, cli.Failed)
	is.True(strings.Contains(errs, "cannot use rank(s) 2: not joined"))

	f.fail["storage.scan"] = fault.New(fault.Engine, "cannot list the devices of engine 0")
	exit, _, errs = s.run(t, "pool", "create", "blue", "--size=100%", "-u", "zoe", "-g", "lab")
	is.Equal(exit, cli.Failed)
	is.True(strings.Contains(errs, "cannot tell what is free on 127.0.0.1:"))
	is.True(strings.Contains(errs, "cannot list the devices of engine 0"))
}

// TestPoolMetadata: sizes for metadata on SSDs, where there is none, are told to be
// those of SCM and NVMe.
func TestPoolMetadata(t *testing.T) {
	is := is.New(t)
	f := newFakePools()
	s := startPools(t, f, false)
	args := []string{"pool", "create", "blue", "--meta-size=6GB", "--data-size=94GB", "-u", "zoe", "-g", "lab"}
	exit, _, errs := s.run(t, args...)
	is.Equal(exit, cli.OK)
	is.True(strings.Contains(errs, "NOTICE: dmg: metadata does not live on SSDs in this system"))
	f.created.MDonSSDActive = true
	_, _, errs = s.run(t, args...)
	is.Equal(errs, "")
}

func TestShareOf(t *testing.T) {
	const gib = 1 << 30
	scm := func(usable uint64, devices ...storage.NVMeController) control.StorageScanResp {
		return control.StorageScanResp{Storage: storage.HostStorage{SCMMountPoints: []storage.MountPoint{{UsableBytes: usable}}, NVMeDevices: devices}}
	}
	evicted, idle := smd(0, 0, 0), smd(0, 0, 0)
	evicted.DevState = "EVICTED"
	idle.DevState, idle.SMDDevices[0].TargetIDs = "NEW", nil
	silent := scm(3 * gib)
	silent.Faults = []*fault.Error{fault.New(fault.Engine, "cannot list the devices of engine 1").WithData("rank", "0")}
	other := scm(3 * gib)
	other.Faults = []*fault.Error{fault.New(fault.Engine, "cannot list the devices of engine 1").WithData("rank", "7")}
	for _, c := range []struct {
		name     string
		found    control.StorageScanResp
		percent  uint64
		memRatio float64
		want     []uint64
		code     fault.Code
		says     string
	}{
		{name: "no NVMe", percent: 100, found: scm(3*gib + 5), want: []uint64{3 * gib, 0}},
		{name: "unknown rank", percent: 50, code: fault.NotReady, says: "cannot tell what is free on rank(s) 0"},
		{name: "device of unknown size", percent: 50, code: fault.NotReady, found: scm(3*gib, smd(0, 0, 0))},
		{name: "engine that does not tell", percent: 50, code: fault.NotReady, found: silent, says: "rank(s) 0: cannot list the devices of engine 1"},
		{name: "another engine that does not tell", percent: 100, found: other, want: []uint64{3 * gib, 0}},
		{name: "evicted device", percent: 50, code: fault.NotReady, found: scm(3*gib, smd(0, gib, 0), evicted), says: "out of order"},
		{name: "device that is not used", percent: 100, found: scm(3*gib, smd(0, gib, 0), idle), want: []uint64{3 * gib, gib}},
		{name: "full SCM", percent: 50, found: scm(1 << 19), code: fault.NoSpace},
		{name: "full NVMe", percent: 1, found: scm(3*gib, smd(0, 9<<20, 0)), code: fault.NoSpace},
		{name: "no overflow", percent: 99, found: scm(1<<64 - 1), want: []uint64{(1<<64 - 1) / 100 * 99 >> 20 << 20, 0}},
		{name: "metadata on its own SSD", percent: 100, memRatio: 0.5, want: []uint64{8 * gib, 90 * gib},
			found: scm(4*gib, smd(0, 20*gib, storage.RoleMeta|storage.RoleWAL), smd(0, 90*gib, storage.RoleData))},
		{name: "metadata on an SSD that is too small", percent: 50, memRatio: 0.5, want: []uint64{gib, 45 * gib},
			found: scm(4*gib, smd(0, 2*gib, storage.RoleMeta|storage.RoleWAL), smd(0, 90*gib, storage.RoleData))},
		{name: "metadata on the same SSD", percent: 100, want: []uint64{4 * gib, 86 * gib},
			found: scm(4*gib, smd(0, 86*gib, storage.RoleMeta|storage.RoleWAL|storage.RoleData))},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			got, err := shareOf(c.percent, c.memRatio, freeOf([]control.StorageScanResp{c.found}), hostlist.Ranks(0))
			is.Equal(fault.Of(err), c.code)
			is.Equal(got, c.want)
			if err != nil {
				is.True(strings.Contains(err.Error(), c.says))
				is.True(fault.HintOf(err) != "")
			}
		})
	}
}
