package engine

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"daosbox/engine/drpc"

	"go.uber.org/goleak"
)

// childVar makes the test binary play a program; its value is the behaviour.
const childVar = "ENGINE_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode, ok := os.LookupEnv(childVar); ok {
		syscall.Exit(child(mode)) // unlike os.Exit it adds no word about coverage to the output
	}
	goleak.VerifyTestMain(m)
}

// child plays an engine, or a server, until it is told to end.
func child(mode string) int {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT)
	switch mode {
	case "serve":
		fmt.Println("up")
		<-interrupted
		fmt.Println("down")
		return 0
	case "show":
		fmt.Println("args", strings.Join(os.Args[1:], " "))
		fmt.Println("env", strings.Join(os.Environ(), " "))
		dir, _ := os.Getwd()
		fmt.Println("dir", dir)
		fmt.Println("up")
		<-interrupted
		return 0
	case "die":
		fmt.Println("trying")
		fmt.Fprintln(os.Stderr, "no such interface: eth9")
		return 1
	case "zero":
		return 0
	case "long":
		fmt.Println(strings.Repeat("x", 3*maxLine))
		for n := range 2 * tailLines {
			fmt.Println("line", n)
		}
		fmt.Print("no end of line")
		return 3
	case "deaf":
		signal.Ignore(syscall.SIGINT)
		fmt.Println("up")
		select {}
	case "orphan": // leaves a member of its group behind that holds the pipes
		cmd := childCommand("deaf")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			return 9
		}
		fmt.Println("left", cmd.Process.Pid)
		return 1
	case "parent": // a server: starts an engine as the package does
		proc, err := launch(childSpec("deaf"), 0, slog.New(slog.DiscardHandler))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("engine", proc.pid)
		<-interrupted
		return 0
	}
	fmt.Fprintln(os.Stderr, "unknown behaviour", mode)
	return 9
}

func childSpec(mode string) Spec {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Spec{Binary: self, Env: []string{childVar + "=" + mode}}
}

func childCommand(mode string) *exec.Cmd {
	spec := childSpec(mode)
	return &exec.Cmd{Path: spec.Binary, Args: []string{spec.Binary}, Env: spec.Env}
}

// eventually waits for a condition, and fails the test when it does not come.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("timed out: %s", what)
		}
	}
}

// exists reports whether process pid lives; a dead one that nobody collected does
// not.
func exists(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// logBuffer is the log of a test.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) has(text string) bool { return strings.Contains(l.String(), text) }

// rig is a running instance whose steps a test sets.
type rig struct {
	*Instance
	t    *testing.T
	log  *logBuffer
	stop context.CancelFunc
	ran  chan error

	mu     sync.Mutex
	states []State
	exits  []Exit
}

// newRig runs an instance whose program behaves as mode says. change may be nil.
func newRig(t *testing.T, mode string, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, log: &logBuffer{}, ran: make(chan error, 1), states: []State{Stopped}}
	cfg := Config{
		Index:   3,
		Logger:  slog.New(slog.NewTextHandler(r.log, nil)),
		Backoff: Retry{First: time.Millisecond, Max: 4 * time.Millisecond},
		Steps: Steps{
			Prepare: func(context.Context) (Spec, error) { return childSpec(mode), nil },
			Exited: func(e Exit) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.exits = append(r.exits, e)
			},
			State: func(old, new State) {
				r.mu.Lock()
				defer r.mu.Unlock()
				if last := r.states[len(r.states)-1]; last != old {
					t.Errorf("told of %s -> %s after %s", old, new, last)
				}
				r.states = append(r.states, new)
			},
		},
	}
	if change != nil {
		change(&cfg)
	}
	r.Instance = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.ran <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.ran:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run does not end")
		}
		if pid := r.Status().PID; pid != 0 {
			t.Errorf("process %d is left", pid)
		}
		if t.Failed() {
			t.Log(r.log)
		}
	})
	return r
}

// start begins a start; its outcome comes over the channel.
func (r *rig) start() <-chan error {
	out := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	go func() { defer cancel(); out <- r.Start(ctx) }()
	return out
}

// ready brings the instance up: the program has printed that it is up, and reports.
func (r *rig) ready() {
	r.t.Helper()
	before := strings.Count(r.log.String(), "daos_engine:3 up")
	out := r.start()
	eventually(r.t, "the program is up", func() bool { return strings.Count(r.log.String(), "daos_engine:3 up") > before })
	r.notify()
	if err := <-out; err != nil {
		r.t.Fatalf("cannot start: %v", err)
	}
}

func (r *rig) notify() {
	r.t.Helper()
	if err := r.NotifyReady(Notify{Index: 3, Socket: "/s", URI: "ofi+tcp://1.2.3.4:1", Framing: drpc.Chunked}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) await(s State) {
	r.t.Helper()
	eventually(r.t, "state "+s.String(), func() bool { return r.Status().State == s })
}

func (r *rig) seen() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.states)
}

func (r *rig) ends() []Exit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.exits)
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
