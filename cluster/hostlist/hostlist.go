// Package hostlist reads and writes sets of hosts and sets of ranks in the ranged
// form that people type and logs print: "node[1-3,5]:10001", "[0-2,7]".
//
// A Set holds names, sorted so that numbers count as numbers (node2 before
// node10) and each at most once. Reading is expanding: every name of a Set is
// spelled out. Writing is folding: one pass over the sorted names merges those
// that differ in one number only. What a Set writes, Parse reads back as the same
// set, also when a run is longer than the largest range that Parse accepts.
//
// Nodes is the set for the larger notation of cluster shells, with several brackets,
// operators and groups; DESIGN.md says how it is kept and where it differs.
//
// All kinds of set are safe for many readers; a writer needs them alone.
package hostlist

import (
	"encoding/json"
	"slices"
	"strings"
)

// Set is a set of host names or addresses, each with or without a port. The zero
// value is empty and ready; a nil *Set reads as empty.
type Set struct {
	hosts []host // sorted by compare, no two equal
}

// Of makes a set of names taken literally: brackets and commas are not
// interpreted. Names that Parse would refuse are kept and never folded.
func Of(hosts ...string) *Set {
	s := new(Set)
	s.Add(hosts...)
	return s
}

// Add puts names, taken literally, into the set; empty ones are left out. Adding many at once costs one
// sort; adding them one by one in order is cheap too.
func (s *Set) Add(hosts ...string) {
	added := make([]host, 0, len(hosts))
	for _, name := range hosts {
		if name != "" {
			added = append(added, split(name))
		}
	}
	s.merge(added)
}

// merge takes over added, in any order, with repetitions.
func (s *Set) merge(added []host) {
	if len(added) == 0 {
		return
	}
	slices.SortFunc(added, compare)
	ordered := len(s.hosts) == 0 || compare(s.hosts[len(s.hosts)-1], added[0]) < 0
	s.hosts = append(s.hosts, added...)
	if !ordered {
		slices.SortFunc(s.hosts, compare)
	}
	s.hosts = slices.CompactFunc(s.hosts, func(a, b host) bool { return a.text == b.text })
}

// Remove takes names, taken literally, out of the set; absent ones do not matter.
func (s *Set) Remove(hosts ...string) {
	gone := Of(hosts...)
	s.hosts = slices.DeleteFunc(s.hosts, func(h host) bool { return gone.has(h) })
}

// Hosts returns the names in order.
func (s *Set) Hosts() []string {
	if s == nil {
		return nil
	}
	names := make([]string, len(s.hosts))
	for i, h := range s.hosts {
		names[i] = h.text
	}
	return names
}

// Len returns the number of names.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.hosts)
}

// Contains reports whether the set holds exactly this name; a port is part of it.
func (s *Set) Contains(name string) bool {
	return s != nil && s.has(split(name))
}

func (s *Set) has(h host) bool {
	_, found := slices.BinarySearchFunc(s.hosts, h, compare)
	return found
}

// WithoutPorts returns the set of the same hosts with their ports cut off, as
// tables show them.
func (s *Set) WithoutPorts() *Set {
	names := s.Hosts()
	for i, name := range names {
		names[i] = StripPort(name)
	}
	return Of(names...)
}

// String returns the folded form, names and ranges separated by commas.
func (s *Set) String() string {
	if s == nil {
		return ""
	}
	return fold(s.hosts)
}

// MarshalJSON writes the set as one ranged string.
func (s Set) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads one ranged string and replaces the set by it.
func (s *Set) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil || text == nil {
		return err
	}
	read, err := Parse(*text)
	if err != nil {
		return err
	}
	*s = *read
	return nil
}

// host is a name and where its number is. Two hosts fold into a range when text
// before and after the number agree.
type host struct {
	text     string
	number   uint64 // value of text[pre:end]
	pre, end uint32 // end == pre: no number that may be folded
}

func (h host) prefix() string { return h.text[:h.pre] }
func (h host) suffix() string { return h.text[h.end:] }

