package wire

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"time"

	"daosbox/cluster/fault"
)

// Conn is a client's connection to the control service of one server. It may be
// used by any number of goroutines; calls share it without waiting for each
// other. It must be closed.
type Conn struct {
	*link
	x       explainer
	peer    Peer
	maxBody int
	log     *slog.Logger
	tracing bool
	ours    preface
	done    chan struct{} // closed when no goroutine of the connection runs
	alive   *time.Timer   // sends the preface when no call does, then pings

	// Guarded by link.mu.
	streams    map[uint32]*Stream
	next       uint32        // id of the next stream
	maxStreams int           // that the server takes
	slot       chan struct{} // closed when a stream ends, nil when nobody waits
	window     int64         // that a new stream starts with
	draining   bool          // the server takes no more streams
	greeted    bool          // the server's preface is here
	features   uint32        // that both sides have
	pings      map[uint64]chan struct{}
	pingID     uint64
}

// prefaceWait is how long the preface waits for a call to leave with.
const prefaceWait = 20 * time.Millisecond

func newConn(t *transport, d *Dialer) *Conn {
	c := &Conn{link: newLink(t.Conn, Limits{}.withDefaults()), x: t.explainer, peer: t.peer,
		maxBody: d.MaxBody, log: discard(d.Logger), ours: d.preface(Control), done: make(chan struct{}),
		streams: make(map[uint32]*Stream), next: 1, maxStreams: minStreams, window: minWindow}
	if c.maxBody <= 0 {
		c.maxBody = c.lim.Body
	}
	c.tracing = tracing(c.log)
	c.ended = c.endStreams
	c.mu.Lock()
	o := c.buf()
	o.b = c.ours.append(o.b)
	c.alive = time.AfterFunc(prefaceWait, c.keepAlive)
	c.mu.Unlock()
	go c.run()
	return c
}

// keepAlive runs from a timer: first it sends a preface that no call took along,
// later it pings, so that neither side takes the other's silence for its end.
func (c *Conn) keepAlive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if c.pings == nil {
		c.pings = make(map[uint64]chan struct{})
		c.flush(true, time.Time{})
	} else {
		c.tellLocked(kindPing, 0, make([]byte, 8))
	}
	c.alive.Reset(pingEvery)
}

// run reads until the connection ends.
func (c *Conn) run() {
	defer close(c.done)
	c.readLoop(c.greet, c.take, c.x.link)
}

// endStreams gives every stream the reason for the end of the connection; c.mu
// must be held.
func (c *Conn) endStreams() {
	c.alive.Stop()
	for _, s := range c.streams {
		s.endLocked(c.err)
	}
	c.freeSlot()
}

// greet reads the server's preface.
func (c *Conn) greet() error {
	if err := c.arm(c.lim.Idle); err != nil {
		return err
	}
	p, err := c.x.readPreface(c.br)
	if err != nil {
		return err
	}
	if p.refused {
		err := c.x.refusal(c.br)
		c.fail(c.x.link(err), nil) // the server knows it already
		return err
	}
	if _, err := common(c.ours, p); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tracing {
		trace(c.log, "host", c.x.addr, p)
	}
	c.greeted, c.features = true, p.features&c.ours.features
	c.peerFrame = int(p.frame)
	c.maxStreams = max(minStreams, int(p.streams))
	// Streams that were opened before start with less than the server grants.
	for _, s := range c.streams {
		s.flow.window += int64(p.window) - c.window
		if s.flow.wake != nil {
			signal(s.flow.wake)
		}
	}
	c.window = int64(p.window)
	c.freeSlot()
	return nil
}

// Peer is the server.
func (c *Conn) Peer() Peer { return c.peer }

// Err is nil while the connection takes new calls, else the reason: whoever keeps
// connections dials anew then.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusing()
}

// refusing says why no stream can be opened; c.mu must be held.
func (c *Conn) refusing() error {
	switch {
	case c.err != nil:
		return c.err
	case c.draining:
		return goingDown(c.x.addr)
	}
	return nil
}

