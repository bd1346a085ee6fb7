package engine

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

// pipeDelay is how long output of a dead process is still read when something
// that left its group holds the pipes.
const pipeDelay = 2 * time.Second

// process is one running program. Its methods are safe for concurrent use.
type process struct {
	pid     int
	started time.Time
	tail    tail
	// done gets the reason of the end, once, after everything was collected.
	done chan error

	mu sync.Mutex
	// gone is set while the dead process still holds its number, so that no signal
	// can reach another process that got the number later.
	gone bool
}

// launch executes spec and returns when the program runs.
func launch(spec Spec, index int, logger *slog.Logger) (*process, error) {
	p := &process{done: make(chan error, 1)}
	stdout := newLineWriter(logger, slog.LevelInfo, index, &p.tail)
	stderr := newLineWriter(logger, slog.LevelError, index, &p.tail)
	arg0 := spec.Arg0
	if arg0 == "" {
		arg0 = spec.Binary
	}
	cmd := &exec.Cmd{
		Path:        spec.Binary,
		Args:        append(append([]string{arg0}, spec.BinaryArgs...), spec.Argv...),
		Env:         append([]string{}, spec.Env...), // never nil: nil would inherit ours
		Dir:         spec.Dir,
		Stdout:      stdout,
		Stderr:      stderr,
		WaitDelay:   pipeDelay,
		SysProcAttr: attributes(),
	}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the thread that started the
		// child ends, and the runtime ends idle threads: this one is kept until the
		// child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p.started = time.Now()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		err := p.collect(cmd)
		stdout.flush()
		stderr.flush()
		p.done <- err
	}()
	if err := <-started; err != nil {
		return nil, fault.Wrap(fault.Engine, err, "cannot execute %s", spec.Binary).
			WithHint("check that the engine is installed and executable")
	}
	return p, nil
}

// attributes makes the child leader of its own group, killed with our death, with
// the real user and group should the effective ones differ.
func attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		attr.Credential = &syscall.Credential{
			Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid()), NoSetGroups: true,
		}
	}
	return attr
}

// collect waits for the end and returns its reason, never nil. What is left of the
// group is killed while the dead leader still keeps the group's number taken.
func (p *process) collect(cmd *exec.Cmd) error {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = unix.Kill(-p.pid, unix.SIGKILL) // nothing left is the usual case
	p.gone = true
	p.mu.Unlock()

	err := cmd.Wait()
	switch {
	case cmd.ProcessState == nil:
		return err
	case cmd.ProcessState.Success():
		return errors.New("process exited with 0")
	}
	return &exec.ExitError{ProcessState: cmd.ProcessState}
}

// interrupt asks the process to end.
func (p *process) interrupt() { p.signal(p.pid, unix.SIGINT) }

// kill ends the process and its whole group.
func (p *process) kill() { p.signal(-p.pid, unix.SIGKILL) }

func (p *process) signal(target int, sig unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = unix.Kill(target, sig) // it may end on its own just now
	}
}

// FindBinary finds the program name in the directories of searchPath (the value of
// PATH), then beside the executable self. A name with a slash is only checked.
// Relative directories of searchPath are skipped: what a server executes must not
// hang on where it was started.
func FindBinary(name, searchPath, self string) (string, error) {
	if filepath.Base(name) != name {
		path, err := filepath.Abs(name)
		if err == nil {
			err = executable(path)
		}
		if err != nil {
			return "", fault.Wrap(fault.Engine, err, "cannot use engine program %s", name).
				WithHint("name an executable file")
		}
		return path, nil
	}
	dirs := filepath.SplitList(searchPath)
	if self != "" {
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			continue
		}
		if path := filepath.Join(dir, name); executable(path) == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.Engine, "cannot find %s in PATH or beside %s", name, self).
		WithHint("install the engine or set engine_binary in the configuration")
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return &fs.PathError{Op: "execute", Path: path, Err: fs.ErrPermission}
	}
	return nil
}
