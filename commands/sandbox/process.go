package sandbox

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// kind is what a process of the sandbox is.
type kind int

const (
	serverProcess kind = iota
	engineProcess
	agentProcess
)

// process is a running process of the sandbox. handle refers to it by pidfd: when
// it ends, a signal meets nobody instead of whoever has its number next.
type process struct {
	kind   kind
	host   int // 1.., 0 for the agent
	engine int // 0.. of an engine
	pid    int
	handle *os.Process
}

func (p process) name() string {
	switch p.kind {
	case serverProcess:
		return hostName(p.host)
	case engineProcess:
		return processName(p.host, p.engine)
	}
	return "agent"
}

// signal sends a signal; a process that ended meanwhile is no error.
func (p process) signal(sig syscall.Signal) error {
	if err := p.handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fault.Wrap(fault.Permission, err, "cannot send %s to %s (process %d)", sig, p.name(), p.pid)
	}
	return nil
}

// maxCommandLine bounds what is read of a process's command line.
const maxCommandLine = 1 << 16

// find lists the running processes of the sandbox, servers first, by host. They
// are recognized by their command line, which names files of this directory:
// nothing has to be written down that a crash could leave wrong. Another mount
// namespace may have another directory of the same path; it is left alone.
func find(l layout) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot list processes").WithHint("is /proc mounted?")
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot list processes")
	}
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := look(l, pid, own); ok {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b process) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.host, b.host), cmp.Compare(a.engine, b.engine), cmp.Compare(a.pid, b.pid))
	})
	return found, nil
}

// look recognizes one process. The handle is opened between two looks, so that it
// is certain to be that of the process that was looked at.
func look(l layout, pid int, mountNamespace string) (process, bool) {
	p, ok := recognize(l, commandLine(pid), workDir(pid))
	if !ok {
		return p, false
	}
	handle, err := os.FindProcess(pid)
	if err != nil {
		return p, false
	}
	again, ok := recognize(l, commandLine(pid), workDir(pid))
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if !ok || again != p || err != nil || namespace != mountNamespace {
		_ = handle.Release()
		return p, false
	}
	p.pid, p.handle = pid, handle
	return p, true
}

// commandLine is the argument vector of a process, empty for one that has ended
// and waits for its parent.
func commandLine(pid int) []string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCommandLine))
	if err != nil || len(data) == 0 {
		return nil
	}
	var words []string
	for word := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte{0}), []byte{0}) {
		words = append(words, string(word))
	}
	return words
}

func workDir(pid int) string {
	dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return dir
}

// recognize tells which process of the sandbox has this command line. The
// personality may be the name of the file or the first argument.
func recognize(l layout, args []string, dir string) (process, bool) {
	if len(args) > 1 && filepath.Base(args[0]) == "daosbox" {
		args = args[1:]
	}
	if len(args) < 2 {
		return process{}, false
	}
	switch name, args := filepath.Base(args[0]), args[1:]; name {
	case "daos_server":
		host, ok := hostOf(l, flagValue(args, dir, "-o", "--config"), "daos_server.yml")
		return process{kind: serverProcess, host: host}, ok && slices.Contains(args, "start")
	case "daos_engine", "daos_engine_emulator":
		host, ok := hostOf(l, flagValue(args, dir, "-d"), "run")
		engine, err := strconv.Atoi(filepath.Base(flagValue(args, "/", "-I")))
		return process{kind: engineProcess, host: host, engine: engine}, ok && err == nil
	case "daos_agent":
		return process{kind: agentProcess}, flagValue(args, dir, "-o", "--config-path") == l.agentConfig() &&
			!slices.Contains(args, "dump-attachinfo") && !slices.Contains(args, "config")
	}
	return process{}, false
}

// flagValue is the path that follows one of the flags.
func flagValue(args []string, dir string, flags ...string) string {
	for i, arg := range args {
		if i > 0 && slices.Contains(flags, args[i-1]) {
			if !filepath.IsAbs(arg) {
				arg = filepath.Join(dir, arg)
			}
			return filepath.Clean(arg)
		}
	}
	return ""
}

// hostOf is the host whose directory has path as its entry name.
func hostOf(l layout, path, name string) (int, bool) {
	if path == "" || filepath.Base(path) != name || filepath.Dir(filepath.Dir(path)) != l.dir {
		return 0, false
	}
	var host int
	text := filepath.Base(filepath.Dir(path))
	if _, err := fmt.Sscanf(text, "host%d", &host); err != nil || text != hostName(host) || host < 1 {
		return 0, false
	}
	return host, true
}

// only picks processes of a kind and host; host 0 is any.
func only(all []process, k kind, host int) []process {
	return slices.DeleteFunc(slices.Clone(all), func(p process) bool { return p.kind != k || host != 0 && p.host != host })
}

// child is a process that this run started. It lives on when this run ends.
type child struct {
	name string
	// ended is closed when the process has ended; err says how.
	ended chan struct{}
	err   error
}

// launch starts a daemon of the sandbox in a session of its own. What it prints
// goes to its output file, started anew.
func launch(l layout, name, dir string, environ []string, argv ...string) (*child, error) {
	out, err := os.OpenFile(l.output(name), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, unwritten(l.output(name), err)
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, environ
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot start %s", name)
	}
	c := &child{name: name, ended: make(chan struct{})}
	go func() {
		c.err = cmd.Wait() // reaps; the run itself does not wait for it
		if c.err == nil {
			c.err = errors.New("exit status 0")
		}
		close(c.ended)
	}()
	return c, nil
}

// failure is how the process ended, nil while it runs.
func (c *child) failure() error {
	select {
	case <-c.ended:
		return c.err
	default:
		return nil
	}
}

// daemonEnviron is the environment of a daemon without what addresses the
// process that started this run.
func daemonEnviron(environ []string) []string {
	own := []string{"NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "LISTEN_FDS=", "LISTEN_PID="}
	return slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		return slices.ContainsFunc(own, func(prefix string) bool { return len(pair) >= len(prefix) && pair[:len(prefix)] == prefix })
	})
}

// The pauses between two looks at something that cannot be waited for.
const poll = 50 * time.Millisecond
