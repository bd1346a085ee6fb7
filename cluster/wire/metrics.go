package wire

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// counters are what a server counts over its life.
type counters struct {
	accepted, served, refused, evicted atomic.Int64
	slow, handshake, protocol, silent  atomic.Int64
	calls, cancelled, busy, abusive    atomic.Int64
}

// failure counts a connection that ended badly by the kind of its log line.
func (c *counters) failure(kind string) {
	switch kind {
	case "slow":
		c.slow.Add(1)
	case "silent":
		c.silent.Add(1)
	case "protocol", "client":
		c.protocol.Add(1)
	default:
		c.handshake.Add(1)
	}
}

// WriteMetrics writes what the server does and may do at most in the text form of
// Prometheus; it fits metrics.Set.RegisterMetricsWriter.
func (s *Server) WriteMetrics(w io.Writer) {
	running := int64(0)
	for _, c := range s.snapshot() {
		c.mu.Lock()
		running += int64(c.running)
		c.mu.Unlock()
	}
	c := &s.counters
	for _, m := range []struct {
		name  string
		value int64
	}{
		{`wire_connections`, s.count.Load()},
		{`wire_handshakes`, int64(s.pending.len())},
		{`wire_streams`, running},
		{`wire_request_bytes`, s.held.Load()},
		{`wire_connections_total{outcome="accepted"}`, c.accepted.Load()},
		{`wire_connections_total{outcome="served"}`, c.served.Load()},
		{`wire_connections_total{outcome="refused"}`, c.refused.Load()},
		{`wire_connections_total{outcome="evicted"}`, c.evicted.Load()},
		{`wire_failures_total{kind="handshake"}`, c.handshake.Load()},
		{`wire_failures_total{kind="slow"}`, c.slow.Load()},
		{`wire_failures_total{kind="silent"}`, c.silent.Load()},
		{`wire_failures_total{kind="protocol"}`, c.protocol.Load()},
		{`wire_failures_total{kind="abusive"}`, c.abusive.Load()},
		{`wire_calls_total{outcome="opened"}`, c.calls.Load()},
		{`wire_calls_total{outcome="cancelled"}`, c.cancelled.Load()},
		{`wire_calls_total{outcome="busy"}`, c.busy.Load()},
		{`wire_limit{of="connections"}`, int64(s.lim.Conns)},
		{`wire_limit{of="handshakes"}`, int64(s.lim.Pending)},
		{`wire_limit{of="streams"}`, int64(s.lim.Streams)},
		{`wire_limit{of="request_bytes"}`, s.lim.Memory},
		{`wire_limit{of="nuisances"}`, int64(s.lim.Nuisances)},
	} {
		fmt.Fprintf(w, "%s %d\n", m.name, m.value)
	}
}

// nuisanceSpan is the time over which Limits.Nuisances counts.
const nuisanceSpan = 10 * time.Second

// nuisances counts what costs a peer less than us: pings, calls that are given up
// or refused.
type nuisances struct {
	since time.Time
	count int
}

// tooMany counts one more.
func (n *nuisances) tooMany(limit int) bool {
	if n.count++; n.count <= limit {
		return false
	}
	if now := time.Now(); now.Sub(n.since) > nuisanceSpan {
		n.since, n.count = now, 1
		return false
	}
	return true
}
