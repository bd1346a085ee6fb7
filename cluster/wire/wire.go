// Package wire is the protocol between daos_server, dmg and daos_agent: one TCP
// port, a preface that names version and service, then small frames on many
// streams. PROTOCOL.md beside this file specifies the bytes.
//
// The package knows bytes and names only: bodies are opaque, a method is a
// string, and who may call it is the handler's business. Errors travel as
// *fault.Error and are the same to errors.Is on both sides.
//
// A server hands every stream to one Handler; connections whose preface names
// another service than control (raft) come out of Server.Service as plain
// net.Conns. A client dials with a Dialer, or asks many hosts with FanOut.
//
// Inside, client and server share a link: one goroutine reads frames, and whoever
// appends a frame while nobody writes does the writing, so that frames which come
// together leave together.
package wire

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
)

// Names of the services of one port.
const (
	// Control is the service of frames and methods.
	Control = "control"
	// Raft is handed over as plain connections, see Server.Service.
	Raft = "raft"
)

// Peer is the other end of a connection.
type Peer struct {
	Addr net.Addr
	// Cert is the verified leaf certificate, nil when the peer showed none.
	Cert *x509.Certificate
	// Secure is true on TLS.
	Secure bool
}

// Request is what a client asks for.
type Request struct {
	Method string
	// Body is the message, the first one of an upload. It belongs to the handler.
	Body []byte
	Peer Peer
	// Messages has what follows of an upload, and is nil for other calls.
	Messages Receiver
}

// Receiver receives the messages of an upload after the first. Recv blocks until one
// is whole and returns io.EOF after the last; it fails when the stream's context
// ends. A handler that does not receive slows its own caller down and nobody else.
type Receiver interface {
	Recv() ([]byte, error)
}

// Sender sends the messages of one stream. Send blocks while the client's window
// is used up and fails when the stream's context ends; it copies body.
type Sender interface {
	Send(body []byte) error
}

// Handler answers one request, with one Send (unary) or any number (stream). Its
// error travels as a *fault.Error, others become fault.Unknown. The context
// carries the caller's deadline and ends on cancel, on loss of the connection and
// when a drain runs out of time; a handler must then return.
type Handler func(ctx context.Context, req *Request, out Sender) error

// levelTrace is below debug: every frame is too much for looking at anything else.
const levelTrace = slog.LevelDebug - 4

// tracing tells whether somebody looks; it is asked once per connection.
func tracing(log *slog.Logger) bool { return log.Enabled(context.Background(), levelTrace) }

// trace logs what came from a peer.
func trace(log *slog.Logger, who string, peer any, what fmt.Stringer) {
	log.Log(context.Background(), levelTrace, "wire: received", who, peer, "frame", what.String())
}

func discard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
