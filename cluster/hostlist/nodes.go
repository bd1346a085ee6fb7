package hostlist

import (
	"encoding/json"
	"io"
	"iter"
	"maps"
	"slices"
)

// maxNodes is how many names an expression, or a part of it, may stand for.
const maxNodes = 1 << 22

// Nodes is a set of host names kept as ranges over all of their numbers, so that
// rack[1-1000]node[1-1000] takes no more memory than rack1node1. It reads (Eval,
// ReadNodes) and writes the notation of the well-known cluster shells: several
// brackets in a name, steps, operators, groups. A Set holds the names themselves
// and keeps to the notation of configuration files.
//
// Names are ordered by their text without the numbers, then number by number:
// first by how many digits it is written with, then by value. A Nodes does not
// change; the zero value and nil are empty.
type Nodes struct {
	shapes map[string]*tree
}

// Len returns the number of names.
func (n *Nodes) Len() int {
	total := uint64(0)
	if n != nil {
		for _, t := range n.shapes {
			total += t.rows
		}
	}
	return int(total)
}

// Union returns the names of either set.
func (n *Nodes) Union(o *Nodes) *Nodes { return n.apply(o, union) }

// Minus returns the names of n that o does not have.
func (n *Nodes) Minus(o *Nodes) *Nodes { return n.apply(o, difference) }

// Intersect returns the names of both sets.
func (n *Nodes) Intersect(o *Nodes) *Nodes { return n.apply(o, common) }

// Xor returns the names of exactly one of the sets.
func (n *Nodes) Xor(o *Nodes) *Nodes { return n.apply(o, exclusive) }

func (n *Nodes) apply(o *Nodes, op operator) *Nodes {
	out := &Nodes{shapes: make(map[string]*tree)}
	if n != nil {
		for shape, t := range n.shapes {
			out.set(shape, combine(t, o.tree(shape), op))
		}
	}
	if o != nil && op.right() {
		for shape, t := range o.shapes {
			if n.tree(shape) == nil {
				out.set(shape, t)
			}
		}
	}
	return out
}

func (n *Nodes) set(shape string, t *tree) {
	if t != nil {
		n.shapes[shape] = t
	}
}

func (n *Nodes) tree(shape string) *tree {
	if n == nil {
		return nil
	}
	return n.shapes[shape]
}

// Equal reports whether both sets have the same names.
func (n *Nodes) Equal(o *Nodes) bool { return n.Len() == o.Len() && n.Within(o) }

// Within reports whether o has every name of n.
func (n *Nodes) Within(o *Nodes) bool {
	if n == nil {
		return true
	}
	for shape, t := range n.shapes {
		if combine(t, o.tree(shape), difference) != nil {
			return false
		}
	}
	return true
}

// Contains reports whether the set holds exactly this name; a port is part of it.
func (n *Nodes) Contains(name string) bool {
	var p pieces
	if p.split([]byte(name)) != "" {
		return false
	}
	t := n.tree(string(p.shape))
	if t == nil || len(p.codes) == 0 {
		return t != nil
	}
	return t.has(p.codes)
}

// All yields the names in order.
func (n *Nodes) All() iter.Seq[string] {
	return func(yield func(string) bool) {
		n.each(func(name []byte) bool { return yield(string(name)) })
	}
}

// Set returns the names as a Set.
func (n *Nodes) Set() *Set {
	s := &Set{hosts: make([]host, 0, n.Len())}
	s.merge(slices.AppendSeq(make([]host, 0, n.Len()), func(yield func(host) bool) {
		n.each(func(name []byte) bool { return yield(split(string(name))) })
	}))
	return s
}

// Split returns the names in order in at most so many parts, whose lengths differ
// by one at most.
func (n *Nodes) Split(parts int) []*Nodes {
	total := n.Len()
	parts = min(parts, total)
	var all []*Nodes
	var g gatherer
	at := 0
	n.each(func(name []byte) bool {
		g.name(name)
		at++
		if at == total*(len(all)+1)/parts {
			part, _ := g.nodes()
			all, g = append(all, part), gatherer{}
		}
		return true
	})
	return all
}

// each calls do with every name in order, until it says no; the bytes are good only
// during the call.
func (n *Nodes) each(do func(name []byte) bool) {
	n.eachRun(func(name []byte, start, end int, count uint64) bool {
		for ; count > 0; count-- {
			if !do(name) {
				return false
			}
			increment(name[start:end])
		}
		return true
	})
}

