package agent

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/engine/drpc/drpctest"

	"github.com/matryer/is"
	"go.uber.org/goleak"
)

// clientSocket makes the test binary a client process that opens pools.
const clientSocket = "DAOS_AGENT_TEST_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(clientSocket); path != "" {
		if err := client(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// client connects to the pools it reads the handles of, a line of two UUIDs each,
// and tells after each that the agent has answered.
func client(path string) error {
	peer, err := drpctest.Dial(path, drpctest.Chunked)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		pool, handle, _ := strings.Cut(lines.Text(), " ")
		reply, err := peer.Call(2, 235, monitorBody(pool, handle))
		if err != nil {
			return err
		}
		fmt.Println(reply.Status)
	}
	return nil
}

func monitorBody(pool, handle string) []byte {
	return drpctest.Encode(drpctest.Text(1, "daos_server"), drpctest.Text(2, pool), drpctest.Text(3, handle), drpctest.Text(4, "job"))
}

// child is a running client process.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Scanner
}

func startClient(t *testing.T, socket string) *child {
	t.Helper()
	is := is.New(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientSocket+"="+socket)
	stdin, err := cmd.StdinPipe()
	is.NoErr(err)
	stdout, err := cmd.StdoutPipe()
	is.NoErr(err)
	is.NoErr(cmd.Start())
	c := &child{cmd, stdin, bufio.NewScanner(stdout)}
	t.Cleanup(c.kill)
	return c
}

func (c *child) connect(t *testing.T, pool, handle string) {
	t.Helper()
	_, err := fmt.Fprintln(c.stdin, pool, handle)
	is.New(t).NoErr(err)
	if !c.stdout.Scan() || c.stdout.Text() != "0" {
		t.Fatal("client was not served: ", c.stdout.Text())
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within 15 s: " + what)
		}
	}
}

// buffer collects what a daemon writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// service stands in for a management service: the real wire and control API in
// front of a map that the test sets.
type service struct {
	t     *testing.T
	certs string // directory, "" when insecure
	addr  string
	stop  func()

	mu      sync.Mutex
	info    control.AttachInfoResp
	fail    error
	asked   int // calls for the map
	whole   int // of those, how many got it
	evicted map[string][]string
	evicts  int
}

// captured is the map behind the recorded exchanges.
func captured() control.AttachInfoResp {
	return control.AttachInfoResp{
		System: "daos_server", DataVersion: 7,
		RankURIs: []control.RankURI{{Rank: 0, URI: "ofi+tcp://127.0.0.1:31500", Contexts: 3}, {Rank: 1, URI: "ofi+tcp://127.0.0.1:31600", Contexts: 3}},
		MSRanks:  []hostlist.Rank{0, 1},
		NetHint:  control.NetHint{Provider: "ofi+tcp", NetDevClass: 772, SrvSRXSet: 1},
		Build:    control.Build{Major: 2, Minor: 8},
	}
}

