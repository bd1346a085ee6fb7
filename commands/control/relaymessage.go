package control

import (
	"crypto/sha256"
	"slices"

	"daosbox/cluster/fault"
)

// relayFan asks a server for the answers of the targets From to To-1. It is meant
// for the server that is target From, which may pass it on to the rest.
type relayFan struct {
	sealed
	From int `json:"from"`
	To   int `json:"to"`
}

// relayReply is some of the answers. A body that many hosts answered travels once
// in a stream: rows name it by its number, counted from 0 over all replies.
type relayReply struct {
	Bodies []relayBody `json:"bodies"`
	Rows   []relayRow  `json:"rows"`
}

type relayBody struct {
	Kind verdict `json:"kind"`
	// Data is the reply of the method, or a fault, in CBOR.
	Data []byte `json:"data"`
}

type relayRow struct {
	Body int `json:"body"`
	// Hosts are targets in pairs: from, to (not included).
	Hosts []int `json:"hosts"`
	// Via are the relays between who sends this and the hosts, nearest first.
	Via []int `json:"via"`
}

// verdict says what the data of a body is.
type verdict int

const (
	// answered is the method's reply.
	answered verdict = iota
	// failed is the fault that the host answered with, or that its time is over.
	failed
	// lost is why the request did not come to the host: whoever asks tries another
	// way.
	lost
)

// maxVia is the most relays between an administrator and a host; four levels
// already reach more hosts than there may be targets.
const maxVia = 6

// maxRelayed is the largest body that is relayed in bytes. A host with more to say
// is asked directly.
const maxRelayed = 1 << 20

// content is what one or more hosts said.
type content struct {
	relayBody
	sum [sha256.Size]byte
}

func newContent(kind verdict, data []byte) *content {
	sum := sha256.Sum256(data)
	sum[0] ^= byte(kind)
	return &content{relayBody{kind, data}, sum}
}

// faultContent carries err, cut where it would be too long.
func faultContent(kind verdict, err error) *content {
	e, ok := fault.As(err)
	if !ok || e.What != err.Error() {
		e = fault.Wrap(fault.Of(err), err, "cannot do it")
		e.What = err.Error()
	}
	data, encodeErr := encoding.Marshal(e)
	if encodeErr != nil || len(data) > 16<<10 {
		data, _ = encoding.Marshal(fault.New(e.Code, "%.4000s", e.What))
	}
	return newContent(kind, data)
}

// fault is what faultContent put in.
func (c *content) fault() error {
	e := new(fault.Error)
	if err := decode(c.Data, e); err != nil || e.Code == 0 {
		return fault.New(fault.Protocol, "cannot read the error that a relay passed on")
	}
	return e
}

// outcome is the same content for some hosts that came the same way.
type outcome struct {
	hosts []span
	via   []int
	*content
}

// inbox takes the replies of one relay and believes none about hosts that it was
// not asked for or has told of already. So whatever a relay sends, each host has
// one outcome, and memory grows with what came.
type inbox struct {
	asked  span
	told   []bool
	left   int
	bodies []*content
}

func newInbox(asked span) *inbox {
	return &inbox{asked: asked, told: make([]bool, asked.len()), left: asked.len()}
}

func brokenReply(what string) *fault.Error {
	return fault.New(fault.Protocol, "cannot use the reply of a relay: %s", what)
}

// take returns what a reply tells, also when it is broken further on.
func (in *inbox) take(message []byte) ([]outcome, error) {
	var reply relayReply
	if err := decode(message, &reply); err != nil {
		return nil, fault.Wrap(fault.Protocol, err, "cannot decode the reply of a relay")
	}
	if len(in.bodies)+len(reply.Bodies) > in.asked.len() {
		return nil, brokenReply("it has more bodies than hosts were asked")
	}
	for _, b := range reply.Bodies {
		if b.Kind < answered || b.Kind > lost {
			return nil, brokenReply("it has a body of an unknown kind")
		}
		in.bodies = append(in.bodies, newContent(b.Kind, b.Data))
	}
	all := make([]outcome, 0, len(reply.Rows)+1)
	for _, row := range reply.Rows {
		if row.Body < 0 || row.Body >= len(in.bodies) || len(row.Via) >= maxVia {
			return all, brokenReply("a row names a body that did not come, or too many relays")
		}
		for _, relay := range row.Via {
			if relay <= in.asked.lo || relay >= in.asked.hi {
				return all, brokenReply("it names a relay that was not asked")
			}
		}
		hosts, err := in.mark(row.Hosts)
		if err != nil {
			return all, err
		}
		all = append(all, in.outcomes(hosts, row.Via, in.bodies[row.Body])...)
	}
	return all, nil
}

