package cluster

import (
	"context"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// poolLocks keeps operations on the same pool apart. It lives and dies with the
// lead: a new leader begins with none.
type poolLocks struct {
	mu   sync.Mutex
	held map[string]poolLock
}

type poolLock struct {
	what  string
	since time.Time
}

// LockPool takes the lock of a pool for an operation ("destroy") on the leader.
// The context it returns ends with the caller's, with the lead, and with unlock,
// which may be called more than once. A pool that another operation holds is
// fault.PoolLocked: try again later.
func (s *Service) LockPool(ctx context.Context, uuid, what string) (held context.Context, unlock func(), err error) {
	bounded, done := s.bound(ctx)
	l, err := s.leading(bounded)
	done()
	if err != nil {
		return nil, nil, err
	}
	l.locks.mu.Lock()
	defer l.locks.mu.Unlock()
	if other, ok := l.locks.held[uuid]; ok {
		return nil, nil, fault.New(fault.PoolLocked, "cannot %s pool %s: %s has held it since %s", what, uuid, other.what, other.since.UTC().Format(time.RFC3339)).
			WithHint("try again when that is done")
	}
	if l.locks.held == nil {
		l.locks.held = make(map[string]poolLock)
	}
	l.locks.held[uuid] = poolLock{what: what, since: s.cfg.Now()}
	held, cancel := context.WithCancel(ctx)
	detach := context.AfterFunc(l.ctx, cancel)
	return held, sync.OnceFunc(func() {
		detach()
		cancel()
		l.locks.mu.Lock()
		defer l.locks.mu.Unlock()
		delete(l.locks.held, uuid)
	}), nil
}
