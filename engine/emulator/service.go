package emulator

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// target is the state of a target in the pool map.
type target = pb.PoolQueryTargetInfo_TargetState

// poolRank is a rank of the pool map.
type poolRank struct {
	Rank    uint32   `json:"rank"`
	Domain  uint32   `json:"domain"` // fault domain id
	Targets []target `json:"targets"`
}

// container is what is known of a container; without a data path there is none,
// unless the state was made by other means.
type container struct {
	UUID  string `json:"uuid"`
	Label string `json:"label,omitempty"`
	User  string `json:"user"`
	Group string `json:"group"`
}

// handle is an open pool handle.
type handle struct {
	UUID    string `json:"uuid"`
	Machine string `json:"machine"`
}

// service is the replicated state of a pool: pool map, properties, ACL. Copies of
// it are ordered by term and version, see newer.
type service struct {
	UUID    string `json:"uuid"`
	Term    uint64 `json:"term"`
	Version uint64 `json:"version"`

	Replicas   []uint32          `json:"replicas"`
	Label      string            `json:"label"`
	User       string            `json:"user"`
	Group      string            `json:"group"`
	ACL        []string          `json:"acl"`
	Props      map[uint32]uint64 `json:"props"`
	SystemHeal string            `json:"system_self_heal,omitempty"`

	MapVersion uint32      `json:"map_version"`
	Ranks      []poolRank  `json:"ranks"` // sorted
	TierBytes  [2]uint64   `json:"tier_bytes"`
	MemFile    uint64      `json:"mem_file_bytes"`
	Rebuilt    bool        `json:"rebuilt"` // a rebuild was done
	Containers []container `json:"containers,omitempty"`
	Handles    []handle    `json:"handles,omitempty"`
}

func (s *service) newer(than *service) bool {
	return s.Term > than.Term || s.Term == than.Term && s.Version > than.Version
}

func (s *service) clone() *service {
	c := *s
	c.Replicas, c.ACL = slices.Clone(s.Replicas), slices.Clone(s.ACL)
	c.Props = make(map[uint32]uint64, len(s.Props))
	maps.Copy(c.Props, s.Props)
	c.Ranks = slices.Clone(s.Ranks)
	for i := range c.Ranks {
		c.Ranks[i].Targets = slices.Clone(c.Ranks[i].Targets)
	}
	c.Containers, c.Handles = slices.Clone(s.Containers), slices.Clone(s.Handles)
	return &c
}

// rank finds a rank in the pool map.
func (s *service) rank(rank uint32) *poolRank {
	i, ok := slices.BinarySearchFunc(s.Ranks, rank, func(r poolRank, rank uint32) int { return cmp.Compare(r.Rank, rank) })
	if !ok {
		return nil
	}
	return &s.Ranks[i]
}

// enabled reports whether all targets of the rank take part.
func (r *poolRank) enabled() bool {
	return !slices.ContainsFunc(r.Targets, func(t target) bool { return t != pb.PoolQueryTargetInfo_UP_IN })
}

// domains counts the fault domains of the pool map.
func (s *service) domains() int {
	seen := make(map[uint32]bool)
	for _, r := range s.Ranks {
		seen[r.Domain] = true
	}
	return len(seen)
}

// rankList lists the ranks that match.
func (s *service) rankList(match func(*poolRank) bool) []uint32 {
	var ranks []uint32
	for i := range s.Ranks {
		if match(&s.Ranks[i]) {
			ranks = append(ranks, s.Ranks[i].Rank)
		}
	}
	return ranks
}

// picks returns the targets that a request means: those listed, all when none is.
func (r *poolRank) picks(listed []uint32) ([]uint32, error) {
	if len(listed) == 0 {
		all := make([]uint32, len(r.Targets))
		for i := range all {
			all[i] = uint32(i)
		}
		return all, nil
	}
	for _, i := range listed {
		if int(i) >= len(r.Targets) {
			return nil, fmt.Errorf("%w: rank %d has no target %d", drpc.StatusNonexist, r.Rank, i)
		}
	}
	return listed, nil
}

// move takes targets of a rank from one of the given states through its
// intermediate to its final state; the map version grows with each step, as if a
// rebuild had run in between. It reports whether anything changed.
func (s *service) move(r *poolRank, picks []uint32, from []target, via, final target) bool {
	changed := false
	for _, i := range picks {
		if slices.Contains(from, r.Targets[i]) {
			r.Targets[i] = via
			changed = true
		}
	}
	if !changed {
		return false
	}
	s.MapVersion++
	if via == final {
		return true
	}
	for i := range r.Targets {
		if r.Targets[i] == via {
			r.Targets[i] = final
		}
	}
	s.MapVersion++
	s.Rebuilt = true
	return true
}

// faultDomains reads a compressed fault-domain tree: which domain each rank is in.
// Words: metadata bits; then domains breadth first as (level, id, children); then
// the ranks in the order of their parents.
func faultDomains(tree, ranks []uint32) (map[uint32]uint32, error) {
	domains := make(map[uint32]uint32, len(ranks))
	if len(tree) == 0 {
		for _, r := range ranks {
			domains[r] = r
		}
		return domains, nil
	}
	bad := fmt.Errorf("%w: fault domain tree cannot be read", drpc.StatusInval)
	words := tree[1:]
	pending := uint64(1) // domains of the layer that is being read
	for len(words) >= 3 && pending > 0 {
		level := words[0]
		type leaf struct{ id, ranks uint32 }
		var leaves []leaf
		children := uint64(0)
		for range pending {
			if len(words) < 3 || words[0] != level {
				return nil, bad
			}
			leaves = append(leaves, leaf{words[1], words[2]})
			children += uint64(words[2])
			words = words[3:]
		}
		if level != 1 {
			pending = children
			continue
		}
		if children != uint64(len(words)) {
			return nil, bad
		}
		for _, l := range leaves {
			for _, r := range words[:l.ranks] {
				domains[r] = l.id
			}
			words = words[l.ranks:]
		}
		pending = 0
	}
	for _, r := range ranks {
		if _, ok := domains[r]; !ok {
			return nil, bad
		}
	}
	return domains, nil
}

// chooseReplicas picks n ranks for the pool service: spread over the fault
// domains, and over the ranks by the pool's UUID, so that not all services meet on
// the first rank. Those already chosen stay.
func chooseReplicas(id string, ranks []poolRank, n int, chosen []uint32) []uint32 {
	weight := func(rank uint32) uint64 {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s/%d", id, rank)
		return h.Sum64()
	}
	load := make(map[uint32]int) // replicas by domain
	var rest []poolRank
	for _, r := range ranks {
		if slices.Contains(chosen, r.Rank) {
			load[r.Domain]++
		} else {
			rest = append(rest, r)
		}
	}
	picked := slices.Clone(chosen)
	for len(picked) < n && len(rest) > 0 {
		best := slices.MinFunc(rest, func(a, b poolRank) int {
			return cmp.Or(cmp.Compare(load[a.Domain], load[b.Domain]), cmp.Compare(weight(a.Rank), weight(b.Rank)))
		})
		rest = slices.DeleteFunc(rest, func(r poolRank) bool { return r.Rank == best.Rank })
		load[best.Domain]++
		picked = append(picked, best.Rank)
	}
	slices.Sort(picked)
	return picked
}
