package hostlist

import (
	"cmp"
	"math/bits"
	"slices"
)

// column collects the names that have the same text round their numbers.
type column struct {
	shape string
	// depth is how many numbers a name has.
	depth int
	// rows has depth+1 codes for each run of names: all numbers, then the end of the
	// last one's run. A column of depth 0 has one tree, unit.
	rows []code
	// runs says that a row is more than one name.
	runs bool
	// trees are parts that came as ranges, to be united.
	trees []*tree
}

func (c *column) stride() int { return c.depth + 1 }

// tree unites all parts and leaves them as one.
func (c *column) tree() *tree {
	if len(c.rows) > 0 {
		c.sort()
		p := planter{stride: c.stride(), known: make(map[uint64]*tree)}
		c.trees = append(c.trees, p.plant(c.rows, 0))
		c.rows, c.runs = nil, false
	}
	for len(c.trees) > 1 {
		half := c.trees[:0]
		for i := 0; i < len(c.trees); i += 2 {
			if i+1 == len(c.trees) {
				half = append(half, c.trees[i])
				break
			}
			half = append(half, combine(c.trees[i], c.trees[i+1], union))
		}
		clear(c.trees[len(half):])
		c.trees = half
	}
	return c.trees[0]
}

// planter makes a tree of sorted rows; equal branches become one.
type planter struct {
	stride int
	known  map[uint64]*tree
}

func (p *planter) plant(rows []code, axis int) *tree {
	t := new(tree)
	if axis == p.stride-2 {
		for i := axis; i < len(rows); i += p.stride {
			s := span{rows[i], rows[i+1]}
			if n := len(t.spans); n > 0 && s.low <= t.spans[n-1].high {
				t.spans[n-1].high = max(t.spans[n-1].high, s.high)
				continue
			}
			t.push(s, nil)
		}
	} else {
		for start := 0; start < len(rows); {
			end := start + p.stride
			for end < len(rows) && rows[end+axis] == rows[start+axis] {
				end += p.stride
			}
			t.push(span{rows[start+axis], rows[start+axis]}, p.plant(rows[start:end], axis+1))
			start = end
		}
	}
	t.seal()
	if axis == 0 {
		return t
	}
	if known := p.known[t.hash]; known != nil && known.equal(t) {
		return known
	}
	p.known[t.hash] = t
	return t
}

// sort orders the rows by their numbers.
func (c *column) sort() {
	stride := c.stride()
	if c.sorted() {
		return
	}
	if c.runs {
		c.flatten()
	}
	if !c.runs && c.sortPacked() {
		return
	}
	order := make([]int32, len(c.rows)/stride)
	for i := range order {
		order[i] = int32(i)
	}
	row := func(i int32) []code { return c.rows[int(i)*stride : (int(i)+1)*stride] }
	slices.SortFunc(order, func(a, b int32) int { return slices.Compare(row(a), row(b)) })
	sorted := make([]code, 0, len(c.rows))
	for _, i := range order {
		sorted = append(sorted, row(i)...)
	}
	c.rows = sorted
}

// flatten makes runs single names where that takes little more room: in a shuffled
// list few names happen to follow each other.
func (c *column) flatten() {
	stride := c.stride()
	names := uint64(0)
	for i := 0; i < len(c.rows); i += stride {
		names += c.rows[i+c.depth] - c.rows[i+c.depth-1] + 1
	}
	if names > 2*uint64(len(c.rows)/stride) {
		return
	}
	flat := make([]code, 0, int(names)*stride)
	for i := 0; i < len(c.rows); i += stride {
		row := c.rows[i : i+stride]
		for last := row[c.depth-1]; last <= row[c.depth]; last++ {
			flat = append(append(flat, row[:c.depth-1]...), last, last)
		}
	}
	c.rows, c.runs = flat, false
}

func (c *column) sorted() bool {
	stride := c.stride()
	for i := stride; i < len(c.rows); i += stride {
		for k := range c.depth {
			if order := cmp.Compare(c.rows[i-stride+k], c.rows[i+k]); order > 0 {
				return false
			} else if order < 0 {
				break
			}
		}
	}
	return true
}

// sortPacked sorts single names whose numbers fit one word together, and drops
// repetitions.
func (c *column) sortPacked() bool {
	stride := c.stride()
	low := slices.Clone(c.rows[:c.depth])
	width := make([]int, c.depth)
	high := slices.Clone(low)
	for i := 0; i < len(c.rows); i += stride {
		for k := range c.depth {
			low[k], high[k] = min(low[k], c.rows[i+k]), max(high[k], c.rows[i+k])
		}
	}
	total := 0
	for k := range width {
		width[k] = bits.Len64(high[k] - low[k])
		total += width[k]
	}
	if total > 64 {
		return false
	}
	keys := make([]uint64, 0, len(c.rows)/stride)
	for i := 0; i < len(c.rows); i += stride {
		key := uint64(0)
		for k := range c.depth {
			key = key<<width[k] | (c.rows[i+k] - low[k])
		}
		keys = append(keys, key)
	}
	keys = slices.Compact(sortWords(keys, total))
	c.rows = c.rows[:len(keys)*stride]
	for i, key := range keys {
		row := c.rows[i*stride : (i+1)*stride]
		for k := c.depth - 1; k >= 0; k-- {
			row[k] = low[k] + key&(1<<width[k]-1)
			key >>= width[k]
		}
		row[c.depth] = row[c.depth-1]
	}
	return true
}

// sortWords sorts words of so many bits by counting, eleven bits at a time; few
// words are compared instead.
func sortWords(words []uint64, width int) []uint64 {
	const digit = 11
	if len(words) < 1<<digit {
		slices.Sort(words)
		return words
	}
	other := make([]uint64, len(words))
	for shift := 0; shift < width; shift += digit {
		var starts [1 << digit]int
		for _, w := range words {
			starts[w>>shift&(1<<digit-1)]++
		}
		at := 0
		for i, n := range starts {
			starts[i] = at
			at += n
		}
		for _, w := range words {
			d := w >> shift & (1<<digit - 1)
			other[starts[d]] = w
			starts[d]++
		}
		words, other = other, words
	}
	return words
}
