package wire

import (
	"bufio"
	"net"
)

// corkConn lies below TLS and saves packets and system calls of a handshake. What
// TLS writes is held until TLS reads, so flights leave whole; the last flight, which
// nothing is read after, leaves with the first frames. What comes is read through a
// buffer, since TLS asks for it in small pieces.
type corkConn struct {
	net.Conn
	shaking bool          // the handshake goes on: one goroutine uses the connection
	held    []byte        // the writer's alone
	br      *bufio.Reader // the reader's alone, nil when it is not needed any more
}

func newCork(c net.Conn) *corkConn { return &corkConn{Conn: c, shaking: true} }

// shaken ends the handshake: from here on reading and writing know nothing of each
// other.
func (c *corkConn) shaken() { c.shaking = false }

func (c *corkConn) Write(b []byte) (int, error) {
	if !c.shaking && c.held == nil {
		return c.Conn.Write(b)
	}
	if c.held = append(c.held, b...); c.shaking && len(c.held) < minFrame {
		return len(b), nil
	}
	return len(b), c.flush()
}

func (c *corkConn) flush() error {
	if c.held == nil {
		return nil
	}
	_, err := c.Conn.Write(c.held)
	c.held = nil
	return err
}

func (c *corkConn) Read(b []byte) (int, error) {
	if c.shaking {
		if err := c.flush(); err != nil {
			return 0, err
		}
		if c.br == nil {
			c.br = readers.Get().(*bufio.Reader)
			c.br.Reset(c.Conn)
		}
		return c.br.Read(b)
	}
	if c.br != nil {
		if c.br.Buffered() > 0 {
			return c.br.Read(b)
		}
		c.br.Reset(nil)
		readers.Put(c.br)
		c.br = nil
	}
	return c.Conn.Read(b)
}

// CloseWrite lets a last word leave, such as an alert. Close does not: the end of a
// context calls it while another goroutine writes.
func (c *corkConn) CloseWrite() error {
	err := c.flush()
	closeWrite(c.Conn)
	return err
}
