package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"daosbox/cluster/fault"
)

// ServerConfig says what a server serves and to whom.
type ServerConfig struct {
	// TLS has the server's certificate and whom it trusts, nil for plain text.
	TLS *tls.Config
	// Handler answers the calls of the control service. A panic in it becomes
	// fault.Internal.
	Handler Handler
	// Admit is asked once per connection, before it is served or handed over; its
	// fault is told to the peer. nil admits everyone whom TLS lets in.
	Admit  func(service string, p Peer) error
	Limits Limits
	// Logger gets failed handshakes and broken connections at warn level, one line
	// per kind and peer address a minute, and frames at debug level.
	Logger *slog.Logger
	// MaxBody is the largest request in bytes of a peer for a method; nil or an
	// answer of 0 is Limits.Body, or Limits.OpenBody for a peer on TLS that showed
	// no certificate.
	MaxBody func(p Peer, method string) int
}

// Server serves the connections of one or more listeners.
type Server struct {
	cfg     ServerConfig
	lim     Limits
	dialect dialect
	log     *sparseLog
	pending *waitingRoom
	held    atomic.Int64 // bytes of requests in progress
	count   atomic.Int64 // connections of the control service
	counters

	mu        sync.Mutex
	services  map[string]*service
	sessions  map[*session]struct{}
	listeners map[net.Listener]struct{}
	draining  bool
	empty     chan struct{} // closed when draining and no session is left
}

// NewServer makes a server; it serves nothing yet.
func NewServer(cfg ServerConfig) *Server {
	lim := cfg.Limits.withDefaults()
	s := &Server{cfg: cfg, lim: lim, log: newSparseLog(discard(cfg.Logger)),
		services: make(map[string]*service), sessions: make(map[*session]struct{}),
		listeners: make(map[net.Listener]struct{}), empty: make(chan struct{})}
	s.pending = newWaitingRoom(lim.Pending, &s.evicted)
	s.log.count = s.failure
	return s
}

// Serve accepts connections from ln until ctx ends or Shutdown is called, and
// returns nil then, after the last of them is gone. The end of ctx ends all calls
// at once; Shutdown lets them finish. It closes ln. A listener that fails ends it
// with that error.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return errors.Join(fault.New(fault.NotReady, "cannot serve %s: server was shut down", ln.Addr()), ln.Close())
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	secure := s.tlsConfig()
	unhook := context.AfterFunc(ctx, func() {
		_ = ln.Close()
		s.endSessions(fault.New(fault.NotReady, "server is shutting down"))
	})
	defer unhook()

	var all sync.WaitGroup
	err := s.acceptAll(ctx, ln, func(c net.Conn, leave func()) {
		all.Go(func() {
			defer leave()
			s.connection(ctx, c, secure, leave)
		})
	})
	if err != nil {
		cancel()
	}
	all.Wait()
	s.mu.Lock()
	delete(s.listeners, ln)
	s.mu.Unlock()
	return err
}

// acceptAll accepts until ln is closed.
func (s *Server) acceptAll(ctx context.Context, ln net.Listener, start func(c net.Conn, leave func())) error {
	pause := 5 * time.Millisecond
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			s.accepted.Add(1)
			if leave := s.pending.enter(ctx, c); leave != nil {
				start(c, leave)
			} else {
				_ = c.Close()
			}
			continue
		case ctx.Err() != nil || s.isDraining():
			return nil
		case !temporary(err):
			return fault.Wrap(fault.Internal, err, "cannot accept connections on %s", ln.Addr())
		}
		// Out of descriptors or memory: others must finish first.
		s.log.warn("accept", ln.Addr(), "cannot accept connections", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(2*pause, time.Second)
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// connection takes one connection from its first byte to its last.
func (s *Server) connection(ctx context.Context, raw net.Conn, secure *tls.Config, leave func()) {
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Now()) })
	g, err := s.greet(ctx, raw, secure)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.log.handshake(raw.RemoteAddr(), err)
		if isTimeout(err) {
			_ = raw.Close() // nothing was said that it could miss
		} else {
			linger(raw)
		}
		return
	}
	leave()
	if g.hand != nil {
		g.hand()
		return
	}
	newSession(ctx, s, g).serve(ctx)
}

// enlist counts a session in, or refuses it. The end of ctx is seen here or by
// endSessions, which takes the same lock after it.
func (s *Server) enlist(ctx context.Context, c *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || ctx.Err() != nil {
		return false
	}
	s.sessions[c] = struct{}{}
	return true
}

func (s *Server) delist(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
	s.checkEmpty()
}

// checkEmpty tells Shutdown that all are gone; s.mu must be held.
func (s *Server) checkEmpty() {
	if !s.draining || len(s.sessions) > 0 {
		return
	}
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

func (s *Server) snapshot() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*session, 0, len(s.sessions))
	for c := range s.sessions {
		all = append(all, c)
	}
	return all
}

func (s *Server) endSessions(why *fault.Error) {
	for _, c := range s.snapshot() {
		c.fail(why, why)
	}
}

// Shutdown takes no new connection and no new stream, tells the clients so, waits
// for the running calls and closes. When ctx ends first the remaining calls are
// ended and its error is returned as a fault. Connections that were handed to
// another service's listener are that one's to close.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for _, l := range s.services {
		_ = l.Close()
	}
	s.checkEmpty()
	s.mu.Unlock()
	for _, c := range s.snapshot() {
		c.drain()
	}
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	n := len(s.snapshot())
	s.endSessions(fault.New(fault.NotReady, "server is shutting down"))
	if n == 0 {
		return nil
	}
	return fault.New(fault.Timeout, "cannot wait for calls on %d connections: %w", n, context.Cause(ctx))
}

// maxBody is the limit of one request.
func (s *Server) maxBody(p Peer, method string) int {
	if s.cfg.MaxBody != nil {
		if n := s.cfg.MaxBody(p, method); n > 0 {
			return n
		}
	}
	if p.Secure && p.Cert == nil {
		return s.lim.OpenBody
	}
	return s.lim.Body
}
