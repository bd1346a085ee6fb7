package emulator

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

func TestOptions(t *testing.T) {
	is := is.New(t)
	for _, line := range []string{
		"-t 4 -x 2 -g sys -d /run -T 2 -n /c -p 0 -I 1 -r 1024 -H 2 -b -s /mnt/daos0",
		"-t4 -x2 -gsys -d/run -T2 -n/c -p0 -I1 -bs /mnt/daos0 -m vos,rdb -f 0",
		"--targets=4 --xshelpernr 2 --group=sys --socket_dir /run --storage_tiers 2 --nvme=/c --instance_idx=1 --bypass_health_chk --storage /mnt/daos0",
	} {
		o, err := parseOptions(strings.Fields(line))
		is.NoErr(err)
		is.Equal(*o, options{targets: 4, helpers: 2, group: "sys", socketDir: "/run", tiers: 2, nvme: "/c", index: 1, scm: "/mnt/daos0"})
	}
	o, err := parseOptions([]string{"-C"})
	is.NoErr(err)
	is.True(o.check)
	for _, line := range []string{"-S 1", "-i", "-t", "-t x", "-T 0", "-T 5", "-g 1234567890123456", "--checker", "--check=1", "word", "-t 99999", "-t 0"} {
		_, err := parseOptions(strings.Fields(line))
		is.Equal(fault.Of(err), fault.Usage) // refused
	}
	var out bytes.Buffer
	err = Run(t.Context(), []string{"-S", "1"}, func(string) string { return "" }, &out, &out)
	is.Equal(fault.Of(err), fault.Usage)
	is.True(strings.Contains(out.String(), "Usage:"))
}

func TestFaultList(t *testing.T) {
	is := is.New(t)
	points, err := parseFaults("notify_ready:hang, set_up:slow=2s,pool_create:status=-1007@2,start:crash,pool_get_acl:fail", knownPoint)
	is.NoErr(err)
	is.Equal(len(points), 5)
	is.Equal(*points["set_up"], misbehaviour{action: "slow", delay: 2 * time.Second, left: -1})
	is.Equal(*points["pool_create"], misbehaviour{action: "status", status: -1007, left: 2})
	for _, bad := range []string{"start", "nowhere:hang", "start:jump", "start:slow", "start:slow=x", "start:status=-1", "set_up:status=x",
		"set_up:hang=1", "set_up:hang@0", "set_up:hang,set_up:crash", "heartbeat:fail"} {
		_, err := parseFaults(bad, knownPoint)
		is.Equal(fault.Of(err), fault.Usage) // fatal
	}
	f := &faults{points: points}
	for range 2 {
		is.Equal(f.pass(t.Context(), "pool_create").status, int32(-1007))
	}
	is.Equal(f.pass(t.Context(), "pool_create"), nil) // the count is used up
}

// The table has a row for every method that drpc says an engine of 2.8 serves.
func TestMethodTableIsComplete(t *testing.T) {
	is := is.New(t)
	rows := methodTable()
	is.True(slices.IsSortedFunc(rows, func(a, b row) int { return int(a.method - b.method) }))
	have := make(map[drpc.Method]bool)
	for _, r := range rows {
		is.True(!have[r.method])
		have[r.method] = true
	}
	for _, info := range drpc.Methods() {
		name := info.Name
		agent := strings.HasPrefix(name, "Notify") || name == "GetAttachInfo" || name == "SetupClientTelemetry"
		if info.Module == drpc.ModuleMgmt && !agent && !strings.HasPrefix(name, "Check") {
			is.True(have[info.Method]) // a row
		}
	}
	is.Equal(pointName(drpc.MethodPoolGetACL), "pool_get_acl")
	is.Equal(pointName(drpc.MethodSetUp), "set_up")
}

func TestLogMasks(t *testing.T) {
	is := is.New(t)
	m, err := parseMasks("ERR,mgmt=DEBUG")
	is.NoErr(err)
	var out bytes.Buffer
	sink := &logSink{out: &out, host: "h", pid: 7}
	sink.masks.Store(m)
	pool := logHandler{sink: sink, subsystem: "pool"}
	is.True(!pool.Enabled(t.Context(), 4))
	is.True(logHandler{sink: sink, subsystem: "mgmt"}.Enabled(t.Context(), -4))
	_, err = parseMasks("LOUD")
	is.Equal(fault.Of(err), fault.Usage)
}

