package drpc

// Framing is how messages lie in datagrams. The two cannot talk to each other and
// nothing is negotiated.
type Framing int

const (
	// Datagram is the framing of releases up to 2.6: a datagram is a message,
	// without a header.
	Datagram Framing = iota
	// Chunked is the framing since 2.8: a message is cut into chunks, each with
	// a header of 24 bytes.
	Chunked
)

// String returns "datagram" or "chunked".
func (f Framing) String() string {
	if f == Chunked {
		return "chunked"
	}
	return "datagram"
}

// Family is a group of releases that agree on numbers and messages. Families
// compare by age.
type Family int

// The families, by their first release.
const (
	V12   Family = iota + 1 // 1.2
	V20                     // 2.0
	V22                     // 2.2
	V24                     // 2.4
	V260                    // 2.6.0
	V262                    // 2.6.2 to 2.6.4
	V265                    // 2.6.5
	V28                     // 2.8.0
	VHead                   // after 2.8.0
)

// V26 is the family that a peer without chunks is taken for.
const V26 = V265

// String returns the first release of the family.
func (f Family) String() string {
	names := [...]string{"unknown", "1.2", "2.0", "2.2", "2.4", "2.6.0", "2.6.2", "2.6.5", "2.8.0", "after 2.8.0"}
	if f < 0 || int(f) >= len(names) {
		return names[0]
	}
	return names[f]
}

// FamilyOf returns the newest released family that speaks framing f: all that can
// be known from a first datagram.
func FamilyOf(f Framing) Family {
	if f == Chunked {
		return V28
	}
	return V26
}

// FramingOf returns the framing that releases of family f speak.
func FramingOf(f Family) Framing {
	if f >= V28 {
		return Chunked
	}
	return Datagram
}
