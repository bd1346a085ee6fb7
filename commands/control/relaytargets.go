package control

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sort"

	"daosbox/cluster/fault"
)

// maxTargets is how many servers one relayed request may go to.
const maxTargets = 1 << 16

// targets is a set of control addresses as a request is signed for: in runs of
// following addresses on one port, ordered by port and address, each run as long
// as it can be. So a set has one form only, a cluster of regular addresses takes a
// few bytes, and every address has a number from 0 on.
type targets struct {
	runs  []targetRun
	count int
}

type targetRun struct {
	first  netip.AddrPort
	count  int
	before int // addresses in the runs before
}

func compareTargets(a, b netip.AddrPort) int {
	if a.Port() != b.Port() {
		return int(a.Port()) - int(b.Port())
	}
	return a.Addr().Compare(b.Addr())
}

// newTargets makes the set of addresses, which it sorts and takes for its own.
func newTargets(addrs []netip.AddrPort) *targets {
	slices.SortFunc(addrs, compareTargets)
	t := new(targets)
	for _, addr := range slices.Compact(addrs) {
		if last := len(t.runs) - 1; last >= 0 {
			if next, ok := t.runs[last].at(t.runs[last].count); ok && next == addr {
				t.runs[last].count++
				t.count++
				continue
			}
		}
		t.runs = append(t.runs, targetRun{addr, 1, t.count})
		t.count++
	}
	return t
}

// at is the i-th address from the run's first, false beyond the last of all
// addresses. Runs of IPv6 stay within a /64.
func (r targetRun) at(i int) (netip.AddrPort, bool) {
	raw := r.first.Addr().As16()
	low := binary.BigEndian.Uint64(raw[8:])
	next := low + uint64(i)
	binary.BigEndian.PutUint64(raw[8:], next)
	addr := netip.AddrFrom16(raw)
	if r.first.Addr().Is4() {
		if uint32(next) < uint32(low) {
			return netip.AddrPort{}, false
		}
		raw[10], raw[11] = 0xff, 0xff
		addr = netip.AddrFrom16(raw).Unmap()
	}
	return netip.AddrPortFrom(addr, r.first.Port()), next >= low
}

// at is address number i, which must be one of the set's.
func (t *targets) at(i int) netip.AddrPort {
	r := sort.Search(len(t.runs), func(r int) bool { return t.runs[r].before > i }) - 1
	addr, _ := t.runs[r].at(i - t.runs[r].before)
	return addr
}

// encode writes each run as length of the address (4 or 16), address, port (two
// bytes, the high one first) and count (varint).
func (t *targets) encode() []byte {
	b := make([]byte, 0, 8*len(t.runs))
	for _, r := range t.runs {
		addr := r.first.Addr().AsSlice()
		b = append(append(b, byte(len(addr))), addr...)
		b = binary.BigEndian.AppendUint16(b, r.first.Port())
		b = binary.AppendUvarint(b, uint64(r.count))
	}
	return b
}

// decodeTargets reads what encode writes and nothing else: a set that is not in
// its one form is refused.
func decodeTargets(b []byte) (*targets, error) {
	t := new(targets)
	for len(b) > 0 {
		size := int(b[0])
		if size != 4 && size != 16 || len(b) < 1+size+3 {
			return nil, badTargets("an address is cut short or has a strange length")
		}
		addr, _ := netip.AddrFromSlice(b[1 : 1+size])
		port := binary.BigEndian.Uint16(b[1+size:])
		count, n := binary.Uvarint(b[3+size:])
		if n <= 0 || n > 1 && b[2+size+n] == 0 || count == 0 || count > uint64(maxTargets-t.count) {
			return nil, badTargets("it is empty, or larger than is allowed")
		}
		b = b[3+size+n:]
		run := targetRun{netip.AddrPortFrom(addr, port), int(count), t.count}
		if _, ok := run.at(run.count - 1); !ok || addr.Is4In6() {
			return nil, badTargets("there are no such addresses")
		}
		if last := len(t.runs) - 1; last >= 0 {
			if next, ok := t.runs[last].at(t.runs[last].count); ok && compareTargets(next, run.first) >= 0 ||
				!ok && compareTargets(t.runs[last].first, run.first) >= 0 {
				return nil, badTargets("it is not in order")
			}
		}
		t.runs = append(t.runs, run)
		t.count += run.count
	}
	return t, nil
}

func badTargets(why string) *fault.Error {
	return fault.New(fault.Usage, "cannot read the targets of a relayed request: %s", why)
}

// span is the addresses lo to hi-1 of targets, by number.
type span struct{ lo, hi int }

func (s span) len() int { return s.hi - s.lo }

// split cuts a span into at most parts pieces of nearly one size.
func (s span) split(parts int) []span {
	parts = min(parts, s.len())
	pieces := make([]span, 0, parts)
	for i := range parts {
		pieces = append(pieces, span{s.lo + s.len()*i/parts, s.lo + s.len()*(i+1)/parts})
	}
	return pieces
}

// relayDegree is how many servers one asks when it divides a request among
// relays; few enough answers are asked for without any.
const (
	relayDegree = 32
	relayLeaves = 2 * relayDegree
)

// width is how many pieces n servers are divided into.
func width(n int) int {
	if n <= relayLeaves {
		return n
	}
	return relayDegree
}
