package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
)

const (
	// evictGather lets the handles of a job that ends come together.
	evictGather = 100 * time.Millisecond
	// evictTime bounds one request, evictGiveUp the tries for a handle: a service
	// that was away longer has other ways to drop it.
	evictTime   = 30 * time.Second
	evictGiveUp = 15 * time.Minute
	// Pauses between tries.
	evictFirst = 500 * time.Millisecond
	evictLast  = 30 * time.Second
	// evictBatch is the most handles of one request.
	evictBatch = 4096
)

// evictor has pool handles evicted by the service, together for each pool, and
// tries again while the service is away.
type evictor struct {
	send func(ctx context.Context, pool string, handles []string) error
	log  *slog.Logger

	mu      sync.Mutex
	pending map[string]map[string]time.Time // pool, handle, since when
	wake    chan struct{}
}

func newEvictor(send func(context.Context, string, []string) error, log *slog.Logger) *evictor {
	return &evictor{send: send, log: log, pending: make(map[string]map[string]time.Time), wake: make(chan struct{}, 1)}
}

// add has handles of a pool evicted soon.
func (e *evictor) add(pool string, handles ...string) {
	e.put(pool, handles, time.Now())
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *evictor) put(pool string, handles []string, since time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.pending[pool]
	if known == nil {
		known = make(map[string]time.Time)
		e.pending[pool] = known
	}
	for _, h := range handles {
		known[h] = since
	}
}

// run evicts what is added until ctx ends.
func (e *evictor) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		}
		if err := pause(ctx, evictGather); err != nil {
			return nil
		}
		e.drain(ctx)
	}
}

// drain evicts all that is pending, trying again until ctx ends.
func (e *evictor) drain(ctx context.Context) {
	for wait := evictFirst; ; wait = min(2*wait, evictLast) {
		if e.flush(ctx) || pause(ctx, wait) != nil {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// flush tries once for every pool and reports whether nothing is left.
func (e *evictor) flush(ctx context.Context) bool {
	e.mu.Lock()
	all := e.pending
	e.pending = make(map[string]map[string]time.Time)
	e.mu.Unlock()
	for _, pool := range slices.Sorted(maps.Keys(all)) {
		handles := slices.Sorted(maps.Keys(all[pool]))
		for batch := range slices.Chunk(handles, evictBatch) {
			e.try(ctx, pool, batch, all[pool])
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.pending) == 0
}

func (e *evictor) try(ctx context.Context, pool string, handles []string, since map[string]time.Time) {
	limited, cancel := context.WithTimeout(ctx, evictTime)
	defer cancel()
	err := e.send(limited, pool, handles)
	switch {
	case err == nil:
		e.log.Info("evicted pool handles", "pool", pool, "handles", len(handles))
		return
	case !passing(err):
		e.log.Warn("cannot evict pool handles, giving up", "pool", pool, "handles", len(handles), "error", err)
		return
	}
	e.log.Debug("cannot evict pool handles yet", "pool", pool, "handles", len(handles), "error", err)
	late := 0
	for _, h := range handles {
		if time.Since(since[h]) > evictGiveUp {
			late++
			continue
		}
		e.put(pool, []string{h}, since[h])
	}
	if late > 0 {
		e.log.Warn("cannot evict pool handles in time, giving up", "pool", pool, "handles", late, "error", err)
	}
}

// left is how many handles wait.
func (e *evictor) left() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, handles := range e.pending {
		n += len(handles)
	}
	return n
}

// passing reports whether a later try may succeed.
func passing(err error) bool {
	status := drpc.Status(fault.StatusOf(err))
	return isAway(err) || fault.Of(err) == fault.InstanceNotReady || status.Retryable() || status == drpc.StatusBusy
}
