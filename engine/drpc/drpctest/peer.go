package drpctest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Framing is how the peer cuts messages: the way up to release 2.6, or since 2.8.
type Framing int

// The two framings.
const (
	Datagram Framing = iota
	Chunked
)

// Sizes of the chunked framing.
const (
	headerLen = 24
	chunkLen  = 131072 - headerLen
)

// ioTimeout ends a read or write that the other side never meets.
const ioTimeout = 10 * time.Second

// ErrEnd is an empty datagram or the end of the session: they look the same.
var ErrEnd = errors.New("nothing was received")

// Peer is one session. It is not for use by several goroutines.
type Peer struct {
	fd      int
	framing Framing
	// Sequence is the number of the next call. Clients written in C begin with
	// 0, the others with 1.
	Sequence int64
}

// Dial connects to the socket path.
func Dial(path string, f Framing) (*Peer, error) {
	fd, err := socket()
	if err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("connect %s: %w", path, err)
	}
	return &Peer{fd: fd, framing: f, Sequence: 1}, nil
}

func socket() (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	return fd, bound(fd)
}

func bound(fd int) error {
	limit := syscall.NsecToTimeval(int64(ioTimeout))
	return errors.Join(syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit))
}

// Close ends the session.
func (p *Peer) Close() error { return syscall.Close(p.fd) }

// SendDatagram sends bytes as they are, which may be none.
func (p *Peer) SendDatagram(b []byte) error {
	return syscall.Sendto(p.fd, b, syscall.MSG_NOSIGNAL, nil)
}

// RecvDatagram receives one datagram as it is; an empty one and the end of the
// session are both no bytes and no error.
func (p *Peer) RecvDatagram() ([]byte, error) {
	buf := make([]byte, 1<<20)
	for {
		n, _, err := syscall.Recvfrom(p.fd, buf, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive: %w", err)
		}
		return buf[:n], nil
	}
}

// Header makes the head of a chunk.
func Header(total, size uint64, index, chunks uint32) []byte {
	b := binary.NativeEndian.AppendUint64(nil, total)
	b = binary.NativeEndian.AppendUint64(b, size)
	b = binary.NativeEndian.AppendUint32(b, index)
	return binary.NativeEndian.AppendUint32(b, chunks)
}

// Datagrams cuts a message as the framing says.
func Datagrams(f Framing, message []byte) [][]byte {
	if f == Datagram {
		return [][]byte{message}
	}
	total, chunks := len(message), max(1, (len(message)+chunkLen-1)/chunkLen)
	var all [][]byte
	for i := range chunks {
		part := message[:min(chunkLen, len(message))]
		message = message[len(part):]
		all = append(all, append(Header(uint64(total), uint64(len(part)), uint32(i), uint32(chunks)), part...))
	}
	return all
}

// Send sends a whole message.
func (p *Peer) Send(message []byte) error {
	for _, d := range Datagrams(p.framing, message) {
		if err := p.SendDatagram(d); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// Recv receives a whole message. Without header an empty message is [ErrEnd].
func (p *Peer) Recv() ([]byte, error) {
	var message []byte
	for next := uint32(0); ; next++ {
		d, err := p.RecvDatagram()
		if err != nil {
			return nil, err
		}
		if p.framing == Datagram {
			if len(d) == 0 {
				return nil, ErrEnd
			}
			return d, nil
		}
		if len(d) == 0 {
			return nil, ErrEnd
		}
		if len(d) < headerLen {
			return nil, fmt.Errorf("%d bytes are no chunk", len(d))
		}
		order := binary.NativeEndian
		total, size := order.Uint64(d), order.Uint64(d[8:])
		index, chunks := order.Uint32(d[16:]), order.Uint32(d[20:])
		if index != next || index >= chunks || size != uint64(len(d)-headerLen) || size > chunkLen {
			return nil, fmt.Errorf("chunk %d of %d with %d of %d bytes in a datagram of %d", index, chunks, size, total, len(d))
		}
		message = append(message, d[headerLen:]...)
		if index+1 == chunks {
			if uint64(len(message)) != total {
				return nil, fmt.Errorf("%d bytes instead of %d", len(message), total)
			}
			return message, nil
		}
	}
}

// Reply is a received response.
type Reply struct {
	Sequence int64
	Status   int64
	Body     []byte
}

// Fields parses the body.
func (r Reply) Fields() Fields {
	fields, err := Parse(r.Body)
	if err != nil {
		return nil
	}
	return fields
}

// CallBytes makes the message of a call; as protobuf wants, zeroes are left out.
func CallBytes(module, method int32, sequence int64, body []byte) []byte {
	var fields []Field
	for i, v := range []int64{int64(module), int64(method), sequence} {
		if v != 0 {
			fields = append(fields, Int(i+1, v))
		}
	}
	if len(body) > 0 {
		fields = append(fields, Bytes(4, body))
	}
	return Encode(fields...)
}

// Call makes one call and waits for its response.
func (p *Peer) Call(module, method int32, body []byte) (Reply, error) {
	sequence := p.Sequence
	p.Sequence++
	if err := p.Send(CallBytes(module, method, sequence, body)); err != nil {
		return Reply{}, err
	}
	return p.RecvReply()
}

// RecvReply receives a response. As to clients written in C, no bytes at all are
// the response whose fields are all zero.
func (p *Peer) RecvReply() (Reply, error) {
	message, err := p.Recv()
	if err != nil && !(errors.Is(err, ErrEnd) && p.framing == Datagram) {
		return Reply{}, err
	}
	fields, err := Parse(message)
	if err != nil {
		return Reply{}, fmt.Errorf("response: %w", err)
	}
	return Reply{Sequence: fields.Int(1), Status: fields.Int(2), Body: fields.Bytes(3)}, nil
}

// Request is a received call.
type Request struct {
	Module, Method int32
	Sequence       int64
	Body           []byte
}

// RecvCall receives a call.
func (p *Peer) RecvCall() (Request, error) {
	message, err := p.Recv()
	if err != nil {
		return Request{}, err
	}
	f, err := Parse(message)
	if err != nil {
		return Request{}, fmt.Errorf("call: %w", err)
	}
	return Request{Module: int32(f.Int(1)), Method: int32(f.Int(2)), Sequence: f.Int(3), Body: f.Bytes(4)}, nil
}

// SendReply answers a call.
func (p *Peer) SendReply(sequence, status int64, body []byte) error {
	var fields []Field
	for i, v := range []int64{sequence, status} {
		if v != 0 {
			fields = append(fields, Int(i+1, v))
		}
	}
	if len(body) > 0 {
		fields = append(fields, Bytes(3, body))
	}
	return p.Send(Encode(fields...))
}

// Listener is a listening socket.
type Listener struct{ fd int }

// Listen makes the socket path, which must not exist.
func Listen(path string) (*Listener, error) {
	fd, err := socket()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 16)); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("listen %s: %w", path, err)
	}
	return &Listener{fd}, nil
}

// Accept waits for a session of the given framing.
func (l *Listener) Accept(f Framing) (*Peer, error) {
	for {
		fd, _, err := syscall.Accept4(l.fd, syscall.SOCK_CLOEXEC)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
		return &Peer{fd: fd, framing: f, Sequence: 1}, bound(fd)
	}
}

// Close stops listening; the path stays.
func (l *Listener) Close() error { return syscall.Close(l.fd) }
