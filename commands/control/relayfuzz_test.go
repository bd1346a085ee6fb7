package control

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/matryer/is"
)

func addresses(texts ...string) (all []netip.AddrPort) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddrPort(text))
	}
	return all
}

func TestTargets(t *testing.T) {
	is := is.New(t)
	for _, c := range []struct {
		in   []netip.AddrPort
		runs int
	}{
		{nil, 0},
		{addresses("10.0.0.255:1", "10.0.1.0:1", "10.0.0.254:1", "10.0.0.254:1"), 1},
		{addresses("10.0.0.1:1", "10.0.0.2:2", "10.0.0.2:1"), 2},
		{addresses("255.255.255.255:1", "0.0.0.0:1", "[::]:1", "[fe80::ffff:ffff:ffff:ffff]:1", "[fe80:0:0:1::]:1"), 5},
		{addresses("[fd00::9]:10001", "[fd00::a]:10001", "[fd00::b]:10001"), 1},
	} {
		to := newTargets(slices.Clone(c.in))
		is.Equal(len(to.runs), c.runs)
		slices.SortFunc(c.in, compareTargets)
		want := slices.Compact(c.in)
		is.Equal(to.count, len(want))
		again, err := decodeTargets(to.encode())
		is.NoErr(err)
		is.Equal(again, to)
		for i, addr := range want {
			is.Equal(to.at(i), addr)
		}
	}
	run := newTargets(addresses("10.0.0.1:1")).encode()
	for _, bad := range [][]byte{
		run[:len(run)-1],                                   // cut short
		append(run[:len(run):len(run)], run...),            // twice
		{4, 10, 0, 0, 1, 0, 1, 0},                          // none
		{4, 255, 255, 255, 255, 0, 1, 2},                   // beyond the last
		{4, 10, 0, 0, 1, 0, 1, 0x81, 0},                    // a long way to write 1
		{4, 10, 0, 0, 1, 0, 1, 0x81, 0x80, 4},              // more than may be
		{4, 10, 0, 0, 1, 0, 1, 1, 4, 10, 0, 0, 2, 0, 1, 1}, // two runs that are one
		{4, 10, 0, 0, 2, 0, 1, 1, 4, 10, 0, 0, 1, 0, 1, 1}, // not in order
		append(append([]byte{16}, netip.MustParseAddr("::ffff:10.0.0.1").AsSlice()...), 0, 1, 1), // IPv4 in disguise
		{5, 10, 0, 0, 1, 1, 0, 1, 1},
	} {
		_, err := decodeTargets(bad)
		is.True(err != nil)
	}
}

func TestSplit(t *testing.T) {
	is := is.New(t)
	for n := range 300 {
		at := 7
		for _, part := range (span{7, 7 + n}).split(width(n)) {
			is.Equal(part.lo, at)
			is.True(part.len() > 0)
			at = part.hi
		}
		is.Equal(at, 7+n)
	}
	is.Equal(len(span{0, 4096}.split(width(4096))), relayDegree)
	// No tree is deeper than the ways that are believed.
	depth := 0
	for n := maxTargets; n > 0; depth++ {
		parts := span{0, n}.split(width(n))
		n = parts[len(parts)-1].len() - 1
	}
	is.True(depth < maxVia)
}

// TestBatch holds what a relay sends and what the other side takes together.
func TestBatch(t *testing.T) {
	is := is.New(t)
	b := newBatch()
	yes, no := newContent(answered, []byte{0xa0}), newContent(lost, []byte{0xa0})
	add := func(via []int, c *content, hosts ...int) {
		for _, h := range hosts {
			b.add(outcome{[]span{{h, h + 1}}, via, c})
		}
	}
	add(nil, yes, 10, 13, 11, 12, 19)
	add(nil, no, 15)
	first := b.flush()
	is.Equal(len(first.Bodies), 2)
	is.Equal(len(first.Rows), 2)
	is.Equal(first.Rows[0].Hosts, []int{10, 14, 19, 20})
	add([]int{15}, yes, 16, 17)
	second := b.flush()
	is.Equal(len(second.Bodies), 0) // known by now

	in := newInbox(span{10, 20})
	for _, reply := range []relayReply{first, second} {
		message, err := encoding.Marshal(reply)
		is.NoErr(err)
		all, err := in.take(message)
		is.NoErr(err)
		for _, o := range all {
			switch {
			case o.hosts[0].lo == 10:
				is.Equal(len(o.via), 0) // the relay itself
			case o.hosts[0].lo == 16:
				is.Equal(o.via, []int{10, 15})
			default:
				is.Equal(o.via, []int{10})
			}
		}
	}
	is.Equal(in.missing(), []span{{14, 15}, {18, 19}})
	for _, bad := range []relayRow{
		{Body: 0, Hosts: []int{9, 10}}, {Body: 0, Hosts: []int{18, 21}}, {Body: 0, Hosts: []int{18}}, {Body: 0},
		{Body: 0, Hosts: []int{10, 11}}, {Body: 2, Hosts: []int{18, 19}}, {Body: -1, Hosts: []int{18, 19}},
		{Body: 0, Hosts: []int{18, 19}, Via: []int{10}}, {Body: 0, Hosts: []int{18, 19, 14, 15}}, {Body: 0, Hosts: []int{18, 19, 18, 19}},
		{Body: 0, Hosts: []int{18, 19}, Via: make([]int, maxVia)},
	} {
		message, err := encoding.Marshal(relayReply{Rows: []relayRow{bad}})
		is.NoErr(err)
		_, err = in.take(message)
		is.True(err != nil)
		is.Equal(in.left, 2) // nothing of it is believed
	}
}

func FuzzEnvelope(f *testing.F) {
	s, err := seal(nil, "test", NetworkScan.Name, []byte{0xa0}, newTargets(addresses("10.0.0.1:1", "10.0.0.2:1", "[fd00::9]:2")), time.Unix(1e9, 0), time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Envelope)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, to, err := decodeEnvelope(data)
		if err != nil {
			return
		}
		if !bytes.Equal(to.encode(), e.Targets) {
			t.Fatalf("the targets have two forms: %x, %x", to.encode(), e.Targets)
		}
		if to.count > maxTargets || len(to.runs) > to.count {
			t.Fatal("too many targets")
		}
		for i := range min(to.count, 1000) {
			if !to.at(i).IsValid() || i > 0 && compareTargets(to.at(i-1), to.at(i)) >= 0 {
				t.Fatalf("target %d is %v", i, to.at(i))
			}
		}
	})
}

func FuzzRelayReply(f *testing.F) {
	b := newBatch()
	b.add(outcome{[]span{{0, 5}, {7, 9}}, []int{3}, newContent(answered, []byte{0xa0})})
	seed, _ := encoding.Marshal(b.flush())
	f.Add(seed, seed)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		in := newInbox(span{0, 40})
		seen := make(map[int]bool)
		for _, message := range [][]byte{first, second} {
			all, err := in.take(message)
			for _, o := range all {
				for _, s := range o.hosts {
					for i := s.lo; i < s.hi; i++ {
						if seen[i] || i < 0 || i >= 40 {
							t.Fatalf("host %d was told of twice, or never asked", i)
						}
						seen[i] = true
					}
				}
			}
			if err != nil {
				break
			}
		}
		left := in.left
		for _, s := range in.missing() {
			left -= s.len()
		}
		if left != 0 || in.left+len(seen) != 40 {
			t.Fatal("hosts got lost")
		}
	})
}
