package dmg

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/storage"

	"github.com/google/uuid"
	"github.com/matryer/is"
	"go.uber.org/goleak"
)

var updatePools = flag.Bool("update-pools", false, "write the golden files of the pool verbs anew")

const (
	blueID  = "8a05bf3a-a088-4a77-bb9f-df989fce7cc8"
	greenID = "1c2d3e4f-0000-4000-8000-00000000beef"
)

// fakePools serves the control API as far as the pool verbs use it: a real server
// on a real socket, whose answers a test can change and whose requests it can see.
type fakePools struct {
	blue    control.PoolInfo
	list    []control.PoolInfo
	created control.PoolCreateResp
	acl     control.ACL
	props   []control.PoolProperty
	policy  string
	members []cluster.Member
	storage storage.HostStorage
	fail    map[string]error

	mu       sync.Mutex
	requests map[string]any
}

func newFakePools() *fakePools {
	gb := func(n uint64) uint64 { return n * 1e9 }
	blue := control.PoolInfo{
		QueryMask: "disabled_engines,rebuild,self_heal_policy,space", State: "Ready", UUID: blueID, Label: "blue",
		TotalTargets: 16, ActiveTargets: 16, TotalEngines: 2, Version: 1, SvcLeader: 1, SvcReps: []hostlist.Rank{0, 1},
		Rebuild: &control.Rebuild{State: "idle", DerivedState: "idle"},
		TierStats: []control.TierStats{
			{Total: gb(60), Free: gb(47), Min: gb(2), Max: gb(3), Mean: gb(3), MediaType: "scm"},
			{Total: gb(940), Free: gb(640), Min: gb(38), Max: gb(41), Mean: gb(40), MediaType: "nvme"},
		},
		Usage: []control.TierUsage{
			{TierName: "SCM", Size: gb(60), Free: gb(47), Imbalance: 26}, {TierName: "NVME", Size: gb(940), Free: gb(640), Imbalance: 5},
		},
		DisabledRanks: hostlist.Ranks(), PoolLayoutVer: 1, UpgradeLayoutVer: 1, SelfHealPolicy: "exclude;rebuild",
	}
	green := control.PoolInfo{State: "Creating", UUID: greenID, TierStats: []control.TierStats{}}
	return &fakePools{
		blue: blue, list: []control.PoolInfo{green, blue}, policy: "exclude;pool_exclude;pool_rebuild",
		created: control.PoolCreateResp{UUID: blueID, SvcLeader: 1, SvcReps: []hostlist.Rank{0, 1, 2},
			TargetRanks: []hostlist.Rank{0, 1, 2, 3}, TierBytes: []uint64{6e9, 94e9}},
		acl:      control.ACL{Entries: []string{"A::OWNER@:rw", "A:G:GROUP@:r", "A::zoe@:"}, Owner: "zoe@", Group: "lab@"},
		fail:     make(map[string]error),
		requests: make(map[string]any),
	}
}

// take records a request and says whether it is to fail.
func (f *fakePools) take(method string, req any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[method] = req
	return f.fail[method]
}

func request[Req any](t *testing.T, f *fakePools, method string) *Req {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	req, ok := f.requests[method].(*Req)
	if !ok {
		t.Fatalf("no request of %s was made", method)
	}
	return req
}

func serve[Req, Resp any](f *fakePools, m *control.Mux, method control.Method[Req, Resp], answer func(*Req) Resp) {
	control.Handle(m, method, func(_ context.Context, _ control.Caller, req *Req, report control.Report) (Resp, error) {
		report(control.Progress{Text: "working", Done: 1, Total: 2})
		if err := f.take(method.Name, req); err != nil {
			var none Resp
			return none, err
		}
		return answer(req), nil
	})
}