// mark notes that hosts have their outcome: all of them or none.
func (in *inbox) mark(pairs []int) ([]span, error) {
	if len(pairs)%2 != 0 || len(pairs) == 0 {
		return nil, brokenReply("a row has no whole list of hosts")
	}
	hosts := make([]span, 0, len(pairs)/2)
	from := in.asked.lo
	for pair := range slices.Chunk(pairs, 2) {
		s := span{pair[0], pair[1]}
		if s.lo < from || s.hi > in.asked.hi || s.lo >= s.hi {
			return nil, brokenReply("it tells of hosts that were not asked, or not in order")
		}
		if slices.Contains(in.told[s.lo-in.asked.lo:s.hi-in.asked.lo], true) {
			return nil, brokenReply("it tells of a host twice")
		}
		hosts, from = append(hosts, s), s.hi
	}
	for _, s := range hosts {
		for i := s.lo; i < s.hi; i++ {
			in.told[i-in.asked.lo] = true
		}
		in.left -= s.len()
	}
	return hosts, nil
}

// outcomes adds the relay itself to the way of all hosts but its own.
func (in *inbox) outcomes(hosts []span, via []int, c *content) []outcome {
	relay := in.asked.lo
	all := make([]outcome, 0, 2)
	for i, s := range hosts {
		if s.lo != relay {
			continue
		}
		all = append(all, outcome{[]span{{relay, relay + 1}}, nil, c})
		if s.len() == 1 {
			hosts = slices.Delete(hosts, i, i+1)
		} else {
			hosts[i].lo++
		}
		break
	}
	if len(hosts) > 0 {
		all = append(all, outcome{hosts, append([]int{relay}, via...), c})
	}
	return all
}

// missing are the hosts without an outcome.
func (in *inbox) missing() []span {
	var all []span
	for i, told := range in.told {
		if told {
			continue
		}
		n := in.asked.lo + i
		if last := len(all) - 1; last >= 0 && all[last].hi == n {
			all[last].hi++
		} else {
			all = append(all, span{n, n + 1})
		}
	}
	return all
}

// batch gathers outcomes into replies: equal contents of hosts with the same way
// are one row.
type batch struct {
	ids  map[[sha256.Size]byte]int
	rows map[string]int // of next, by body and way
	next relayReply
	size int // bytes of next, about
}

func newBatch() *batch {
	return &batch{ids: make(map[[sha256.Size]byte]int), rows: make(map[string]int)}
}

func (b *batch) add(o outcome) {
	id, known := b.ids[o.sum]
	if !known {
		id = len(b.ids)
		b.ids[o.sum] = id
		b.next.Bodies = append(b.next.Bodies, o.relayBody)
		b.size += len(o.Data)
	}
	key := make([]byte, 0, 16)
	for _, n := range append([]int{id}, o.via...) {
		key = append(key, byte(n), byte(n>>8), byte(n>>16))
	}
	at, known := b.rows[string(key)]
	if !known {
		at = len(b.next.Rows)
		b.rows[string(key)] = at
		b.next.Rows = append(b.next.Rows, relayRow{Body: id, Via: o.via})
		b.size += 16
	}
	row := &b.next.Rows[at]
	for _, s := range o.hosts {
		row.Hosts = append(row.Hosts, s.lo, s.hi)
		b.size += 4
	}
}

// flush is the reply with all that was added since the last.
func (b *batch) flush() relayReply {
	reply := b.next
	for i := range reply.Rows {
		reply.Rows[i].Hosts = joined(reply.Rows[i].Hosts)
	}
	b.next, b.size = relayReply{}, 0
	clear(b.rows)
	return reply
}

// joined sorts pairs and joins those that touch.
func joined(pairs []int) []int {
	spans := make([]span, 0, len(pairs)/2)
	for pair := range slices.Chunk(pairs, 2) {
		spans = append(spans, span{pair[0], pair[1]})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.lo - b.lo })
	out := pairs[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1] == s.lo {
			out[n-1] = s.hi
		} else {
			out = append(out, s.lo, s.hi)
		}
	}
	return out
}
