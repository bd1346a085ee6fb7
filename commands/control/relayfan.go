package control

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"time"

	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
)

// RelayMode says whether servers pass requests on to one another.
type RelayMode string

// The modes, as they are written on a command line.
const (
	// RelayAuto relays to more than RelayThreshold hosts.
	RelayAuto RelayMode = "auto"
	// RelayNever asks every host directly.
	RelayNever RelayMode = "never"
	// RelayAlways relays whatever can be.
	RelayAlways RelayMode = "always"
)

// RelayThreshold is up to how many hosts RelayAuto asks directly: so many are asked
// within the blink of an eye.
const RelayThreshold = 256

// Set, String and Type make a RelayMode a flag.
func (m *RelayMode) Set(text string) error {
	switch mode := RelayMode(text); mode {
	case RelayAuto, RelayNever, RelayAlways:
		*m = mode
		return nil
	}
	return errors.New("it is never, auto or always")
}

// String is the mode as written; the zero value is RelayAuto.
func (m *RelayMode) String() string {
	if *m == "" {
		return string(RelayAuto)
	}
	return string(*m)
}

// Type is what the help calls the value.
func (m *RelayMode) Type() string { return "mode" }

// FanOutOptions shape a FanOut.
type FanOutOptions struct {
	Relay RelayMode
	// Identity signs what is relayed; nil on an insecure system.
	Identity *pki.Identity
	// Parallel is how many hosts are asked directly at a time, 0 for 256.
	Parallel int
	// Timeout is the time every host has, 0 for the method's.
	Timeout time.Duration
	// Report takes the progress of a host's method that has any; it may be nil.
	Report func(host string, p Progress)
}

// HostResult is the outcome of one host. Values of hosts that answered the same may
// share memory, so they are for reading.
type HostResult[Resp any] struct {
	Host  string
	Value Resp
	Err   error
	// Via are the relays between us and the host, nearest first; empty when it was
	// asked directly.
	Via []string
}

// FanOut asks every host the same and hands each its result, exactly one, one at a
// time and as they come, in the caller's goroutine. Many hosts are asked through
// relays, as o.Relay says; those that a relay does not reach are asked in another
// way, in the end directly. It returns after the time of one host (plus 5 %) at
// the latest.
func FanOut[Req, Resp any](ctx context.Context, c *Client, hosts []string, method Method[Req, Resp], req *Req, o FanOutOptions, each func(HostResult[Resp])) {
	c.prepare(req)
	if o.Timeout <= 0 {
		o.Timeout = method.Timeout
	}
	if o.Parallel <= 0 {
		o.Parallel = relaySlots
	}
	f := &fan[Req, Resp]{client: c, method: method, req: req, o: o}
	if o.Relay == RelayNever || !method.Relay || o.Relay != RelayAlways && len(hosts) <= RelayThreshold || o.Identity == nil && c.Dialer.TLS != nil {
		f.direct(ctx, hosts, each)
		return
	}
	f.relayed(ctx, hosts, each)
}

// fan is one FanOut.
type fan[Req, Resp any] struct {
	client *Client
	method Method[Req, Resp]
	req    *Req
	o      FanOutOptions

	// Of a relayed one:
	names map[netip.AddrPort][]string
	found chan HostResult[Resp]
	done  chan struct{} // closed when nobody reads found any more
	slots chan struct{} // for what is asked directly
	work  sync.WaitGroup

	mu      sync.Mutex
	decoded map[[sha256.Size]byte]HostResult[Resp] // value or error, by content
}

func (f *fan[Req, Resp]) ask(ctx context.Context, host string) (Resp, error) {
	own := *f.req // a call fills in what it needs
	return Call(ctx, f.client, host, f.method, &own, func(p Progress) {
		if f.o.Report != nil {
			f.o.Report(host, p)
		}
	})
}

func (f *fan[Req, Resp]) direct(ctx context.Context, hosts []string, each func(HostResult[Resp])) {
	wire.FanOut(ctx, hosts, wire.FanOutOptions{Parallel: f.o.Parallel, HostTimeout: f.o.Timeout}, f.ask, func(got wire.Result[Resp]) {
		each(HostResult[Resp]{Host: got.Host, Value: got.Value, Err: got.Err})
	})
}