func (f *fakePools) handle(m *control.Mux) {
	empty := func() control.Empty { return control.Empty{} }
	acl := func(*control.PoolACLReq) control.ACL { return f.acl }
	serve(f, m, control.PoolCreate, func(*control.PoolCreateReq) control.PoolCreateResp { return f.created })
	serve(f, m, control.PoolDestroy, func(*control.PoolDestroyReq) control.Empty { return empty() })
	serve(f, m, control.PoolEvict, func(*control.PoolEvictReq) control.PoolEvictResp { return control.PoolEvictResp{Count: 2} })
	serve(f, m, control.PoolList, func(*control.PoolListReq) control.PoolListResp { return control.PoolListResp{Pools: f.list} })
	serve(f, m, control.PoolQuery, func(*control.PoolQueryReq) control.PoolInfo { return f.blue })
	serve(f, m, control.PoolSetProp, func(*control.PoolSetPropReq) control.Empty { return empty() })
	serve(f, m, control.PoolGetProp, func(req *control.PoolGetPropReq) control.PoolPropResp {
		return control.PoolPropResp{Properties: f.asked(req)}
	})
	serve(f, m, control.PoolGetACL, acl)
	serve(f, m, control.PoolUpdateACL, acl)
	serve(f, m, control.PoolReplaceACL, acl)
	serve(f, m, control.PoolDeleteACL, acl)
	serve(f, m, control.SystemGetProp, func(*control.SystemGetPropReq) control.SystemGetPropResp {
		return control.SystemGetPropResp{Properties: []control.SystemProperty{{Key: "self_heal", Value: f.policy}}}
	})
	serve(f, m, control.SystemQuery, func(*control.SystemQueryReq) control.SystemQueryResp {
		return control.SystemQueryResp{Members: f.members}
	})
	serve(f, m, control.StorageScan, func(*control.StorageScanReq) control.StorageScanResp {
		return control.StorageScanResp{Storage: f.storage}
	})
}

// asked gives every property that is asked for the value it has by default, or the
// test's, in the order of numbers.
func (f *fakePools) asked(req *control.PoolGetPropReq) []control.PoolProperty {
	numbers := slices.Clone(req.Numbers)
	slices.Sort(numbers)
	var properties []control.PoolProperty
	for _, number := range numbers {
		row, _ := drpc.PoolPropByNumber(number)
		p := control.PoolProperty{Number: number, Name: row.Name, Value: &row.Default}
		switch row.Kind {
		case drpc.PropText:
			label := "blue"
			p.Value, p.Text = nil, &label
		case drpc.PropRanks:
			p.Value, p.Ranks = nil, []hostlist.Rank{0, 1, 2, 5}
		}
		for _, own := range f.props {
			if own.Number == number {
				p = own
			}
		}
		properties = append(properties, p)
	}
	return properties
}

// poolSystem is a running fake and a way to run dmg against it.
type poolSystem struct {
	*fakePools
	dir, conf, addr string
}

func startPools(t *testing.T, f *fakePools, secure bool) *poolSystem {
	t.Helper()
	is := is.New(t)
	leaks := goleak.IgnoreCurrent()
	s := &poolSystem{fakePools: f, dir: t.TempDir()}
	cfg := wire.ServerConfig{}
	transport := "allow_insecure: true"
	if secure {
		certs := filepath.Join(s.dir, "certs")
		is.NoErr(pki.Init(certs, pki.InitOptions{}))
		id, err := pki.Load(pki.Files{CA: filepath.Join(certs, "daosCA.crt"), Cert: filepath.Join(certs, "server.crt"),
			Key: filepath.Join(certs, "server.key"), ClientDir: filepath.Join(certs, "clients")}, pki.Server)
		is.NoErr(err)
		cfg.TLS = id.ServerTLS()
		transport = fmt.Sprintf("ca_cert: %s/daosCA.crt\n  cert: %s/admin.crt\n  key: %s/admin.key", certs, certs, certs)
	}
	mux := control.NewMux("daos_server", !secure, cli.NewTool(&cli.Env{Stderr: new(bytes.Buffer)}, "test").Log)
	f.handle(mux)
	cfg.Handler = mux.Serve
	server := wire.NewServer(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	s.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		is.NoErr(<-done)
		goleak.VerifyNone(t, leaks)
	})
	s.conf = filepath.Join(s.dir, "daos_control.yml")
	text := fmt.Sprintf("name: daos_server\nhostlist: ['%s']\ntransport_config:\n  %s\n", s.addr, transport)
	is.NoErr(os.WriteFile(s.conf, []byte(text), 0o600))
	for i := range f.members {
		f.members[i].Addr = s.addr
	}
	return s
}

