package drpc

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/pb"
)

// Call is a request that arrived.
type Call struct {
	Method   Method
	Body     []byte
	Sequence int64
	// Framing is the peer's; an engine is called back in the framing it spoke.
	Framing Framing
	Peer    Cred
}

// Handler answers a call: with the reply (nil for an empty body), or with an error
// that becomes the status of the envelope, see [ErrBadPayload]. Calls of one
// session come one after the other, sessions are served at the same time. The ctx
// ends with the server, not with the session: who sends an event hangs up at once
// and still wants it handled.
type Handler func(ctx context.Context, call *Call) (proto.Message, error)

// ServerConfig says where and how to listen.
type ServerConfig struct {
	// Path of the socket.
	Path string
	// Mode of the socket file, 0 means 0600.
	Mode fs.FileMode
	// Modules that exist at this end; calls of others are answered with
	// UNKNOWN_MODULE. None means all four.
	Modules []Module
	Handler Handler
	// Only, if set, is the one framing that is spoken; otherwise each session
	// has the framing of its first datagram.
	Only *Framing
	// CloseOnBadCall ends a session after a call that cannot be decoded, as
	// engines do. The other listeners go on.
	CloseOnBadCall bool
	// MaxMessage limits a message in bytes, 0 means [DefaultMaxMessage].
	MaxMessage int
	// MaxSessions limits the sessions at a time, 0 means 1024. More must wait.
	MaxSessions int
	// IdleTimeout ends a session without calls, 0 means a minute.
	IdleTimeout time.Duration
	// MessageTimeout limits the time between the first and last byte of a
	// message, both ways, 0 means ten seconds.
	MessageTimeout time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Server listens on one socket and serves its sessions.
type Server struct {
	cfg ServerConfig
	log *slog.Logger

	mu     sync.Mutex
	ln     *net.UnixListener
	closed bool
}

// NewServer prepares a server; nothing happens before Listen.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Mode == 0 {
		cfg.Mode = 0o600
	}
	if len(cfg.Modules) == 0 {
		cfg.Modules = []Module{ModuleSecAgent, ModuleMgmt, ModuleSrv, ModuleSec}
	}
	setDefault(&cfg.MaxMessage, DefaultMaxMessage)
	setDefault(&cfg.MaxSessions, 1024)
	setDefault(&cfg.IdleTimeout, time.Minute)
	setDefault(&cfg.MessageTimeout, messageTimeout)
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, log: log.With("socket", cfg.Path)}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Listen makes the socket. A stale one is replaced; one that answers is
// fault.SocketInUse. Calls may arrive from here on, they are served by Serve.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil || s.closed {
		return fault.New(fault.Internal, "cannot listen on %s twice", s.cfg.Path)
	}
	ln, err := listen(context.Background(), s.cfg.Path, s.cfg.Mode)
	if err != nil {
		return err
	}
	s.ln = ln
	return nil
}

// Close stops listening and removes the socket. It makes Serve return and may be
// called at any time, repeatedly.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln := s.ln
	if ln == nil || s.closed {
		s.closed = true
		return nil
	}
	s.closed = true
	if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fault.New(fault.Unknown, "cannot close %s: %w", s.cfg.Path, err)
	}
	return nil
}

// Serve accepts sessions until ctx ends or the server is closed. Then calls that
// run are told by their ctx, are answered, and Serve returns nil after the last.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	ln := s.ln
	s.mu.Unlock()
	if ln == nil {
		return fault.New(fault.Internal, "cannot serve %s before listening", s.cfg.Path)
	}
	ctx, cancel := context.WithCancel(ctx)
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer cancel()
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()

	free := make(chan struct{}, s.cfg.MaxSessions)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := ln.AcceptUnix()
		if err != nil {
			<-free
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if !pause(ctx, err) {
				return fault.New(fault.Unknown, "cannot accept on %s: %w", s.cfg.Path, err)
			}
			s.log.Warn("cannot accept session", "error", err)
			continue
		}
		sessions.Go(func() {
			defer func() { <-free }()
			s.session(ctx, c)
		})
	}
}

// pause waits a little after an accept that failed for want of resources, and
// reports whether it is worth another try.
func pause(ctx context.Context, err error) bool {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS),
		errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ECONNABORTED):
	default:
		return false
	}
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