// width is the number of digits that the number is written with, 0 without one.
func (h host) width() int { return int(h.end - h.pre) }

// padded says that the number is written with leading zeros.
func (h host) padded() bool { return h.width() > 1 && h.text[h.pre] == '0' }

// maxDigits keeps every number within uint64.
const maxDigits = 18

// split finds the number of a name that ranges are made of.
func split(name string) host {
	whole := host{text: name, pre: uint32(len(name)), end: uint32(len(name))}
	if len(name) > maxName || !plain(name) {
		return whole
	}
	body := name
	switch colon := strings.IndexByte(name, ':'); {
	case colon < 0:
	case strings.IndexByte(name[colon+1:], ':') >= 0:
		return whole // an IPv6 address counts in hexadecimal
	default:
		body = name[:colon]
	}
	start := numberStart(body)
	if start < 0 {
		return whole
	}
	end := start
	for end < len(body) && digit(body[end]) {
		end++
	}
	// A range needs a prefix to be read back.
	if start == 0 || end-start > maxDigits {
		return whole
	}
	h := host{text: name, pre: uint32(start), end: uint32(end)}
	for _, c := range []byte(body[start:end]) {
		h.number = h.number*10 + uint64(c-'0')
	}
	return h
}

// numberStart returns where the number of a name without port starts, -1 for none:
// the fourth octet of an IPv4 address; otherwise, within the first label that has
// digits, the first digit after the last hyphen that digits follow, or the first
// digit of all.
func numberStart(body string) int {
	if ipv4(body) {
		return strings.LastIndexByte(body, '.') + 1
	}
	first := strings.IndexFunc(body, func(r rune) bool { return r >= '0' && r <= '9' })
	if first < 0 {
		return -1
	}
	label := len(body)
	if dot := strings.IndexByte(body[first:], '.'); dot >= 0 {
		label = first + dot
	}
	start := first
	last := first // last digit of the label
	for i := first; i < label; i++ {
		if digit(body[i]) {
			last = i
		}
	}
	if hyphen := strings.LastIndexByte(body[:last], '-'); hyphen >= first {
		for start = hyphen + 1; !digit(body[start]); {
			start++
		}
	}
	return start
}

func ipv4(body string) bool {
	octets := 1
	digits := 0
	for i := range len(body) {
		switch {
		case digit(body[i]):
			digits++
		case body[i] == '.' && digits > 0:
			octets++
			digits = 0
		default:
			return false
		}
	}
	return octets == 4 && digits > 0
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// plain says that a name has only characters that host names and addresses have.
func plain(name string) bool {
	for i := range len(name) {
		if !nameByte(name[i]) {
			return false
		}
	}
	return name != ""
}

func nameByte(c byte) bool {
	return digit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-._:%", c) >= 0
}

// compare orders hosts by what stands before the number, the number, its width
// and the rest. Names without a number come before those with one.
func compare(a, b host) int {
	if p, q := a.prefix(), b.prefix(); p != q {
		return natural(p, q)
	}
	switch {
	case a.number < b.number:
		return -1
	case a.number > b.number:
		return 1
	case a.width() != b.width():
		return a.width() - b.width()
	case a.suffix() == b.suffix():
		return 0
	}
	return natural(a.suffix(), b.suffix())
}

// natural compares texts with runs of digits as numbers; texts that differ only in
// leading zeros are ordered as bytes, so that only equal texts compare equal.
func natural(a, b string) int {
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		if !digit(a[i]) || !digit(b[j]) {
			if a[i] != b[j] {
				return int(a[i]) - int(b[j])
			}
			i++
			j++
			continue
		}
		p, q := digits(a[i:]), digits(b[j:])
		i += len(p)
		j += len(q)
		p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
		if len(p) != len(q) {
			return len(p) - len(q)
		}
		if c := strings.Compare(p, q); c != 0 {
			return c
		}
	}
	if c := (len(a) - i) - (len(b) - j); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func digits(s string) string {
	end := 0
	for end < len(s) && digit(s[end]) {
		end++
	}
	return s[:end]
}