// eachRun calls do with the first name of each run, where its last number is and how
// many names the run has; do may change the name.
func (n *Nodes) eachRun(do func(name []byte, start, end int, count uint64) bool) {
	if n == nil {
		return
	}
	for _, shape := range slices.Sorted(maps.Keys(n.shapes)) {
		w := walker{do: do, literals: literals(shape)}
		if !w.walk(w.literals[0], n.shapes[shape], 1) {
			return
		}
	}
}

// walker spells the rows of a tree out.
type walker struct {
	do       func(name []byte, start, end int, count uint64) bool
	literals []string
	buf      []byte
}

// walk spells the rest of names that start with what buf has and literal; axis
// counts from 1 and is the literal that follows the number.
func (w *walker) walk(literal string, t *tree, axis int) bool {
	w.buf = append(w.buf, literal...)
	if t == unit {
		return w.do(w.buf, 0, 0, 1)
	}
	start := len(w.buf)
	after := w.literals[axis]
	for i, s := range t.spans {
		w.buf = appendCode(w.buf[:start], s.low)
		end := len(w.buf)
		if t.below == nil {
			w.buf = append(w.buf, after...)
			if !w.do(w.buf, start, end, s.size()) {
				return false
			}
			continue
		}
		for count := s.size(); count > 0; count-- {
			if !w.walk(after, t.below[i], axis+1) {
				return false
			}
			w.buf = w.buf[:end]
			increment(w.buf[start:end])
		}
	}
	return true
}

// increment adds one to a number in decimal digits, in place; it reports whether
// there was room.
func increment(number []byte) bool {
	for i := len(number) - 1; i >= 0; i-- {
		if number[i] < '9' {
			number[i]++
			return true
		}
		number[i] = '0'
	}
	return false
}

// WriteNames writes the names in order with the separator between them.
func (n *Nodes) WriteNames(w io.Writer, separator string) error {
	const room = 1 << 16
	out := make([]byte, 0, room+1<<10)
	var err error
	var record []byte
	n.eachRun(func(name []byte, start, end int, count uint64) bool {
		record = append(append(record[:0], name...), separator...)
		for ; count > 0; count-- {
			if len(out) >= room { // what is left ends in the separator
				kept := len(out) - len(separator)
				if _, err = w.Write(out[:kept]); err != nil {
					return false
				}
				out = append(out[:0], separator...)
			}
			out = append(out, record...)
			if record[max(end-1, 0)] < '9' && end > 0 {
				record[end-1]++
			} else {
				increment(record[start:end])
			}
		}
		return true
	})
	if err == nil && len(out) > 0 {
		_, err = w.Write(out[:len(out)-len(separator)])
	}
	return err
}

// String returns the folded form. It is the same for the same names, and Eval
// reads it back.
func (n *Nodes) String() string {
	if n == nil {
		return ""
	}
	var out []byte
	for _, shape := range slices.Sorted(maps.Keys(n.shapes)) {
		f := folder{out: out, literals: literals(shape)}
		f.fold(n.shapes[shape])
		out = f.out
	}
	return string(out)
}

// folder writes a tree as products of ranges.
type folder struct {
	out      []byte
	literals []string
	path     [][]span
}

func (f *folder) fold(t *tree) {
	if t.below == nil {
		f.product(t.spans)
		return
	}
	for _, b := range branches(t) {
		f.path = append(f.path, b.spans)
		f.fold(b.rest)
		f.path = f.path[:len(f.path)-1]
	}
}

// branch is the spans of a tree that lead to the same rest.
type branch struct {
	spans []span
	rest  *tree
}

func branches(t *tree) []branch {
	var all []branch
	known := make(map[uint64][]int) // by hash; equal hashes are compared
next:
	for i, s := range t.spans {
		rest := t.below[i]
		for _, k := range known[rest.hash] {
			if all[k].rest.equal(rest) {
				all[k].spans = append(all[k].spans, s)
				continue next
			}
		}
		known[rest.hash] = append(known[rest.hash], len(all))
		all = append(all, branch{spans: []span{s}, rest: rest})
	}
	return all
}

func (f *folder) product(last []span) {
	if len(f.out) > 0 {
		f.out = append(f.out, ',')
	}
	f.out = append(f.out, f.literals[0]...)
	for i, literal := range f.literals[1:] {
		spans := last
		if i < len(f.path) {
			spans = f.path[i]
		}
		single := len(spans) == 1 && spans[0].low == spans[0].high
		if !single {
			f.out = append(f.out, '[')
		}
		f.out = appendSpans(f.out, spans)
		if !single {
			f.out = append(f.out, ']')
		}
		f.out = append(f.out, literal...)
	}
}

// MarshalJSON writes the set as one folded string.
func (n Nodes) MarshalJSON() ([]byte, error) { return json.Marshal(n.String()) }
