package wire

import (
	"context"
	"encoding/binary"
	"time"

	"daosbox/cluster/fault"
)

// flow is the sending side of a stream's flow control.
type flow struct {
	id     uint32
	window int64         // guarded by link.mu; bytes that may be sent
	over   bool          // guarded by link.mu; nothing more may be sent
	wake   chan struct{} // guarded by link.mu; room for one: window or over changed; nil when nobody waits
}

// waker is what to wait at for a change; link.mu must be held.
func (f *flow) waker() chan struct{} {
	if f.wake == nil {
		f.wake = make(chan struct{}, 1)
	}
	return f.wake
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
		if l.out != nil && !l.writing {
			l.flush(true, time.Time{}) // the peer cannot widen the window for what it has not got
			continue
		}
		l.await(f.waker(), ctx.Done())
	}
	n := min(len(body), l.peerFrame, int(f.window)-headerLen)
	flags := uint8(0)
	if n < len(body) {
		flags = flagMore
	}
	f.window -= int64(headerLen + n)
	o := l.buf()
	o.b = appendFrame(o.b, kindData, flags, f.id, body[:n])
	if len(o.b) >= inlineLimit/2 {
		l.flush(true, time.Time{})
	} else {
		l.flushSoon()
	}
	return n, nil
}

// grant lets the peer's window frame take effect; l.mu must be held.
func (f *flow) grant(n uint32) error {
	f.window += int64(n)
	if n == 0 || f.window > maxWindow {
		return fault.New(fault.Protocol, "cannot widen the window of stream %d by %d bytes", f.id, n)
	}
	if f.wake != nil {
		signal(f.wake)
	}
	return nil
}

// close lets nothing more be sent; link.mu must be held.
func (f *flow) close() {
	f.over = true
	if f.wake != nil {
		signal(f.wake)
	}
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
