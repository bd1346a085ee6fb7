package drpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

// maxPath is the longest path of a socket, in bytes.
const maxPath = 107

// network is the Go name of local sockets that keep the bounds of datagrams.
const network = "unixpacket"

// Cred is who is at the other end of a socket, as the kernel tells.
type Cred struct {
	PID int32
	UID uint32
	GID uint32
	// SecLabel is the label of a security module, empty without one.
	SecLabel string
}

// conn is a session: datagrams in a known framing.
type conn struct {
	*net.UnixConn
	raw     syscall.RawConn
	framing Framing
	limit   int
	timeout time.Duration // of one write, and of the rest of a begun message
}

func newConn(c *net.UnixConn, limit int, timeout time.Duration) (*conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("cannot use socket: %w", err)
	}
	return &conn{UnixConn: c, raw: raw, limit: limit, timeout: timeout}, nil
}

// datagram reads one datagram. It asks for the size before it takes memory, so
// that a session that waits holds no buffer. An empty datagram and the end of the
// session look the same: both are io.EOF.
func (c *conn) datagram() ([]byte, error) {
	var data []byte
	var failed error
	err := c.raw.Read(func(fd uintptr) bool {
		data, failed = receive(int(fd), c.limit+headerLen)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err != nil {
		return nil, err
	}
	return data, failed
}

func receive(fd, limit int) ([]byte, error) {
	var size int
	err := retry(func() (err error) {
		size, _, err = unix.Recvfrom(fd, nil, unix.MSG_PEEK|unix.MSG_TRUNC)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case size == 0:
		return nil, io.EOF
	case size > limit:
		return nil, tooLarge(uint64(size), limit)
	}
	data := make([]byte, size)
	err = retry(func() (err error) {
		size, _, err = unix.Recvfrom(fd, data, 0)
		return err
	})
	return data[:max(size, 0)], err
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// message reads the rest of a message whose first datagram is given.
func (c *conn) message(first []byte) ([]byte, error) {
	if c.framing == Datagram {
		if len(first) > c.limit {
			return nil, tooLarge(uint64(len(first)), c.limit)
		}
		return first, nil
	}
	a := assembler{limit: c.limit}
	for next := first; ; {
		done, err := a.add(next)
		if err != nil || done {
			return a.data, err
		}
		if next, err = c.datagram(); err != nil {
			return nil, err
		}
	}
}

// send writes a message, all its datagrams without a pause.
func (c *conn) send(message []byte) error {
	write := func(datagram []byte) error {
		// A plain write of nothing need not make a datagram.
		_, _, err := c.WriteMsgUnix(datagram, nil, nil)
		return err
	}
	if err := fits(c.framing, len(message), c.limit); err != nil {
		return err
	}
	if c.framing == Datagram {
		return write(message)
	}
	return split(message, write)
}

// fits refuses messages that the framing or the limit does not allow. A message
// without header must fit the receive buffer of old releases, which cut it off
// otherwise.
func fits(f Framing, size, limit int) error {
	if f == Datagram {
		limit = min(limit, maxDatagram)
	}
	if size > limit {
		return tooLarge(uint64(size), limit)
	}
	return nil
}

func (c *conn) cred() (Cred, error) {
	var cred Cred
	var failed error
	err := c.raw.Control(func(fd uintptr) {
		ucred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		cred = Cred{PID: ucred.Pid, UID: ucred.Uid, GID: ucred.Gid}
		// Without a security module the kernel has no label to give.
		cred.SecLabel, _ = unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_PEERSEC)
	})
	if err = errors.Join(err, failed); err != nil {
		return Cred{}, fmt.Errorf("cannot read peer credentials: %w", err)
	}
	return cred, nil
}

// listen makes the socket path with exactly the given mode.
func listen(ctx context.Context, path string, mode fs.FileMode) (*net.UnixListener, error) {
	if len(path) > maxPath {
		return nil, fault.New(fault.Config, "cannot listen on %s: the path is longer than %d bytes", path, maxPath).
			WithHint("choose a shorter socket directory")
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return nil, fault.New(fault.Config, "cannot listen on %s: no directory %s", path, filepath.Dir(path)).
			WithHint("create the directory, owned by the user that runs this process")
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// The mode of the socket limits the mode of its file, so no one can slip in
	// between bind and chmod.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), uint32(mode.Perm())) })
		return errors.Join(err, failed)
	}}
	ln, err := config.Listen(ctx, network, path)
	if err != nil {
		return nil, fault.New(fault.Config, "cannot listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		ln.Close()
		return nil, fault.New(fault.Config, "cannot listen on %s: %w", path, err)
	}
	return ln.(*net.UnixListener), nil
}

// removeStale unlinks a socket that nobody listens on. A live one and anything
// that is no socket stay.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.New(fault.Config, "cannot listen on %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.New(fault.Config, "cannot listen on %s: the path exists and is no socket", path).
			WithHint("remove it, or choose another socket directory")
	}
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(ctx, network, path)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fault.New(fault.SocketInUse, "cannot listen on %s: another process uses it", path).
			WithHint("stop the other process, or choose another socket directory")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Config, "cannot remove stale socket: %w", err)
	}
	return nil
}

// RemoveEngineSockets unlinks the sockets in dir that dead engines left behind; an
// engine never removes its own. Sockets of live processes stay.
func RemoveEngineSockets(ctx context.Context, dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "daos_engine*.sock"))
	if err != nil {
		return fmt.Errorf("cannot list engine sockets: %w", err)
	}
	var failed []error
	for _, path := range paths {
		if err := removeStale(ctx, path); err != nil && fault.Of(err) != fault.SocketInUse {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
