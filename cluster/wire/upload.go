package wire

import (
	"io"

	"daosbox/cluster/fault"
)

// upload is the server's receiving side of a stream of more messages than one. Its
// fields are guarded by link.mu, except part, which is the reader's alone.
type upload struct {
	st      *call
	queue   []message
	ready   chan struct{} // room for one: queue or ended changed
	ended   bool          // the client sends no more
	waiting bool          // Recv waits: a message may be larger than the window
	part    []byte
	parted  bool
	partDue int64 // bytes of part that the client has not got back
}

// Recv implements Receiver.
func (u *upload) Recv() ([]byte, error) {
	st := u.st
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if len(u.queue) > 0 {
			m := u.queue[0]
			u.queue[0] = message{}
			u.queue = u.queue[1:]
			c.release(st, int64(len(m.body)))
			u.giveBack(m.due)
			return m.body, nil
		}
		if u.ended {
			return nil, io.EOF
		}
		if err := st.ctx.Err(); err != nil {
			return nil, err
		}
		u.waiting = true
		u.giveBack(u.partDue)
		u.partDue = 0
		done := st.ctx.Done()
		c.mu.Unlock()
		select {
		case <-u.ready:
		case <-done:
		}
		c.mu.Lock()
		u.waiting = false
	}
}

// giveBack lets the client send n bytes more; link.mu must be held.
func (u *upload) giveBack(n int64) {
	if !u.ended && !u.st.flow.over {
		u.st.c.giveBack(u.st.flow.id, &u.st.receipt, n)
	}
}

// data takes a message or a part of one, which dataFor has accounted for.
func (u *upload) data(h header) error {
	c := u.st.c
	body, err := readBody(c.br, u.part, h.length)
	if err != nil {
		return err
	}
	u.part = body
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[h.stream] != u.st {
		u.part = nil
		return nil
	}
	u.partDue += int64(headerLen + h.length)
	if u.parted = h.more(); u.parted {
		if u.waiting && len(u.queue) == 0 {
			u.giveBack(u.partDue)
			u.partDue = 0
		}
		return nil
	}
	u.queue = append(u.queue, message{u.part, u.partDue})
	u.part, u.partDue = nil, 0
	signal(u.ready)
	return nil
}

// uploaded takes the client's end frame; c.mu must be held.
func (c *session) uploaded(st *call, h header) error {
	switch {
	case st == nil: // over already
		return nil
	case st.upload == nil || st.upload.ended || !st.whole || st.upload.parted:
		return fault.New(fault.Protocol, "cannot take an end frame on stream %d: its request is whole, or a message of it is not", h.stream)
	}
	st.upload.ended = true
	signal(st.upload.ready)
	return nil
}

// release gives back n held bytes of a call; c.mu must be held.
func (c *session) release(st *call, n int64) {
	n = min(n, st.held)
	c.held -= n
	c.server.held.Add(-n)
	st.held -= n
}
