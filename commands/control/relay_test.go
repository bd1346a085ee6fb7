package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/fabric"

	"github.com/matryer/is"
)

// fleet is many servers in this process, each on an address of its own.
type fleet struct {
	t     testing.TB
	certs string // empty when insecure
	port  int
	hosts []*fleetHost
}

type fleetHost struct {
	addr  netip.AddrPort
	stop  func()
	log   *syncBuffer
	relay *Relay
	mux   *Mux
	calls atomic.Int32
	quiet bool // all answer the same
	// before runs in the handler, when it is set.
	before func(ctx context.Context) error
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func fleetAddr(i, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), uint16(port))
}

// newFleet starts n servers; set may change one before it serves.
func newFleet(t testing.TB, n int, secure bool, set func(i int, h *fleetHost)) *fleet {
	t.Helper()
	f := &fleet{t: t}
	var server *pki.Identity
	if secure {
		f.certs = filepath.Join(t.TempDir(), "certs")
		if err := pki.Init(f.certs, pki.InitOptions{}); err != nil {
			t.Fatal(err)
		}
		server = f.identity(pki.Server)
	}
	listeners := f.listen(n)
	t.Cleanup(func() {
		var wait sync.WaitGroup
		for _, h := range f.hosts {
			wait.Go(h.stop)
		}
		wait.Wait()
	})
	for i, ln := range listeners {
		h := &fleetHost{addr: fleetAddr(i+1, f.port), log: new(syncBuffer)}
		if set != nil {
			set(i, h)
		}
		f.hosts = append(f.hosts, h)
		h.serve(ln, server)
	}
	return f
}

// listen opens one port on n addresses.
func (f *fleet) listen(n int) []net.Listener {
	for range 20 {
		f.port = 0
		var all []net.Listener
		for i := 1; i <= n; i++ {
			ln, err := net.Listen("tcp4", fleetAddr(i, f.port).String())
			if err != nil {
				break
			}
			f.port = ln.Addr().(*net.TCPAddr).Port
			all = append(all, ln)
		}
		if len(all) == n {
			return all
		}
		for _, ln := range all {
			_ = ln.Close()
		}
	}
	f.t.Fatal("no port is free on all addresses")
	return nil
}

func (f *fleet) identity(role pki.Role) *pki.Identity {
	f.t.Helper()
	return loadIdentity(f.t, f.certs, role)
}

func loadIdentity(t testing.TB, certs string, role pki.Role) *pki.Identity {
	t.Helper()
	id, err := pki.Load(pki.Files{CA: filepath.Join(certs, "daosCA.crt"), Cert: filepath.Join(certs, string(role)+".crt"),
		Key: filepath.Join(certs, string(role)+".key")}, role)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// serve starts the server: half of the hosts answer the same, some fail.
func (h *fleetHost) serve(ln net.Listener, id *pki.Identity) {
	h.mux = NewMux("test", id == nil, slog.New(slog.NewTextHandler(h.log, nil)))
	last := h.addr.Addr().As4()[3]
	Handle(h.mux, NetworkScan, func(ctx context.Context, caller Caller, req *NetworkScanReq, _ Report) (NetworkScanResp, error) {
		h.calls.Add(1)
		if h.before != nil {
			if err := h.before(ctx); err != nil {
				return NetworkScanResp{}, err
			}
		}
		if id != nil && caller.Role != pki.Admin {
			return NetworkScanResp{}, fault.New(fault.Internal, "the caller is %q", caller.Role)
		}
		switch {
		case h.quiet:
		case last%8 == 7:
			return NetworkScanResp{}, fault.New(fault.Busy, "cannot scan: busy").WithHint("wait")
		case last%8 == 3:
			return NetworkScanResp{Fabric: fabric.Host{Providers: []string{req.Provider, h.addr.String()}}}, nil
		}
		return NetworkScanResp{Fabric: fabric.Host{Providers: []string{req.Provider}}}, nil
	})
	Handle(h.mux, StorageFormat, func(context.Context, Caller, *StorageFormatReq, Report) (StorageFormatResp, error) {
		h.calls.Add(1)
		return StorageFormatResp{}, nil
	})
	client := &Client{Dialer: new(wire.Dialer), System: "test", Keep: true}
	h.relay = &Relay{Client: client, Own: func(addr netip.AddrPort) bool { return addr == h.addr }}
	cfg := wire.ServerConfig{Handler: h.mux.Serve}
	if id != nil {
		cfg.TLS, client.Dialer.TLS = id.ServerTLS(), id.ClientTLS()
		verify := id.ServerTLS().VerifyConnection
		h.relay.Verify = func(chain []*x509.Certificate) error {
			return verify(tls.ConnectionState{PeerCertificates: chain})
		}
	}
	h.mux.HandleRelay(h.relay)
	h.relay.began = time.Time{}
	server := wire.NewServer(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ctx, ln) }()
	h.stop = sync.OnceFunc(func() { cancel(); <-done; client.Close() })
}

