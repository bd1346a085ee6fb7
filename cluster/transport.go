package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// streamLayer gives raft's transport the connections of the server's port. It
// knows every open connection, so that stopping leaves no reader behind.
type streamLayer struct {
	net.Listener
	self string
	dial func(ctx context.Context, addr string) (net.Conn, error)

	ctx  context.Context
	stop context.CancelFunc

	mu   sync.Mutex
	open map[*trackedConn]struct{} // nil after Close
}

func newStreamLayer(ln net.Listener, self string, dial func(context.Context, string) (net.Conn, error)) *streamLayer {
	ctx, stop := context.WithCancel(context.Background())
	return &streamLayer{Listener: ln, self: self, dial: dial, ctx: ctx, stop: stop, open: make(map[*trackedConn]struct{})}
}

type trackedConn struct {
	net.Conn
	layer *streamLayer
}

// Read implements net.Conn. A connection that this side closed has simply ended,
// which raft does not log as an error.
func (c *trackedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

func (c *trackedConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.open, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}

func (s *streamLayer) track(conn net.Conn) (net.Conn, error) {
	c := &trackedConn{Conn: conn, layer: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		conn.Close()
		return nil, net.ErrClosed
	}
	s.open[c] = struct{}{}
	return c, nil
}

// Accept implements net.Listener.
func (s *streamLayer) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(conn)
}

// Dial implements raft.StreamLayer.
func (s *streamLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := s.ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(s.ctx, timeout)
	}
	defer cancel()
	conn, err := s.dial(ctx, string(addr))
	if err != nil {
		return nil, err
	}
	return s.track(conn)
}

// Close implements net.Listener; it also ends all connections.
func (s *streamLayer) Close() error {
	s.stop()
	err := s.Listener.Close()
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range open {
		c.Conn.Close()
	}
	return err
}

// Addr implements net.Listener: the address by which the peers know this replica,
// whatever the socket is bound to.
func (s *streamLayer) Addr() net.Addr { return replicaAddr(s.self) }

type replicaAddr string

func (replicaAddr) Network() string  { return "tcp" }
func (a replicaAddr) String() string { return string(a) }

// repeated are the lines that raft writes at every try while a replica is away, or
// for every connection that ends. The service itself tells once that a replica
// does not answer, and once that it is back.
var repeated = map[string]bool{
	"failed to heartbeat to":            true,
	"failed to appendEntries to":        true,
	"failed to pipeline appendEntries":  true,
	"failed to contact":                 true,
	"failed to make requestVote RPC":    true,
	"failed to decode incoming command": true,
}

// slogSink hands raft's own log lines to slog.
type slogSink struct{ logger *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch {
	case repeated[msg]:
	case level == hclog.Warn:
		to = slog.LevelWarn
	case level == hclog.Error:
		to = slog.LevelError
	}
	s.logger.Log(context.Background(), to, msg, args...)
}

// raftLogger returns the logger that raft wants; its notices are debug lines, for
// the service tells of leadership itself.
func raftLogger(logger *slog.Logger) hclog.Logger {
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off})
	level := hclog.Warn
	if logger.Enabled(context.Background(), slog.LevelDebug) {
		level = hclog.Debug
	}
	out.RegisterSink(leveled{slogSink{logger.With("part", "raft")}, level})
	return out
}

type leveled struct {
	to  hclog.SinkAdapter
	min hclog.Level
}

// Accept implements hclog.SinkAdapter.
func (l leveled) Accept(name string, level hclog.Level, msg string, args ...any) {
	if level >= l.min {
		l.to.Accept(name, level, msg, args...)
	}
}
