package server

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/engine/emulator"

	"github.com/google/uuid"
	"github.com/matryer/is"
)

// TestMain lets the test binary play the emulator: the server starts its own
// executable under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "daos_engine_emulator" {
		ctx := context.Background()
		if err := emulator.Run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testHost is one daos_server of a test's system, run in this process.
type testHost struct {
	dir, addr string
	cancel    context.CancelFunc
	done      chan cli.Exit
	log       *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// testSystem is a system of hosts on loopback addresses with certificates.
type testSystem struct {
	t      *testing.T
	dir    string
	certs  string
	port   int
	hosts  []*testHost
	fabric []int
}

// newTestSystem prepares n hosts, of which the first replicas run the management
// service; nothing is started.
func newTestSystem(t *testing.T, n, replicas int) *testSystem {
	t.Helper()
	dir, err := os.MkdirTemp("", "ds") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sys := &testSystem{t: t, dir: dir, certs: filepath.Join(dir, "certs")}
	if err := pki.Init(sys.certs, pki.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	sys.port = freePort(t, "127.0.0.1")
	var list []string
	for i := range replicas {
		list = append(list, fmt.Sprintf("127.0.0.%d:%d", i+1, sys.port))
	}
	for i := range n {
		h := &testHost{dir: filepath.Join(dir, fmt.Sprintf("h%d", i)), addr: fmt.Sprintf("127.0.0.%d:%d", i+1, sys.port), log: new(syncBuffer)}
		sys.hosts = append(sys.hosts, h)
		sys.fabric = append(sys.fabric, freePort(t, "127.0.0.1"))
		if err := os.MkdirAll(filepath.Join(h.dir, "run"), 0o755); err != nil {
			t.Fatal(err)
		}
		sys.writeConfig(i, list)
	}
	t.Cleanup(sys.stopAll)
	return sys
}

func freePort(t *testing.T, host string) int {
	t.Helper()
	ln, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func (s *testSystem) writeConfig(i int, replicas []string) {
	h := s.hosts[i]
	text := fmt.Sprintf(`
name: test
port: %[1]d
control_addr: 127.0.0.%[2]d
mgmt_svc_replicas: [%[3]s]
socket_dir: %[4]s/run
provider: ofi+tcp
engine_binary: emulator
fault_path: /host%[2]d
control_log_mask: INFO
transport_config:
  ca_cert: %[5]s/daosCA.crt
  cert: %[5]s/server.crt
  key: %[5]s/server.key
  client_cert_dir: %[5]s/clients
engines:
- targets: 2
  nr_xs_helpers: 0
  fabric_iface: lo
  fabric_iface_port: %[6]d
  log_file: %[4]s/engine.log
  storage:
  - class: dir
    scm_mount: %[4]s/scm
    scm_size: 4
  - class: file
    bdev_list: [%[4]s/nvme.img]
    bdev_size: 16
`, s.port, i+1, strings.Join(replicas, ", "), h.dir, s.certs, s.fabric[i])
	if err := os.WriteFile(h.config(), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (h *testHost) config() string { return filepath.Join(h.dir, "daos_server.yml") }

// start runs the server of a host until stop.
func (s *testSystem) start(i int) {
	h := s.hosts[i]
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.done = cancel, make(chan cli.Exit, 1)
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	env := &cli.Env{Args: []string{"daos_server"}, Stdin: strings.NewReader(""), Stdout: h.log, Stderr: h.log,
		LookupEnv: os.LookupEnv, Dir: h.dir, Executable: self, UID: os.Getuid(), EUID: os.Geteuid()}
	go func() { h.done <- Run(ctx, env, "daos_server", []string{"start", "-o", h.config()}) }()
}

func (s *testSystem) stop(i int) cli.Exit {
	h := s.hosts[i]
	if h.cancel == nil {
		return cli.OK
	}
	h.cancel()
	h.cancel = nil
	select {
	case exit := <-h.done:
		return exit
	case <-time.After(30 * time.Second):
		s.t.Fatalf("host %d does not stop; its log:\n%s", i, h.log)
		return cli.Failed
	}
}

func (s *testSystem) stopAll() {
	var wait sync.WaitGroup
	for i := range s.hosts {
		wait.Go(func() { s.stop(i) })
	}
	wait.Wait()
	if s.t.Failed() {
		for i, h := range s.hosts {
			s.t.Logf("log of host %d:\n%s", i, h.log)
		}
	}
}

// client calls with the certificate of a role.
func (s *testSystem) client(role pki.Role) *control.Client {
	identity, err := pki.Load(pki.Files{CA: s.certs + "/daosCA.crt", Cert: fmt.Sprintf("%s/%s.crt", s.certs, role), Key: fmt.Sprintf("%s/%s.key", s.certs, role)}, role)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &control.Client{Dialer: &wire.Dialer{TLS: identity.ClientTLS()}, System: "test", Servers: []string{s.hosts[0].addr}}
	s.t.Cleanup(c.Close)
	return c
}

// eventually waits for a condition that real processes bring about.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond) // real processes work meanwhile; nothing to wait on from here
	}
}

// up starts all hosts, formats them and waits until all ranks have joined.
func (s *testSystem) up() {
	s.t.Helper()
	for i := range s.hosts {
		s.start(i)
	}
	admin := s.client(pki.Admin)
	for _, h := range s.hosts {
		eventually(s.t, "format "+h.addr, func() error {
			resp, err := control.Call(context.Background(), admin, h.addr, control.StorageFormat, &control.StorageFormatReq{}, nil)
			if err == nil && resp.Failed > 0 {
				return fmt.Errorf("failed: %+v", resp.Storage.SCMMountPoints)
			}
			return err
		})
	}
	s.waitJoined(len(s.hosts))
}

func (s *testSystem) waitJoined(n int) control.SystemQueryResp {
	s.t.Helper()
	admin := s.client(pki.Admin)
	var resp control.SystemQueryResp
	eventually(s.t, "all joined", func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		resp, err = control.Ask(ctx, admin, control.SystemQuery, &control.SystemQueryReq{States: cluster.StateJoined}, nil)
		if err == nil && len(resp.Members) != n {
			err = fmt.Errorf("%d of %d joined", len(resp.Members), n)
		}
		return err
	})
	return resp
}

func createReq(label string, total uint64) *control.PoolCreateReq {
	return &control.PoolCreateReq{UUID: uuid.NewString(), Label: label, User: "root@", Group: "root@", TotalBytes: total}
}

func TestSystemComesUp(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 3, 3)
	sys.up()
	ctx := context.Background()
	admin := sys.client(pki.Admin)

	members := sys.waitJoined(3).Members
	for i, m := range members {
		is.Equal(m.Rank, hostlist.Rank(i)) // ranks 0 to 2
	}
	leader, err := control.Ask(ctx, admin, control.LeaderQuery, &control.LeaderQueryReq{}, nil)
	is.NoErr(err)
	is.True(leader.CurrentLeader != "")
	is.Equal(len(leader.Replicas), 3)

	created, err := control.Ask(ctx, admin, control.PoolCreate, createReq("blue", 24<<30), nil)
	is.NoErr(err) // create a pool
	is.Equal(len(created.TargetRanks), 3)
	_, err = control.Ask(ctx, admin, control.PoolCreate, createReq("blue", 24<<30), nil)
	is.Equal(fault.Of(err), fault.DuplicateLabel) // the same label twice
	_, err = control.Ask(ctx, admin, control.PoolCreate, createReq("huge", 1<<50), nil)
	is.Equal(fault.Of(err), fault.NoSpace)                // more than there is
	is.Equal(fault.StatusOf(err), int32(-1007))           // told by the engine
	is.True(strings.Contains(err.Error(), "DER_NOSPACE")) // plainly
	_, err = control.Ask(ctx, admin, control.PoolDestroy, &control.PoolDestroyReq{ID: "nosuch"}, nil)
	is.Equal(fault.Of(err), fault.NotFound) // destroy what is not there

	info, err := control.Ask(ctx, admin, control.PoolQuery, &control.PoolQueryReq{ID: "blue"}, nil)
	is.NoErr(err)
	is.Equal(info.UUID, created.UUID)
	is.Equal(info.TotalTargets, uint32(6))
	list, err := control.Ask(ctx, admin, control.PoolList, &control.PoolListReq{}, nil)
	is.NoErr(err)
	is.Equal(len(list.Pools), 1) // the failed one left nothing

	destroy := &control.PoolDestroyReq{ID: "blue"}
	_, err = control.Ask(ctx, admin, control.PoolDestroy, destroy, nil)
	is.NoErr(err)
	_, err = control.Ask(ctx, admin, control.PoolDestroy, destroy, nil)
	is.NoErr(err) // the retry of the same operation
	for i := range sys.hosts {
		is.Equal(sys.stop(i), cli.OK)
	}
}