func (f *fleet) addrs() []string {
	all := make([]string, len(f.hosts))
	for i, h := range f.hosts {
		all[i] = h.addr.String()
	}
	return all
}

func (f *fleet) targets() *targets {
	var all []netip.AddrPort
	for _, h := range f.hosts {
		all = append(all, h.addr)
	}
	return newTargets(all)
}

func (f *fleet) client(role pki.Role) (*Client, *pki.Identity) {
	c := &Client{Dialer: new(wire.Dialer), System: "test"}
	if f.certs == "" {
		return c, nil
	}
	id := f.identity(role)
	c.Dialer.TLS = id.ClientTLS()
	return c, id
}

// scan asks all hosts; the results are by host, and each came once.
func (f *fleet) scan(ctx context.Context, mode RelayMode, wait time.Duration, hosts ...string) map[string]HostResult[NetworkScanResp] {
	f.t.Helper()
	is := is.New(f.t)
	if len(hosts) == 0 {
		hosts = f.addrs()
	}
	c, id := f.client(pki.Admin)
	all := make(map[string]HostResult[NetworkScanResp])
	FanOut(ctx, c, hosts, NetworkScan, &NetworkScanReq{Provider: "ofi+tcp"}, FanOutOptions{Relay: mode, Identity: id, Timeout: wait}, func(r HostResult[NetworkScanResp]) {
		_, twice := all[r.Host]
		is.True(!twice) // one result for each host
		all[r.Host] = r
	})
	is.Equal(len(all), len(hosts))
	return all
}

// same holds the results of two ways against each other.
func same(t testing.TB, a, b map[string]HostResult[NetworkScanResp]) {
	t.Helper()
	for host, x := range a {
		y := b[host]
		if fmt.Sprint(x.Value) != fmt.Sprint(y.Value) || fault.Of(x.Err) != fault.Of(y.Err) || fault.HintOf(x.Err) != fault.HintOf(y.Err) {
			t.Errorf("host %s: %v, %v; the other way %v, %v", host, x.Value, x.Err, y.Value, y.Err)
		}
	}
}

func (f *fleet) calls() (all []int32) {
	for _, h := range f.hosts {
		all = append(all, h.calls.Swap(0))
	}
	return all
}

func TestRelayAnswersAsDirect(t *testing.T) {
	for _, secure := range []bool{true, false} {
		t.Run(fmt.Sprintf("secure=%v", secure), func(t *testing.T) {
			is := is.New(t)
			f := newFleet(t, fleetSize, secure, nil)
			direct := f.scan(t.Context(), RelayNever, 0)
			f.calls()
			for range 2 { // cold and warm
				relayed := f.scan(t.Context(), RelayAlways, 0)
				same(t, direct, relayed)
				for _, calls := range f.calls() {
					is.Equal(calls, int32(1))
				}
				ways := 0
				for _, r := range relayed {
					if len(r.Via) > 0 {
						ways++
						is.True(!slices.Contains(r.Via, r.Host))
					}
				}
				is.Equal(ways, fleetSize-roots(fleetSize)) // all but the roots came by a relay
			}
		})
	}
}

func TestRelayOfFewIsDirect(t *testing.T) {
	is := is.New(t)
	f := newFleet(t, 3, true, nil)
	for _, r := range f.scan(t.Context(), RelayAuto, 0) {
		is.Equal(len(r.Via), 0)
	}
	c, id := f.client(pki.Admin)
	n := 0
	FanOut(t.Context(), c, f.addrs(), StorageFormat, &StorageFormatReq{}, FanOutOptions{Relay: RelayAlways, Identity: id}, func(r HostResult[StorageFormatResp]) {
		is.NoErr(r.Err)
		is.Equal(len(r.Via), 0) // a format is never relayed
		n++
	})
	is.Equal(n, 3)
}

