package hostlist

import (
	"slices"
)

// tree is a set of rows of codes, all of one length: the numbers of the names that
// have the same text round them. It branches over the first number; runs of first
// numbers that allow the same rest share one branch. There is one tree for a set of
// rows whatever the order it was made in, and its size follows the number of runs,
// not of rows. A tree does not change once made, so sets share parts of it.
type tree struct {
	spans []span
	// below has the rest of the rows for each span, nil for the last number. Neighbours
	// whose spans touch differ.
	below []*tree
	// rows is how many there are; cells is how many spans, shared ones counted each
	// time that they are used.
	rows, cells uint64
	hash        uint64
}

// unit has the one row without numbers.
var unit = &tree{rows: 1, cells: 1}

// push adds a run above all others; rest is nil for the last number.
func (t *tree) push(s span, rest *tree) {
	if n := len(t.spans); n > 0 && t.spans[n-1].high+1 == s.low && (rest == nil || t.below[n-1].equal(rest)) {
		t.spans[n-1].high = s.high
		return
	}
	t.spans = append(t.spans, s)
	if rest != nil {
		t.below = append(t.below, rest)
	}
}

// seal computes what is known of the whole; nil when the tree is empty.
func (t *tree) seal() *tree {
	if len(t.spans) == 0 {
		return nil
	}
	t.rows, t.cells, t.hash = 0, uint64(len(t.spans)), 0
	for i, s := range t.spans {
		size := s.size()
		h := mix(mix(t.hash, s.low), s.high)
		if t.below != nil {
			size *= t.below[i].rows
			t.cells += t.below[i].cells
			h = mix(h, t.below[i].hash)
		}
		t.rows += size
		t.hash = h
	}
	return t
}

func mix(h, v uint64) uint64 {
	h = (h ^ v) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func (t *tree) equal(o *tree) bool {
	if t == o {
		return true
	}
	if t.hash != o.hash || t.rows != o.rows || !slices.Equal(t.spans, o.spans) {
		return false
	}
	return slices.EqualFunc(t.below, o.below, (*tree).equal)
}

// has looks a row up.
func (t *tree) has(row []code) bool {
	for _, c := range row {
		i, found := slices.BinarySearchFunc(t.spans, c, func(s span, c code) int {
			switch {
			case s.high < c:
				return -1
			case s.low > c:
				return 1
			}
			return 0
		})
		if !found {
			return false
		}
		if t.below == nil {
			return true
		}
		t = t.below[i]
	}
	return t == unit
}

// operator is one of the set operations; its methods say which rows it keeps.
type operator byte

const (
	union      operator = ','
	difference operator = '!'
	common     operator = '&'
	exclusive  operator = '^'
)

func (op operator) left() bool  { return op != common }
func (op operator) right() bool { return op == union || op == exclusive }
func (op operator) both() bool  { return op == union || op == common }

// combine applies op to two sets of rows of the same length; nil is empty.
func combine(a, b *tree, op operator) *tree {
	switch {
	case a == nil && b == nil:
		return nil
	case b == nil:
		return keep(a, op.left())
	case a == nil:
		return keep(b, op.right())
	case a == b:
		return keep(a, op.both())
	}
	out := &tree{spans: make([]span, 0, max(len(a.spans), len(b.spans)))}
	p, q := cursor{t: a}, cursor{t: b}
	p.load()
	q.load()
	var lastA, lastB, last *tree
	for p.more || q.more {
		s, x, y := segment(&p, &q)
		if a.below == nil {
			if x != nil && y != nil && op.both() || y == nil && op.left() || x == nil && op.right() {
				out.push(s, nil)
			}
			continue
		}
		if x != lastA || y != lastB {
			lastA, lastB, last = x, y, combine(x, y, op)
		}
		if last != nil {
			out.push(s, last)
		}
	}
	return out.seal()
}

func keep(t *tree, kept bool) *tree {
	if kept {
		return t
	}
	return nil
}

// cursor walks the runs of a tree; now is what is left of the current one.
type cursor struct {
	t    *tree
	i    int
	now  span
	more bool
}

func (c *cursor) load() {
	if c.more = c.i < len(c.t.spans); c.more {
		c.now = c.t.spans[c.i]
	}
}

// rest is the branch of the current run; unit stands for a last number.
func (c *cursor) rest() *tree {
	if c.t.below == nil {
		return unit
	}
	return c.t.below[c.i]
}

func (c *cursor) passTo(high code) {
	if c.now.high == high {
		c.i++
		c.load()
		return
	}
	c.now.low = high + 1
}

// segment takes the next run that lies wholly in or outside of each side, and the
// branches there, nil outside.
func segment(p, q *cursor) (s span, x, y *tree) {
	switch {
	case !q.more || p.more && p.now.high < q.now.low:
		s, x = p.now, p.rest()
		p.passTo(s.high)
	case !p.more || q.now.high < p.now.low:
		s, y = q.now, q.rest()
		q.passTo(s.high)
	case p.now.low < q.now.low:
		s, x = span{p.now.low, q.now.low - 1}, p.rest()
		p.passTo(s.high)
	case q.now.low < p.now.low:
		s, y = span{q.now.low, p.now.low - 1}, q.rest()
		q.passTo(s.high)
	default:
		s, x, y = span{p.now.low, min(p.now.high, q.now.high)}, p.rest(), q.rest()
		p.passTo(s.high)
		q.passTo(s.high)
	}
	return s, x, y
}