func TestACL(t *testing.T) {
	is := is.New(t)
	list, err := buildACL([]string{"A:G:readers@:r", "A::EVERYONE@:", "A::OWNER@:rw", "A:G:GROUP@:rw", "A::bob@:r"})
	is.NoErr(err)
	is.Equal(list, []string{"A::OWNER@:rw", "A::bob@:r", "A:G:GROUP@:rw", "A:G:readers@:r", "A::EVERYONE@:"})
	list, err = mergeACL(list, []string{"A::bob@:rw"}, true)
	is.NoErr(err)
	is.Equal(list[1], "A::bob@:rw")
	list, err = deleteACE(list, "g:readers@")
	is.NoErr(err)
	is.Equal(len(list), 4)
	_, err = deleteACE(list, "u:readers@")
	is.True(errors.Is(err, drpc.StatusNonexist))
	_, err = deleteACE(list, "bob@")
	is.True(errors.Is(err, drpc.StatusInval))
	for _, bad := range []string{"", "A::OWNER@", "X::OWNER@:r", "A::OWNER@:rr", "A::bob:r", "A:G:OWNER@:r", "A::@:r", "A:Q:bob@:r"} {
		_, err := buildACL([]string{bad})
		is.True(errors.Is(err, drpc.StatusInval)) // refused
	}
	_, err = buildACL([]string{"A::bob@:r", "A::bob@:w"})
	is.True(errors.Is(err, drpc.StatusInval))
}

func TestProperties(t *testing.T) {
	is := is.New(t)
	s := &service{Props: make(map[uint32]uint64), Ranks: []poolRank{{Rank: 0, Domain: 1}, {Rank: 1, Domain: 2}}}
	is.Equal(s.num(propRdFac), uint64(1)) // lowered to the domains
	num := func(n uint32, v uint64) []*pb.PoolProperty {
		return []*pb.PoolProperty{{Number: n, Value: &pb.PoolProperty_Numval{Numval: v}}}
	}
	text := func(n uint32, v string) []*pb.PoolProperty {
		return []*pb.PoolProperty{{Number: n, Value: &pb.PoolProperty_Strval{Strval: v}}}
	}
	is.NoErr(s.setProps(append(num(5, 0), text(1, "a.b:c-d_1")...)))
	is.Equal(s.Label, "a.b:c-d_1")
	for _, bad := range [][]*pb.PoolProperty{
		num(11, 2), num(5, 9), num(2, 1), num(99, 1), num(1, 1), num(14, 5), text(8, "[1]"), text(5, "lazy"), text(1, poolA), text(1, "a b"),
		text(1, ""), text(1, strings.Repeat("x", 128)), text(6, "root"), {{Number: 5}}, num(9, 4095), num(24, 76),
	} {
		is.True(errors.Is(s.setProps(bad), drpc.StatusInval)) // refused
	}
	for _, p := range properties() {
		_, err := s.prop(p.number)
		is.NoErr(err)
	}
}

func TestFaultDomains(t *testing.T) {
	is := is.New(t)
	d, err := faultDomains([]uint32{0, 2, 1, 1, 1, 2, 2, 0, 1}, []uint32{0, 1}) // as recorded
	is.NoErr(err)
	is.Equal(d, map[uint32]uint32{0: 2, 1: 2})
	d, err = faultDomains([]uint32{2, 3, 1, 2, 2, 2, 1, 2, 3, 1, 1, 4, 1, 1, 5, 2, 0, 1, 2}, []uint32{0, 1, 2})
	is.NoErr(err)
	is.Equal(d, map[uint32]uint32{0: 4, 1: 5, 2: 5})
	for _, bad := range [][]uint32{{0}, {0, 2, 1, 9}, {0, 2, 1, 1, 1, 2, 1, 7}, {0, 1, 1, 4_000_000_000, 0}} {
		_, err := faultDomains(bad, []uint32{0})
		is.True(errors.Is(err, drpc.StatusInval)) // refused
	}
}

func TestReplicasSpread(t *testing.T) {
	is := is.New(t)
	var ranks []poolRank
	for i := range uint32(12) {
		ranks = append(ranks, poolRank{Rank: i, Domain: i / 4})
	}
	picked := chooseReplicas(poolA, ranks, 3, nil)
	is.Equal(len(picked), 3)
	is.True(picked[0] < 4 && picked[1] >= 4 && picked[1] < 8 && picked[2] >= 8) // one in each domain
	is.Equal(len(chooseReplicas(poolA, ranks[:2], 5, nil)), 2)
}