func TestRelayGoesRoundTheDead(t *testing.T) {
	is := is.New(t)
	f := newFleet(t, fleetSize, true, nil)
	to := f.targets()
	part := span{0, to.count}.split(roots(to.count))[1]
	// A root, some of its leaves, and all of another root's hosts.
	dead := []int{part.lo, part.lo + 1, part.hi - 1}
	whole := span{0, to.count}.split(roots(to.count))[3]
	for i := whole.lo; i < whole.hi; i++ {
		dead = append(dead, i)
	}
	for _, i := range dead {
		f.hosts[i].stop()
	}
	same(t, f.scan(t.Context(), RelayNever, 0), f.scan(t.Context(), RelayAlways, 0))
	is.Equal(len(f.hosts), to.count)
}

func TestRelayDiesMidway(t *testing.T) {
	is := is.New(t)
	hold := make(chan struct{})
	var victim *fleetHost
	reached := make(chan struct{}, fleetSize)
	f := newFleet(t, fleetSize, true, func(i int, h *fleetHost) {
		h.before = func(ctx context.Context) error {
			if victim == nil {
				return nil
			}
			reached <- struct{}{}
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	})
	direct := f.scan(t.Context(), RelayNever, 0)
	f.calls()
	victim = f.hosts[span{0, fleetSize}.split(roots(fleetSize))[2].lo]
	go func() {
		for range fleetSize {
			<-reached // every host works on it
		}
		victim.stop()
		close(hold)
	}()
	relayed := f.scan(t.Context(), RelayAlways, 0)
	is.Equal(fault.Of(relayed[victim.addr.String()].Err), fault.Unreachable)
	delete(relayed, victim.addr.String())
	same(t, relayed, direct) // its sub-tree is asked another way
	for host, r := range relayed {
		is.True(!slices.Contains(r.Via, victim.addr.String()) || r.Err == nil)
		is.True(host != victim.addr.String())
	}
}

func TestRelayOfSlowHosts(t *testing.T) {
	is := is.New(t)
	const wait = 2 * time.Second
	slow := map[int]bool{}
	parts := span{0, fleetSize}.split(roots(fleetSize))
	slow[parts[0].lo] = true   // a root, itself
	slow[parts[1].lo+2] = true // a leaf
	f := newFleet(t, fleetSize, true, func(i int, h *fleetHost) {
		if slow[i] {
			h.before = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		}
	})
	begin := time.Now()
	got := f.scan(t.Context(), RelayAlways, wait)
	is.True(time.Since(begin) < wait+wait/10)
	for i, h := range f.hosts {
		r := got[h.addr.String()]
		if slow[i] {
			is.Equal(fault.Of(r.Err), fault.Timeout)
		} else {
			is.True(r.Err == nil || fault.Of(r.Err) == fault.Busy) // the rest are not held up
		}
	}
	leaf := f.hosts[parts[1].lo+2].addr.String()
	is.True(strings.Contains(got[leaf].Err.Error(), leaf)) // whom it was
}

// TestRelayAmongOthers has hosts that speak no relay, hang, are unknown or absent.
func TestRelayAmongOthers(t *testing.T) {
	is := is.New(t)
	f := newFleet(t, 80, true, nil)
	for _, i := range []int{0, 17, 40} {
		delete(f.hosts[i].mux.handlers, RelayFan.Name) // an older release
	}
	f.hosts[30].relay.Own = func(netip.AddrPort) bool { return false } // behind a translated address
	f.hosts[50].relay.now = func() time.Time { return time.Now().Add(time.Hour) }
	odd := []string{"no-such-host.invalid:1", "missing-port", fmt.Sprintf("localhost:%d", f.port)}
	hosts := append(f.addrs(), odd...)
	direct := f.scan(t.Context(), RelayNever, 0, hosts...)
	relayed := f.scan(t.Context(), RelayAlways, 0, hosts...)
	same(t, direct, relayed)
	is.True(relayed[odd[0]].Err != nil)
}

func TestRelayedByNames(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	is.NoErr(err)
	h := &fleetHost{addr: netip.MustParseAddrPort(ln.Addr().String()), log: new(syncBuffer)}
	h.serve(ln, nil)
	f := &fleet{t: t, hosts: []*fleetHost{h}}
	defer h.stop()
	name := fmt.Sprintf("localhost:%d", h.addr.Port())
	got := f.scan(t.Context(), RelayAlways, 0, name, h.addr.String())
	is.NoErr(got[name].Err) // two names, one server
	is.Equal(got[name].Value, got[h.addr.String()].Value)
	is.Equal(h.calls.Load(), int32(1))
}
