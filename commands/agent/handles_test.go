package agent

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"

	"github.com/matryer/is"
)

// sleeper is a process that lives until it is killed.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	is.New(t).NoErr(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// ways are the two ways to watch a process.
var ways = map[string]func(*watcher){
	"by descriptor": func(*watcher) {},
	"by looking":    func(w *watcher) { w.pidfds, w.interval = false, 10*time.Millisecond },
}

func TestWatch(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			w := newWatcher("/proc")
			way(w)
			first, second, third := sleeper(t), sleeper(t), sleeper(t)
			gone := make(chan string, 3)
			one, err := w.watch(int32(first.Process.Pid), func() { gone <- "first" })
			is.NoErr(err)
			two, err := w.watch(int32(second.Process.Pid), func() { gone <- "second" })
			is.NoErr(err)
			is.True(!one.ended())
			is.NoErr(first.Process.Kill()) // a zombie until it is waited for
			is.Equal(<-gone, "first")
			is.True(one.ended())
			one.stop()
			two.stop() // and no watch is left
			again, err := w.watch(int32(third.Process.Pid), func() { gone <- "third" })
			is.NoErr(err)
			is.NoErr(third.Process.Kill())
			is.Equal(<-gone, "third")
			again.stop()
			_, err = w.watch(int32(dead(t)), func() { t.Error("told of the end of the dead") })
			is.True(errors.Is(err, errEnded))
			w.close()
			is.Equal(len(gone), 0) // the second lives
		})
	}
}

// dead is the number of a process that has ended.
func dead(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	is.New(t).NoErr(cmd.Run())
	return cmd.Process.Pid
}

// list collects what is evicted.
type list struct {
	mu  sync.Mutex
	all []string
}

func (l *list) evict(pool string, handles ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range handles {
		l.all = append(l.all, pool+" "+h)
	}
	slices.Sort(l.all)
}

func (l *list) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func TestBook(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			w, evicted := newWatcher("/proc"), new(list)
			way(w)
			b := newHandleBook(w, evicted.evict, quiet())
			cmd := sleeper(t)
			pid, self := int32(cmd.Process.Pid), int32(os.Getpid())
			is.NoErr(b.connect(pid, poolA, handle1))
			is.NoErr(b.connect(pid, poolA, handle1)) // told twice
			is.NoErr(b.connect(pid, poolB, handle2))
			is.NoErr(b.connect(self, poolA, handle3))
			b.disconnect(self, poolA, handle1) // not its own
			b.disconnect(pid, poolB, handle1)  // not of this pool
			b.disconnect(0, poolA, handle1)
			b.exit(1)
			is.Equal(b.count, 3)
			b.disconnect(pid, poolB, handle2)
			is.NoErr(cmd.Process.Kill())
			eventually(t, "the end of the process is seen", func() bool { return len(evicted.get()) > 0 })
			is.Equal(evicted.get(), []string{poolA + " " + handle1})

			is.NoErr(b.connect(int32(dead(t)), poolB, handle2)) // died right after
			is.Equal(len(evicted.get()), 2)
			is.NoErr(b.connect(0, poolB, handle2)) // cannot be watched
			is.Equal(fault.Of(b.connect(pid, "pool", handle1)), fault.Usage)
			is.Equal(b.evictAll(), 1)
			is.Equal(len(evicted.get()), 3)
			is.NoErr(b.connect(self, poolA, handle3))
			b.forgetAll()
			is.Equal(len(evicted.get()), 3)
			is.Equal(len(b.processes), 0)
			is.Equal(b.count, 0)
			w.close()
		})
	}
}

func TestBookIsBounded(t *testing.T) {
	is := is.New(t)
	w := newWatcher("/proc")
	b := newHandleBook(w, func(string, ...string) {}, quiet())
	self := int32(os.Getpid())
	is.NoErr(b.connect(self, poolA, handle1))
	for i := range maxProcessHandles {
		b.processes[self].handles[poolHandle{"", string(rune(i))}] = struct{}{}
	}
	is.Equal(fault.Of(b.connect(self, poolA, handle2)), fault.TooLarge)
	b.forgetAll()
	w.close()
}

// request is what an evictor sent.
type request struct {
	pool    string
	handles []string
}

// withEvictor runs a test in a bubble of time; answer is asked for each request.
func withEvictor(t *testing.T, answer func(n int) error, test func(is *is.I, e *evictor, sent func() []request)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var all []request
		e := newEvictor(func(_ context.Context, pool string, handles []string) error {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, request{pool, handles})
			return answer(len(all))
		}, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.run(ctx) }()
		test(is.New(t), e, func() []request { mu.Lock(); defer mu.Unlock(); return slices.Clone(all) })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestHandlesOfAPoolAreEvictedTogether(t *testing.T) {
	withEvictor(t, func(int) error { return nil }, func(is *is.I, e *evictor, sent func() []request) {
		e.add(poolB, handle2)
		e.add(poolA, handle2)
		e.add(poolB, handle1, handle1)
		time.Sleep(time.Second)
		is.Equal(sent(), []request{{poolA, []string{handle2}}, {poolB, []string{handle2, handle1}}})
		is.Equal(e.left(), 0)
	})
}

func TestEvictionIsTriedAgain(t *testing.T) {
	errs := []error{down(), fault.New(fault.NoLeader, "none"), drpc.StatusError(int32(drpc.StatusBusy)), nil}
	withEvictor(t, func(n int) error { return errs[n-1] }, func(is *is.I, e *evictor, sent func() []request) {
		e.add(poolA, handle1)
		time.Sleep(time.Minute)
		is.Equal(len(sent()), len(errs))
		is.Equal(e.left(), 0)
	})
}

func TestEvictionEnds(t *testing.T) {
	withEvictor(t, func(int) error { return down() }, func(is *is.I, e *evictor, sent func() []request) {
		e.add(poolA, handle1)
		time.Sleep(evictGiveUp + time.Minute)
		is.Equal(e.left(), 0)
		n := len(sent())
		is.True(n > 10 && n < 100)
		time.Sleep(time.Hour)
		is.Equal(len(sent()), n)
	})
	withEvictor(t, func(int) error { return fault.New(fault.NotFound, "no such pool") }, func(is *is.I, e *evictor, sent func() []request) {
		e.add(poolA, handle1)
		time.Sleep(time.Minute)
		is.Equal(len(sent()), 1)
		is.Equal(e.left(), 0)
	})
}
