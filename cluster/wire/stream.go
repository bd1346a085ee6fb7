package wire

import (
	"context"
	"io"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// Stream is the client's side of one call.
type Stream struct {
	c     *Conn
	ctx   context.Context
	start time.Time
	flow  flow
	ready chan struct{} // room for one: queue or err changed
	stop  func() bool   // stops watching ctx, nil when nobody does
	unary bool          // nobody asks for a message before the end
	up    bool          // an upload

	part []byte // of a message that is not whole yet; the reader's alone

	// Guarded by link.mu.
	queue   []message
	first   [1]message // the memory of queue, mostly
	served  bool       // the server ended it, so the reader does not know it any more
	err     error      // io.EOF at the end
	receipt receipt
	parted  bool  // part is in use
	partDue int64 // bytes of part that the server has not got back
	waiting bool  // Recv waits: a message may be larger than the window
}

// message is a received message and what it still takes of the window.
type message struct {
	body []byte
	due  int64
}

// Call calls a unary method and returns its reply, nil when the server sends
// none. The deadline of ctx travels; when ctx ends first the server is told.
// Faults: those of the handler, and Unreachable, Timeout, Canceled, Protocol,
// TooLarge, Certificate, NotReady while the server shuts down.
func (c *Conn) Call(ctx context.Context, method string, body []byte) ([]byte, error) {
	s := streams.Get().(*Stream)
	s.unary = true
	if err := c.open(ctx, s, method, body); err != nil {
		return nil, err
	}
	defer s.release()
	reply, err := s.Recv()
	if err == io.EOF {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch _, err = s.Recv(); err {
	case io.EOF:
		return reply, nil
	case nil:
		return nil, fault.New(fault.Protocol, "cannot call %s on host %s: it answers with a stream", method, c.x.addr)
	}
	return nil, err
}

// Stream calls a method that answers with any number of messages. The stream must
// be closed; it also ends with ctx. Faults as of Call.
func (c *Conn) Stream(ctx context.Context, method string, body []byte) (*Stream, error) {
	s := newStream()
	if err := c.open(ctx, s, method, body); err != nil {
		return nil, err
	}
	s.watch()
	return s, nil
}

// Upload calls a method that takes any number of messages: body is the first, the
// others follow with Send, and CloseSend ends them. The server may answer before
// that. Faults as of Call; Unimplemented when the server knows no uploads.
func (c *Conn) Upload(ctx context.Context, method string, body []byte) (*Stream, error) {
	s := newStream()
	s.up = true
	if err := c.open(ctx, s, method, body); err != nil {
		return nil, err
	}
	s.watch()
	return s, nil
}

// watch tells the server when ctx ends while nobody receives.
func (s *Stream) watch() {
	s.stop = context.AfterFunc(s.ctx, func() { s.abort(ended(s.ctx, s.c.x.addr, s.start)) })
}

// Send sends a further message of an upload, blocking while the server does not take
// it. io.EOF says that the server has ended the stream: Recv knows why.
func (s *Stream) Send(body []byte) error {
	if !s.up {
		return fault.New(fault.Usage, "cannot send on a stream that is no upload")
	}
	err := s.c.send(s.ctx, &s.flow, body)
	switch {
	case err == nil:
		return nil
	case err == errStopped:
		return io.EOF
	case s.ctx.Err() != nil:
		return ended(s.ctx, s.c.x.addr, s.start)
	}
	return err
}

// CloseSend ends an upload's messages; the answers are still to be received. Send
// must not be called after it.
func (s *Stream) CloseSend() error {
	if s.up {
		s.c.mu.Lock()
		over := s.flow.over
		s.c.mu.Unlock()
		if !over {
			s.c.finish(kindEnd, s.flow.id, nil)
		}
		s.up = false
	}
	return nil
}

// streams are those of unary calls, which nobody else can hold on to.
var streams = sync.Pool{New: func() any { return newStream() }}

func newStream() *Stream {
	s := &Stream{ready: make(chan struct{}, 1)}
	s.queue = s.first[:0]
	return s
}

// release ends a unary call. Its stream is used again, unless the reader may still
// be at it.
func (s *Stream) release() {
	s.end()
	if !s.served {
		return
	}
	select {
	case <-s.ready:
	default:
	}
	ready := s.ready
	*s = Stream{ready: ready}
	s.queue = s.first[:0]
	streams.Put(s)
}

// Recv returns the next message, io.EOF after the last when all went well, else
// the fault that ended the stream. It must not be called by two goroutines at a
// time. A slow caller slows the server down on this stream only.
func (s *Stream) Recv() ([]byte, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if len(s.queue) > 0 {
			m := s.queue[0]
			s.queue[0] = message{}
			s.queue = s.queue[1:]
			s.giveBack(m.due)
			return m.body, nil
		}
		if s.err != nil {
			return nil, s.err
		}
		s.waiting = true
		s.giveBack(s.partDue)
		s.partDue = 0
		c.mu.Unlock()
		select {
		case <-s.ready:
		case <-s.ctx.Done():
			s.abort(ended(s.ctx, c.x.addr, s.start))
		}
		c.mu.Lock()
		s.waiting = false
	}
}

// giveBack lets the server send n bytes more; c.mu must be held.
func (s *Stream) giveBack(n int64) {
	if s.err == nil {
		s.c.giveBack(s.flow.id, &s.receipt, n)
	}
}

// Close ends the stream; a server that still works on it is told to stop.
func (s *Stream) Close() error {
	if s.stop != nil {
		s.stop()
	}
	s.end()
	return nil
}

func (s *Stream) end() {
	s.abort(fault.New(fault.Canceled, "stream was closed"))
}

func (s *Stream) abort(why *fault.Error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.abortLocked(why)
}

func (s *Stream) abortLocked(why *fault.Error) {
	if s.err == nil {
		s.c.tellLocked(kindCancel, s.flow.id, nil)
		s.endLocked(why)
	}
}

// endLocked is the one place where a stream ends; c.mu must be held.
func (s *Stream) endLocked(why error) {
	if s.err != nil {
		return
	}
	c := s.c
	s.err = why
	s.flow.close()
	signal(s.ready)
	delete(c.streams, s.flow.id)
	c.load = len(c.streams)
	c.freeSlot()
	if c.draining && len(c.streams) == 0 {
		c.failLocked(goingDown(c.x.addr), nil)
	}
}

// open starts a stream: the open frame with as much of the body as it takes, then
// the rest as the window allows.
func (c *Conn) open(ctx context.Context, s *Stream, method string, body []byte) error {
	if err := checkMethod(method); err != nil {
		return err
	}
	s.c, s.ctx, s.start = c, ctx, time.Now()
	sent, err := c.begin(s, method, body)
	if err != nil {
		if ctx.Err() != nil {
			err = ended(ctx, c.x.addr, s.start)
		}
		return err
	}
	if sent < len(body) {
		err = c.send(ctx, &s.flow, body[sent:])
	}
	switch {
	case err == nil, err == errStopped: // then Recv knows why
	case ctx.Err() != nil:
		s.abort(ended(ctx, c.x.addr, s.start))
	default:
		s.end()
	}
	return nil
}

// begin waits for a slot, then takes an id and queues the open frame in one step:
// ids rise on the wire.
func (c *Conn) begin(s *Stream, method string, body []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := c.refusing(); err != nil {
			return 0, err
		}
		if err := s.ctx.Err(); err != nil {
			return 0, err
		}
		full := len(c.streams) >= c.maxStreams
		if s.up && !c.greeted { // it must know that the server takes uploads
			full = true
			c.flush(true, time.Time{})
			if c.greeted || c.err != nil {
				continue
			}
		}
		if !full && (c.out == nil || len(c.out.b) < outLimit) {
			break
		}
		var slot chan struct{}
		if full {
			if c.slot == nil {
				c.slot = make(chan struct{})
			}
			slot = c.slot
		}
		c.await(slot, s.ctx.Done())
	}
	if s.up && c.features&featureUploads == 0 {
		return 0, fault.New(fault.Unimplemented, "cannot call %s on host %s: its release takes no uploads", method, c.x.addr).
			WithHint("upgrade daos_server on %s", hostOf(c.x.addr))
	}
	if c.next > maxStreamID {
		return 0, fault.New(fault.NotReady, "connection to host %s is used up", c.x.addr).WithHint("connect again")
	}
	s.flow = flow{id: c.next, window: c.window}
	s.receipt = receipt{window: int64(c.lim.Window), granted: int64(c.lim.Window)}
	c.next += 2
	c.streams[s.flow.id] = s
	c.load = len(c.streams)

	var timeout time.Duration
	if deadline, ok := s.ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Millisecond)
	}
	prefix := 5 + len(method)
	n := min(len(body), c.peerFrame-prefix)
	h := header{length: prefix + n, kind: kindOpen, stream: s.flow.id}
	if n < len(body) {
		h.flags = flagMore
	}
	if s.up {
		h.flags |= flagUpload
	}
	o := c.buf()
	o.b = appendHeader(o.b, h)
	o.b = append(appendOpening(o.b, timeout, method), body[:n]...)
	deadline, _ := s.ctx.Deadline()
	c.flush(n == len(body), deadline)
	return n, nil
}

// data takes a message or a part of one.
func (c *Conn) data(h header) error {
	c.mu.Lock()
	s := c.streams[h.stream]
	if s == nil {
		err := c.known(h)
		c.mu.Unlock()
		if err != nil {
			return err
		}
		return c.skip(h.length)
	}
	err := s.receipt.take(h)
	if err == nil && len(s.part)+h.length > c.maxBody {
		s.abortLocked(fault.New(fault.TooLarge, "cannot take the answer of host %s: it is larger than %d bytes", c.x.addr, c.maxBody))
	}
	gone := s.err != nil
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if gone {
		return c.skip(h.length)
	}
	if s.part, err = readBody(c.br, s.part, h.length); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.partDue += int64(headerLen + h.length)
	s.parted = h.more()
	if s.parted {
		if s.waiting && len(s.queue) == 0 {
			s.giveBack(s.partDue)
			s.partDue = 0
		}
		return nil
	}
	s.queue = append(s.queue, message{s.part, s.partDue})
	s.part, s.partDue = nil, 0
	if !s.unary || len(s.queue) > 1 { // else the end will wake it
		signal(s.ready)
	}
	return nil
}