// session serves one connection to its end.
func (s *Server) session(ctx context.Context, uc *net.UnixConn) {
	defer uc.Close()
	c, err := newConn(uc, s.cfg.MaxMessage, s.cfg.MessageTimeout)
	if err != nil {
		s.log.Warn("cannot serve session", "error", err)
		return
	}
	peer, err := c.cred()
	if err != nil {
		s.log.Warn("cannot serve session", "error", err)
		return
	}
	log := s.log.With("peer_pid", peer.PID)
	// An end of ctx stops the wait for the next call, not the reply to this one.
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	for first := true; ; first = false {
		message, err := s.next(ctx, c, first)
		if err != nil {
			if !hangup(err) && ctx.Err() == nil {
				log.Warn("dRPC session closed", "error", err)
			}
			return
		}
		if !s.serve(ctx, c, peer, log, message) {
			return
		}
	}
}

// next reads the next message, and from the first datagram the framing.
func (s *Server) next(ctx context.Context, c *conn, first bool) ([]byte, error) {
	deadline := func(d time.Duration) {
		c.SetReadDeadline(time.Now().Add(d))
		if ctx.Err() != nil { // the end of ctx may have come in between
			c.SetReadDeadline(time.Unix(1, 0))
		}
	}
	deadline(s.cfg.IdleTimeout)
	datagram, err := c.datagram()
	if err != nil {
		return nil, err
	}
	if first {
		if err := s.frame(c, datagram); err != nil {
			return nil, err
		}
	}
	deadline(s.cfg.MessageTimeout)
	return c.message(datagram)
}

func (s *Server) frame(c *conn, first []byte) error {
	if s.cfg.Only != nil {
		c.framing = *s.cfg.Only
		return nil
	}
	framing, ok := detect(first)
	if !ok {
		return badFrame("the first datagram has a broken header")
	}
	c.framing = framing
	return nil
}

// serve answers one message and reports whether the session goes on.
func (s *Server) serve(ctx context.Context, c *conn, peer Cred, log *slog.Logger, message []byte) bool {
	response := &pb.Response{Sequence: badCallSequence, Status: pb.Status_FAILED_UNMARSHAL_CALL}
	in, err := decodeCall(message)
	if err == nil {
		response = s.answer(ctx, c.framing, peer, log, in)
	} else {
		log.Warn("dRPC call refused", "error", err)
	}
	if err := reply(c, response); err != nil {
		// Who sends an event does not wait for the reply.
		if !hangup(err) {
			log.Warn("cannot send dRPC reply", "method", Method(in.GetMethod()).String(), "error", err)
		}
		return false
	}
	return in != nil || !s.cfg.CloseOnBadCall
}

// answer runs the handler and makes its result a response.
func (s *Server) answer(ctx context.Context, f Framing, peer Cred, log *slog.Logger, in *pb.Call) *pb.Response {
	m := Method(in.GetMethod())
	response := &pb.Response{Sequence: in.GetSequence()}
	body, err := s.handle(ctx, &Call{Method: m, Body: in.GetBody(), Sequence: in.GetSequence(), Framing: f, Peer: peer},
		Module(in.GetModule()))
	if err == nil {
		response.Body = body
		// What the envelope adds is far below the slack of a header.
		if fits(f, proto.Size(response), s.cfg.MaxMessage) != nil {
			response.Body, err = nil, errMarshal
		}
	}
	if err != nil {
		log.Warn("dRPC call failed", "method", m.String(), "error", err)
		response.Status = statusOf(err)
	}
	return response
}

func (s *Server) handle(ctx context.Context, call *Call, module Module) ([]byte, error) {
	if !slices.Contains(s.cfg.Modules, module) {
		return nil, ErrUnknownModule
	}
	if info, ok := call.Method.Info(); !ok || info.Module != module {
		return nil, ErrUnknownMethod
	}
	out, err := s.cfg.Handler(ctx, call)
	if err != nil || out == nil {
		return nil, err
	}
	if ready, ok := out.(*Encoded); ok {
		return ready.body, nil
	}
	if out, err = toFamily(FamilyOf(call.Framing), out); err != nil {
		return nil, errors.Join(errMarshal, err)
	}
	body, err := proto.Marshal(out)
	if err != nil {
		return nil, errors.Join(errMarshal, err)
	}
	return body, nil
}

func reply(c *conn, response *pb.Response) error {
	out, err := proto.Marshal(response)
	if err != nil {
		return err
	}
	c.SetWriteDeadline(time.Now().Add(c.timeout))
	return c.send(out)
}

// hangup tells the ordinary ends of a session from failures.
func hangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}
