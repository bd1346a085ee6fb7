package emulator

import (
	"slices"
	"time"
)

// Defaults of the failure detector, in periods of heartbeats.
const (
	defaultSwimPeriod = 500 * time.Millisecond
	watchedSuccessors = 3
	suspectAfter      = 4  // unanswered heartbeats before the peer is asked by TCP
	deadAfter         = 6  // unanswered heartbeats before silence alone means death
	newcomerBeats     = 40 // unanswered heartbeats of a process that was never heard: it may still start
	gossipCopies      = 24
	gossipPerPacket   = 8
)

// rumour is a change of a rank's state as it spreads.
type rumour struct {
	Rank        uint32 `json:"rank"`
	Incarnation uint64 `json:"inc"`
	Dead        bool   `json:"dead,omitempty"`
}

// peer is what the detector knows of another rank.
type peer struct {
	incarnation uint64 // of the group map
	heard       uint64 // newest incarnation heard from the rank itself or in rumours
	seen        bool   // this incarnation was heard at least once
	dead        bool
	missed      int    // heartbeats in a row without an answer
	awaiting    uint64 // sequence of the unanswered heartbeat, 0 for none
	probing     bool
}

// swim is the failure detector, a pure state machine: its owner tells it of ticks,
// packets and probe results and does what it answers.
type swim struct {
	self        uint32
	incarnation uint64
	seq         uint64
	ring        []uint32 // all ranks of the group, sorted, with self
	peers       map[uint32]*peer
	rumours     map[rumour]int // copies still to be sent
}

// swimAct is what the owner has to do.
type swimAct struct {
	ping  []beat   // heartbeats to send
	probe []uint32 // ranks to ask by TCP
	dead  []member // deaths to report
}

// beat is one heartbeat to send.
type beat struct {
	rank uint32
	seq  uint64
}

func newSwim(self uint32, incarnation uint64) *swim {
	return &swim{self: self, incarnation: incarnation, peers: make(map[uint32]*peer), rumours: make(map[rumour]int)}
}

// setGroup takes a new group map. A rank with a larger incarnation than before is
// a new process and alive.
func (s *swim) setGroup(m groupMap) {
	peers := make(map[uint32]*peer, len(m.Members))
	s.ring = s.ring[:0]
	for _, one := range m.Members {
		s.ring = append(s.ring, one.Rank)
		if one.Rank == s.self {
			continue
		}
		p := s.peers[one.Rank]
		if p == nil || one.Incarnation > p.incarnation {
			p = &peer{incarnation: one.Incarnation, heard: one.Incarnation}
		}
		peers[one.Rank] = p
	}
	slices.Sort(s.ring)
	s.peers = peers
}

// tick begins a period.
func (s *swim) tick() (act swimAct) {
	for _, rank := range s.watched() {
		p := s.peers[rank]
		if p.awaiting != 0 {
			p.missed++
		}
		if p.missed >= suspectAfter && !p.dead && !p.probing {
			p.probing = true
			act.probe = append(act.probe, rank)
		}
		s.seq++
		p.awaiting = s.seq
		act.ping = append(act.ping, beat{rank, s.seq})
	}
	return act
}

// watched are the next live successors in the ring, and the dead ones between
// them, which may come back.
func (s *swim) watched() (ranks []uint32) {
	at, found := slices.BinarySearch(s.ring, s.self)
	if !found {
		return nil
	}
	live := 0
	for i := 1; i < len(s.ring) && live < watchedSuccessors; i++ {
		rank := s.ring[(at+i)%len(s.ring)]
		ranks = append(ranks, rank)
		if !s.peers[rank].dead {
			live++
		}
	}
	return ranks
}

// acked takes the answer to a heartbeat; first tells that the rank had not been
// heard before.
func (s *swim) acked(rank uint32, seq, incarnation uint64) (first bool) {
	p := s.peers[rank]
	if p == nil || seq != p.awaiting {
		return false
	}
	first = !p.seen
	s.alive(rank, p, incarnation)
	return first
}

// alive records that a rank was heard itself, which counts more than any rumour.
func (s *swim) alive(rank uint32, p *peer, incarnation uint64) {
	p.heard = max(p.heard, incarnation)
	if p.dead {
		p.heard++
		s.spread(rumour{Rank: rank, Incarnation: p.heard})
	}
	p.seen, p.dead, p.missed, p.awaiting = true, false, 0, 0
}

// probed takes the result of asking by TCP: answered with an incarnation, refused
// (nobody listens there), or neither.
func (s *swim) probed(rank uint32, answered bool, incarnation uint64, refused bool) (act swimAct) {
	p := s.peers[rank]
	if p == nil {
		return act
	}
	p.probing = false
	switch {
	case answered:
		s.alive(rank, p, incarnation)
	case p.missed < suspectAfter || p.dead, !p.seen && p.missed < newcomerBeats:
	case refused, p.missed >= deadAfter:
		p.dead = true
		act.dead = append(act.dead, member{Rank: rank, Incarnation: p.incarnation})
		s.spread(rumour{Rank: rank, Incarnation: p.heard, Dead: true})
	}
	return act
}

// hear takes rumours of a packet. One that calls this engine dead is refuted.
func (s *swim) hear(rumours []rumour) {
	for _, r := range rumours {
		if r.Rank == s.self {
			if r.Dead && r.Incarnation >= s.incarnation {
				s.incarnation = r.Incarnation + 1
				s.spread(rumour{Rank: s.self, Incarnation: s.incarnation})
			}
			continue
		}
		p := s.peers[r.Rank]
		switch {
		case p == nil:
		case r.Dead && r.Incarnation >= p.heard && !p.dead:
			p.dead, p.heard = true, r.Incarnation
			s.spread(r)
		case !r.Dead && r.Incarnation > p.heard:
			p.dead, p.heard, p.missed = false, r.Incarnation, 0
			s.spread(r)
		}
	}
}

// spread queues a rumour, replacing older ones of the same rank.
func (s *swim) spread(r rumour) {
	for old := range s.rumours {
		if old.Rank == r.Rank {
			delete(s.rumours, old)
		}
	}
	s.rumours[r] = gossipCopies
}

// gossip picks the rumours for one packet.
func (s *swim) gossip() (picked []rumour) {
	for r, left := range s.rumours {
		if len(picked) == gossipPerPacket {
			break
		}
		picked = append(picked, r)
		if left == 1 {
			delete(s.rumours, r)
		} else {
			s.rumours[r] = left - 1
		}
	}
	return picked
}

// deadRanks lists the ranks of the group that are dead, sorted.
func (s *swim) deadRanks() (ranks []uint32) {
	for rank, p := range s.peers {
		if p.dead {
			ranks = append(ranks, rank)
		}
	}
	slices.Sort(ranks)
	return ranks
}