func goingDown(addr string) *fault.Error {
	return fault.New(fault.NotReady, "host %s is shutting down", addr).
		WithHint("try again when daos_server on %s is back", hostOf(addr))
}

// Close gives up all calls and returns when nothing of the connection is left.
func (c *Conn) Close() error {
	c.mu.Lock()
	for _, s := range c.streams {
		s.abortLocked(fault.New(fault.Canceled, "connection to host %s was closed", c.x.addr))
	}
	c.failLocked(fault.New(fault.Canceled, "connection to host %s was closed", c.x.addr), nil)
	c.mu.Unlock()
	<-c.done
	return nil
}

// Ping returns when the server has answered.
func (c *Conn) Ping(ctx context.Context) error {
	start := time.Now()
	answered := make(chan struct{})
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	if c.pings == nil {
		c.pings = make(map[uint64]chan struct{})
	}
	c.pingID++
	id := c.pingID
	c.pings[id] = answered
	c.tellLocked(kindPing, 0, binary.BigEndian.AppendUint64(nil, id))
	c.mu.Unlock()
	select {
	case <-answered:
		return nil
	case <-c.dead:
		return c.failure()
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pings, id)
		c.mu.Unlock()
		return ended(ctx, c.x.addr, start)
	}
}

// take handles one frame of the server.
func (c *Conn) take(h header) error {
	switch h.kind {
	case kindData:
		return c.data(h)
	case kindEnd, kindError, kindWindow, kindPing, kindPong, kindGoAway:
	default:
		return fault.New(fault.Protocol, "cannot take a %s frame from a server", h.kind)
	}
	payload, err := c.readSmall(h.length)
	if err != nil {
		return err
	}
	if c.tracing {
		trace(c.log, "host", c.x.addr, frame{h, payload})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch h.kind {
	case kindEnd:
		return c.over(h.stream, io.EOF)
	case kindError:
		e := decodeFault(payload)
		if h.stream == 0 {
			c.failLocked(fault.Wrap(e.Code, e, "host %s closed the connection", c.x.addr), nil)
			return nil
		}
		return c.over(h.stream, e)
	case kindWindow:
		if s := c.streams[h.stream]; s != nil {
			return s.flow.grant(binary.BigEndian.Uint32(payload))
		}
		return c.known(h)
	case kindPing:
		c.tellLocked(kindPong, 0, payload)
	case kindPong:
		if ch := c.pings[binary.BigEndian.Uint64(payload)]; ch != nil {
			delete(c.pings, binary.BigEndian.Uint64(payload))
			close(ch)
		}
	case kindGoAway:
		c.drain(binary.BigEndian.Uint32(payload))
	}
	return nil
}

// known wants a stream of ours; frames of one that is over may still be on their
// way. c.mu must be held.
func (c *Conn) known(h header) error {
	if h.stream%2 == 0 || h.stream >= c.next {
		return fault.New(fault.Protocol, "cannot take a %s frame: stream %d was never opened", h.kind, h.stream)
	}
	return nil
}

// over ends a stream as the server says; c.mu must be held.
func (c *Conn) over(id uint32, why error) error {
	s := c.streams[id]
	if s == nil {
		return c.known(header{kind: kindEnd, stream: id})
	}
	if s.parted && why == io.EOF {
		return fault.New(fault.Protocol, "cannot take the end of stream %d inside a message", id)
	}
	s.endLocked(why)
	s.served = true
	return nil
}

// drain ends streams that the server will not serve; the rest go on. c.mu must
// be held.
func (c *Conn) drain(last uint32) {
	c.draining = true
	for id, s := range c.streams {
		if id > last {
			s.endLocked(goingDown(c.x.addr))
		}
	}
	c.freeSlot()
	if len(c.streams) == 0 {
		c.failLocked(goingDown(c.x.addr), nil)
	}
}

// freeSlot wakes whoever waits to open a stream; c.mu must be held.
func (c *Conn) freeSlot() {
	if c.slot != nil {
		close(c.slot)
		c.slot = nil
	}
}
