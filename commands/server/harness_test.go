package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/engine/emulator"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary play the programs of its name: the emulator, which
// the server starts as its own executable, and the server, for tests that need one
// with its own user, mounts or death.
func TestMain(m *testing.M) {
	ctx := context.Background()
	switch filepath.Base(os.Args[0]) {
	case "daos_engine_emulator":
		if err := emulator.Run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "daos_server":
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
		defer stop()
		self, err := os.Executable()
		if err == nil {
			err = fillDisk(os.Getenv("TEST_FULL_DISK"))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		env := &cli.Env{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv,
			Dir: "/", Executable: self, UID: os.Getuid(), EUID: os.Geteuid()}
		os.Exit(int(Run(ctx, env, "daos_server", os.Args[1:])))
	}
	goleak.VerifyTestMain(m)
}

// fillDisk mounts a small tmpfs in this process's own name space and fills it.
func fillDisk(dir string) error {
	if dir == "" {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=755"); err != nil {
		return fmt.Errorf("cannot mount tmpfs: %w", err)
	}
	err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 9<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("cannot fill the disk: %v", err)
	}
	return nil
}

// testHost is one daos_server of a test's system, run in this process.
type testHost struct {
	dir, addr string
	cancel    context.CancelFunc
	done      chan cli.Exit
	log       *syncBuffer
	edits     []string // old, new, old, new: changes of its configuration
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

	replicas []string
}

// edit changes the configuration of host i, in pairs of old and new text.
func (s *testSystem) edit(i int, pairs ...string) {
	s.hosts[i].edits = append(s.hosts[i].edits, pairs...)
	s.writeConfig(i, s.replicas)
}

// engineEnv gives the engine of host i environment variables.
func (s *testSystem) engineEnv(i int, vars ...string) {
	s.edit(i, "  nr_xs_helpers: 0\n", "  nr_xs_helpers: 0\n  env_vars: ["+strings.Join(vars, ", ")+"]\n")
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
	for i := range replicas {
		sys.replicas = append(sys.replicas, fmt.Sprintf("127.0.0.%d:%d", i+1, sys.port))
	}
	for i := range n {
		h := &testHost{dir: filepath.Join(dir, fmt.Sprintf("h%d", i)), addr: fmt.Sprintf("127.0.0.%d:%d", i+1, sys.port), log: new(syncBuffer)}
		sys.hosts = append(sys.hosts, h)
		sys.fabric = append(sys.fabric, freePort(t, "127.0.0.1"))
		if err := os.MkdirAll(filepath.Join(h.dir, "run"), 0o755); err != nil {
			t.Fatal(err)
		}
		sys.writeConfig(i, sys.replicas)
	}
	t.Cleanup(sys.stopAll)
	return sys
}

