package engine

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"

	"github.com/matryer/is"
)

func run(t *testing.T, spec Spec) (*process, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	p, err := launch(spec, 0, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p, log
}

func end(t *testing.T, p *process) error {
	t.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("process %d does not end", p.pid)
		return nil
	}
}

// TestExactWords: arguments and environment are those given, nothing is inherited.
func TestExactWords(t *testing.T) {
	is := is.New(t)
	t.Setenv("LEAK", "1")
	spec := childSpec("show")
	spec.BinaryArgs = []string{"daos_engine_emulator"}
	spec.Argv = []string{"-t", "1"}
	spec.Env = append(spec.Env, "A=b c")
	spec.Dir = t.TempDir()
	p, log := run(t, spec)
	eventually(t, "up", func() bool { return log.has("daos_engine:0 up") })
	lines := p.tail.list()
	is.Equal(lines[0], "args daos_engine_emulator -t 1")
	is.Equal(lines[1], "env "+childVar+"=show A=b c")
	is.Equal(lines[2], "dir "+spec.Dir)
	group, err := syscall.Getpgid(p.pid)
	is.NoErr(err)
	is.Equal(group, p.pid)
	p.interrupt()
	is.Equal(end(t, p).Error(), "process exited with 0")
	p.interrupt() // what is gone gets no signal
	p.kill()
}

func TestEmptyEnvironment(t *testing.T) {
	is := is.New(t)
	t.Setenv("LEAK", "1")
	p, _ := run(t, Spec{Binary: "/usr/bin/env"})
	is.Equal(end(t, p).Error(), "process exited with 0")
	is.Equal(len(p.tail.list()), 0)
}

func TestLongOutput(t *testing.T) {
	is := is.New(t)
	p, log := run(t, childSpec("long"))
	is.Equal(end(t, p).Error(), "exit status 3")
	is.True(log.has("daos_engine:0 " + strings.Repeat("x", maxLine) + truncated + "\""))
	lines := p.tail.list()
	is.Equal(len(lines), tailLines)
	is.Equal(lines[tailLines-1], "no end of line")
	is.Equal(lines[tailLines-2], fmt.Sprint("line ", 2*tailLines-1))
	is.Equal(lines[0], fmt.Sprint("line ", tailLines+1))
}

// TestGroupIsKilled: what a dead engine leaves behind goes too, and its hold on the
// pipes does not delay the end.
func TestGroupIsKilled(t *testing.T) {
	is := is.New(t)
	p, _ := run(t, childSpec("orphan"))
	is.Equal(end(t, p).Error(), "exit status 1")
	var left int
	for _, line := range p.tail.list() {
		if rest, ok := strings.CutPrefix(line, "left "); ok {
			left, _ = strconv.Atoi(rest)
		}
	}
	is.True(left > 0)
	eventually(t, "the child is gone", func() bool { return !exists(left) })
}

func TestSignalText(t *testing.T) {
	is := is.New(t)
	p, log := run(t, childSpec("deaf"))
	eventually(t, "up", func() bool { return log.has("up") })
	p.kill()
	is.Equal(end(t, p).Error(), "signal: killed")
}

// TestParentDeath: an engine does not outlive a server that is killed.
func TestParentDeath(t *testing.T) {
	is := is.New(t)
	server := childCommand("parent")
	out, err := server.StdoutPipe()
	is.NoErr(err)
	is.NoErr(server.Start())
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	is.NoErr(err)
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "engine ")))
	is.NoErr(err)
	is.True(exists(pid))
	is.NoErr(server.Process.Kill())
	eventually(t, "the engine is gone", func() bool { return !exists(pid) })
}

func TestFindBinary(t *testing.T) {
	is := is.New(t)
	first, second, beside := t.TempDir(), t.TempDir(), t.TempDir()
	write := func(dir string, mode os.FileMode) string {
		path := filepath.Join(dir, "daos_engine")
		is.NoErr(os.WriteFile(path, nil, mode))
		return path
	}
	self := filepath.Join(beside, "daos_server")
	search := strings.Join([]string{"", "relative", first, second}, string(os.PathListSeparator))

	_, err := FindBinary("daos_engine", search, self)
	is.Equal(fault.Of(err), fault.Engine)
	is.True(fault.HintOf(err) != "")
	third := write(beside, 0o755)
	got, err := FindBinary("daos_engine", search, self)
	is.NoErr(err)
	is.Equal(got, third)
	write(first, 0o644) // not executable: passed over
	found := write(second, 0o755)
	got, err = FindBinary("daos_engine", search, self)
	is.NoErr(err)
	is.Equal(got, found)

	got, err = FindBinary(found, "", "")
	is.NoErr(err)
	is.Equal(got, found)
	_, err = FindBinary(filepath.Join(first, "daos_engine"), search, self)
	is.True(err != nil)
	_, err = FindBinary("/nonexistent/daos_engine", search, self)
	is.True(err != nil)
}

func TestRestartPolicy(t *testing.T) {
	is := is.New(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	request := func(p *RestartPolicy, after time.Duration, rank hostlist.Rank) (RestartDecision, time.Duration) {
		d, at := p.Request(now.Add(after), rank)
		if at.IsZero() {
			return d, 0
		}
		return d, at.Sub(now)
	}
	check := func(p *RestartPolicy, after time.Duration, rank hostlist.Rank, want RestartDecision, at time.Duration) {
		t.Helper()
		d, got := request(p, after, rank)
		is.Equal(d, want)
		is.Equal(got, at)
	}
	p := &RestartPolicy{MinDelay: time.Minute}
	check(p, 0, 1, RestartNow, 0)
	check(p, time.Second, 1, RestartLater, time.Minute)
	check(p, 2*time.Second, 1, RestartDrop, 0) // it is planned
	check(p, 2*time.Second, 2, RestartNow, 2*time.Second)
	is.True(p.Due(now.Add(time.Minute), 1))
	is.True(!p.Due(now.Add(time.Minute), 1))
	check(p, 61*time.Second, 1, RestartLater, 2*time.Minute) // counted from the planned one
	p.Forget(1)
	is.True(!p.Due(now.Add(2*time.Minute), 1))
	check(p, 62*time.Second, 1, RestartNow, 62*time.Second)
	check(p, 3*time.Minute, 1, RestartNow, 3*time.Minute) // older than the delay
	check(p, 0, hostlist.NilRank, RestartDrop, 0)
	check(&RestartPolicy{Disabled: true}, 0, 1, RestartDrop, 0)
	preset := &RestartPolicy{}
	check(preset, 0, 1, RestartNow, 0)
	check(preset, time.Second, 1, RestartLater, DefaultRestartDelay)
}

// FuzzLines: whatever a process prints, and however it is cut, lines are bounded and
// the same.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\n"), 1)
	f.Add([]byte(strings.Repeat("x", 5000)+"\ny"), 7)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		lines := func(size int) []string {
			kept := &tail{}
			w := newLineWriter(slog.New(slog.DiscardHandler), slog.LevelInfo, 0, kept)
			for rest := data; len(rest) > 0; {
				n := min(max(size, 1), len(rest))
				if _, err := w.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			w.flush()
			return kept.list()
		}
		whole, cut := lines(len(data)), lines(size)
		if strings.Join(whole, "\n") != strings.Join(cut, "\n") {
			t.Fatalf("%q and %q", whole, cut)
		}
		for _, line := range whole {
			if len(line) > maxLine+len(truncated) {
				t.Fatalf("%d bytes", len(line))
			}
		}
	})
}
