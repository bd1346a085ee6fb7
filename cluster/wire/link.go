package wire

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
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
// goroutine calls readLoop; everyone else appends frames. Whoever appends while
// nobody writes does the writing, so that a call costs no change of goroutines; what
// is appended meanwhile leaves together, by a goroutine that lives as long as there
// is something to write.
type link struct {
	conn net.Conn
	lim  Limits
	br   *bufio.Reader
	// dead is closed when err is set; written when the last byte has left.
	dead, written chan struct{}
	// ended is called once, with mu held, when the link fails; may be nil.
	ended func()

	mu        sync.Mutex
	out       *buffer       // guarded by mu, as all below
	spare     *buffer       // the last one written, empty
	writing   bool          // somebody writes, and looks at out again after it
	soon      *time.Timer   // writes what may wait a moment for company
	due       bool          // soon is running
	load      int           // streams that are open, or handlers that run
	control   int           // frames in out that cost the peer nothing
	room      chan struct{} // closed when out has been taken, nil when nobody waits
	peerFrame int           // largest payload that the peer takes
	err       error         // why the link ended
	writeErr  error         // why the writer gave up; the reader may know better
	linger    bool          // the peer has a reason to read before we close
	settled   bool          // the read deadline must not be moved any more
	readBy    time.Time     // the read deadline that is set

	scratch []byte    // the reader's alone
	writeBy time.Time // the write deadline that is set; the writer's alone
}

// flushAfter is how long a message may wait for the next one, or for the end of its
// stream, to leave with it.
const flushAfter = time.Millisecond

// inlineLimit is the largest batch that is written by whoever appended to it: it
// fits the socket's buffer, so that its owner is not held up by a slow peer.
const inlineLimit = 16 << 10

func newLink(conn net.Conn, lim Limits) *link {
	br := readers.Get().(*bufio.Reader)
	br.Reset(conn)
	return &link{conn: conn, lim: lim, br: br, peerFrame: minFrame,
		dead: make(chan struct{}), written: make(chan struct{})}
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
		if l.out, l.spare = l.spare, nil; l.out == nil {
			l.out = buffers.Get().(*buffer)
		}
	}
	return l.out
}

// flush sees to it that what was appended leaves now. The caller writes itself when
// inline is set, nobody else does and there is little to write; by is then the end
// of its patience, zero for none. l.mu must be held; it is released while writing.
func (l *link) flush(inline bool, by time.Time) {
	if l.writing || l.out == nil {
		return
	}
	l.writing = true
	if inline && l.load > 1 {
		// Others are about to append something: one write for all.
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	}
	if !inline || len(l.out.b) > inlineLimit {
		go l.writeRest()
		return
	}
	l.writeOnce(by)
	if l.writing = l.out != nil || l.err != nil; l.writing {
		go l.writeRest()
	}
}

// flushSoon lets what was appended wait for company; l.mu must be held.
func (l *link) flushSoon() {
	switch {
	case l.writing || l.due:
		return
	case l.soon == nil:
		l.soon = time.AfterFunc(flushAfter, l.flushDue)
	default:
		l.soon.Reset(flushAfter)
	}
	l.due = true
}

func (l *link) flushDue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due = false
	l.flush(true, time.Time{})
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
	l.flush(false, time.Time{}) // the reader must go on reading, else two ends could block each other
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
	l.flush(true, time.Time{})
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
	if l.soon != nil {
		l.soon.Stop()
	}
	if l.ended != nil {
		l.ended()
	}
	switch {
	case l.writing:
		// Whoever writes sees the end of it, and is not given long any more.
		_ = l.conn.SetWriteDeadline(time.Now().Add(lingerTime))
	case l.out == nil:
		l.settleLocked()
		close(l.written)
		l.writing = true // nobody writes any more
	default:
		l.writing = true
		go l.writeRest()
	}
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// writeOnce writes what is queued; l.mu must be held and l.writing set.
func (l *link) writeOnce(by time.Time) {
	out, last := l.out, l.err != nil
	l.out, l.control = nil, 0
	if l.due {
		l.soon.Stop()
		l.due = false
	}
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
	if l.writeErr != nil || out == nil {
		return
	}
	l.mu.Unlock()
	err := l.write(out, last, by)
	l.mu.Lock()
	if cap(out.b) <= 2*outLimit {
		out.b = out.b[:0]
		if l.spare == nil && cap(out.b) <= 2*inlineLimit {
			l.spare = out
		} else {
			buffers.Put(out)
		}
	}
	if err != nil {
		l.giveUp(err)
	}
}

// writeRest writes until nothing is left; at the end of the link it settles it.
func (l *link) writeRest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.out != nil && l.writeErr == nil {
		l.writeOnce(time.Time{})
	}
	switch {
	case l.writeErr != nil: // the reader ends the link, or has
		if l.err != nil {
			l.settleLocked()
		}
		close(l.written) // l.writing stays set: nobody writes any more
	case l.err != nil:
		l.settleLocked()
		close(l.written)
	default:
		l.writing = false
	}
}

func (l *link) write(out *buffer, last bool, by time.Time) error {
	now := time.Now()
	until := now.Add(l.lim.Write)
	if last {
		until = now.Add(min(l.lim.Write, lingerTime))
	}
	if !by.IsZero() && by.Before(until) {
		until = by
	}
	// Moving a deadline costs as much as a small frame, so it moves only when it
	// is a good way off.
	if off := until.Sub(l.writeBy); off > l.lim.Write/8 || off < 0 {
		if err := l.conn.SetWriteDeadline(until); err != nil {
			return err
		}
		l.writeBy = until
	}
	_, err := l.conn.Write(out.b)
	return err
}

// giveUp leaves the reader a moment to find out why the peer closed: a TLS alert
// or an error frame often lies in front of it.
// l.mu must be held.
func (l *link) giveUp(err error) {
	l.writeErr = err
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
	l.settled = true
	_ = l.conn.SetReadDeadline(time.Now().Add(lingerTime)) // a closed socket ends the read by itself
}

// settleLocked ends reading: soon when the peer has a last frame to read, else now.
// l.mu must be held.
func (l *link) settleLocked() {
	l.settled = true
	until := time.Now()
	if l.linger {
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
	until := time.Now().Add(d)
	if off := until.Sub(l.readBy); off >= 0 && off < d/16 {
		return nil // not worth moving it
	}
	l.readBy = until
	return l.conn.SetReadDeadline(until)
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

// readSmall reads the payload of a frame that is no message; it is good until the
// next one.
func (l *link) readSmall(n int) ([]byte, error) {
	b, err := readBody(l.br, l.scratch[:0], n)
	if cap(b) <= 256 {
		l.scratch = b[:0]
	}
	return b, err
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
	_ = bareConn(l.conn).Close()
	l.br.Reset(nil)
	readers.Put(l.br)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range []*buffer{l.out, l.spare} {
		if b != nil && cap(b.b) <= 2*outLimit {
			b.b = b.b[:0]
			buffers.Put(b)
		}
	}
	l.out, l.spare = nil, nil
}

// bareConn is the connection below TLS. Closing that says no goodbye in TLS: frames
// tell what is whole, and the alert would cost each side a packet.
func bareConn(c net.Conn) net.Conn {
	for {
		switch t := c.(type) {
		case *tls.Conn:
			c = t.NetConn()
		case *peekConn:
			c = t.Conn
		case *corkConn:
			c = t.Conn
		default:
			return c
		}
	}
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