// run runs dmg with the system's configuration.
func (s *poolSystem) run(t *testing.T, args ...string) (exit cli.Exit, stdout, stderr string) {
	t.Helper()
	return runDmg(t, s.dir, append([]string{"-o", s.conf}, args...)...)
}

func runDmg(t *testing.T, dir string, args ...string) (exit cli.Exit, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &cli.Env{Args: append([]string{"dmg"}, args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		LookupEnv: func(string) (string, bool) { return "", false }, Dir: dir, UID: os.Getuid(), EUID: os.Geteuid()}
	exit = Run(t.Context(), env, "dmg", args)
	return exit, out.String(), errs.String()
}

// checkGolden compares what a command printed with testdata/pool/<name>.txt.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	is := is.New(t)
	path := filepath.Join("testdata", "pool", name+".txt")
	if *updatePools {
		is.NoErr(os.MkdirAll(filepath.Dir(path), 0o755))
		is.NoErr(os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	is.NoErr(err)
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// TestOutput runs each verb against a server and compares all that is printed.
func TestPoolOutput(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f *fakePools)
		args   string
		exit   cli.Exit
	}{
		{name: "create", args: "pool create --size 400GB --user zoe --group lab@ blue"},
		{name: "create_ratio", args: "pool create blue -z 1TiB -t 0.5 -k 4 -v 3 -u zoe -g lab"},
		{name: "create_scm_only", args: "pool create blue -z 1TiB -t 100 -u zoe -g lab"},
		{name: "create_manual", args: "pool create -s 6GB -n 94GB --ranks 0-3 --user=zoe --group=lab blue"},
		{name: "create_mdonssd", args: "pool create blue --meta-size 6GB --data-size 94GB --mem-ratio 50% -u zoe -g lab", change: func(f *fakePools) {
			f.created.MDonSSDActive, f.created.MemFileBytes = true, 3e9
		}},
		{name: "create_json", args: "pool create blue --size 400GB -u zoe -g lab -j"},
		{name: "create_nospace", args: "pool create blue --size 400TB -u zoe -g lab", exit: cli.Failed, change: func(f *fakePools) {
			f.fail["pool.create"] = fault.New(fault.NoSpace, "cannot create pool %q: DER_NOSPACE(-1007): storage full", "blue").
				WithStatus(-1007).WithHint("ask for less")
		}},
		{name: "create_nospace_json", args: "pool create blue --size 400TB -u zoe -g lab -j", exit: cli.Failed, change: func(f *fakePools) {
			f.fail["pool.create"] = fault.New(fault.NoSpace, "cannot create pool %q: DER_NOSPACE(-1007): storage full", "blue").WithStatus(-1007)
		}},
		{name: "list", args: "pool list"},
		{name: "list_alias_verbose", args: "pool ls -v"},
		{name: "list_system", args: "system list-pools"},
		{name: "list_noquery", args: "pool list -n"},
		{name: "list_noquery_verbose", args: "pool list --no-query --verbose"},
		{name: "list_rebuild", args: "pool list -r", change: func(f *fakePools) {
			f.list[1].Rebuild = &control.Rebuild{State: "busy", DerivedState: "busy"}
		}},
		{name: "list_rebuild_none", args: "pool list -r"},
		{name: "list_upgrade", args: "pool list", change: func(f *fakePools) { f.list[1].UpgradeLayoutVer = 2; f.list[1].DisabledTargets = 3 }},
		{name: "list_mdonssd", args: "pool list -v", change: func(f *fakePools) { f.list[1].MDonSSDActive = true }},
		{name: "list_none", args: "pool list", change: func(f *fakePools) { f.list = nil }},
		{name: "list_none_json", args: "pool list -j", change: func(f *fakePools) { f.list = nil }},
		{name: "list_json", args: "-j pool list"},
		{name: "list_partial", args: "pool list", exit: cli.Partial, change: func(f *fakePools) {
			f.list[0] = control.PoolInfo{State: "Ready", UUID: greenID, QueryError: "cannot query pool: DER_TIMEDOUT(-1011)", TierStats: []control.TierStats{}}
		}},
		{name: "list_failed", args: "pool list", exit: cli.Failed, change: func(f *fakePools) {
			f.list = []control.PoolInfo{{State: "Ready", UUID: greenID, QueryError: "cannot query pool: DER_TIMEDOUT(-1011)"}}
		}},
		{name: "query", args: "pool query blue"},
		{name: "query_json", args: "pool query blue --json"},
		{name: "query_health", args: "pool query -t " + blueID, change: func(f *fakePools) {
			f.blue.TierStats, f.blue.Usage = []control.TierStats{}, nil
			f.blue.State, f.blue.DisabledTargets = "TargetsExcluded", 8
			f.blue.DisabledRanks, f.blue.DeadRanks = hostlist.Ranks(1), hostlist.Ranks(1, 2, 3)
			f.blue.Rebuild = &control.Rebuild{Status: -2027, State: "busy", DerivedState: "stopping", Degraded: true}
		}},
		{name: "query_mdonssd", args: "pool query -e blue", change: func(f *fakePools) {
			f.blue.MDonSSDActive, f.blue.MemFileBytes, f.blue.EnabledRanks = true, 30e9, hostlist.Ranks(0, 1)
			f.blue.Rebuild, f.blue.UpgradeLayoutVer = nil, 2
			f.blue.SelfHealPolicy, f.policy = "delay_rebuild", "exclude"
		}},
		{name: "query_missing", args: "pool query red", exit: cli.Failed, change: func(f *fakePools) {
			f.fail["pool.query"] = fault.New(fault.NotFound, "cannot find pool %q", "red").WithStatus(-1005)
		}},
		{name: "destroy", args: "pool destroy blue -r --force"},
		{name: "destroy_json", args: "pool destroy blue -j"},
		{name: "evict", args: "pool evict blue"},
		{name: "set_prop", args: "pool set-prop blue self_heal:'exclude;rebuild',space_rb:7%"},
		{name: "get_prop", args: "pool get-prop blue"},
		{name: "get_prop_some", args: "pool get-prop blue svc_list,label,data_thresh"},
		{name: "get_prop_json", args: "pool get-prop blue svc_list,label,data_thresh,scrub -j"},
		{name: "get_prop_unset", args: "pool get-prop blue rd_fac", change: func(f *fakePools) {
			f.props = []control.PoolProperty{{Number: drpc.PropRdFac, Name: "rd_fac"}}
		}},
		{name: "get_acl", args: "pool get-acl blue"},
		{name: "get_acl_verbose", args: "pool get-acl -v blue"},
		{name: "get_acl_json", args: "pool get-acl blue -j"},
		{name: "get_acl_none", args: "pool get-acl blue", change: func(f *fakePools) { f.acl = control.ACL{} }},
		{name: "update_acl", args: "pool update-acl blue -e A::zoe@:rw"},
		{name: "delete_acl", args: "pool delete-acl blue -p u:zoe"},
		{name: "delete_acl_json", args: "pool delete-acl blue -p EVERYONE@ -j", change: func(f *fakePools) { f.acl.Entries = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			f := newFakePools()
			if c.change != nil {
				c.change(f)
			}
			s := startPools(t, f, false)
			exit, out, errs := s.run(t, strings.Fields(strings.ReplaceAll(c.args, "'", ""))...)
			is.Equal(exit, c.exit)
			checkGolden(t, c.name, "$ dmg "+c.args+"\n"+out+"--- stderr\n"+errs)
		})
	}
}

// TestPoolTLS: certificates on, as by default. A client with an agent's
// certificate gets none of it.
func TestPoolTLS(t *testing.T) {
	is := is.New(t)
	s := startPools(t, newFakePools(), true)
	exit, out, errs := s.run(t, "pool", "query", "blue")
	is.Equal(errs, "")
	is.Equal(exit, cli.OK)
	is.True(strings.HasPrefix(out, "Pool "+blueID))

	exit, _, errs = s.run(t, "-i", "pool", "query", "blue")
	is.True(exit != cli.OK)
	is.True(strings.Contains(errs, "ERROR: dmg: pool query failed: "))
}

// keysOf lists the keys of a JSON object, sorted.
func keysOf(t *testing.T, data json.RawMessage) []string {
	t.Helper()
	var object map[string]json.RawMessage
	is.New(t).NoErr(json.Unmarshal(data, &object))
	keys := []string{}
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func response(t *testing.T, text string, path ...string) json.RawMessage {
	t.Helper()
	data := json.RawMessage(text)
	for _, key := range append([]string{"response"}, path...) {
		var object map[string]json.RawMessage
		is.New(t).NoErr(json.Unmarshal(data, &object))
		data = object[key]
	}
	return data
}

func first(t *testing.T, data json.RawMessage) json.RawMessage {
	t.Helper()
	var list []json.RawMessage
	is.New(t).NoErr(json.Unmarshal(data, &list))
	is.New(t).True(len(list) > 0)
	return list[0]
}

// TestPoolKeys holds the keys that scripts know.
func TestPoolKeys(t *testing.T) {
	is := is.New(t)
	f := newFakePools()
	f.list = f.list[1:]
	s := startPools(t, f, false)
	answer := func(args ...string) string {
		exit, out, errs := s.run(t, append([]string{"-j"}, args...)...)
		is.Equal(errs, "")
		is.Equal(exit, cli.OK)
		is.Equal(keysOf(t, json.RawMessage(out)), []string{"error", "response", "status"})
		return out
	}
	sorted := func(text string) []string {
		keys := strings.Fields(text)
		slices.Sort(keys)
		return keys
	}
	created := answer("pool", "create", "blue", "-z", "1TB", "-u", "zoe", "-g", "lab")
	is.Equal(keysOf(t, response(t, created)), sorted("uuid svc_ldr svc_reps tgt_ranks tier_bytes mem_file_bytes md_on_ssd_active"))

	info := sorted(`query_mask state uuid label total_targets active_targets total_engines disabled_targets version svc_ldr
		svc_reps rebuild tier_stats disabled_ranks pool_layout_ver upgrade_layout_ver mem_file_bytes md_on_ssd_active
		self_heal_policy usage`)
	queried := answer("pool", "query", "blue")
	is.Equal(keysOf(t, response(t, queried)), info)
	is.Equal(string(response(t, queried, "disabled_ranks")), "[]")
	is.Equal(keysOf(t, response(t, queried, "rebuild")), sorted("status state derived_state objects records total_objects degraded"))
	is.Equal(keysOf(t, first(t, response(t, queried, "tier_stats"))), sorted("total free min max mean media_type"))
	is.Equal(keysOf(t, first(t, response(t, queried, "usage"))), sorted("tier_name size free imbalance"))

	listed := answer("pool", "list")
	is.Equal(keysOf(t, response(t, listed)), sorted("status pools"))
	is.Equal(keysOf(t, first(t, response(t, listed, "pools"))), info)

	is.Equal(keysOf(t, first(t, response(t, answer("pool", "get-prop", "blue")))), sorted("name description value"))
	acl := answer("pool", "get-acl", "blue")
	is.Equal(keysOf(t, response(t, acl)), []string{"ACL"})
	is.Equal(keysOf(t, response(t, acl, "ACL")), sorted("entries owner_user owner_group"))
	for _, args := range []string{"pool destroy blue", "pool evict blue", "pool set-prop blue reclaim:time"} {
		is.Equal(string(response(t, answer(strings.Fields(args)...))), "null")
	}
}

func TestPoolRequests(t *testing.T) {
	is := is.New(t)
	s := startPools(t, newFakePools(), false)
	ok := func(args ...string) {
		t.Helper()
		exit, _, errs := s.run(t, args...)
		if exit != cli.OK {
			t.Fatalf("%v: %s", args, errs)
		}
	}
	ok("pool", "query", "blue")
	is.Equal(request[control.PoolQueryReq](t, s.fakePools, "pool.query").Mask, "disabled_engines,rebuild,self_heal_policy,space")
	is.Equal(request[control.SystemGetPropReq](t, s.fakePools, "system.get-prop").Keys, []string{"self_heal"})
	ok("pool", "query", "blue", "-t", "-e")
	is.Equal(request[control.PoolQueryReq](t, s.fakePools, "pool.query").Mask, "dead_engines,disabled_engines,enabled_engines,rebuild,self_heal_policy")

	ok("pool", "destroy", "blue", "-rf")
	destroy := request[control.PoolDestroyReq](t, s.fakePools, "pool.destroy")
	is.True(destroy.Recursive && destroy.Force && destroy.ID == "blue" && destroy.System == "daos_server" && destroy.OpID != "")
	ok("pool", "list", "-n")
	is.True(request[control.PoolListReq](t, s.fakePools, "pool.list").NoQuery)

	ok("pool", "set-prop", "blue", "rf:2,reclaim:LAZY,ec_cell_sz:64KiB,self_heal:rebuild;exclude,label:red")
	set := request[control.PoolSetPropReq](t, s.fakePools, "pool.set-prop").Properties
	is.Equal(len(set), 5)
	is.Equal([]uint64{*set[0].Value, *set[1].Value, *set[2].Value, *set[3].Value}, []uint64{2, 1, 64 << 10, 3})
	is.Equal(*set[4].Text, "red")
	is.Equal(set[0].Number, drpc.PropRdFac)

	ok("pool", "get-prop", "blue", "scrub-freq")
	is.Equal(request[control.PoolGetPropReq](t, s.fakePools, "pool.get-prop").Numbers, []uint32{drpc.PropScrubFreq})

	file := filepath.Join(s.dir, "acl")
	is.NoErr(os.WriteFile(file, []byte("# who\n A::zoe@:rw \n\nA:G:lab@:r\n"), 0o600))
	ok("pool", "overwrite-acl", "blue", "-a", "acl") // relative to the working directory
	is.Equal(request[control.PoolACLReq](t, s.fakePools, "pool.overwrite-acl").Entries, []string{"A::zoe@:rw", "A:G:lab@:r"})
	ok("pool", "update-acl", "blue", "--acl-file", file)
	is.Equal(request[control.PoolACLReq](t, s.fakePools, "pool.update-acl").Entries, []string{"A::zoe@:rw", "A:G:lab@:r"})
	ok("pool", "delete-acl", "blue", "-p", "g:lab")
	is.Equal(request[control.PoolACLReq](t, s.fakePools, "pool.delete-acl").Principal, "g:lab@")

	ok("pool", "create", "blue", "-z", "1TB", "-P", "rd_fac:1,scrub:timed", "-P", "svc_rf:1", "-a", file, "-v", "3", "-r", "[0-2]", "-u", "zoe", "-g", "lab@")
	create := request[control.PoolCreateReq](t, s.fakePools, "pool.create")
	_, err := uuid.Parse(create.UUID)
	is.NoErr(err)
	is.Equal(create.User+create.Group, "zoe@lab@")
	is.Equal(create.ACL, []string{"A::zoe@:rw", "A:G:lab@:r"})
	is.Equal(create.TotalBytes, uint64(1e12))
	is.Equal(create.TierRatio, []float64{0.06, 0.94})
	is.Equal(create.Ranks.String(), "0-2")
	is.Equal(len(create.Properties), 3)
	is.Equal(create.NumSvcReps, uint32(0)) // svc_rf wins
	ok("pool", "create", "-z", "1TB", "-P", "label:red", "-u", "zoe", "-g", "lab")
	is.Equal(request[control.PoolCreateReq](t, s.fakePools, "pool.create").Label, "red")
	ok("pool", "create", "blue", "--meta-size", "1TB", "-u", "zoe", "-g", "lab")
	create = request[control.PoolCreateReq](t, s.fakePools, "pool.create")
	is.Equal(create.TierBytes, []uint64{1e12, 0})
	is.Equal(create.MemRatio, 1.0)
}
