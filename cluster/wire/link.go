package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// buffer is a pooled run of frames waiting to be written.
type buffer struct{ b []byte }

var (
	buffers = sync.Pool{New: func() any { return new(buffer) }}
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
)

// errStopped ends a link that its own side closed.
var errStopped = errors.New("connection closed")

// link is one end of a connection of frames: what client and server share. One
// goroutine calls readLoop, another writeLoop; everyone else appends frames.
type link struct {
	conn net.Conn
	lim  Limits
	br   *bufio.Reader
	// dead is closed when err is set; written when the last byte has left.
	dead, written chan struct{}
	kick          chan struct{} // room for one: there is something to write
	// ended is called once, with mu held, when the link fails; may be nil.
	ended func()

	mu        sync.Mutex
	out       *buffer       // guarded by mu, as all below
	control   int           // frames in out that cost the peer nothing
	room      chan struct{} // closed when out has been taken, nil when nobody waits
	peerFrame int           // largest payload that the peer takes
	err       error         // why the link ended
	writeErr  error         // why the writer gave up; the reader may know better
	linger    bool          // the peer has a reason to read before we close
	settled   bool          // the read deadline must not be moved any more
}

func newLink(conn net.Conn, lim Limits) *link {
	br := readers.Get().(*bufio.Reader)
	br.Reset(conn)
	return &link{conn: conn, lim: lim, br: br, peerFrame: minFrame,
		dead: make(chan struct{}), written: make(chan struct{}), kick: make(chan struct{}, 1)}
}

// flow is the sending side of a stream's flow control.
type flow struct {
	id     uint32
	window int64         // guarded by link.mu; bytes that may be sent
	over   bool          // guarded by link.mu; nothing more may be sent
	wake   chan struct{} // room for one: window or over changed
}

