package wire

import (
	"context"
	"encoding/binary"
	"runtime/debug"
	"time"

	"daosbox/cluster/fault"
)

// session is the server's end of a connection of the control service.
type session struct {
	*link
	server *Server
	peer   Peer
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	window int64 // that a stream to this client starts with
	// features are those that both sides have.
	features uint32
	tracing  bool

	// Guarded by link.mu.
	streams  map[uint32]*call // open, whole or not
	last     uint32           // highest stream id seen
	running  int              // handlers and requests that are not whole
	held     int64            // bytes of requests in progress
	draining bool
	idle     chan struct{} // closed when the link is dead and no handler runs
	nuisance nuisances

	method string // of the last call, the reader's alone: mostly that of the next
}

// call is the server's side of one stream.
type call struct {
	c       *session
	flow    flow
	ctx     callContext
	req     Request
	receipt receipt
	limit   int   // of a message
	held    int64 // bytes of messages that are not consumed, counted in session and server
	whole   bool  // the handler has it
	late    *time.Timer
	upload  *upload // of more messages than one, else nil
}

func newSession(ctx context.Context, s *Server, g greeted) *session {
	c := &session{link: newLink(g.conn, s.lim), server: s, peer: g.peer, window: int64(g.theirs.window),
		streams: make(map[uint32]*call), idle: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.peerFrame = int(g.theirs.frame)
	c.features = g.theirs.features & g.answer.features
	c.tracing = tracing(s.log.to)
	c.ended = c.endCalls
	c.out = buffers.Get().(*buffer)
	c.out.b = g.answer.append(c.out.b)
	return c
}

// serve runs the session; it returns when no handler of it runs any more.
func (c *session) serve(ctx context.Context) {
	s := c.server
	defer c.cancel()
	if n := s.count.Add(1); n > int64(s.lim.Conns) || !s.enlist(ctx, c) {
		why := fault.New(fault.Busy, "this server has %d connections, no more are served", s.lim.Conns).WithHint("try again later")
		if s.isDraining() {
			why = fault.New(fault.NotReady, "server is shutting down")
		}
		c.out.b[26] = 1 // the preface refuses
		s.refused.Add(1)
		c.fail(why, why)
	} else {
		s.served.Add(1)
	}
	defer s.count.Add(-1)
	c.readLoop(c.begin, c.take, c.broken)
	<-c.idle
	s.delist(c)
}

// begin sends the preface at once, unless a call is here already: then it leaves
// with the answer.
func (c *session) begin() error {
	if c.br.Buffered() == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flush(true, time.Time{})
	}
	return nil
}

// broken logs why a connection ended, when that is worth a line.
func (c *session) broken(err error) error {
	if e, ok := fault.As(err); ok {
		c.server.log.warn("protocol", c.peer.Addr, "connection broken off", e)
	} else if isTimeout(err) {
		c.server.log.warn("silent", c.peer.Addr, "connection closed", fault.New(fault.Timeout, "the client fell silent"))
	}
	return err
}

// endCalls ends the context of every handler and drops requests that will never
// be whole; c.mu must be held.
func (c *session) endCalls() {
	c.cancel()
	for _, st := range c.streams {
		st.ctx.end(context.Canceled)
		if !st.whole {
			c.forget(st)
		}
	}
	c.checkIdle()
}

func (c *session) checkIdle() {
	if c.err == nil || c.running > 0 {
		return
	}
	select {
	case <-c.idle:
	default:
		close(c.idle)
	}
}

// drain takes no more streams and closes when the last is over.
func (c *session) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.err != nil {
		return
	}
	c.draining = true
	c.tellLocked(kindGoAway, 0, append(binary.BigEndian.AppendUint32(nil, c.last), "server is shutting down"...))
	c.checkDrained()
}

func (c *session) checkDrained() {
	if c.draining && c.running == 0 {
		c.linger = true
		c.failLocked(errStopped, nil)
	}
}

