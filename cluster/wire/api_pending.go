package wire

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

var errPending = fault.New(fault.Internal, "cannot use the wire: not complete yet")

// Limits bounds what peers can cost; zero fields take defaults.
type Limits struct {
	Conns, Pending, Streams, Frame, Body, OpenBody int
	ConnMemory, Memory                             int64
	Window                                         int
	Handshake, Idle, FrameTime, Write              time.Duration
}

// ServerConfig says what a server serves and to whom.
type ServerConfig struct {
	TLS     *tls.Config
	Handler Handler
	// Admit is asked once per connection, nil admits everyone.
	Admit   func(service string, p Peer) error
	Limits  Limits
	Logger  *slog.Logger
	MaxBody func(p Peer, method string) int
}

// Server serves connections.
type Server struct{ cfg ServerConfig }

// NewServer makes a server.
func NewServer(cfg ServerConfig) *Server { return &Server{cfg} }

// Serve serves ln until ctx ends or Shutdown.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { return errPending }

// Service returns the listener of connections for another service.
func (s *Server) Service(name string) net.Listener { return nil }

// Shutdown drains.
func (s *Server) Shutdown(ctx context.Context) error { return errPending }

// Dialer makes connections.
type Dialer struct {
	TLS     *tls.Config
	Timeout time.Duration
	MaxBody int
	Logger  *slog.Logger
	Control func(network, address string, c syscall.RawConn) error
}

// Dial connects to the control service.
func (d *Dialer) Dial(ctx context.Context, addr string) (*Conn, error) { return nil, errPending }

// DialService connects to another service.
func (d *Dialer) DialService(ctx context.Context, addr, service string) (net.Conn, error) {
	return nil, errPending
}

// Conn is a control connection.
type Conn struct{}

// Call calls a unary method.
func (c *Conn) Call(ctx context.Context, method string, body []byte) ([]byte, error) {
	return nil, errPending
}

// Stream opens a stream.
func (c *Conn) Stream(ctx context.Context, method string, body []byte) (*Stream, error) {
	return nil, errPending
}

// Ping waits for an answer.
func (c *Conn) Ping(ctx context.Context) error { return errPending }

// Close closes.
func (c *Conn) Close() error { return nil }

// Err is nil while the connection takes calls.
func (c *Conn) Err() error { return errPending }

// Peer is the server.
func (c *Conn) Peer() Peer { return Peer{} }

// Stream is the receiving side of a stream.
type Stream struct{}

// Recv returns the next message, io.EOF at the end.
func (s *Stream) Recv() ([]byte, error) { return nil, errPending }

// Close ends the stream, cancelling it when it is not over.
func (s *Stream) Close() error { return nil }

// FanOutOptions bounds a FanOut.
type FanOutOptions struct {
	Parallel    int
	HostTimeout time.Duration
}

// Result is one host's outcome.
type Result[T any] struct {
	Host  string
	Value T
	Err   error
	Took  time.Duration
}

// FanOut calls every host.
func FanOut[T any](ctx context.Context, hosts []string, o FanOutOptions, call func(ctx context.Context, host string) (T, error), each func(Result[T])) {
}
