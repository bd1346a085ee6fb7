package wire

import (
	"net"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// service is the listener of the connections of one service.
type service struct {
	name  string
	queue chan net.Conn
	addr  func() net.Addr

	mu     sync.Mutex
	closed bool
	done   chan struct{}
}

// Service returns the listener of connections whose preface names another service
// than control. They are handed over after TLS, Admit and the preface, as plain
// connections without deadlines; their Peer is found with PeerOf. At most
// Limits.Queue wait to be accepted. Ask for all services before Serve, since TLS
// names them. The listener closes with Shutdown.
func (s *Server) Service(name string) net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.services[name]; l != nil {
		return l
	}
	l := &service{name: name, queue: make(chan net.Conn, s.lim.Queue), done: make(chan struct{}), addr: s.addr}
	s.services[name] = l
	return l
}

// addr is the address of one of the server's listeners.
func (s *Server) addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ln := range s.listeners {
		return ln.Addr()
	}
	return &net.TCPAddr{}
}

// handedConn is a connection of a service and who is on its other end.
type handedConn struct {
	net.Conn
	peer Peer
}

// CloseWrite passes on what embedding the interface hides.
func (c *handedConn) CloseWrite() error {
	closeWrite(c.Conn)
	return nil
}

// PeerOf returns who is on the other end of a connection that a Service listener
// accepted.
func PeerOf(c net.Conn) (Peer, bool) {
	h, ok := c.(*handedConn)
	if !ok {
		return Peer{}, false
	}
	return h.peer, true
}

// handOver reserves a place in the service's queue; what it returns answers the
// client and puts the connection there.
func (s *Server) handOver(g greeted) (func(), error) {
	name := g.theirs.service
	s.mu.Lock()
	l := s.services[name]
	s.mu.Unlock()
	if l == nil {
		return nil, fault.New(fault.NotFound, "this server has no service %q", name)
	}
	return func() {
		if _, err := g.conn.Write(g.answer.append(nil)); err != nil {
			s.log.handshake(g.peer.Addr, err)
			_ = g.conn.Close()
			return
		}
		_ = g.conn.SetDeadline(time.Time{})
		l.put(&handedConn{g.conn, g.peer})
	}, l.check()
}

// check refuses early what put would have to drop.
func (l *service) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return fault.New(fault.NotReady, "service %s is shutting down", l.name)
	case len(l.queue) == cap(l.queue):
		return fault.New(fault.Busy, "service %s accepts no connections at the moment", l.name)
	}
	return nil
}

func (l *service) put(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		select {
		case l.queue <- c:
			return
		default:
		}
	}
	_ = c.Close()
}

// Accept returns net.ErrClosed after Close.
func (l *service) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Close closes the connections that nobody accepted.
func (l *service) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	for {
		select {
		case c := <-l.queue:
			_ = c.Close()
		default:
			return nil
		}
	}
}

func (l *service) Addr() net.Addr { return l.addr() }
