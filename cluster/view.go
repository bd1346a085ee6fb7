package cluster

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"daosbox/cluster/fault"
)

// View is the database at one moment. It never changes and may be used by many
// goroutines; what it returns must not be changed.
type View struct {
	c content

	once    sync.Once
	members []*Member // by rank
}

// Version grows with every command: the data version that agents are told.
func (v *View) Version() uint64 { return v.c.version }

// MapVersion is the version of the group map.
func (v *View) MapVersion() uint32 { return v.c.mapVersion }

// NextRank is the rank that the next engine without one gets, if it is free.
func (v *View) NextRank() Rank { return v.c.nextRank }

func (v *View) sorted() []*Member {
	v.once.Do(func() {
		v.members = slices.SortedFunc(maps.Values(v.c.members.m), func(a, b *Member) int { return cmp.Compare(a.Rank, b.Rank) })
	})
	return v.members
}

// Members returns the members whose state is in the filter, by rank; StatesAll
// selects all.
func (v *View) Members(filter MemberState) []*Member {
	all := v.sorted()
	found := make([]*Member, 0, len(all))
	for _, m := range all {
		if filter == StatesAll || m.State&filter != 0 {
			found = append(found, m)
		}
	}
	return found
}

// Member returns the member of a rank, nil when there is none.
func (v *View) Member(rank Rank) *Member { return v.c.members.m[rank] }

// MemberByUUID returns the member with a superblock's UUID, nil when there is
// none.
func (v *View) MemberByUUID(uuid string) *Member {
	rank, ok := v.c.uuids.m[uuid]
	if !ok {
		return nil
	}
	return v.c.members.m[rank]
}

// MembersAt returns the members of the server with a control address, by rank.
func (v *View) MembersAt(addr string) []*Member {
	found := []*Member{}
	for _, m := range v.sorted() {
		if m.Addr == addr {
			found = append(found, m)
		}
	}
	return found
}

// Pools returns the records of all pools, by label and UUID.
func (v *View) Pools() []*PoolRecord {
	return slices.SortedFunc(maps.Values(v.c.pools.m), func(a, b *PoolRecord) int {
		return cmp.Or(strings.Compare(a.Label, b.Label), strings.Compare(a.UUID, b.UUID))
	})
}

// Pool finds a pool by its label or UUID; fault.NotFound when there is none.
func (v *View) Pool(id string) (*PoolRecord, error) {
	if holder, ok := v.c.labels.m[id]; ok {
		return v.c.pools.m[holder], nil
	}
	if parsed, err := uuid.Parse(id); err == nil {
		if p := v.c.pools.m[parsed.String()]; p != nil {
			return p, nil
		}
	}
	return nil, noPool(id)
}

// PoolsUsing returns the pools that were created on a rank or are served there,
// by label.
func (v *View) PoolsUsing(rank Rank) []*PoolRecord {
	return slices.DeleteFunc(v.Pools(), func(p *PoolRecord) bool { return !p.uses(rank) })
}

// Attributes returns a copy of the attributes whose names start with prefix, the
// prefix cut off. The empty prefix gives the user's attributes.
func (v *View) Attributes(prefix string) map[string]string {
	found := make(map[string]string)
	for key, value := range v.c.attrs.m {
		internal := strings.HasPrefix(key, PropPrefix) || strings.HasPrefix(key, MgmtPrefix)
		if prefix == "" && !internal || prefix != "" && strings.HasPrefix(key, prefix) {
			found[strings.TrimPrefix(key, prefix)] = value
		}
	}
	return found
}

// Attribute returns one attribute by its full name, empty when it is not set.
func (v *View) Attribute(key string) string { return v.c.attr(key) }

// GroupEntry is one rank of the group map.
type GroupEntry struct {
	Rank        Rank   `json:"rank"`
	URI         string `json:"uri"`
	Incarnation uint64 `json:"incarnation"`
}

// GroupMap is the list of ranks that engines are told of.
type GroupMap struct {
	Version uint32       `json:"version"`
	Entries []GroupEntry `json:"entries"`
}

// GroupMap returns the group map: every member that has a rank and a URI and is
// neither waiting for format nor excluded, by rank.
func (v *View) GroupMap() GroupMap {
	all := v.sorted()
	g := GroupMap{Version: v.c.mapVersion, Entries: make([]GroupEntry, 0, len(all))}
	for _, m := range all {
		if m.inGroupMap() {
			g.Entries = append(g.Entries, GroupEntry{Rank: m.Rank, URI: m.FabricURI, Incarnation: m.Incarnation})
		}
	}
	return g
}

// RankURI is where clients reach a rank.
type RankURI struct {
	Rank          Rank     `json:"rank"`
	URI           string   `json:"uri"`
	SecondaryURIs []string `json:"secondary_uris,omitempty"`
	Contexts      uint32   `json:"contexts"`
}

// Attach is what the management service contributes to GetAttachInfo.
type Attach struct {
	RankURIs []RankURI `json:"rank_uris"`
	// MSRanks are the ranks on the hosts of the management service's replicas.
	MSRanks []Rank `json:"ms_ranks"`
	// DataVersion is the database's version.
	DataVersion uint64 `json:"data_version"`
}

// Attach returns what clients need to reach the ranks: of all ranks, or only of
// those on the replicas' hosts. A system without usable ranks is fault.NotReady:
// clients try again.
func (v *View) Attach(replicas []string, allRanks bool) (Attach, error) {
	a := Attach{RankURIs: []RankURI{}, MSRanks: []Rank{}, DataVersion: v.c.version}
	usable := false
	for _, m := range v.sorted() {
		if !m.inGroupMap() {
			continue
		}
		usable = true
		ms := slices.Contains(replicas, m.Addr)
		if ms {
			a.MSRanks = append(a.MSRanks, m.Rank)
		}
		if ms || allRanks {
			a.RankURIs = append(a.RankURIs, RankURI{Rank: m.Rank, URI: m.FabricURI, SecondaryURIs: m.SecondaryFabricURIs, Contexts: m.FabricContexts})
		}
	}
	if !usable {
		return Attach{}, fault.New(fault.NotReady, "cannot attach to the system: no rank has joined").
			WithHint("see the ranks with `dmg system query`; start them with `dmg system start`")
	}
	return a, nil
}
