package control

import (
	"context"
	"crypto/sha256"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

const (
	// relayRounds is how often hosts are given to relays; then they are asked
	// directly.
	relayRounds = 2
	// relayLost is up to how many lost hosts are asked directly at once.
	relayLost = 64
	// relaySlots is how many hosts are asked directly at a time by default.
	relaySlots = 256
	// resolveTime bounds the look-up of names, resolveSlots how many run at a time.
	resolveTime  = 3 * time.Second
	resolveSlots = 64
)

// relayed asks through relays. The loop is the only one to call each.
func (f *fan[Req, Resp]) relayed(ctx context.Context, hosts []string, each func(HostResult[Resp])) {
	ctx, cancel := context.WithTimeout(ctx, f.o.Timeout)
	f.found = make(chan HostResult[Resp], relaySlots)
	f.done = make(chan struct{})
	f.slots = make(chan struct{}, f.o.Parallel)
	f.decoded = make(map[[sha256.Size]byte]HostResult[Resp])
	defer f.work.Wait()
	defer cancel()
	defer close(f.done)
	waiting := make(map[string]bool, len(hosts))
	for _, host := range hosts {
		waiting[host] = true
	}
	f.work.Go(func() { f.begin(ctx, hosts) })
	tell := func(r HostResult[Resp]) {
		if waiting[r.Host] {
			delete(waiting, r.Host)
			each(r)
		}
	}
	over := ctx.Done()
	var grace <-chan time.Time
	for len(waiting) > 0 {
		select {
		case r := <-f.found:
			tell(r)
		case <-over:
			over, grace = nil, time.After(f.o.Timeout/40+10*time.Millisecond)
		case <-grace:
			for _, host := range hosts {
				tell(HostResult[Resp]{Host: host, Err: late(ctx, host)})
			}
		}
	}
}

// tell hands a result to the loop, unless that has ended.
func (f *fan[Req, Resp]) tell(r HostResult[Resp]) {
	select {
	case f.found <- r:
	case <-f.done:
	}
}

// begin resolves the hosts and starts the first round.
func (f *fan[Req, Resp]) begin(ctx context.Context, hosts []string) {
	addrs, unknown := f.resolve(ctx, hosts)
	f.detour(ctx, unknown)
	f.round(ctx, 0, addrs)
}

// round gives servers to relays; what they lose goes on to the next round.
func (f *fan[Req, Resp]) round(ctx context.Context, number int, addrs []netip.AddrPort) {
	left := remaining(ctx)
	relays, cancel := context.WithTimeout(ctx, left-min(left/20, relayMargin))
	defer cancel()
	body, err := encoding.Marshal(f.req)
	for chunk := range slices.Chunk(addrs, maxTargets) {
		to := newTargets(slices.Clone(chunk))
		var request sealed
		if err == nil {
			request, err = seal(f.o.Identity, f.client.System, f.method.Name, body, to, time.Now(), left)
		}
		if err != nil { // asked directly, they tell it as well
			f.debug("cannot relay", err)
			f.reroute(ctx, relayRounds, chunk)
			continue
		}
		c := &courier{client: f.client, request: request, to: to, deliver: func(o outcome) { f.deliver(ctx, number, to, o) }}
		c.spread(relays, span{0, to.count}, roots(to.count))
	}
}

// roots is how many servers we ask ourselves.
func roots(n int) int { return min(relayDegree, int(math.Ceil(math.Sqrt(float64(n))))) }

// deliver takes an outcome of a round.
func (f *fan[Req, Resp]) deliver(ctx context.Context, round int, to *targets, o outcome) {
	addrs := make([]netip.AddrPort, 0, 1)
	for _, s := range o.hosts {
		for i := s.lo; i < s.hi; i++ {
			addrs = append(addrs, to.at(i))
		}
	}
	if o.Kind == lost {
		f.debug("asking another way", o.fault(), "hosts", len(addrs), "first", addrs[0])
		f.reroute(ctx, round+1, addrs)
		return
	}
	r := f.decode(o.content)
	for _, relay := range o.via {
		r.Via = append(r.Via, f.names[to.at(relay)][0])
	}
	for _, addr := range addrs {
		for _, r.Host = range f.names[addr] {
			f.tell(r)
		}
	}
}

// decode reads each distinct answer once.
func (f *fan[Req, Resp]) decode(c *content) HostResult[Resp] {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.decoded[c.sum]
	switch {
	case ok:
	case c.Kind == failed:
		r.Err = c.fault()
	default:
		if err := decode(c.Data, &r.Value); err != nil {
			r.Err = fault.Wrap(fault.Protocol, err, "cannot decode the reply of %s", f.method.Name)
		}
	}
	f.decoded[c.sum] = r
	return r
}

// reroute finds another way to servers: other relays for many, none for few.
func (f *fan[Req, Resp]) reroute(ctx context.Context, round int, addrs []netip.AddrPort) {
	if round < relayRounds && len(addrs) > relayLost {
		f.work.Go(func() { f.round(ctx, round, addrs) })
		return
	}
	for _, addr := range addrs {
		f.detour(ctx, f.names[addr])
	}
}

// detour asks hosts directly.
func (f *fan[Req, Resp]) detour(ctx context.Context, hosts []string) {
	for _, host := range hosts {
		f.work.Go(func() {
			select {
			case f.slots <- struct{}{}:
				defer func() { <-f.slots }()
			case <-ctx.Done():
				f.tell(HostResult[Resp]{Host: host, Err: late(ctx, host)})
				return
			}
			r := HostResult[Resp]{Host: host}
			r.Value, r.Err = f.ask(ctx, host)
			f.tell(r)
		})
	}
}

func (f *fan[Req, Resp]) debug(text string, err error, args ...any) {
	if f.client.Log != nil {
		f.client.Log.Debug(text, append([]any{"method", f.method.Name, "because", err}, args...)...)
	}
}

// resolve finds the addresses of hosts; a request is signed for addresses, since a
// server knows its own but not all its names. What has none that can be relayed
// to is returned apart.
func (f *fan[Req, Resp]) resolve(ctx context.Context, hosts []string) (addrs []netip.AddrPort, unknown []string) {
	ctx, cancel := context.WithTimeout(ctx, min(resolveTime, remaining(ctx)/8))
	defer cancel()
	f.names = make(map[netip.AddrPort][]string, len(hosts))
	var mu sync.Mutex
	add := func(host string, addr netip.AddrPort, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if !ok {
			unknown = append(unknown, host)
			return
		}
		if f.names[addr] == nil {
			addrs = append(addrs, addr)
		}
		f.names[addr] = append(f.names[addr], host)
	}
	slots := make(chan struct{}, resolveSlots)
	var wait sync.WaitGroup
	for _, host := range hosts {
		if addr, err := netip.ParseAddrPort(host); err == nil {
			add(host, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), addr.Addr().Zone() == "")
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			addr, err := lookUp(ctx, host)
			add(host, addr, err == nil)
		})
	}
	wait.Wait()
	return addrs, unknown
}

// lookUp prefers IPv4, lowest address first, as servers do for their own names.
func lookUp(ctx context.Context, hostport string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := range all {
		all[i] = all[i].Unmap()
	}
	return netip.AddrPortFrom(slices.MinFunc(all, netip.Addr.Compare), uint16(port)), nil
}
