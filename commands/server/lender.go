package server

import (
	"context"
	"net"
	"sync"
)

// lender lends the listener of the replicas' connections to one life of the local
// replica after the other: the management service closes what it listens on, while
// a system that was erased is begun anew in the same process.
type lender struct {
	inner net.Listener

	mu      sync.Mutex
	running bool
	current *lent
}

// lend begins a new loan; the one before must be closed.
func (l *lender) lend(s *server) net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = &lent{lender: l, conns: make(chan net.Conn), done: make(chan struct{})}
	if !l.running {
		l.running = true
		s.tasks.Go(func() { l.run(s.life) })
	}
	return l.current
}

// run hands connections on until the listener closes; those that come while nobody
// has it are closed.
func (l *lender) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _ = l.inner.Close() })()
	for {
		conn, err := l.inner.Accept()
		l.mu.Lock()
		to := l.current
		l.mu.Unlock()
		switch {
		case err != nil:
			if to != nil {
				_ = to.Close()
			}
			return
		case to == nil:
			_ = conn.Close()
		default:
			select {
			case to.conns <- conn:
			case <-to.done:
				_ = conn.Close()
			}
		}
	}
}

// lent is one loan.
type lent struct {
	lender *lender
	conns  chan net.Conn
	done   chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (l *lent) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Close implements net.Listener: it ends the loan.
func (l *lent) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.lender.mu.Lock()
		defer l.lender.mu.Unlock()
		if l.lender.current == l {
			l.lender.current = nil
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *lent) Addr() net.Addr { return l.lender.inner.Addr() }