// take handles one frame of the client.
func (c *session) take(h header) error {
	switch h.kind {
	case kindOpen:
		return c.open(h)
	case kindData:
		return c.data(h)
	case kindCancel, kindWindow, kindPing, kindPong, kindError:
	case kindEnd:
		if c.features&featureUploads == 0 {
			return fault.New(fault.Protocol, "cannot take an end frame from a client without uploads")
		}
	default:
		return fault.New(fault.Protocol, "cannot take a %s frame from a client", h.kind)
	}
	payload, err := c.readSmall(h.length)
	if err != nil {
		return err
	}
	if c.tracing {
		c.trace(frame{h, payload})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stream > c.last {
		return fault.New(fault.Protocol, "cannot take a %s frame: stream %d was never opened", h.kind, h.stream)
	}
	st := c.streams[h.stream]
	switch h.kind {
	case kindPing:
		c.tellLocked(kindPong, 0, payload)
		return c.bothered()
	case kindWindow:
		if st != nil {
			return st.flow.grant(binary.BigEndian.Uint32(payload))
		}
	case kindCancel:
		if st != nil {
			st.ctx.end(context.Canceled)
			c.drop(st)
			c.server.cancelled.Add(1)
		}
		return c.bothered()
	case kindEnd:
		return c.uploaded(st, h)
	case kindError:
		if h.stream != 0 {
			return fault.New(fault.Protocol, "cannot take an error frame on stream %d from a client", h.stream)
		}
		c.server.log.warn("client", c.peer.Addr, "client broke off the connection", decodeFault(payload))
		c.failLocked(errStopped, nil)
	}
	return nil
}

func (c *session) trace(f frame) { trace(c.server.log.to, "peer", c.peer.Addr, f) }

// bothered counts what costs us more than the peer; c.mu must be held.
func (c *session) bothered() error {
	if !c.nuisance.tooMany(c.lim.Nuisances) {
		return nil
	}
	c.server.abusive.Add(1)
	return fault.New(fault.Protocol, "cannot go on: more than %d pings, cancels and refused calls in %s", c.lim.Nuisances, nuisanceSpan)
}

// open takes the start of a request.
func (c *session) open(h header) error {
	b, err := readBody(c.br, nil, h.length)
	if err != nil {
		return err
	}
	o, err := parseOpening(b, c.method)
	if err != nil {
		return err
	}
	c.method = o.method
	if c.tracing {
		c.trace(frame{h, b})
	}
	if h.flags&flagUpload != 0 && c.features&featureUploads == 0 {
		return fault.New(fault.Protocol, "cannot take an open frame with flag upload: it was not agreed")
	}
	limit := c.server.maxBody(c.peer, o.method)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stream%2 == 0 || h.stream <= c.last {
		return fault.New(fault.Protocol, "cannot open stream %d: ids are odd and rise, the last was %d", h.stream, c.last)
	}
	c.last = h.stream
	c.server.calls.Add(1)
	refuse := func(why *fault.Error) error {
		c.tellLocked(kindError, h.stream, encodeFault(why))
		c.server.busy.Add(1)
		return c.bothered()
	}
	switch {
	case c.draining:
		return refuse(fault.New(fault.NotReady, "server is shutting down"))
	case c.running >= c.lim.Streams:
		return refuse(fault.New(fault.Busy, "cannot call %s: %d calls run on this connection", o.method, c.running))
	case len(o.body) > limit:
		return refuse(tooLarge(o.method, limit))
	}
	st := &call{c: c, flow: flow{id: h.stream, window: c.window}, limit: limit, req: Request{Method: o.method, Body: o.body, Peer: c.peer},
		receipt: receipt{window: int64(c.lim.Window), granted: int64(c.lim.Window)}}
	if !c.hold(st, len(o.body)) {
		return refuse(tooMuch(o.method))
	}
	st.ctx.parent = c.ctx
	if o.timeout > 0 {
		st.ctx.deadline = time.Now().Add(o.timeout)
	}
	if h.flags&flagUpload != 0 {
		st.upload = &upload{st: st, ready: make(chan struct{}, 1)}
		st.req.Messages = st.upload
	}
	c.streams[h.stream] = st
	c.running++
	c.load = c.running
	if h.more() {
		st.late = time.AfterFunc(c.lim.BodyTime, st.expire)
		return nil
	}
	st.start()
	return nil
}

func tooLarge(method string, limit int) *fault.Error {
	return fault.New(fault.TooLarge, "cannot call %s: the request is larger than %d bytes", method, limit)
}

func tooMuch(method string) *fault.Error {
	return fault.New(fault.Busy, "cannot call %s: too many bytes of requests are in progress", method).WithHint("try again later")
}

// hold counts n bytes of a request in; c.mu must be held.
func (c *session) hold(st *call, n int) bool {
	if c.held+int64(n) > c.lim.ConnMemory {
		return false
	}
	if c.server.held.Add(int64(n)) > c.lim.Memory {
		c.server.held.Add(-int64(n))
		return false
	}
	c.held += int64(n)
	st.held += int64(n)
	return true
}

// expire ends a request that does not get whole.
func (st *call) expire() {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.whole && c.streams[st.flow.id] == st {
		c.refuse(st, fault.New(fault.Timeout, "cannot call %s: the request did not arrive within %s", st.req.Method, c.lim.BodyTime))
	}
}

// refuse ends a request that the handler has not got, or not all of; c.mu must be held.
func (c *session) refuse(st *call, why *fault.Error) {
	c.tellLocked(kindError, st.flow.id, encodeFault(why))
	st.ctx.end(context.Canceled)
	c.drop(st)
}

// drop takes a stream off the list. Its handler, if there is one, goes on until
// it sees its context end, and counts until then; c.mu must be held.
func (c *session) drop(st *call) {
	if !st.whole {
		c.forget(st)
		return
	}
	delete(c.streams, st.flow.id)
	st.flow.close()
}

// forget ends a stream for good; c.mu must be held.
func (c *session) forget(st *call) {
	st.ctx.end(context.Canceled)
	if st.late != nil {
		st.late.Stop()
	}
	delete(c.streams, st.flow.id)
	st.flow.close()
	c.running--
	c.load = c.running
	c.held -= st.held
	c.server.held.Add(-st.held)
	st.held = 0
	c.checkDrained()
	c.checkIdle()
}

// data takes more of a request.
func (c *session) data(h header) error {
	st, err := c.dataFor(h)
	if err != nil {
		return err
	}
	if st == nil {
		return c.skip(h.length)
	}
	if st.whole {
		return st.upload.data(h)
	}
	body, err := readBody(c.br, st.req.Body, h.length)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[h.stream] != st {
		return nil
	}
	st.req.Body = body
	if h.more() {
		c.giveBack(h.stream, &st.receipt, int64(headerLen+h.length))
		return nil
	}
	if st.late.Stop() {
		st.start()
	}
	return nil
}

// dataFor finds the stream of a data frame and accounts for it; nil when the
// stream is over and the frame was late.
func (c *session) dataFor(h header) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[h.stream]
	switch {
	case h.stream > c.last || h.stream%2 == 0:
		return nil, fault.New(fault.Protocol, "cannot take a data frame: stream %d was never opened", h.stream)
	case st == nil:
		return nil, nil
	case st.whole && (st.upload == nil || st.upload.ended):
		return nil, fault.New(fault.Protocol, "cannot take a data frame: the request of stream %d is whole", h.stream)
	}
	if err := st.receipt.take(h); err != nil {
		return nil, err
	}
	size := len(st.req.Body)
	if st.whole {
		size = len(st.upload.part)
	}
	if size+h.length > st.limit {
		c.refuse(st, tooLarge(st.req.Method, st.limit))
		return nil, nil
	}
	if !c.hold(st, h.length) {
		c.refuse(st, tooMuch(st.req.Method))
		return nil, nil
	}
	return st, nil
}

// start hands a whole request to the handler; c.mu must be held.
func (st *call) start() {
	st.whole = true
	go st.run()
}

// Send implements Sender.
func (st *call) Send(body []byte) error {
	return st.c.send(&st.ctx, &st.flow, body)
}

// run answers one request.
func (st *call) run() {
	c := st.c
	err := st.handle()
	c.mu.Lock()
	given := st.flow.over
	c.mu.Unlock()
	switch {
	case given: // the client has given it up
	case err == nil:
		c.finish(kindEnd, st.flow.id, nil)
	default:
		c.finish(kindError, st.flow.id, encodeFault(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(st)
}

func (st *call) handle() (err error) {
	defer func() {
		if r := recover(); r != nil {
			st.c.server.log.to.Error("wire: handler panicked", "method", st.req.Method, "panic", r, "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "cannot call %s: the server broke down on it", st.req.Method).
				WithHint("the server's log says more")
		}
	}()
	if st.c.server.cfg.Handler == nil {
		return fault.New(fault.Unimplemented, "cannot call %s: this server has no methods", st.req.Method)
	}
	return st.c.server.cfg.Handler(&st.ctx, &st.req, st)
}