// freePort finds a port below those that the kernel gives to outgoing connections,
// one of which could take it before it is used.
func freePort(t *testing.T, host string) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.N(22000)
		if ln, err := net.Listen("tcp4", net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
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
	for e := 0; e < len(h.edits); e += 2 {
		if !strings.Contains(text, h.edits[e]) {
			s.t.Fatalf("no %q in the configuration", h.edits[e])
		}
		text = strings.Replace(text, h.edits[e], h.edits[e+1], 1)
	}
	if err := os.WriteFile(h.config(), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (h *testHost) config() string { return filepath.Join(h.dir, "daos_server.yml") }

// start runs the server of a host until stop.
func (s *testSystem) start(i int, args ...string) {
	h := s.hosts[i]
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.done = cancel, make(chan cli.Exit, 1)
	env := testEnv(s.t, h.dir, h.log)
	go func() { h.done <- Run(ctx, env, "daos_server", append([]string{"start", "-o", h.config()}, args...)) }()
}

// testChild is a daos_server in a process of its own.
type testChild struct {
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{} // closed when it has ended
}

// child starts the server of a host in a process of its own.
func (s *testSystem) child(i int, prepare func(*exec.Cmd), args ...string) *testChild {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	c := &testChild{log: new(syncBuffer), done: make(chan struct{})}
	c.cmd = &exec.Cmd{Path: self, Args: append([]string{"daos_server", "start", "-o", s.hosts[i].config()}, args...),
		Env: os.Environ(), Stdout: c.log, Stderr: c.log, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	if prepare != nil {
		prepare(c.cmd)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the child dies with the thread that started it
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			_ = c.cmd.Wait()
		}
		close(c.done)
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		select {
		case <-c.done:
		default:
			_ = c.cmd.Process.Kill()
			<-c.done
		}
		if s.t.Failed() {
			s.t.Logf("log of the process of host %d:\n%s", i, c.log)
		}
	})
	return c
}

// testEnv is what a daos_server in this process is given.
func testEnv(t *testing.T, dir string, out io.Writer) *cli.Env {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &cli.Env{Args: []string{"daos_server"}, Stdin: strings.NewReader(""), Stdout: out, Stderr: out,
		LookupEnv: os.LookupEnv, Dir: dir, Executable: self, UID: os.Getuid(), EUID: os.Geteuid()}
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
	c := &control.Client{Dialer: &wire.Dialer{TLS: identity.ClientTLS()}, System: "test", Servers: s.replicas}
	s.t.Cleanup(c.Close)
	return c
}

// eventually waits for a condition that real processes bring about.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
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

// up starts all hosts, formats them and waits until all ranks have joined and their
// engines take calls.
func (s *testSystem) up() {
	s.t.Helper()
	for i := range s.hosts {
		s.start(i)
	}
	for i := range s.hosts {
		s.format(i)
	}
	s.waitJoined(len(s.hosts))
	for _, h := range s.hosts { // a rank joins a moment before its engine takes calls
		eventually(s.t, "set-up on "+h.addr, func() error {
			if !strings.Contains(h.log.String(), `msg="engine is ready"`) {
				return errors.New("the engine is not set up")
			}
			return nil
		})
	}
}

func (s *testSystem) format(i int) {
	s.t.Helper()
	s.formatWith(s.client(pki.Admin), i)
}

func (s *testSystem) formatWith(admin *control.Client, i int) {
	s.t.Helper()
	eventually(s.t, "format "+s.hosts[i].addr, func() error {
		resp, err := control.Call(context.Background(), admin, s.hosts[i].addr, control.StorageFormat, &control.StorageFormatReq{}, nil)
		if err == nil && resp.Failed > 0 {
			return fmt.Errorf("failed: %+v", resp.Storage.SCMMountPoints)
		}
		return err
	})
}

// insecureClient is a client of a system without certificates.
func (s *testSystem) insecureClient() *control.Client {
	c := &control.Client{Dialer: new(wire.Dialer), System: "test", Servers: []string{s.hosts[0].addr}}
	s.t.Cleanup(c.Close)
	return c
}

func (s *testSystem) waitJoined(n int) control.SystemQueryResp {
	s.t.Helper()
	return s.joinedWith(s.client(pki.Admin), n)
}

func (s *testSystem) joinedWith(admin *control.Client, n int) control.SystemQueryResp {
	s.t.Helper()
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

// rejoined waits until a rank is joined with another life than before.
func (s *testSystem) rejoined(before cluster.Member) (after cluster.Member) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("rank %d is back", before.Rank), func() error {
		member, err := s.member(before.Rank)
		if err == nil && (member.State != cluster.StateJoined || member.Incarnation <= before.Incarnation) {
			err = fmt.Errorf("rank %d is %v with incarnation %d, was %d", member.Rank, member.State, member.Incarnation, before.Incarnation)
		}
		after = member
		return err
	})
	return after
}

// member asks whoever leads for a rank.
func (s *testSystem) member(rank hostlist.Rank) (cluster.Member, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	admin := s.client(pki.Admin)
	req := new(control.SystemQueryReq)
	req.Ranks = hostlist.Ranks(rank)
	resp, err := control.Ask(ctx, admin, control.SystemQuery, req, nil)
	if err == nil && len(resp.Members) != 1 {
		err = fmt.Errorf("no rank %d", rank)
	}
	if err != nil {
		return cluster.Member{}, err
	}
	return resp.Members[0], nil
}
