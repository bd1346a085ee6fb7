package emulator

import (
	"maps"
	"slices"
	"sync"

	"daosbox/engine/drpc"
)

// nilRank is no rank.
const nilRank = ^uint32(0)

// member is one engine of the group map.
type member struct {
	Rank        uint32 `json:"rank"`
	URI         string `json:"uri"`
	Incarnation uint64 `json:"inc"`
}

// groupMap is a group map as it travels.
type groupMap struct {
	Version uint32   `json:"version"`
	Members []member `json:"members"`
}

// group holds this engine's rank and the group map it knows.
type group struct {
	mu      sync.Mutex
	rank    uint32
	ranked  bool
	minimum uint32 // no older map than this is taken
	version uint32
	members map[uint32]member
}

// setRank adopts a rank, once per process life.
func (g *group) setRank(rank, version uint32) drpc.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rank == nilRank || version == 0 || g.ranked {
		return drpc.StatusInval
	}
	g.rank, g.ranked, g.minimum = rank, true, version
	return drpc.StatusOK
}

// update takes a newer map. changed is false when it was ignored as old; removed
// are members that the new map no longer has.
func (g *group) update(next groupMap) (status drpc.Status, changed bool, removed []member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(next.Members) == 0:
		return drpc.StatusInval, false, nil
	case !g.ranked || next.Version < g.minimum:
		return drpc.StatusGrpVer, false, nil
	case next.Version <= g.version:
		return drpc.StatusOK, false, nil
	}
	old := g.members
	g.version, g.members = next.Version, make(map[uint32]member, len(next.Members))
	for _, m := range next.Members {
		g.members[m.Rank] = m
	}
	for rank, m := range old {
		if _, ok := g.members[rank]; !ok {
			removed = append(removed, m)
		}
	}
	return drpc.StatusOK, true, removed
}

// self returns the own rank; ok is false before SetRank.
func (g *group) self() (rank uint32, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rank, g.ranked
}

// current returns the map, members by rank.
func (g *group) current() groupMap {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := groupMap{Version: g.version, Members: make([]member, 0, len(g.members))}
	for _, rank := range slices.Sorted(maps.Keys(g.members)) {
		m.Members = append(m.Members, g.members[rank])
	}
	return m
}

// member finds a rank in the map.
func (g *group) member(rank uint32) (member, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, ok := g.members[rank]
	return m, ok
}

// excludedBy reports whether a peer's claim that its map of the given version
// excludes this engine counts: only a map newer than the own one and than the
// one this engine was told to start from can do that.
func (g *group) excludedBy(version uint32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ranked && version > g.minimum && version > g.version
}
