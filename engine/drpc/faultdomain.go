package drpc

import "daosbox/cluster/fault"

// Bits of the first word of a fault-domain tree.
const (
	// TreeFaultLevel says that fault domains are marked. Nobody sets it yet.
	TreeFaultLevel uint32 = 1
	// TreePerfLevel says that performance domains are marked: trees that have
	// more than two steps from root to rank.
	TreePerfLevel uint32 = 2
)

// rootID is the id of the root domain.
const rootID = 1

// maxTreeWords bounds a tree that arrives; a system of the greatest supported size
// is far below.
const maxTreeWords = 1 << 20

// FaultDomain is a node of the tree that tells an engine which ranks fail
// together. A node has either domains or ranks below it, and all ranks are equally
// deep.
type FaultDomain struct {
	// ID is unique in the tree, 1 for the root.
	ID       uint32
	Children []*FaultDomain
	Ranks    []uint32
}

// depth returns the steps from d to its ranks.
func (d *FaultDomain) depth() uint32 {
	n := uint32(1)
	for len(d.Children) > 0 {
		d = d.Children[0]
		n++
	}
	return n
}

// Words returns the compressed form of the tree under root d: the flags, then
// breadth first three words for each domain (level, id, number of children), then
// the ranks in the order of their parents.
func (d *FaultDomain) Words(flags uint32) ([]uint32, error) {
	if d.ID != rootID {
		return nil, fault.New(fault.Internal, "cannot encode fault domains: the root has id %d", d.ID)
	}
	words := []uint32{flags}
	layer := []*FaultDomain{d}
	for level := d.depth(); level > 0; level-- {
		var below []*FaultDomain
		for _, node := range layer {
			count := len(node.Children)
			if level == 1 {
				count = len(node.Ranks)
			}
			if count == 0 || (level == 1) != (len(node.Children) == 0) || (level > 1 && len(node.Ranks) > 0) {
				return nil, fault.New(fault.Internal, "cannot encode fault domains: domain %d is empty or not as deep as others", node.ID)
			}
			words = append(words, level, node.ID, uint32(count))
			below = append(below, node.Children...)
		}
		if level > 1 {
			layer = below
		}
	}
	for _, node := range layer {
		words = append(words, node.Ranks...)
	}
	return words, nil
}

// ParseFaultDomains decodes the compressed form of a tree and checks its shape:
// levels that count down by one, ids used once, nothing left over.
func ParseFaultDomains(words []uint32) (root *FaultDomain, flags uint32, err error) {
	if len(words) < 4 || len(words) > maxTreeWords {
		return nil, 0, badTree("%d words are no tree", len(words))
	}
	p := treeParser{words: words[1:], seen: make(map[uint32]bool)}
	root, below, err := p.domain(words[1])
	if err != nil {
		return nil, 0, err
	}
	if root.ID != rootID {
		return nil, 0, badTree("the root has id %d", root.ID)
	}
	layer, counts := []*FaultDomain{root}, []uint32{below}
	for level := words[1]; level > 1; level-- {
		if layer, counts, err = p.layer(level-1, layer, counts); err != nil {
			return nil, 0, err
		}
	}
	for i, node := range layer {
		if uint64(counts[i]) > uint64(len(p.words)) {
			return nil, 0, badTree("ranks of domain %d are missing", node.ID)
		}
		node.Ranks, p.words = p.words[:counts[i]:counts[i]], p.words[counts[i]:]
	}
	if len(p.words) > 0 {
		return nil, 0, badTree("%d words are left over", len(p.words))
	}
	return root, words[0], nil
}

type treeParser struct {
	words []uint32
	seen  map[uint32]bool
}

// layer reads the domains of one level, as many as the parents announced.
func (p *treeParser) layer(level uint32, parents []*FaultDomain, counts []uint32) (layer []*FaultDomain, below []uint32, err error) {
	for i, parent := range parents {
		for range counts[i] {
			node, n, err := p.domain(level)
			if err != nil {
				return nil, nil, err
			}
			parent.Children = append(parent.Children, node)
			layer, below = append(layer, node), append(below, n)
		}
	}
	return layer, below, nil
}

// domain reads the three words of a domain and returns its number of children.
func (p *treeParser) domain(level uint32) (*FaultDomain, uint32, error) {
	if len(p.words) < 3 {
		return nil, 0, badTree("a domain is missing")
	}
	got, id, count := p.words[0], p.words[1], p.words[2]
	p.words = p.words[3:]
	switch {
	case got != level || level == 0:
		return nil, 0, badTree("domain %d has level %d", id, got)
	case p.seen[id]:
		return nil, 0, badTree("domain %d comes twice", id)
	case count == 0 || uint64(count) > uint64(len(p.words)):
		return nil, 0, badTree("domain %d has %d children", id, count)
	}
	p.seen[id] = true
	return &FaultDomain{ID: id}, count, nil
}

func badTree(format string, args ...any) error {
	return fault.Wrap(fault.Protocol, fault.New(fault.Protocol, format, args...), "cannot decode fault domains")
}
