package emulator

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// childEnv makes the test binary an emulator.
const childEnv = "EMULATOR_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := Run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

const patience = 30 * time.Second

// server stands in for daos_server: it takes notices and events.
type server struct {
	dir    string
	notice chan *pb.NotifyReadyReq

	mu     sync.Mutex
	refuse bool     // answer NotifyReady with FAILURE
	pool   []uint32 // replicas of every pool
	events []*pb.RASEvent
	news   chan struct{}
}

func newServer(t *testing.T, framing drpc.Framing) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "emu") // short: socket paths have a limit
	if err != nil {
		t.Fatal(err)
	}
	s := &server{dir: dir, notice: make(chan *pb.NotifyReadyReq, 64), news: make(chan struct{}, 1024)}
	srv := drpc.NewServer(drpc.ServerConfig{
		Path: filepath.Join(dir, "daos_server.sock"), Handler: s.handle, Only: &framing,
		Modules: []drpc.Module{drpc.ModuleSrv},
	})
	if err := srv.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		os.RemoveAll(dir)
	})
	return s
}

func (s *server) handle(_ context.Context, call *drpc.Call) (proto.Message, error) {
	switch call.Method {
	case drpc.MethodNotifyReady:
		req := new(pb.NotifyReadyReq)
		if err := drpc.Unmarshal(call.Body, req); err != nil {
			return nil, err
		}
		s.mu.Lock()
		refuse := s.refuse
		s.mu.Unlock()
		if refuse {
			return nil, fmt.Errorf("not now")
		}
		s.notice <- req
		return nil, nil
	case drpc.MethodClusterEvent:
		req := new(pb.ClusterEventReq)
		if err := drpc.Unmarshal(call.Body, req); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.events = append(s.events, req.GetEvent())
		s.mu.Unlock()
		s.news <- struct{}{}
		return &pb.ClusterEventResp{Sequence: req.GetSequence()}, nil
	case drpc.MethodGetPoolSvc:
		s.mu.Lock()
		defer s.mu.Unlock()
		return &pb.GetPoolSvcResp{Svcreps: s.pool}, nil
	case drpc.MethodGetSysProps:
		return &pb.SystemGetPropResp{Properties: map[string]string{"self_heal": "exclude;pool_exclude;pool_rebuild"}}, nil
	}
	return nil, drpc.ErrUnknownMethod
}

// await waits for an event that matches.
func (s *server) await(t *testing.T, what string, match func(*pb.RASEvent) bool) *pb.RASEvent {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		for _, e := range s.events {
			if match(e) {
				s.mu.Unlock()
				return e
			}
		}
		s.mu.Unlock()
		select {
		case <-s.news:
		case <-deadline:
			t.Fatalf("no event: %s", what)
		}
	}
}

// child is an emulator process.
type child struct {
	t       *testing.T
	cmd     *exec.Cmd
	out     output
	srv     *server
	scm     string
	framing drpc.Framing
	ready   *pb.NotifyReadyReq
	done    chan error
	rank    uint32
}

// output collects what a process prints; it may be read meanwhile.
type output struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.String()
}

// launch starts an emulator; args come on top of the usual ones.
func launch(t *testing.T, srv *server, framing drpc.Framing, scm string, port int, env []string, args ...string) *child {
	t.Helper()
	c := &child{t: t, srv: srv, scm: scm, framing: framing, done: make(chan error, 1)}
	argv := append([]string{"-t", "2", "-x", "0", "-g", "test", "-d", srv.dir, "-T", "1", "-I", "0", "-r", "0", "-H", "0", "-s", scm}, args...)
	c.cmd = exec.Command(os.Args[0], argv...)
	c.cmd.Env = append([]string{
		childEnv + "=1", "D_PROVIDER=ofi+tcp", "D_INTERFACE=lo", "D_PORT=" + strconv.Itoa(port),
		"D_LOG_FILE=" + filepath.Join(srv.dir, "log"), "D_LOG_MASK=DEBUG",
		"DAOS_EMULATOR_SCM_BYTES=" + strconv.Itoa(1<<30), "CRT_EVENT_DELAY=0", "DAOS_EMULATOR_SWIM_PERIOD_MS=100",
	}, env...)
	if framing == drpc.Datagram {
		c.cmd.Env = append(c.cmd.Env, "DAOS_EMULATOR_RELEASE=2.6")
	}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.done <- c.cmd.Wait() }()
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(srv.dir, "log"))
			t.Logf("output:\n%s\nlog:\n%s", c.out.String(), log)
		}
	})
	return c
}

// wait waits for the end of the process.
func (c *child) wait() error {
	c.t.Helper()
	select {
	case err := <-c.done:
		c.done <- err
		return err
	case <-time.After(patience):
		c.t.Fatalf("the process does not end:\n%s", c.out.String())
		return nil
	}
}

// awaitReady takes the notice of the process.
func (c *child) awaitReady() *pb.NotifyReadyReq {
	c.t.Helper()
	select {
	case c.ready = <-c.srv.notice:
		return c.ready
	case err := <-c.done:
		c.t.Fatalf("the process ended: %v\n%s", err, c.out.String())
	case <-time.After(patience):
		c.t.Fatalf("the process does not get ready:\n%s", c.out.String())
	}
	return nil
}

// call makes a dRPC call and returns its status.
func (c *child) call(m drpc.Method, req, resp proto.Message) int32 {
	c.t.Helper()
	if resp == nil {
		resp = newReply(m)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := drpc.Invoke(ctx, c.ready.GetDrpcListenerSock(), c.framing, m, req, resp); err != nil {
		c.t.Fatalf("%s: %v", m, err)
	}
	r := resp.ProtoReflect()
	return int32(r.Get(r.Descriptor().Fields().ByName("status")).Int())
}

// must makes a call that succeeds.
func (c *child) must(m drpc.Method, req, resp proto.Message) {
	c.t.Helper()
	if status := c.call(m, req, resp); status != 0 {
		c.t.Fatalf("%s: %v", m, drpc.Status(status))
	}
}

// join takes the process to serving: rank and set-up.
func (c *child) join(rank, version uint32) {
	c.t.Helper()
	c.awaitReady()
	c.rank = rank
	c.must(drpc.MethodSetRank, &pb.SetRankReq{Rank: rank, MapVersion: version}, nil)
	c.must(drpc.MethodSetUp, nil, nil)
}

func (c *child) engine() *pb.GroupUpdateReq_Engine {
	return &pb.GroupUpdateReq_Engine{Rank: c.rank, Uri: c.ready.GetUri(), Incarnation: c.ready.GetIncarnation()}
}

func groupOf(version uint32, children ...*child) *pb.GroupUpdateReq {
	req := &pb.GroupUpdateReq{MapVersion: version}
	for _, c := range children {
		req.Engines = append(req.Engines, c.engine())
	}
	return req
}

// until repeats a check until it holds.
func until(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// freePort finds a port that nobody uses.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// signaled returns the signal that ended the process, -1 if none.
func (c *child) signaled() syscall.Signal {
	c.t.Helper()
	c.wait()
	status := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() {
		return -1
	}
	return status.Signal()
}

func dialSocket(t *testing.T, path string) net.Conn {
	t.Helper()
	nc, err := net.Dial("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	return nc
}
