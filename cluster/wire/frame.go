package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"daosbox/cluster/fault"
)

// kind says what a frame is. The numbers are fixed by PROTOCOL.md.
type kind uint8

const (
	kindOpen   kind = 1 // client: begins a stream: timeout, method, body
	kindData   kind = 2 // a message or a part of one
	kindEnd    kind = 3 // server: the stream is over and went well; client: no more messages
	kindError  kind = 4 // server: the stream is over with this fault; on stream 0 the connection
	kindCancel kind = 5 // client: the stream is given up
	kindWindow kind = 6 // receiver: so many bytes more may come
	kindPing   kind = 7
	kindPong   kind = 8
	kindGoAway kind = 9 // server: no streams above this one
)

var kindNames = [...]string{kindOpen: "open", kindData: "data", kindEnd: "end", kindError: "error",
	kindCancel: "cancel", kindWindow: "window", kindPing: "ping", kindPong: "pong", kindGoAway: "goaway"}

func (k kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// flagMore on open and data: the message goes on in the stream's next data frame.
const flagMore = 1

// flagUpload on open: more messages follow the first, up to the client's end frame.
// It needs featureUploads.
const flagUpload = 2

const headerLen = 9

// header is the fixed start of every frame.
type header struct {
	length int
	kind   kind
	flags  uint8
	stream uint32
}

func (h header) more() bool { return h.flags&flagMore != 0 }

func appendHeader(b []byte, h header) []byte {
	b = append(b, byte(h.length>>16), byte(h.length>>8), byte(h.length), byte(h.kind), h.flags)
	return binary.BigEndian.AppendUint32(b, h.stream)
}

func appendFrame(b []byte, k kind, flags uint8, stream uint32, payload []byte) []byte {
	b = appendHeader(b, header{len(payload), k, flags, stream})
	return append(b, payload...)
}

// parseHeader decodes and checks a header before a byte of the payload is read or
// memory for it is taken. limit is the largest payload of open and data frames.
func parseHeader(b []byte, limit int) (header, error) {
	h := header{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   kind(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]),
	}
	least, most, flags, onConn, onStream := 0, 0, uint8(0), false, true
	switch h.kind {
	case kindOpen:
		least, most, flags = 6, limit, flagMore|flagUpload
	case kindData:
		most, flags = limit, flagMore
	case kindEnd, kindCancel:
	case kindError:
		most, onConn = minFrame, true
	case kindWindow:
		least, most = 4, 4
	case kindPing, kindPong:
		least, most, onConn, onStream = 8, 8, true, false
	case kindGoAway:
		least, most, onConn, onStream = 4, maxGoAway, true, false
	default:
		return h, fault.New(fault.Protocol, "cannot read frame: unknown kind %d", uint8(h.kind))
	}
	switch {
	case h.length > most:
		return h, fault.New(fault.TooLarge, "cannot read %s frame: %d bytes are more than %d", h.kind, h.length, most)
	case h.length < least:
		return h, fault.New(fault.Protocol, "cannot read %s frame: %d bytes are less than %d", h.kind, h.length, least)
	case h.flags&^flags != 0:
		return h, fault.New(fault.Protocol, "cannot read %s frame: unknown flags %#x", h.kind, h.flags)
	case h.stream == 0 && !onConn, h.stream != 0 && !onStream, h.stream > maxStreamID:
		return h, fault.New(fault.Protocol, "cannot read %s frame: not allowed on stream %d", h.kind, h.stream)
	}
	return h, nil
}

// readBody appends n bytes to dst. Memory is taken as they come, in steps, and
// never for an announced length.
func readBody(r io.Reader, dst []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, minFrame)
		at := len(dst)
		dst = slices.Grow(dst, step)[:at+step]
		if _, err := io.ReadFull(r, dst[at:]); err != nil {
			return dst[:at], truncated(err)
		}
		n -= step
	}
	return dst, nil
}

// truncated tells an end inside a frame from one between frames.
func truncated(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// opening is the payload of an open frame.
type opening struct {
	timeout time.Duration // that the caller still waits, 0 for no limit
	method  string
	body    []byte
}

func appendOpening(b []byte, timeout time.Duration, method string) []byte {
	ms := uint32(0)
	if timeout > 0 {
		// Rounded up: the client's own clock ends the call, the server's is the net.
		ms = uint32(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<32-1))
	}
	b = binary.BigEndian.AppendUint32(b, ms)
	b = append(b, byte(len(method)))
	return append(b, method...)
}

// parseOpening decodes the payload of an open frame. usual is the method that it
// often has, which then takes no memory and no check.
func parseOpening(b []byte, usual string) (opening, error) {
	if len(b) < 5 {
		return opening{}, fault.New(fault.Protocol, "cannot read open frame: %d bytes", len(b))
	}
	o := opening{timeout: time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond}
	n := int(b[4])
	if len(b) < 5+n {
		return opening{}, fault.New(fault.Protocol, "cannot read open frame: method ends after the frame")
	}
	o.body = b[5+n:]
	if n > 0 && string(b[5:5+n]) == usual {
		o.method = usual
		return o, nil
	}
	o.method = string(b[5 : 5+n])
	if err := checkMethod(o.method); err != nil {
		return opening{}, err
	}
	return o, nil
}

// checkMethod wants 1 to 255 printable ASCII characters, fit for a log line.
func checkMethod(m string) error {
	if m == "" || len(m) > maxMethod {
		return fault.New(fault.Protocol, "cannot use a method name of %d bytes", len(m))
	}
	for _, c := range []byte(m) {
		if c <= ' ' || c > '~' {
			return fault.New(fault.Protocol, "cannot use method name %q", m)
		}
	}
	return nil
}

// frame is a whole frame, for printing and tests; links work on headers.
type frame struct {
	header
	payload []byte
}

// readFrame reads one whole frame. It returns io.EOF only between frames.
func readFrame(r io.Reader, limit int) (frame, error) {
	var b [headerLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return frame{}, err
	}
	h, err := parseHeader(b[:], limit)
	if err != nil {
		return frame{}, err
	}
	payload, err := readBody(r, nil, h.length)
	return frame{h, payload}, err
}

// String prints any frame on one line.
func (f frame) String() string {
	s := fmt.Sprintf("%s %d", f.kind, f.stream)
	if f.flags&flagMore != 0 {
		s += " more"
	}
	if f.flags&flagUpload != 0 {
		s += " upload"
	}
	switch f.kind {
	case kindOpen:
		o, err := parseOpening(f.payload, "")
		if err != nil {
			return s + " bad: " + err.Error()
		}
		wait := "no deadline"
		if o.timeout > 0 {
			wait = o.timeout.String()
		}
		return fmt.Sprintf("%s %s %s %d bytes", s, o.method, wait, len(o.body))
	case kindData:
		return fmt.Sprintf("%s %d bytes", s, len(f.payload))
	case kindError:
		e := decodeFault(f.payload)
		return fmt.Sprintf("%s code=%d %q", s, e.Code, e.What)
	case kindWindow:
		return fmt.Sprintf("%s +%d", s, binary.BigEndian.Uint32(f.payload))
	case kindPing, kindPong:
		return fmt.Sprintf("%s %x", s, f.payload)
	case kindGoAway:
		return fmt.Sprintf("%s last=%d %q", s, binary.BigEndian.Uint32(f.payload), f.payload[4:])
	}
	return s
}