func startService(t *testing.T, secure bool) *service {
	t.Helper()
	s := &service{t: t, addr: "127.0.0.1:0", info: captured(), evicted: make(map[string][]string)}
	if secure {
		s.certs = filepath.Join(t.TempDir(), "certs")
		is.New(t).NoErr(pki.Init(s.certs, pki.InitOptions{}))
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *service) files(role pki.Role) pki.Files {
	return pki.Files{CA: filepath.Join(s.certs, "daosCA.crt"), Cert: filepath.Join(s.certs, string(role)+".crt"), Key: filepath.Join(s.certs, string(role)+".key")}
}

// start listens, on the former port after a stop.
func (s *service) start() {
	s.t.Helper()
	is := is.New(s.t)
	mux := control.NewMux("daos_server", s.certs == "", slog.New(slog.DiscardHandler))
	control.Handle(mux, control.AttachInfo, s.attachInfo)
	control.Handle(mux, control.PoolEvict, s.poolEvict)
	cfg := wire.ServerConfig{Handler: mux.Serve}
	if s.certs != "" {
		id, err := pki.Load(s.files(pki.Server), pki.Server)
		is.NoErr(err)
		cfg.TLS = id.ServerTLS()
	}
	ln, err := net.Listen("tcp", s.addr)
	is.NoErr(err)
	s.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := wire.NewServer(cfg)
	go func() { done <- server.Serve(ctx, ln) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

func (s *service) attachInfo(_ context.Context, _ control.Caller, req *control.AttachInfoReq, _ control.Report) (control.AttachInfoResp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.fail != nil {
		return control.AttachInfoResp{}, s.fail
	}
	if req.KnownVersion != 0 && req.KnownVersion == s.info.DataVersion {
		return control.AttachInfoResp{Unchanged: true, System: s.info.System, DataVersion: s.info.DataVersion}, nil
	}
	s.whole++
	return s.info, nil
}

func (s *service) poolEvict(_ context.Context, _ control.Caller, req *control.PoolEvictReq, _ control.Report) (control.PoolEvictResp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evicts++
	s.evicted[req.ID] = append(s.evicted[req.ID], req.Handles...)
	return control.PoolEvictResp{Count: int32(len(req.Handles))}, nil
}

func (s *service) set(change func(*service)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *service) handles(pool string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.evicted[pool]))
}

func (s *service) counts() (asked, whole int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.whole
}

// config writes a daos_agent.yml for the service; extra are more lines.
func (s *service) config(runtimeDir string, extra ...string) string {
	s.t.Helper()
	lines := []string{"name: daos_server", "access_points: ['" + s.addr + "']", "runtime_dir: " + runtimeDir, "transport_config:"}
	if s.certs == "" {
		lines = append(lines, "  allow_insecure: true")
	} else {
		f := s.files(pki.Agent)
		lines = append(lines, "  allow_insecure: false", "  ca_cert: "+f.CA, "  cert: "+f.Cert, "  key: "+f.Key)
	}
	path := filepath.Join(s.t.TempDir(), "daos_agent.yml")
	is.New(s.t).NoErr(os.WriteFile(path, []byte(strings.Join(append(lines, extra...), "\n")+"\n"), 0o644))
	return path
}

// shortDir is a directory whose path is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent")
	is.New(t).NoErr(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// testEnv is the process of a run.
func testEnv(out, errs io.Writer, dir string, vars map[string]string) *cli.Env {
	return &cli.Env{Args: []string{"daos_agent"}, Stdin: strings.NewReader(""), Stdout: out, Stderr: errs, Dir: dir,
		LookupEnv: func(name string) (string, bool) { v, ok := vars[name]; return v, ok }}
}

// daemonRun is a daos_agent that runs in the test.
type daemonRun struct {
	socket string
	log    *buffer
	stop   func() cli.Exit
}

// startAgent runs daos_agent with the flags that admins use and waits until it
// serves.
func startAgent(t *testing.T, s *service, vars map[string]string, extra ...string) *daemonRun {
	t.Helper()
	dir := shortDir(t)
	r := &daemonRun{socket: filepath.Join(dir, "daos_agent.sock"), log: new(buffer)}
	path := s.config(dir, extra...)
	ctx, cancel := context.WithCancel(context.Background())
	exit := make(chan cli.Exit, 1)
	go func() {
		exit <- Run(ctx, testEnv(io.Discard, r.log, dir, maps.Clone(vars)), "daos_agent", []string{"-d", "-o", path})
	}()
	r.stop = sync.OnceValue(func() cli.Exit {
		cancel()
		select {
		case code := <-exit:
			return code
		case <-time.After(20 * time.Second):
			t.Error("the agent does not stop")
			return cli.Failed
		}
	})
	t.Cleanup(func() {
		if code := r.stop(); code != cli.OK {
			t.Errorf("exit %d", code)
		}
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	eventually(t, "the agent is up", func() bool { return strings.Contains(r.log.String(), "daos_agent is up") })
	return r
}

func (r *daemonRun) dial(t *testing.T, f drpctest.Framing) *drpctest.Peer {
	t.Helper()
	p, err := drpctest.Dial(r.socket, f)
	is.New(t).NoErr(err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// attach asks for the map over a connection of its own.
func (r *daemonRun) attach(t *testing.T, fields ...drpctest.Field) drpctest.Fields {
	t.Helper()
	p := r.dial(t, drpctest.Chunked)
	reply, err := p.Call(2, 206, drpctest.Encode(append(fields, drpctest.Bool(2, true))...))
	is := is.New(t)
	is.NoErr(err)
	is.Equal(reply.Status, int64(0)) // envelope
	return reply.Fields()
}

var framings = map[string]drpctest.Framing{"datagram": drpctest.Datagram, "chunked": drpctest.Chunked}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func down() error { return fault.New(fault.Unreachable, "cannot reach the service: test") }
