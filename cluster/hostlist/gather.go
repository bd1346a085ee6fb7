package hostlist

import (
	"bytes"
	"strconv"

	"daosbox/cluster/fault"
)

// gatherer unites names and ranges as they come, in any order.
type gatherer struct {
	columns map[string]*column
	// last is the column of the name before, next the name that follows that one by
	// its last number: lists are mostly in order, and comparing is far cheaper than
	// taking a name apart. next is empty when there is none.
	last       *column
	next       []byte
	start, end int // of the last number within next
	split      pieces
	// cells is how many runs are held, counted before they are united.
	cells uint64
}

// maxCells is how many runs may be held at a time.
const maxCells = 2 * maxNodes

func (g *gatherer) column(shape []byte, depth int) *column {
	if g.last != nil && g.last.shape == string(shape) {
		return g.last
	}
	c := g.columns[string(shape)]
	if c == nil {
		if g.columns == nil {
			g.columns = make(map[string]*column)
		}
		c = &column{shape: string(shape), depth: depth}
		g.columns[c.shape] = c
	}
	return c
}

// name adds a name without brackets; why is "" when it is one.
func (g *gatherer) name(name []byte) (why string) {
	if len(g.next) > 0 && bytes.Equal(name, g.next) {
		g.advance()
		return ""
	}
	g.next = g.next[:0]
	if why := g.split.split(name); why != "" {
		return why
	}
	p := &g.split
	c := g.column(p.shape, len(p.codes))
	g.last = c
	if c.depth == 0 {
		if c.trees == nil {
			c.trees = []*tree{unit}
			g.cells++
		}
		return ""
	}
	c.rows = append(append(c.rows, p.codes...), p.codes[c.depth-1])
	g.cells++
	g.next = append(g.next, name...)
	g.start, g.end = p.start, p.end
	if !increment(g.next[g.start:g.end]) {
		g.next = g.next[:0]
	}
	return g.bound()
}

// advance takes the expected name: the last run is one longer.
func (g *gatherer) advance() {
	g.last.rows[len(g.last.rows)-1]++
	g.last.runs = true
	if !increment(g.next[g.start:g.end]) {
		g.next = g.next[:0]
	}
}

// expected takes as many expected names, each followed by a separator, as text
// starts with, and returns how many bytes they are.
func (g *gatherer) expected(text []byte) int {
	at := 0
	for n := len(g.next); n > 0; n = len(g.next) {
		rest := text[at:]
		if len(rest) <= n || !separator(rest[n]) || string(rest[:n]) != string(g.next) {
			break
		}
		g.advance()
		at += n + 1
	}
	return at
}

// add adds rows of names of one shape.
func (g *gatherer) add(shape string, t *tree) (why string) {
	depth := 0
	for _, c := range []byte(shape) {
		if c == hole {
			depth++
		}
	}
	c := g.column([]byte(shape), depth)
	g.last, g.next = c, g.next[:0]
	c.trees = append(c.trees, t)
	g.cells += t.cells
	return g.bound()
}

// addAll adds a set.
func (g *gatherer) addAll(n *Nodes) (why string) {
	for shape, t := range n.shapes {
		if why := g.add(shape, t); why != "" {
			return why
		}
	}
	return ""
}

// bound keeps what is held below maxCells: repetitions may be many, names not.
func (g *gatherer) bound() (why string) {
	if g.cells <= maxCells {
		return ""
	}
	n, why := g.nodes()
	if why != "" {
		return why
	}
	g.columns, g.last, g.next, g.cells = nil, nil, g.next[:0], 0
	for shape, t := range n.shapes {
		depth := bytes.Count([]byte(shape), []byte{hole})
		g.column([]byte(shape), depth).trees = []*tree{t}
		g.cells += t.cells
	}
	if g.cells > maxCells/2 {
		return tooMany
	}
	return ""
}

var tooMany = "more than " + strconv.Itoa(maxNodes) + " names"

// nodes returns all that was gathered.
func (g *gatherer) nodes() (n *Nodes, why string) {
	n = &Nodes{shapes: make(map[string]*tree, len(g.columns))}
	total := uint64(0)
	for shape, c := range g.columns {
		t := c.tree()
		n.shapes[shape] = t
		if total += t.rows; t.rows > maxNodes || total > maxNodes {
			return nil, tooMany
		}
	}
	return n, ""
}

// refuse makes the error for a part of an expression.
func refuse(why string, part []byte) *fault.Error {
	return fault.New(fault.Usage, "cannot read host expression: %s: %q", why, short(string(part))).
		WithHint("write names and ranges like rack[1-4]node[01-20/2], joined by , (and) ! (without) & (in both) ^ (in one)")
}
