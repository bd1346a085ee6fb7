package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errEnded is a process that is gone before it is watched.
var errEnded = errors.New("the process has ended")

// pollEvery is how often processes are looked for where the kernel cannot tell of
// their end.
const pollEvery = 3 * time.Second

// watcher tells of the end of processes that are not its children.
type watcher struct {
	proc     string
	interval time.Duration
	pidfds   bool // false where the kernel has no pidfd_open

	mu      sync.Mutex
	polled  map[*watch]struct{}
	polling bool          // a goroutine looks at them
	change  chan struct{} // the last of them was stopped
	work    sync.WaitGroup
}

func newWatcher(proc string) *watcher {
	return &watcher{proc: proc, interval: pollEvery, pidfds: true, polled: make(map[*watch]struct{}), change: make(chan struct{}, 1)}
}

// watch is a process under watch: by a descriptor of it, else by its start time.
type watch struct {
	watcher *watcher
	file    *os.File
	raw     syscall.RawConn
	pid     int32
	start   string
	gone    func()
}

// watch calls gone once when the process ends, from a goroutine of its own.
// errEnded means that it has ended already.
func (w *watcher) watch(pid int32, gone func()) (*watch, error) {
	one := &watch{watcher: w, pid: pid, gone: gone}
	if w.pidfds {
		err := one.open()
		if err == nil {
			w.work.Go(one.wait)
			return one, nil
		}
		if errors.Is(err, unix.ESRCH) {
			return nil, errEnded
		}
	}
	start, alive := one.look()
	if !alive {
		return nil, errEnded
	}
	one.start = start
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polled[one] = struct{}{}
	if !w.polling {
		w.polling = true
		w.work.Go(w.poll)
	}
	return one, nil
}

// open takes a descriptor of the process that the runtime can wait for.
func (one *watch) open() error {
	fd, err := unix.PidfdOpen(int(one.pid), 0)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return err
	}
	file := os.NewFile(uintptr(fd), "process "+strconv.Itoa(int(one.pid)))
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // fails where it cannot be waited for
	}
	if err != nil {
		_ = file.Close()
		return err
	}
	one.file, one.raw = file, raw
	return nil
}

// wait ends with the process or with stop.
func (one *watch) wait() {
	if err := one.raw.Read(readable); err == nil {
		one.gone()
	}
}

// readable reports whether a process descriptor tells of the end.
func readable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// ended reports whether the process is gone now.
func (one *watch) ended() bool {
	if one.file == nil {
		start, alive := one.look()
		return !alive || start != one.start
	}
	over := true
	err := one.raw.Control(func(fd uintptr) { over = readable(fd) })
	return err != nil || over
}

// look reads the start time of the process; a zombie is not alive.
func (one *watch) look() (start string, alive bool) {
	stat := readSmall(filepath.Join(one.watcher.proc, strconv.Itoa(int(one.pid)), "stat"))
	state, ok := statValue(stat, 0)
	if !ok || state == "Z" || state == "X" {
		return "", false
	}
	return statValue(stat, statStart)
}

// stop ends the watch; gone may be under way.
func (one *watch) stop() {
	if one.file != nil {
		_ = one.file.Close()
		return
	}
	w := one.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.polled, one)
	if len(w.polled) == 0 {
		select {
		case w.change <- struct{}{}:
		default:
		}
	}
}

// poll looks at processes without a descriptor until there are none.
func (w *watcher) poll() {
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-w.change:
		}
		for _, one := range w.over() {
			one.gone()
		}
		w.mu.Lock()
		if len(w.polled) == 0 {
			w.polling = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// over takes out the processes that have ended.
func (w *watcher) over() (ended []*watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.polled {
		if one.ended() {
			delete(w.polled, one)
			ended = append(ended, one)
		}
	}
	return ended
}

// close waits for what runs; all watches must be stopped.
func (w *watcher) close() { w.work.Wait() }
