package emulator

import (
	"testing"

	"github.com/matryer/is"
)

func mapOf(version uint32, n int) groupMap {
	m := groupMap{Version: version}
	for i := range n {
		m.Members = append(m.Members, member{Rank: uint32(i), Incarnation: uint64(100 + i)})
	}
	return m
}

// ticks lets n periods pass in which nobody answers but the ranks given.
func ticks(s *swim, n int, alive ...uint32) (probes []uint32) {
	for range n {
		act := s.tick()
		probes = append(probes, act.probe...)
		for _, b := range act.ping {
			for _, r := range alive {
				if r == b.rank {
					s.acked(r, b.seq, s.peers[r].incarnation)
				}
			}
		}
	}
	return probes
}

func TestSwimWatchesSuccessors(t *testing.T) {
	is := is.New(t)
	s := newSwim(6, 106)
	s.setGroup(mapOf(1, 8))
	is.Equal(s.watched(), []uint32{7, 0, 1})
	s.peers[0].dead = true
	is.Equal(s.watched(), []uint32{7, 0, 1, 2}) // one more for the dead one
	s.setGroup(groupMap{Version: 2, Members: []member{{Rank: 1}}})
	is.Equal(len(s.watched()), 0) // not in the map: watches nobody
}

func TestSwimDeath(t *testing.T) {
	is := is.New(t)
	s := newSwim(0, 100)
	s.setGroup(mapOf(1, 3))
	is.Equal(len(ticks(s, 1, 1, 2)), 0)
	is.Equal(ticks(s, suspectAfter+1, 2), []uint32{1}) // asked once, while nobody answers
	is.Equal(len(s.probed(1, true, 101, false).dead), 0)
	is.Equal(s.peers[1].missed, 0) // it was only slow

	is.Equal(len(ticks(s, suspectAfter+1, 2)), 1)
	act := s.probed(1, false, 0, true)
	is.Equal(act.dead, []member{{Rank: 1, Incarnation: 101}}) // refused: gone
	is.Equal(s.deadRanks(), []uint32{1})

	ticks(s, deadAfter+1)
	is.Equal(len(s.probed(2, false, 0, false).dead), 1) // silent: gone as well

	// A new process is alive; the old one's death does not follow it.
	next := mapOf(2, 3)
	next.Members[1].Incarnation = 500
	s.setGroup(next)
	is.Equal(s.deadRanks(), []uint32{2})
	s.hear([]rumour{{Rank: 1, Incarnation: 101, Dead: true}})
	is.Equal(s.deadRanks(), []uint32{2})
	// The silent one speaks again.
	ticks(s, 1, 1, 2)
	is.Equal(len(s.deadRanks()), 0)
}

// A rank of the map that has not started yet is given time, even if refused.
func TestSwimNewcomer(t *testing.T) {
	is := is.New(t)
	s := newSwim(0, 100)
	s.setGroup(mapOf(1, 2))
	ticks(s, deadAfter+2)
	is.Equal(len(s.probed(1, false, 0, true).dead), 0)
	ticks(s, newcomerBeats)
	is.Equal(len(s.probed(1, false, 0, true).dead), 1)
}

func TestSwimRumours(t *testing.T) {
	is := is.New(t)
	s := newSwim(0, 100)
	s.setGroup(mapOf(1, 4))
	s.hear([]rumour{{Rank: 3, Incarnation: 103, Dead: true}, {Rank: 77, Incarnation: 1, Dead: true}})
	is.Equal(s.deadRanks(), []uint32{3})
	s.hear([]rumour{{Rank: 3, Incarnation: 103}}) // same incarnation: no refutation
	is.Equal(s.deadRanks(), []uint32{3})
	s.hear([]rumour{{Rank: 3, Incarnation: 104}})
	is.Equal(len(s.deadRanks()), 0)
	s.hear([]rumour{{Rank: 0, Incarnation: 100, Dead: true}}) // me: refuted
	is.Equal(s.incarnation, uint64(101))
	sent := 0
	for picked := s.gossip(); len(picked) > 0; picked = s.gossip() {
		sent++
	}
	is.Equal(sent, gossipCopies) // rumours die out
}

func TestGroupRules(t *testing.T) {
	is := is.New(t)
	var g group
	status, _, _ := g.update(mapOf(9, 2))
	is.Equal(int32(status), int32(-1036)) // no rank yet
	is.Equal(int32(g.setRank(0, 5)), int32(0))
	status, changed, _ := g.update(mapOf(6, 3))
	is.True(status == 0 && changed)
	status, changed, _ = g.update(mapOf(6, 1))
	is.True(status == 0 && !changed) // old: ignored
	_, _, removed := g.update(mapOf(7, 2))
	is.Equal(removed, []member{{Rank: 2, Incarnation: 102}})
	is.True(g.excludedBy(8))
	is.True(!g.excludedBy(7)) // not newer than the own map
}
