package drpc

import (
	"encoding/binary"
	"fmt"

	"daosbox/cluster/fault"
)

// Sizes of the chunked framing.
const (
	headerLen   = 24
	maxDatagram = 1 << 17
	maxChunk    = maxDatagram - headerLen
)

// DefaultMaxMessage is the greatest message that is sent or received when no
// other limit is given, in bytes. The protocol itself has no limit.
const DefaultMaxMessage = 64 << 20

// header is the start of each datagram of the chunked framing. Numbers are in the
// order of the machine: both ends copy the struct as it lies in memory.
type header struct {
	total  uint64 // bytes of the whole message
	size   uint64 // bytes of this chunk
	index  uint32 // from 0
	chunks uint32 // datagrams of the message
}

func parseHeader(datagram []byte) (h header, chunk []byte, err error) {
	if len(datagram) < headerLen {
		return h, nil, badFrame("a datagram of %d bytes has no room for its header", len(datagram))
	}
	order := binary.NativeEndian
	h = header{
		total:  order.Uint64(datagram[0:]),
		size:   order.Uint64(datagram[8:]),
		index:  order.Uint32(datagram[16:]),
		chunks: order.Uint32(datagram[20:]),
	}
	return h, datagram[headerLen:], nil
}

func (h header) append(b []byte) []byte {
	order := binary.NativeEndian
	b = order.AppendUint64(b, h.total)
	b = order.AppendUint64(b, h.size)
	b = order.AppendUint32(b, h.index)
	return order.AppendUint32(b, h.chunks)
}

// check reports what makes h impossible as the header of a chunk of n bytes.
func (h header) check(n int) error {
	switch {
	case h.size != uint64(n):
		return badFrame("the header says %d bytes, %d came", h.size, n)
	case h.size > maxChunk:
		return badFrame("a chunk of %d bytes is above %d", h.size, maxChunk)
	case h.chunks == 0:
		return badFrame("a message of no chunks")
	case h.index >= h.chunks:
		return badFrame("chunk %d of %d", h.index, h.chunks)
	case h.size > h.total:
		return badFrame("a chunk of %d bytes in a message of %d", h.size, h.total)
	case h.total == 0 && h.chunks != 1:
		return badFrame("an empty message of %d chunks", h.chunks)
	case h.total > 0 && (h.size == 0 || uint64(h.chunks) > h.total):
		return badFrame("a message of %d bytes with empty chunks", h.total)
	case h.chunks == 1 && h.size != h.total:
		return badFrame("one chunk of %d bytes for a message of %d", h.size, h.total)
	}
	return nil
}

// assembler puts the chunks of one message together. Its memory grows with the
// bytes that came, not with the bytes that a header announces.
type assembler struct {
	limit int
	first header
	next  uint32
	data  []byte
}

// add takes the next datagram; done tells that the message is complete.
func (a *assembler) add(datagram []byte) (done bool, err error) {
	h, chunk, err := parseHeader(datagram)
	if err != nil {
		return false, err
	}
	if err := h.check(len(chunk)); err != nil {
		return false, err
	}
	if h.total > uint64(a.limit) {
		return false, tooLarge(h.total, a.limit)
	}
	if a.next == 0 {
		a.first = h
	}
	switch {
	case h.total != a.first.total || h.chunks != a.first.chunks:
		return false, badFrame("totals changed inside of a message")
	case h.index != a.next:
		return false, badFrame("chunk %d came instead of %d", h.index, a.next)
	case uint64(len(a.data)+len(chunk)) > h.total:
		return false, badFrame("chunks hold more than the %d bytes of the message", h.total)
	}
	a.data = append(a.data, chunk...)
	a.next++
	if a.next < h.chunks {
		return false, nil
	}
	if uint64(len(a.data)) != h.total {
		return false, badFrame("%d chunks hold %d of %d bytes", h.chunks, len(a.data), h.total)
	}
	return true, nil
}

// split cuts a message into datagrams and gives each to send, which must not keep
// it. All chunks are full but the last; an empty message is one bare header.
func split(message []byte, send func(datagram []byte) error) error {
	chunks := (len(message) + maxChunk - 1) / maxChunk
	if chunks == 0 {
		chunks = 1
	}
	buf := make([]byte, 0, headerLen+min(len(message), maxChunk))
	for i := range chunks {
		chunk := message[:min(len(message), maxChunk)]
		message = message[len(chunk):]
		h := header{size: uint64(len(chunk)), index: uint32(i), chunks: uint32(chunks)}
		h.total = uint64(len(chunk) + len(message) + i*maxChunk)
		if err := send(append(h.append(buf), chunk...)); err != nil {
			return err
		}
	}
	return nil
}

// detect tells the framing of a session from its first datagram. ok is false for
// what is a broken header rather than a message without one. A message without a
// header begins with a tag, so as a header it would announce an absurd total.
func detect(first []byte) (f Framing, ok bool) {
	h, chunk, err := parseHeader(first)
	if err != nil {
		return Datagram, true
	}
	if h.check(len(chunk)) == nil {
		return Chunked, h.index == 0
	}
	if _, err := decodeCall(first); err != nil && h.total < 1<<32 && h.size <= maxChunk {
		return Chunked, false
	}
	return Datagram, true
}

func badFrame(format string, args ...any) error {
	return fault.New(fault.Protocol, "cannot read dRPC message: %s", fmt.Sprintf(format, args...))
}

func tooLarge(size uint64, limit int) error {
	return fault.New(fault.TooLarge, "cannot carry dRPC message: %d bytes are above the limit of %d", size, limit)
}
