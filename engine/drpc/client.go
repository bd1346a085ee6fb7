package drpc

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/pb"
)

const (
	// callTimeout bounds a call whose ctx has no deadline.
	callTimeout = 5 * time.Minute
	// messageTimeout bounds the sending of one message: a stalled receiver must
	// not hold a caller, and a stalled sender holds all sessions of an engine.
	messageTimeout = 10 * time.Second
	// firstSequence is the number of the only call of a connection. It must not
	// be 0: an engine that has to send an empty response aborts.
	firstSequence = 1
)

// Invoke makes one call on a connection of its own: m with the body req (nil for
// an empty one) at the socket path, in framing f, and decodes the reply into resp
// (nil when nobody reads it). It never repeats a call, since some abort an engine
// the second time. Ending ctx closes the connection; the engine still finishes
// what it began. Without a deadline in ctx a call ends after five minutes.
//
// A socket that cannot be connected is fault.InstanceNotReady for engines and
// fault.Unreachable for others; a failure in the envelope is fault.Engine or
// fault.Unimplemented. The status inside of resp is for the caller, see
// [StatusError].
func Invoke(ctx context.Context, path string, f Framing, m Method, req, resp proto.Message) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	c, err := start(ctx, path, f, m, req)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	message, err := c.receive(ctx)
	if err != nil {
		return broken(ctx, m, path, err)
	}
	response := new(pb.Response)
	if err := proto.Unmarshal(message, response); err != nil {
		return fault.New(fault.Protocol, "cannot call %s at %s: reply cannot be decoded: %v", m, path, err)
	}
	if s := response.GetStatus(); s != pb.Status_SUCCESS {
		return envelopeError(m, s)
	}
	if response.GetSequence() != firstSequence {
		return fault.New(fault.Protocol, "cannot call %s at %s: reply to call %d instead of %d",
			m, path, response.GetSequence(), firstSequence)
	}
	return decodeReply(f, m, path, response.GetBody(), resp)
}

// Post sends m without waiting for a reply, as engines do with most events. That
// nobody is there is an error, that the call fails goes unnoticed.
func Post(ctx context.Context, path string, f Framing, m Method, req proto.Message) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	c, err := start(ctx, path, f, m, req)
	if err != nil {
		return err
	}
	return c.Close()
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, callTimeout)
}

// start connects and sends the call. The caller closes the connection.
func start(ctx context.Context, path string, f Framing, m Method, req proto.Message) (*conn, error) {
	message, err := encodeCall(f, m, req)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, network, path)
	if err != nil {
		if ctx.Err() != nil {
			return nil, broken(ctx, m, path, err)
		}
		return nil, unreachable(m, path, err)
	}
	c, err := newConn(nc.(*net.UnixConn), DefaultMaxMessage, messageTimeout)
	if err != nil {
		nc.Close()
		return nil, unreachable(m, path, err)
	}
	c.framing = f
	c.SetWriteDeadline(time.Now().Add(c.timeout))
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.send(message); err != nil {
		c.Close()
		return nil, broken(ctx, m, path, err)
	}
	return c, nil
}

// encodeCall makes the message of a call and refuses what would abort the callee
// or what its family does not have.
func encodeCall(f Framing, m Method, req proto.Message) ([]byte, error) {
	info, ok := m.Info()
	if !ok {
		return nil, fault.New(fault.Internal, "cannot call %s: no such method", m)
	}
	family := FamilyOf(f)
	if !m.In(family) {
		return nil, fault.New(fault.Unimplemented, "cannot call %s: releases up to 2.6 do not have it", m).
			WithHint("update DAOS on the host of the engine to 2.8 or later")
	}
	if err := guard(m, req); err != nil {
		return nil, err
	}
	call := &pb.Call{Module: int32(info.Module), Method: int32(m), Sequence: firstSequence}
	if req != nil {
		older, err := toFamily(family, req)
		if err != nil {
			return nil, err
		}
		if call.Body, err = proto.Marshal(older); err != nil {
			return nil, fault.New(fault.Usage, "cannot call %s: %w", m, err)
		}
	}
	message, err := proto.Marshal(call)
	if err != nil {
		return nil, fault.New(fault.Usage, "cannot call %s: %w", m, err)
	}
	if err := fits(f, len(message), DefaultMaxMessage); err != nil {
		return nil, fault.Wrap(fault.TooLarge, err, "cannot call %s", m)
	}
	return message, nil
}

// guard refuses requests that make an engine abort.
func guard(m Method, req proto.Message) error {
	empty := false
	switch m {
	case MethodPoolSetProp:
		r, ok := req.(*pb.PoolSetPropReq)
		empty = !ok || len(r.GetProperties()) == 0
	case MethodPoolGetProp:
		r, ok := req.(*pb.PoolGetPropReq)
		empty = !ok || len(r.GetProperties()) == 0
	}
	if empty {
		return fault.New(fault.Refused, "cannot call %s: a request without properties would stop the engine", m).
			WithHint("name at least one property")
	}
	return nil
}

func decodeReply(f Framing, m Method, path string, body []byte, resp proto.Message) error {
	if resp == nil {
		return nil
	}
	if err := Unmarshal(body, resp); err != nil {
		return fault.New(fault.Protocol, "cannot call %s at %s: reply: %w", m, path, err)
	}
	fromFamily(FamilyOf(f), resp)
	return nil
}

func (c *conn) receive(ctx context.Context) ([]byte, error) {
	first, err := c.datagram()
	if err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(c.timeout))
	if ctx.Err() != nil { // its end may have come just before the line above
		c.SetReadDeadline(time.Unix(1, 0))
	}
	return c.message(first)
}

// broken classifies a connection that ended before the reply.
func broken(ctx context.Context, m Method, path string, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.New(fault.Timeout, "cannot call %s at %s: no reply in time", m, path)
	case ctx.Err() != nil:
		return fault.New(fault.Canceled, "cannot call %s at %s: %w", m, path, context.Cause(ctx))
	case errors.Is(err, io.EOF):
		return fault.New(fault.Engine, "cannot call %s at %s: the callee closed without a reply", m, path).
			WithHint("the process may have ended, its log says why")
	}
	if _, ok := fault.As(err); ok {
		return fault.Wrap(fault.Of(err), err, "cannot call %s at %s", m, path)
	}
	return fault.New(fault.Engine, "cannot call %s at %s: %w", m, path, err)
}

func unreachable(m Method, path string, err error) error {
	if m.Module() == ModuleMgmt {
		return fault.New(fault.InstanceNotReady, "cannot call %s: engine socket %s: %w", m, path, err).
			WithHint("start the engine, then try again")
	}
	return fault.New(fault.Unreachable, "cannot call %s at %s: %w", m, path, err)
}
