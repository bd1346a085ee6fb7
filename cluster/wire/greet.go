package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// peekConn reads again what was peeked.
type peekConn struct {
	net.Conn
	head []byte
}

func (c *peekConn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// CloseWrite passes on what embedding the interface hides.
func (c *peekConn) CloseWrite() error {
	closeWrite(c.Conn)
	return nil
}

// peekLen holds what a cold client sends first: its hello, or its preface and call.
const peekLen = 512

// peek waits for the first bytes.
func (c *peekConn) peek() ([]byte, error) {
	b := make([]byte, peekLen)
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.head = b[:n]
		return c.head, nil
	}
	return nil, err
}

// greeted is a connection whose preface was accepted.
type greeted struct {
	conn   net.Conn
	peer   Peer
	theirs preface
	answer preface
	hand   func() // hands the connection to its service, nil for control
}

// greet does everything up to the end of the preface, within the handshake time.
// A peer that is refused has been told why.
func (s *Server) greet(ctx context.Context, raw net.Conn, secure *tls.Config) (greeted, error) {
	g := greeted{peer: Peer{Addr: raw.RemoteAddr()}}
	if err := raw.SetDeadline(time.Now().Add(s.lim.Handshake)); err != nil {
		return g, err
	}
	outer := &peekConn{Conn: raw}
	head, err := outer.peek()
	if err != nil {
		return g, err
	}
	isTLS := head[0] == 0x16
	g.conn = outer
	switch {
	case isTLS && secure == nil:
		return g, s.refuse(outer, Control, fault.New(fault.Protocol, "this server speaks plain text: it has allow_insecure, and the client uses certificates").
			WithHint("switch certificates on at the server, or allow_insecure (-i) at the client if that is wanted"))
	case isTLS:
		cork := newCork(outer)
		t := tls.Server(cork, secure)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = cork.flush() // the alert; the peer may be gone
			return g, err
		}
		state := t.ConnectionState()
		g.conn, g.peer.Secure = t, true
		if len(state.PeerCertificates) > 0 {
			g.peer.Cert = state.PeerCertificates[0]
		}
		inner := &peekConn{Conn: t}
		g.conn = inner
		if head, err = inner.peek(); err != nil {
			return g, err
		}
		cork.shaken()
	case secure != nil && head[0] == magic[0]:
		return g, s.refuse(outer, Control, fault.New(fault.Protocol, "this server requires TLS, and the client has allow_insecure").
			WithHint("use certificates at the client: switch allow_insecure (-i) off"))
	}
	if head[0] != magic[0] {
		return g, refuseText(g.conn, head, secure != nil && !g.peer.Secure)
	}
	return s.settle(g)
}

// settle reads the preface and decides what becomes of the connection.
func (s *Server) settle(g greeted) (greeted, error) {
	var err error
	if g.theirs, err = readPreface(g.conn); err != nil {
		if _, bad := fault.As(err); bad {
			return g, s.refuse(g.conn, Control, err)
		}
		return g, err
	}
	name := g.theirs.service
	g.answer = s.preface(name)
	if _, err := common(g.theirs, g.answer); err != nil {
		return g, s.refuse(g.conn, name, err)
	}
	if t, ok := g.conn.(*peekConn).Conn.(*tls.Conn); ok {
		if proto := t.ConnectionState().NegotiatedProtocol; proto != "" && proto != alpn(name) {
			return g, s.refuse(g.conn, name, fault.New(fault.Protocol, "cannot serve %s: TLS was made for %s", name, proto))
		}
	}
	if s.cfg.Admit != nil {
		if err := s.cfg.Admit(name, g.peer); err != nil {
			return g, s.refuse(g.conn, name, err)
		}
	}
	if s.isDraining() {
		return g, s.refuse(g.conn, name, fault.New(fault.NotReady, "server is shutting down"))
	}
	if name == Control {
		return g, nil
	}
	if g.hand, err = s.handOver(g); err != nil {
		return g, s.refuse(g.conn, name, err)
	}
	return g, nil
}

func (s *Server) preface(service string) preface {
	d := s.dialect.orOurs()
	return preface{version: d.version, minVersion: d.minVersion, features: d.features, frame: uint32(s.lim.Frame),
		window: uint32(s.lim.Window), streams: uint16(s.lim.Streams), service: service}
}

// refuse tells a client of ours why it is not served, and returns the reason.
func (s *Server) refuse(c net.Conn, service string, why error) error {
	s.refused.Add(1)
	p := s.preface(service)
	p.refused = true
	b := appendFrame(p.append(nil), kindError, 0, 0, encodeFault(why))
	_, _ = c.Write(b) // it may be gone; the reason is logged here as well
	closeWrite(c)
	return why
}

