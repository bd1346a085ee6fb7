package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"daosbox/cluster/fault"
)

// The version of the frames that this package speaks, and the oldest that it
// still understands. A release that raises version to N keeps N-2.
const (
	version    = 1
	minVersion = 1
)

// Feature bits: what both sides set is on.
const (
	// featureUploads allows flagUpload and the client's end frame.
	featureUploads = 1 << 0
	ourFeatures    = featureUploads
)

// dialect is what a side says of its version; tests speak others.
type dialect struct {
	version, minVersion uint16
	features            uint32
}

func (d dialect) orOurs() dialect {
	if d == (dialect{}) {
		return dialect{version, minVersion, ourFeatures}
	}
	return d
}

const (
	prefaceLen = 48
	serviceLen = 16
)

// magic starts a preface. Its first byte is neither text nor a TLS record, and
// its line end shows a transport that translates text.
var magic = [8]byte{0xDA, 'O', 'S', 'b', 'o', 'x', '\r', '\n'}

// preface is what each side says first.
type preface struct {
	version, minVersion uint16
	features            uint32
	frame               uint32 // largest payload that this side takes
	window              uint32 // of each stream, for what this side receives
	streams             uint16 // that a server takes at a time, 0 from a client
	refused             bool   // by a server: an error frame follows, then the end
	service             string
}

func (p preface) append(b []byte) []byte {
	b = append(b, magic[:]...)
	b = binary.BigEndian.AppendUint16(b, p.version)
	b = binary.BigEndian.AppendUint16(b, p.minVersion)
	b = binary.BigEndian.AppendUint32(b, p.features)
	b = binary.BigEndian.AppendUint32(b, p.frame)
	b = binary.BigEndian.AppendUint32(b, p.window)
	b = binary.BigEndian.AppendUint16(b, p.streams)
	status := byte(0)
	if p.refused {
		status = 1
	}
	b = append(b, status, 0, 0, 0, 0, 0)
	var name [serviceLen]byte
	copy(name[:], p.service)
	return append(b, name[:]...)
}

// parsePreface decodes the 48 bytes of a preface. Reserved bytes are ignored, so
// that a later version may use them.
func parsePreface(b []byte) (preface, error) {
	if len(b) != prefaceLen || !bytes.Equal(b[:len(magic)], magic[:]) {
		return preface{}, fault.New(fault.Protocol, "cannot read preface: it does not start with the magic bytes")
	}
	be := binary.BigEndian
	p := preface{
		version:    be.Uint16(b[8:]),
		minVersion: be.Uint16(b[10:]),
		features:   be.Uint32(b[12:]),
		frame:      be.Uint32(b[16:]),
		window:     be.Uint32(b[20:]),
		streams:    be.Uint16(b[24:]),
		refused:    b[26] != 0,
	}
	name := b[32:prefaceLen]
	end := bytes.IndexByte(name, 0)
	if end < 0 {
		end = len(name)
	}
	p.service = string(name[:end])
	switch {
	case !validService(p.service) || len(bytes.Trim(name[end:], "\x00")) != 0:
		return preface{}, fault.New(fault.Protocol, "cannot read preface: bad service name %q", name)
	case p.minVersion == 0 || p.version < p.minVersion:
		return preface{}, fault.New(fault.Protocol, "cannot read preface: versions %d to %d", p.minVersion, p.version)
	case p.frame < minFrame || p.frame > maxFrame:
		return preface{}, fault.New(fault.Protocol, "cannot read preface: frame limit of %d bytes", p.frame)
	case p.window < minWindow || p.window > maxWindow:
		return preface{}, fault.New(fault.Protocol, "cannot read preface: window of %d bytes", p.window)
	}
	return p, nil
}

func validService(name string) bool {
	if name == "" || len(name) > serviceLen {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func readPreface(r io.Reader) (preface, error) {
	var b [prefaceLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return preface{}, err
	}
	return parsePreface(b[:])
}

// common is the version that two sides speak with each other: the highest that
// both know.
func common(a, b preface) (uint16, error) {
	v := min(a.version, b.version)
	if v < max(a.minVersion, b.minVersion) {
		return 0, fault.New(fault.Protocol,
			"cannot talk: client speaks wire versions %d to %d, server %d to %d",
			a.minVersion, a.version, b.minVersion, b.version).
			WithHint("use releases that are at most two apart")
	}
	return v, nil
}

// alpn is the name of a service in the TLS handshake.
func alpn(service string) string {
	if service == Control {
		return "daosbox/1"
	}
	return "daosbox-" + service + "/1"
}

func (p preface) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "preface %s version=%d-%d features=%#x frame=%d window=%d", p.service, p.minVersion, p.version, p.features, p.frame, p.window)
	if p.streams > 0 {
		fmt.Fprintf(&b, " streams=%d", p.streams)
	}
	if p.refused {
		b.WriteString(" refused")
	}
	return b.String()
}
