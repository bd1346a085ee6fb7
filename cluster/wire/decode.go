package wire

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"strings"

	"daosbox/cluster/fault"
)

// Item is a preface or a frame of a captured connection.
type Item struct {
	// From is "client" or "server", empty when the capture does not tell.
	From string `json:"from,omitempty"`
	// Offset is where it begins, in bytes of its direction.
	Offset int64  `json:"offset"`
	Kind   string `json:"kind"`
	Stream uint32 `json:"stream"`
	// Length is that of the payload.
	Length int `json:"length"`
	// Text is all of it on one line.
	Text string `json:"text"`
}

// String is Text, with an arrow where the direction is known.
func (i Item) String() string {
	switch i.From {
	case "client":
		return "> " + i.Text
	case "server":
		return "< " + i.Text
	}
	return i.Text
}

// decoder takes one direction of a connection in pieces of any size.
type decoder struct {
	from    string
	buf     []byte // less than a frame
	offset  int64
	begun   bool
	foreign bool // the bytes of another service, which are not frames
}

// write decodes what became whole. It returns the fault that a peer would have raised.
func (d *decoder) write(b []byte, each func(Item)) error {
	if d.foreign {
		return nil
	}
	d.buf = append(d.buf, b...)
	for {
		n, item, err := d.next()
		if err != nil || n == 0 {
			return err
		}
		item.From, item.Offset = d.from, d.offset
		d.offset += int64(n)
		d.buf = d.buf[n:]
		each(item)
		if d.foreign {
			d.buf = nil
			return nil
		}
	}
}

// next decodes what buf begins with; 0 bytes when more is needed.
func (d *decoder) next() (int, Item, error) {
	if !d.begun && len(d.buf) > 0 && d.buf[0] == magic[0] {
		if len(d.buf) < prefaceLen {
			return 0, Item{}, nil
		}
		p, err := parsePreface(d.buf[:prefaceLen])
		d.begun, d.foreign = true, err == nil && p.service != Control
		return prefaceLen, Item{Kind: "preface", Text: p.String()}, err
	}
	if len(d.buf) < headerLen {
		return 0, Item{}, nil
	}
	d.begun = true
	h, err := parseHeader(d.buf, maxFrame)
	if err != nil || len(d.buf) < headerLen+h.length {
		return 0, Item{}, err
	}
	f := frame{h, d.buf[headerLen : headerLen+h.length]}
	return headerLen + h.length, Item{Kind: h.kind.String(), Stream: h.stream, Length: h.length, Text: f.String()}, nil
}

// end tells an end between frames from one inside.
func (d *decoder) end() error {
	if len(d.buf) > 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Decode reads one direction of a captured connection and calls each with its
// preface, when the capture starts with one, and with every frame. What follows the
// preface of another service than control is not frames and is not shown. It returns
// nil at an end between frames, io.ErrUnexpectedEOF inside one, and the fault that a
// peer would have raised.
func Decode(r io.Reader, each func(Item)) error {
	var d decoder
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if bad := d.write(buf[:n], each); bad != nil {
			return bad
		}
		if errors.Is(err, io.EOF) {
			return d.end()
		}
		if err != nil {
			return err
		}
	}
}

// maxLine bounds a line of a conversation: the largest frame in hex, with room.
const maxLine = 4 << 20

// DecodeText reads a conversation in text: lines of hex digits, with ">" before what
// the client sent and "<" before what the server did, or neither for one direction.
// Blanks in hex, empty lines, what follows ";" and lines that begin with "#" mean
// nothing. Frames need not end with lines. It returns as Decode does.
func DecodeText(r io.Reader, each func(Item)) error {
	sides := map[byte]*decoder{'>': {from: "client"}, '<': {from: "server"}, 0: {}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		from, b, err := parseLine(lines.Text())
		if err != nil {
			return fault.New(fault.Protocol, "cannot read line %d: %w", number, err)
		}
		if err := sides[from].write(b, each); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fault.Wrap(fault.Protocol, err, "cannot read the capture")
	}
	return errors.Join(sides['>'].end(), sides['<'].end(), sides[0].end())
}

// parseLine is one line of a conversation: who speaks, and what.
func parseLine(line string) (from byte, b []byte, err error) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") {
		return 0, nil, nil
	}
	if line != "" && (line[0] == '>' || line[0] == '<') {
		from, line = line[0], line[1:]
	}
	digits, _, _ := strings.Cut(line, ";")
	b, err = hex.DecodeString(strings.Join(strings.Fields(digits), ""))
	return from, b, err
}
