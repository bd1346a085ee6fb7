package emulator

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"sync"
	"time"
)

// maxPacket bounds a heartbeat in bytes, below what an Ethernet frame carries.
const maxPacket = 1400

// packet is a heartbeat or its answer.
type packet struct {
	Kind        string   `json:"kind"` // ping, ack
	System      string   `json:"sys"`
	From        uint32   `json:"from"`
	To          uint32   `json:"to"`
	Seq         uint64   `json:"seq"`
	Incarnation uint64   `json:"inc"`
	MapVersion  uint32   `json:"map"`
	Excluded    uint32   `json:"excluded,omitempty"` // map version without the receiver
	Rumours     []rumour `json:"rumours,omitempty"`
}

// heartbeats owns the failure detector: its clock, its socket, its probes.
type heartbeats struct {
	e      *engine
	period time.Duration

	mu    sync.Mutex
	state *swim // nil before the rank is known
}

// start begins watching once the rank is known.
func (h *heartbeats) start(rank uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = newSwim(rank, h.e.incarnation)
}

// setGroup tells the detector of a new map.
func (h *heartbeats) setGroup(m groupMap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != nil {
		h.state.setGroup(m)
	}
}

// dead lists the ranks of the group that are dead.
func (h *heartbeats) dead() []uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == nil {
		return nil
	}
	return h.state.deadRanks()
}

// incarnation is the current one, which grows when this engine refutes its death.
func (h *heartbeats) incarnation() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == nil {
		return h.e.incarnation
	}
	return h.state.incarnation
}

// beat sends heartbeats until ctx ends.
func (h *heartbeats) beat(ctx context.Context) {
	ticker := time.NewTicker(h.period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		h.mu.Lock()
		var act swimAct
		if h.state != nil {
			act = h.state.tick()
		}
		h.mu.Unlock()
		for _, b := range act.ping {
			h.ping(b)
		}
		for _, rank := range act.probe {
			h.e.background(func(ctx context.Context) { h.probe(ctx, rank) })
		}
	}
}

func (h *heartbeats) ping(b beat) {
	m, ok := h.e.group.member(b.rank)
	if !ok {
		return
	}
	addr, err := hostPort(m.URI)
	if err != nil {
		return
	}
	to, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return
	}
	h.send(to, packet{Kind: "ping", To: b.rank, Seq: b.seq})
}

// send fills in what every packet has. A packet that is lost is like one that was
// not answered, so errors need no care.
func (h *heartbeats) send(to *net.UDPAddr, p packet) {
	h.mu.Lock()
	p.From, p.Incarnation, p.Rumours = h.state.self, h.state.incarnation, h.state.gossip()
	h.mu.Unlock()
	p.System, p.MapVersion = h.e.opts.group, h.e.group.current().Version
	data, err := json.Marshal(p)
	if err != nil || len(data) > maxPacket {
		return
	}
	_, _ = h.e.fabric.udp.WriteToUDP(data, to)
}

// listen takes packets until ctx ends.
func (h *heartbeats) listen(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = h.e.fabric.udp.Close() })
	defer stop()
	buffer := make([]byte, maxPacket+1)
	for {
		n, from, err := h.e.fabric.udp.ReadFromUDP(buffer)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if !wait(ctx, h.period) {
				return
			}
			continue
		}
		if p, ok := parsePacket(buffer[:n]); ok {
			h.take(ctx, p, from)
		}
	}
}

func parsePacket(data []byte) (p packet, ok bool) {
	if len(data) > maxPacket || json.Unmarshal(data, &p) != nil || len(p.Rumours) > gossipPerPacket {
		return packet{}, false
	}
	return p, p.Kind == "ping" || p.Kind == "ack"
}

// take handles one packet.
func (h *heartbeats) take(ctx context.Context, p packet, from *net.UDPAddr) {
	self, ok := h.e.group.self()
	if !ok || p.System != h.e.opts.group || p.To != self {
		return
	}
	h.mu.Lock()
	if h.state == nil {
		h.mu.Unlock()
		return
	}
	wasDead := h.state.deadRanks()
	h.state.hear(p.Rumours)
	first := false
	if p.Kind == "ack" {
		first = h.state.acked(p.From, p.Seq, p.Incarnation)
	}
	changed := !slices.Equal(wasDead, h.state.deadRanks())
	h.mu.Unlock()
	if first {
		h.e.log.Debug("heard of rank", "rank", p.From)
	}
	if changed {
		h.e.changed()
	}
	if p.Excluded != 0 && h.e.group.excludedBy(p.Excluded) {
		h.e.selfTerminate(ctx, h.e.incarnation)
		return
	}
	if p.Kind == "ping" {
		h.e.pass(ctx, "heartbeat")
		h.send(from, packet{Kind: "ack", To: p.From, Seq: p.Seq, Excluded: h.excluded(p)})
	}
}

// excluded is the version of the own map when it is newer than the sender's and
// does not have the sender.
func (h *heartbeats) excluded(p packet) uint32 {
	if _, ok := h.e.group.member(p.From); ok {
		return 0
	}
	if version := h.e.group.current().Version; version > p.MapVersion {
		return version
	}
	return 0
}

// probe asks a silent rank by TCP, which is not lost as a packet can be.
func (h *heartbeats) probe(ctx context.Context, rank uint32) {
	m, ok := h.e.group.member(rank)
	if !ok {
		return
	}
	asking, cancel := context.WithTimeout(ctx, max(2*h.period, time.Second))
	defer cancel()
	var out pong
	err := h.e.fabric.call(asking, m, opPing, nil, &out)
	h.mu.Lock()
	act := h.state.probed(rank, err == nil, out.Incarnation, refused(err))
	h.mu.Unlock()
	for _, dead := range act.dead {
		h.e.tellDead(ctx, dead)
		h.e.changed()
	}
}

// pong answers a probe.
type pong struct {
	Incarnation uint64 `json:"inc"`
}

func (e *engine) opPing(ctx context.Context, _ json.RawMessage) (any, error) {
	e.pass(ctx, "heartbeat")
	return pong{e.beats.incarnation()}, nil
}
