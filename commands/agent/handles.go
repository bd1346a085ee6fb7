package agent

import (
	"errors"
	"log/slog"
	"sync"

	"daosbox/cluster/fault"

	"github.com/google/uuid"
)

// Bounds of what clients can make the agent remember.
const (
	maxProcessHandles = 4096
	maxHandles        = 1 << 20
)

// poolHandle is an open pool of a client.
type poolHandle struct{ pool, handle string }

// handleBook knows which process holds which pool handles, and watches the
// processes: what one leaves behind when it ends is evicted.
type handleBook struct {
	evict   func(pool string, handles ...string)
	watcher *watcher
	log     *slog.Logger

	mu        sync.Mutex
	processes map[int32]*process
	count     int
}

// process is a client with handles.
type process struct {
	pid     int32
	watch   *watch
	handles map[poolHandle]struct{}
}

func newHandleBook(w *watcher, evict func(string, ...string), log *slog.Logger) *handleBook {
	return &handleBook{evict: evict, watcher: w, log: log, processes: make(map[int32]*process)}
}

// connect notes a handle of the process pid.
func (b *handleBook) connect(pid int32, pool, handle string) error {
	h, err := newPoolHandle(pool, handle)
	if err != nil {
		return err
	}
	if pid <= 0 {
		// The kernel does not show a process of a foreign pid namespace.
		b.log.Debug("cannot watch a client of another pid namespace", "pool", pool)
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.process(pid)
	if err != nil {
		if errors.Is(err, errEnded) {
			b.evict(h.pool, h.handle)
			return nil
		}
		return err
	}
	if _, known := p.handles[h]; known {
		return nil
	}
	if len(p.handles) >= maxProcessHandles || b.count >= maxHandles {
		return fault.New(fault.TooLarge, "cannot watch another pool handle of process %d: there are too many", pid)
	}
	p.handles[h] = struct{}{}
	b.count++
	b.log.Debug("a client connected to a pool", "pid", pid, "pool", pool, "handle", handle)
	return nil
}

func newPoolHandle(pool, handle string) (poolHandle, error) {
	for _, text := range []string{pool, handle} {
		if _, err := uuid.Parse(text); err != nil {
			return poolHandle{}, fault.New(fault.Usage, "cannot watch pool handle %q of pool %q: no UUID", handle, pool)
		}
	}
	return poolHandle{pool, handle}, nil
}

// process returns the entry of a living process, with a watch; b.mu must be held.
func (b *handleBook) process(pid int32) (*process, error) {
	if p := b.processes[pid]; p != nil {
		if !p.watch.ended() {
			return p, nil
		}
		b.drop(p) // its number belongs to another process already
	}
	p := &process{pid: pid, handles: make(map[poolHandle]struct{})}
	w, err := b.watcher.watch(pid, func() { b.ended(p) })
	if err != nil {
		return nil, err
	}
	p.watch = w
	b.processes[pid] = p
	return p, nil
}

// ended takes the end of a process.
func (b *handleBook) ended(p *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.processes[p.pid] != p {
		return
	}
	if len(p.handles) > 0 {
		b.log.Info("a client ended with open pool handles, evicting them", "pid", p.pid, "handles", len(p.handles))
	}
	b.drop(p)
}

// drop evicts what a process holds and forgets it; b.mu must be held.
func (b *handleBook) drop(p *process) {
	p.watch.stop()
	delete(b.processes, p.pid)
	b.count -= len(p.handles)
	for h := range p.handles {
		b.evict(h.pool, h.handle)
	}
}

// disconnect forgets a handle that its process gave back.
func (b *handleBook) disconnect(pid int32, pool, handle string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.processes[pid]
	if p == nil {
		return
	}
	h := poolHandle{pool, handle}
	if _, known := p.handles[h]; !known {
		return
	}
	delete(p.handles, h)
	b.count--
	b.log.Debug("a client disconnected from a pool", "pid", pid, "pool", pool, "handle", handle)
	if len(p.handles) == 0 {
		b.drop(p)
	}
}

// exit takes the farewell of a process; handles that it still has are evicted.
func (b *handleBook) exit(pid int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.processes[pid]; p != nil {
		b.drop(p)
	}
}

// evictAll evicts the handles of all processes and returns how many there were.
func (b *handleBook) evictAll() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := b.count
	for _, p := range b.processes {
		b.drop(p)
	}
	return count
}

// forgetAll stops all watches and leaves the handles to their processes.
func (b *handleBook) forgetAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.processes {
		clear(p.handles)
		b.drop(p)
	}
	b.count = 0
}
