// Package drpctest is the other end of dRPC for tests: a codec that knows the wire
// types of protobuf and nothing more, a table of messages as plain text, and
// sockets used with bare system calls. It shares no code with package drpc and
// uses no protobuf library, so that what the two agree on is the protocol. It is
// imported by tests only.
package drpctest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// The wire types that occur.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// Field is one field on the wire. A varint or fixed number is in Number, anything
// else in Bytes.
type Field struct {
	ID     int
	Wire   int
	Number uint64
	Bytes  []byte
}

// Uint makes a varint field.
func Uint(id int, v uint64) Field { return Field{ID: id, Wire: wireVarint, Number: v} }

// Int makes a varint field; negative numbers take ten bytes.
func Int(id int, v int64) Field { return Uint(id, uint64(v)) }

// Bool makes a varint field of 0 or 1.
func Bool(id int, v bool) Field {
	if v {
		return Uint(id, 1)
	}
	return Uint(id, 0)
}

// Float makes a fixed field of 32 bits.
func Float(id int, v float32) Field {
	return Field{ID: id, Wire: wire32, Number: uint64(math.Float32bits(v))}
}

// Double makes a fixed field of 64 bits.
func Double(id int, v float64) Field {
	return Field{ID: id, Wire: wire64, Number: math.Float64bits(v)}
}

// Bytes makes a length-delimited field.
func Bytes(id int, v []byte) Field { return Field{ID: id, Wire: wireBytes, Bytes: v} }

// Text makes a length-delimited field.
func Text(id int, v string) Field { return Bytes(id, []byte(v)) }

// Sub makes a field that holds a message.
func Sub(id int, fields ...Field) Field { return Bytes(id, Encode(fields...)) }

// Packed makes a repeated field of varints in the packed form.
func Packed(id int, values ...uint64) Field {
	var b []byte
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return Bytes(id, b)
}

// Encode returns the fields one after the other, as they are given.
func Encode(fields ...Field) []byte {
	var b []byte
	for _, f := range fields {
		b = binary.AppendUvarint(b, uint64(f.ID)<<3|uint64(f.Wire))
		switch f.Wire {
		case wireVarint:
			b = binary.AppendUvarint(b, f.Number)
		case wire32:
			b = binary.LittleEndian.AppendUint32(b, uint32(f.Number))
		case wire64:
			b = binary.LittleEndian.AppendUint64(b, f.Number)
		default:
			b = binary.AppendUvarint(b, uint64(len(f.Bytes)))
			b = append(b, f.Bytes...)
		}
	}
	return b
}

// Fields is a parsed message.
type Fields []Field

var errShort = errors.New("the message is cut off")

// Parse reads a message, whatever it means.
func Parse(b []byte) (Fields, error) {
	var all Fields
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 >= 1<<29 {
			return nil, errors.New("a tag is broken")
		}
		b = b[n:]
		f := Field{ID: int(tag >> 3), Wire: int(tag & 7)}
		switch f.Wire {
		case wireVarint, wireBytes:
			if f.Number, n = binary.Uvarint(b); n <= 0 {
				return nil, errShort
			}
			b = b[n:]
			if f.Wire == wireBytes {
				if f.Number > uint64(len(b)) {
					return nil, errShort
				}
				f.Bytes, b, f.Number = b[:f.Number], b[f.Number:], 0
			}
		case wire32:
			if len(b) < 4 {
				return nil, errShort
			}
			f.Number, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		case wire64:
			if len(b) < 8 {
				return nil, errShort
			}
			f.Number, b = binary.LittleEndian.Uint64(b), b[8:]
		default:
			return nil, fmt.Errorf("wire type %d", f.Wire)
		}
		all = append(all, f)
	}
	return all, nil
}

// All returns the fields of a number, in order.
func (fs Fields) All(id int) Fields {
	var some Fields
	for _, f := range fs {
		if f.ID == id {
			some = append(some, f)
		}
	}
	return some
}

func (fs Fields) last(id int) Field {
	some := fs.All(id)
	if len(some) == 0 {
		return Field{}
	}
	return some[len(some)-1]
}

// Uint returns a number, 0 when absent.
func (fs Fields) Uint(id int) uint64 { return fs.last(id).Number }

// Int returns a signed number, 0 when absent.
func (fs Fields) Int(id int) int64 { return int64(fs.last(id).Number) }

// Text returns a text, empty when absent.
func (fs Fields) Text(id int) string { return string(fs.last(id).Bytes) }

// Bytes returns bytes, nil when absent.
func (fs Fields) Bytes(id int) []byte { return fs.last(id).Bytes }

// Sub returns the fields of a message inside, none when absent or broken.
func (fs Fields) Sub(id int) Fields {
	sub, err := Parse(fs.last(id).Bytes)
	if err != nil {
		return nil
	}
	return sub
}

// Numbers returns a repeated varint, packed or not.
func (fs Fields) Numbers(id int) []uint64 {
	var all []uint64
	for _, f := range fs.All(id) {
		if f.Wire != wireBytes {
			all = append(all, f.Number)
			continue
		}
		for b := f.Bytes; len(b) > 0; {
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return all
			}
			all, b = append(all, v), b[n:]
		}
	}
	return all
}

// String prints the fields for a test's message.
func (fs Fields) String() string {
	var parts []string
	for _, f := range fs {
		if f.Wire == wireBytes {
			parts = append(parts, fmt.Sprintf("%d=%q", f.ID, f.Bytes))
		} else {
			parts = append(parts, fmt.Sprintf("%d=%d", f.ID, f.Number))
		}
	}
	return strings.Join(parts, " ")
}