// refuseText answers whoever speaks another protocol in its own way: one line.
func refuseText(c net.Conn, head []byte, wantTLS bool) error {
	line := "this port speaks the protocol of daosbox: use dmg to talk to it"
	if wantTLS {
		line = "this server requires TLS: " + line
	}
	what := "plain text"
	answer := line + "\n"
	for _, verb := range []string{"GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "DELETE ", "CONNECT ", "PRI "} {
		if strings.HasPrefix(string(head), verb) {
			what = "HTTP"
			if verb != "PRI " {
				answer = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + answer
			}
		}
	}
	_, _ = c.Write([]byte(answer)) // it may be gone; the reason is logged here as well
	closeWrite(c)
	return fault.New(fault.Protocol, "client speaks %s, not the protocol of daosbox (%q)", what, head[:min(len(head), 16)])
}

// linger closes a connection so that the peer can still read our last word:
// closing over unread bytes would reset it.
func linger(c net.Conn) {
	closeWrite(c)
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c, 64<<10)
	_ = c.Close()
}

// tlsConfig is the configuration with the names of our services. A configuration
// that is picked per client (for reload) gets them as well, made once per pick.
func (s *Server) tlsConfig() *tls.Config {
	if s.cfg.TLS == nil {
		return nil
	}
	s.mu.Lock()
	protos := []string{alpn(Control)}
	for name := range s.services {
		protos = append(protos, alpn(name))
	}
	s.mu.Unlock()
	cfg := s.cfg.TLS.Clone()
	cfg.NextProtos = protos
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS13)
	pick := cfg.GetConfigForClient
	if pick == nil {
		return cfg
	}
	type pair struct{ from, to *tls.Config }
	var last atomic.Pointer[pair]
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		from, err := pick(hello)
		if err != nil || from == nil {
			return from, err
		}
		if p := last.Load(); p != nil && p.from == from {
			return p.to, nil
		}
		to := from.Clone()
		to.NextProtos = protos
		to.MinVersion = max(to.MinVersion, tls.VersionTLS13)
		last.Store(&pair{from, to})
		return to, nil
	}
	return cfg
}

// waitingRoom bounds the connections that have not finished their handshake.
type waitingRoom struct {
	mu    sync.Mutex
	limit int
	seats []seat // oldest first
	left  chan struct{}
	// evicted counts those that had to make room.
	evicted *atomic.Int64
}

type seat struct {
	conn  net.Conn
	since time.Time
	due   bool // told to leave
}

// seatGrace is the age from which a handshake may be evicted for a new one: an
// honest one is over by then, so a crowd of honest clients only queues.
const seatGrace = 250 * time.Millisecond

// evictAtOnce is how many make room together, so that a crowd is got over quickly.
const evictAtOnce = 32

func newWaitingRoom(limit int, evicted *atomic.Int64) *waitingRoom {
	return &waitingRoom{limit: limit, left: make(chan struct{}, 1), evicted: evicted}
}

func (w *waitingRoom) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seats)
}

// enter waits for a seat, evicting the oldest that is due; the returned function
// gives the seat back and may be called twice. It returns nil when ctx ends.
func (w *waitingRoom) enter(ctx context.Context, c net.Conn) (leave func()) {
	for {
		w.mu.Lock()
		if len(w.seats) < w.limit {
			w.seats = append(w.seats, seat{conn: c, since: time.Now()})
			w.mu.Unlock()
			return func() { w.leave(c) }
		}
		wait := w.makeRoom()
		w.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-w.left:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// makeRoom tells the oldest connections to leave, as far as they are due, and
// returns how long to wait; w.mu must be held.
func (w *waitingRoom) makeRoom() time.Duration {
	now := time.Now()
	for i := range w.seats[:min(len(w.seats), evictAtOnce)] {
		s := &w.seats[i]
		if wait := seatGrace - now.Sub(s.since); wait > 0 {
			if i == 0 {
				return wait
			}
			break
		}
		// Its goroutine ends and leaves; one that reads a peer's last words is told again.
		_ = s.conn.SetDeadline(now)
		if !s.due {
			s.due = true
			w.evicted.Add(1)
		}
	}
	return time.Millisecond
}

func (w *waitingRoom) leave(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.seats {
		if s.conn == c {
			w.seats = append(w.seats[:i], w.seats[i+1:]...)
			signal(w.left)
			return
		}
	}
}

// temporary tells a shortage from a listener that is broken.
func temporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
