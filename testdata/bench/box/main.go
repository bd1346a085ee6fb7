// The box benchmark measures what a user of a sandbox feels: how long it takes to
// come up, what its processes cost while nothing happens, how long a command takes
// to start and to ask the system, and how large the executable is. Each figure
// stands beside its aim, if it has one; a missed aim is told and is no failure,
// since it depends on the machine.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := bench{}
	flag.StringVar(&b.executable, "daosbox", "./daosbox", "executable to measure, as `make build` leaves it")
	flag.IntVar(&b.hosts, "hosts", 3, "servers of the sandbox")
	flag.IntVar(&b.runs, "runs", 20, "how often a command is started")
	flag.DurationVar(&b.idle, "idle", 10*time.Second, "how long idle processes are watched")
	flag.Parse()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR:", err)
		os.Exit(1)
	}
}

// bench is one run of the benchmark.
type bench struct {
	executable string
	hosts      int
	runs       int
	idle       time.Duration
	dir        string // of the sandbox
	env        []string
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.executable, err = filepath.Abs(b.executable); err != nil {
		return err
	}
	if err := b.size(); err != nil {
		return err
	}
	parent, err := os.MkdirTemp("", "daosbox-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(parent)
	b.dir = filepath.Join(parent, "box")
	b.env = append(os.Environ(), "HOME="+parent, "XDG_CACHE_HOME="+filepath.Join(parent, "cache"))
	defer func() {
		_, e := b.output(context.WithoutCancel(ctx), b.executable, "sandbox", "down", "--dir", b.dir, "--purge")
		err = errors.Join(err, e)
	}()
	if err := b.up(ctx); err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	return b.rest(ctx)
}

// size is that of the stripped executable.
func (b *bench) size() error {
	info, err := os.Stat(b.executable)
	if err != nil {
		return fmt.Errorf("no executable to measure: %w", err)
	}
	const aim = 30
	mb := float64(info.Size()) / 1e6
	report("size of the executable", fmt.Sprintf("%.1f MB", mb), fmt.Sprintf("%d MB", aim), mb <= aim)
	return nil
}

// up is the time until all ranks have joined, certificates and format included.
func (b *bench) up(ctx context.Context) error {
	began := time.Now()
	if _, err := b.output(ctx, b.executable, "sandbox", "up", "--dir", b.dir, "--hosts", fmt.Sprint(b.hosts)); err != nil {
		return err
	}
	took := time.Since(began)
	const aim = 3 * time.Second
	report(fmt.Sprintf("sandbox up, %d hosts, all joined", b.hosts), took.Round(time.Millisecond).String(), aim.String(), b.hosts != 3 || took <= aim)
	return nil
}

// start is how long a command takes that does nothing, and one that makes a TLS
// connection and asks the system.
func (b *bench) start(ctx context.Context) error {
	dmg, runs := filepath.Join(b.dir, "bin", "dmg"), b.runs
	for _, c := range []struct {
		what string
		args []string
		aim  time.Duration
		env  string
	}{
		{"dmg version, whole process", []string{"version"}, 15 * time.Millisecond, ""},
		{"dmg system query over mTLS, cold", []string{"system", "query"}, 0, "DAOSBOX_NO_TICKETS=1"},
		{"the same with a kept TLS session", []string{"system", "query"}, 0, "DAOSBOX_NO_TICKETS="},
	} {
		var took []time.Duration
		b := bench{env: append(slices.Clone(b.env), c.env)}
		for range runs {
			began := time.Now()
			if _, err := b.output(ctx, dmg, c.args...); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		median := took[len(took)/2]
		figure := fmt.Sprintf("min %.1f, median %.1f, max %.1f ms", ms(took[0]), ms(median), ms(took[len(took)-1]))
		aim := ""
		if c.aim > 0 {
			aim = c.aim.String()
		}
		report(c.what, figure, aim, c.aim == 0 || median <= c.aim)
	}
	return nil
}

// rest is what each kind of process costs while nothing is asked of it.
func (b *bench) rest(ctx context.Context) error {
	processes, err := b.processes(ctx)
	if err != nil {
		return err
	}
	before := make([]usage, len(processes))
	for i, p := range processes {
		if before[i], err = usageOf(p.pid); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.idle): // time itself is the subject
	}
	for i, p := range processes {
		after, err := usageOf(p.pid)
		if err != nil {
			return err
		}
		seconds := b.idle.Seconds()
		report("idle "+p.role, fmt.Sprintf("RSS %.1f MB, CPU %.2f %%, %.0f wake-ups/s", float64(after.rss)/1e6,
			100*(after.cpu-before[i].cpu).Seconds()/seconds, float64(after.wakeups-before[i].wakeups)/seconds), p.aim,
			p.aim == "" || after.rss <= 20e6)
	}
	return nil
}

// process is one that stands for its kind.
type process struct {
	role, aim string
	pid       int
}

// processes picks the leader, a follower, an engine and the agent.
func (b *bench) processes(ctx context.Context) ([]process, error) {
	out, err := b.output(ctx, b.executable, "sandbox", "status", "--dir", b.dir, "--json")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Response struct {
			Hosts []struct {
				Addr    string
				PID     int
				Engines []struct{ PID int }
			}
			Leader string
			Agent  struct{ PID int }
		}
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("cannot read the status: %w", err)
	}
	r := answer.Response
	var all []process
	add := func(role, aim string, pid int) {
		if pid > 0 && !slices.ContainsFunc(all, func(p process) bool { return p.role == role }) {
			all = append(all, process{role, aim, pid})
		}
	}
	for _, h := range r.Hosts {
		if h.Addr == r.Leader {
			add("daos_server, leader", "", h.PID)
		} else {
			add("daos_server, follower", "", h.PID)
		}
		for _, e := range h.Engines {
			add("daos_engine_emulator", "", e.PID)
		}
	}
	add("daos_agent", "20 MB", r.Agent.PID)
	slices.SortFunc(all, func(a, b process) int { return strings.Compare(a.role, b.role) })
	return all, nil
}

// output runs a command; one that fails tells what it said.
func (b *bench) output(ctx context.Context, path string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, b.env
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", filepath.Base(path), strings.Join(args, " "), err, stderr.String())
	}
	return stdout.Bytes(), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func report(what, figure, aim string, met bool) {
	line := fmt.Sprintf("%-36s %s", what, figure)
	switch {
	case aim != "" && met:
		line += "   (aim " + aim + ")"
	case aim != "":
		line += "   (MISSES the aim of " + aim + ")"
	}
	fmt.Println(line)
}
