package drpctest

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

//go:embed messages.tsv
var messagesTSV string

// Spec is the row of a field in the table of messages.
type Spec struct {
	Name     string
	Number   int
	Repeated bool
	// Type is a scalar type of protobuf, "enum", "map" (of text to text) or
	// "message".
	Type string
	// Message is the full name of the type of a message field.
	Message string
}

// Table has the fields of each message, by the message's full name.
type Table map[string][]Spec

// Messages reads the table of all messages.
func Messages() Table {
	table := make(Table)
	for line := range strings.Lines(messagesTSV) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if len(cells) != 4 || strings.HasPrefix(line, "#") {
			continue
		}
		if cells[1] == "-" {
			table[cells[0]] = nil
			continue
		}
		number, err := strconv.Atoi(cells[2])
		if err != nil {
			panic("table of messages: " + line)
		}
		spec := Spec{Name: cells[1], Number: number}
		kind, repeated := strings.CutPrefix(cells[3], "repeated ")
		spec.Repeated = repeated
		spec.Type, spec.Message, _ = strings.Cut(kind, " ")
		table[cells[0]] = append(table[cells[0]], spec)
	}
	return table
}

// Decode reads a message by its full name into field name → value: uint64, int64,
// float64, string, []byte, map[string]any for a message, []any for a repeated
// field, map[string]string for a map. A number or wire type that the table does
// not have is an error; so is text that is no UTF-8.
func (t Table) Decode(message string, b []byte) (map[string]any, error) {
	specs, ok := t[message]
	if !ok {
		return nil, fmt.Errorf("no message %s", message)
	}
	fields, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", message, err)
	}
	out := make(map[string]any)
	for _, f := range fields {
		i := slices.IndexFunc(specs, func(s Spec) bool { return s.Number == f.ID })
		if i < 0 {
			return nil, fmt.Errorf("%s has no field %d", message, f.ID)
		}
		if err := t.field(out, specs[i], f); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", message, specs[i].Name, err)
		}
	}
	return out, nil
}

func (t Table) field(out map[string]any, spec Spec, f Field) error {
	if spec.Type == "map" {
		entry, err := Parse(f.Bytes)
		if err != nil {
			return err
		}
		m, _ := out[spec.Name].(map[string]string)
		if m == nil {
			m = make(map[string]string)
			out[spec.Name] = m
		}
		m[entry.Text(1)] = entry.Text(2)
		return nil
	}
	if !spec.Repeated {
		v, err := t.value(spec, f)
		out[spec.Name] = v
		return err
	}
	list, _ := out[spec.Name].([]any)
	single := []Field{f}
	if f.Wire == wireBytes && spec.wire() != wireBytes {
		var err error
		if single, err = spec.unpack(f.Bytes); err != nil {
			return err
		}
	}
	for _, one := range single {
		v, err := t.value(spec, one)
		if err != nil {
			return err
		}
		list = append(list, v)
	}
	out[spec.Name] = list
	return nil
}

func (s Spec) wire() int {
	switch s.Type {
	case "string", "bytes", "message", "map":
		return wireBytes
	case "double":
		return wire64
	case "float":
		return wire32
	}
	return wireVarint
}

func (s Spec) unpack(b []byte) ([]Field, error) {
	var all []Field
	for len(b) > 0 {
		f, n := Field{ID: s.Number, Wire: s.wire()}, 0
		switch f.Wire {
		case wire64:
			if n = 8; len(b) >= n {
				f.Number = binary.LittleEndian.Uint64(b)
			}
		case wire32:
			if n = 4; len(b) >= n {
				f.Number = uint64(binary.LittleEndian.Uint32(b))
			}
		default:
			f.Number, n = binary.Uvarint(b)
		}
		if n <= 0 || n > len(b) {
			return nil, errShort
		}
		all, b = append(all, f), b[n:]
	}
	return all, nil
}

func (t Table) value(spec Spec, f Field) (any, error) {
	if f.Wire != spec.wire() {
		return nil, fmt.Errorf("wire type %d", f.Wire)
	}
	switch spec.Type {
	case "message":
		return t.Decode(spec.Message, f.Bytes)
	case "string":
		if !utf8.Valid(f.Bytes) {
			return nil, fmt.Errorf("%q is not UTF-8", f.Bytes)
		}
		return string(f.Bytes), nil
	case "bytes":
		return slices.Clone(f.Bytes), nil
	case "bool":
		return f.Number != 0, nil
	case "uint64":
		return f.Number, nil
	case "uint32":
		return uint64(uint32(f.Number)), nil
	case "int64":
		return int64(f.Number), nil
	case "int32", "enum":
		return int64(int32(f.Number)), nil
	case "float":
		return float64(math.Float32frombits(uint32(f.Number))), nil
	case "double":
		return math.Float64frombits(f.Number), nil
	}
	return nil, fmt.Errorf("no type %q", spec.Type)
}