func TestLedger(t *testing.T) {
	is := is.New(t)
	dev := func(id string, roles int) *device {
		return &device{UUID: id, size: 4<<30 + superblockOnNVMe, cluster: 1 << 30, roles: roles}
	}
	l := ledger{devices: []*device{dev("a", 0), dev("b", 0)}}
	a, err := l.demand(3, 3*64*mib, 3*(1<<30)+3, 0) // a byte above a cluster takes two
	is.NoErr(err)
	is.Equal(a.SCM, uint64(3*64*mib))
	is.Equal(a.NVMe, map[string]uint64{"a": 4 << 30, "b": 2 << 30})
	is.NoErr(l.fits(a, 1<<30, nil))
	is.True(errors.Is(l.fits(a, 1, nil), drpc.StatusNoSpace))
	is.True(errors.Is(l.fits(a, 1<<30, map[string]uint64{"a": 1}), drpc.StatusNoSpace))
	_, err = l.demand(3, 3*mib, 0, 0)
	is.True(errors.Is(err, drpc.StatusInval)) // targets too small
	huge, err := l.demand(1, 64*mib, 1<<63, 0)
	is.NoErr(err)
	is.True(errors.Is(l.fits(huge, 1<<62, nil), drpc.StatusNoSpace))
	_, err = (&ledger{}).demand(1, 64*mib, 1, 0)
	is.True(errors.Is(err, drpc.StatusNoSpace)) // no devices

	l = ledger{devices: []*device{dev("m", roleMeta|roleWAL), dev("d", roleData)}}
	is.True(l.mdOnSSD())
	a, err = l.demand(1, 1<<30, 1<<30, 512*mib)
	is.NoErr(err)
	is.Equal(a, allocation{SCM: 512 * mib, NVMe: map[string]uint64{"m": 3 << 30, "d": 1 << 30}})
}

func TestHLC(t *testing.T) {
	is := is.New(t)
	at := time.Date(2026, 11, 20, 9, 28, 14, 329497600, time.UTC)
	now := hlc(at, 0)
	is.Equal(now>>30, uint64(2971323109271928832)>>30) // as recorded at that time
	is.True(hlc(at, now) > now)                        // the clock stands still
	is.True(hlc(at.Add(-time.Hour), now) > now)        // or goes back
}

// A file that a kill cut off does not stop the start, and keeps its space.
func TestDamagedPoolIsLeftAlone(t *testing.T) {
	is := is.New(t)
	root := t.TempDir()
	discard := testLog()
	s, err := openStore(root, 1<<30, nil, 0, discard)
	is.NoErr(err)
	is.NoErr(s.create(shard{UUID: poolA, Targets: 2, SCM: 600 * mib}))
	is.True(errors.Is(s.create(shard{UUID: poolA, Targets: 2, SCM: 64 * mib}), drpc.StatusExist))
	is.NoErr(os.WriteFile(filepath.Join(root, poolA, fileShard), []byte("{"), 0o600))
	s, err = openStore(root, 1<<30, nil, 0, discard)
	is.NoErr(err)
	_, ok := s.shard(poolA)
	is.True(!ok)
	is.True(errors.Is(s.create(shard{UUID: poolB, Targets: 2, SCM: 600 * mib}), drpc.StatusNoSpace))
	_, err = os.Stat(filepath.Join(root, poolA, "vos-1"))
	is.NoErr(err)
}

func TestReplicaOrder(t *testing.T) {
	is := is.New(t)
	s, err := openStore(t.TempDir(), 1<<30, nil, 0, testLog())
	is.NoErr(err)
	is.NoErr(s.create(shard{UUID: poolA, Targets: 1, SCM: 64 * mib}))
	svc := func(term, version uint64) *service {
		return &service{UUID: poolA, Term: term, Version: version, Props: map[uint32]uint64{}, Ranks: []poolRank{{}}}
	}
	is.NoErr(s.saveReplica(svc(2, 5)))
	is.True(errors.Is(s.saveReplica(svc(2, 5)), drpc.StatusStale))
	is.True(errors.Is(s.saveReplica(svc(1, 9)), drpc.StatusStale)) // an old leader
	is.NoErr(s.saveReplica(svc(3, 1)))
	is.True(errors.Is(s.saveReplica(&service{UUID: poolB}), drpc.StatusNonexist))
}