func newFlow(id uint32, window int64) flow {
	return flow{id: id, window: window, wake: make(chan struct{}, 1)}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// buf returns the buffer to append to; l.mu must be held.
func (l *link) buf() *buffer {
	if l.out == nil {
		l.out = buffers.Get().(*buffer)
	}
	return l.out
}

// tellLocked appends a frame that must not wait: an answer of the reader. A peer
// that makes us answer without reading the answers loses the connection. l.mu
// must be held.
func (l *link) tellLocked(k kind, stream uint32, payload []byte) {
	if l.err != nil {
		return
	}
	if l.control++; l.control > maxControl {
		l.failLocked(fault.New(fault.Protocol, "cannot go on: peer does not read its answers"), nil)
		return
	}
	o := l.buf()
	o.b = appendFrame(o.b, k, 0, stream, payload)
	signal(l.kick)
}

// finish appends the last frame of a stream once there is room.
func (l *link) finish(k kind, stream uint32, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && l.out != nil && len(l.out.b) >= outLimit {
		l.await(nil, nil)
	}
	if l.err != nil {
		return
	}
	o := l.buf()
	o.b = appendFrame(o.b, k, 0, stream, payload)
	signal(l.kick)
}

// await releases l.mu until there may be room, wake fires, the link is dead or
// done is closed.
func (l *link) await(wake, done <-chan struct{}) {
	var room chan struct{}
	if l.out != nil && len(l.out.b) >= outLimit {
		if l.room == nil {
			l.room = make(chan struct{})
		}
		room = l.room
	}
	l.mu.Unlock()
	select {
	case <-room:
	case <-wake:
	case <-done:
	case <-l.dead:
	}
	l.mu.Lock()
}

// send sends one message on a stream as data frames, blocking on the window and
// on a full buffer.
func (l *link) send(ctx context.Context, f *flow, body []byte) error {
	for {
		n, err := l.sendPart(ctx, f, body)
		if err != nil {
			return err
		}
		if body = body[n:]; len(body) == 0 {
			return nil
		}
	}
}

// sendPart sends as much of a message as a frame and the window allow. A data
// frame costs its whole length, so that empty ones are not free.
func (l *link) sendPart(ctx context.Context, f *flow, body []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	need := int64(headerLen + min(len(body), minPart))
	for {
		if l.err != nil {
			return 0, l.err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if f.over {
			return 0, errStopped
		}
		if f.window >= need && (l.out == nil || len(l.out.b) < outLimit) {
			break
		}
		l.await(f.wake, ctx.Done())
	}
	n := min(len(body), l.peerFrame, int(f.window)-headerLen)
	flags := uint8(0)
	if n < len(body) {
		flags = flagMore
	}
	f.window -= int64(headerLen + n)
	o := l.buf()
	o.b = appendFrame(o.b, kindData, flags, f.id, body[:n])
	signal(l.kick)
	return n, nil
}

// grant lets the peer's window frame take effect; l.mu must be held.
func (f *flow) grant(n uint32) error {
	f.window += int64(n)
	if n == 0 || f.window > maxWindow {
		return fault.New(fault.Protocol, "cannot widen the window of stream %d by %d bytes", f.id, n)
	}
	signal(f.wake)
	return nil
}

// receipt is the receiving side of a stream's flow control, guarded by link.mu.
type receipt struct {
	window  int64 // granted in all when nothing is owed
	granted int64 // bytes that the peer may still send
	owed    int64 // consumed bytes that the peer has not got back yet
}

// take accounts for a data frame.
func (r *receipt) take(h header) error {
	if r.granted -= int64(headerLen + h.length); r.granted < 0 {
		return fault.New(fault.Protocol, "cannot take %d bytes on stream %d: they exceed its window", h.length, h.stream)
	}
	return nil
}

// giveBack returns n consumed bytes to the peer, in batches of half a window.
func (l *link) giveBack(id uint32, r *receipt, n int64) {
	if r.owed += n; r.owed < r.window/2 {
		return
	}
	r.granted += r.owed
	l.tellLocked(kindWindow, id, binary.BigEndian.AppendUint32(nil, uint32(r.owed)))
	r.owed = 0
}

// fail ends the link: what is queued still leaves, with notice, when it is not
// nil, as last frame.
func (l *link) fail(err error, notice *fault.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(err, notice)
}

func (l *link) failLocked(err error, notice *fault.Error) {
	if l.err != nil {
		return
	}
	if notice != nil {
		o := l.buf()
		o.b = appendFrame(o.b, kindError, 0, 0, encodeFault(notice))
		l.linger = true
	}
	l.err = err
	close(l.dead)
	if l.ended != nil {
		l.ended()
	}
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// writeLoop writes whatever is queued, all of it at a time, until the link ends.
func (l *link) writeLoop() {
	defer close(l.written)
	for {
		select {
		case <-l.kick:
		case <-l.dead:
		}
		l.mu.Lock()
		out, last := l.out, l.err != nil
		l.out, l.control = nil, 0
		if l.room != nil {
			close(l.room)
			l.room = nil
		}
		l.mu.Unlock()
		if out != nil {
			if err := l.write(out, last); err != nil {
				l.giveUp(err)
				return
			}
		}
		if last {
			l.settle()
			return
		}
	}
}

func (l *link) write(out *buffer, last bool) error {
	wait := l.lim.Write
	if last {
		wait = min(wait, lingerTime)
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	_, err := l.conn.Write(out.b)
	if cap(out.b) <= 2*outLimit {
		out.b = out.b[:0]
		buffers.Put(out)
	}
	return err
}

// giveUp leaves the reader a moment to find out why the peer closed: a TLS alert
// or an error frame often lies in front of it.
func (l *link) giveUp(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writeErr = err
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
	l.settled = true
	_ = l.conn.SetReadDeadline(time.Now().Add(lingerTime)) // a closed socket ends the read by itself
}

// settle ends reading: soon when the peer has a last frame to read, else now.
func (l *link) settle() {
	l.mu.Lock()
	linger := l.linger
	l.settled = true
	l.mu.Unlock()
	until := time.Now()
	if linger {
		closeWrite(l.conn)
		until = until.Add(lingerTime)
	}
	_ = l.conn.SetReadDeadline(until)
}

// arm bounds the next reads.
func (l *link) arm(d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.settled {
		return nil
	}
	return l.conn.SetReadDeadline(time.Now().Add(d))
}

// nextHeader waits for a frame up to the idle time and from its first byte on up
// to the frame time. io.EOF is an end between frames.
func (l *link) nextHeader() (header, error) {
	if l.br.Buffered() == 0 {
		if err := l.arm(l.lim.Idle); err != nil {
			return header{}, err
		}
		if _, err := l.br.Peek(1); err != nil {
			return header{}, err
		}
	}
	armed := false
	if l.br.Buffered() < headerLen {
		armed = true
		if err := l.arm(l.lim.FrameTime); err != nil {
			return header{}, err
		}
	}
	b, err := l.br.Peek(headerLen)
	if err != nil {
		return header{}, truncated(err)
	}
	h, err := parseHeader(b, l.lim.Frame)
	if err != nil {
		return h, err
	}
	if _, err := l.br.Discard(headerLen); err != nil {
		return h, err
	}
	if l.br.Buffered() < h.length && !armed {
		err = l.arm(l.lim.FrameTime)
	}
	return h, err
}

func (l *link) skip(n int) error {
	_, err := l.br.Discard(n)
	return truncated(err)
}

// readLoop reads what comes first with greet, then hands every frame's header to
// take, which reads the payload, until the link ends. explain names the reason of
// an end. It returns when nothing of the link runs any more.
func (l *link) readLoop(greet func() error, take func(header) error, explain func(error) error) {
	err := greet()
	for err == nil && l.failure() == nil {
		var h header
		if h, err = l.nextHeader(); err == nil && l.failure() == nil {
			err = take(h)
		}
	}
	if err != nil {
		l.readFailed(err, explain)
	}
	<-l.written
	// What the peer still sends would turn our close into a reset that may take
	// the last frame from it, so it is read for a moment.
	_, _ = io.CopyN(io.Discard, l.br, 1<<20)
	_ = l.conn.Close()
	l.br.Reset(nil)
	readers.Put(l.br)
}

// readFailed ends the link after a failed read. Only a fault is the peer's
// mistake, and only that is told to it.
func (l *link) readFailed(err error, explain func(error) error) {
	var bad *fault.Error
	if errors.As(err, &bad) && (bad.Code == fault.Protocol || bad.Code == fault.TooLarge) {
		l.fail(explain(err), bad)
		return
	}
	l.mu.Lock()
	if l.writeErr != nil && isTimeout(err) {
		err = l.writeErr
	}
	l.mu.Unlock()
	l.fail(explain(err), nil)
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// closeWrite tells the peer that nothing more comes.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
