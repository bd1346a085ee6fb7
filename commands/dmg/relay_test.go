package dmg

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"

	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/commands/fabric"

	"github.com/matryer/is"
)

// TestRelay asks through servers that pass the request on; one of them is down.
func TestRelay(t *testing.T) {
	is := is.New(t)
	var verify func(tls.ConnectionState) error
	var clients []*control.Client
	ready := make(chan struct{}) // the servers' certificates are there
	s := newSite(t, true, 9, 10, func(i int, m *control.Mux) {
		control.Handle(m, control.NetworkScan, func(_ context.Context, _ control.Caller, req *control.NetworkScanReq, _ control.Report) (control.NetworkScanResp, error) {
			return control.NetworkScanResp{Fabric: fabric.Host{Providers: []string{req.Provider}}}, nil
		})
		c := &control.Client{Dialer: new(wire.Dialer), System: "daos_server", Keep: true}
		clients = append(clients, c)
		self := netip.AddrFrom4([4]byte{127, 0, 7, byte(i)})
		m.HandleRelay(&control.Relay{
			Client: c,
			Own:    func(addr netip.AddrPort) bool { return addr.Addr() == self },
			Verify: func(chain []*x509.Certificate) error {
				<-ready
				return verify(tls.ConnectionState{PeerCertificates: chain})
			},
		})
	})
	id, err := pki.Load(s.files(pki.Server), pki.Server)
	is.NoErr(err)
	verify = id.ServerTLS().VerifyConnection
	for _, c := range clients {
		c.Dialer.TLS = id.ClientTLS()
		t.Cleanup(c.Close)
	}
	close(ready)
	response, _, _ := s.run("network", "scan", "-p", "x", "-j", "--relay", "always").body(t)
	is.Equal(keys(response), "HostFabrics host_errors via")
	is.Equal(sole(t, response["HostFabrics"])["HostSet"], "127.0.7.[1-9]:PORT")
	is.Equal(len(response["host_errors"].(map[string]any)), 1)
	way := response["via"].(map[string]any)
	is.Equal(way["127.0.7.1:PORT"], "127.0.7.2:PORT") // through whom

	response, _, _ = s.run("network", "scan", "-p", "x", "-j", "--relay", "never").body(t)
	is.Equal(keys(response), "HostFabrics host_errors")
	is.Equal(sole(t, response["HostFabrics"])["HostSet"], "127.0.7.[1-9]:PORT")

	bad := s.run("network", "scan", "--relay", "sometimes")
	is.Equal(bad.exit, cli.Usage)
	is.True(strings.Contains(bad.stderr, "never, auto or always"))
	is.Equal(s.run("storage", "format", "--relay", "always").exit, cli.Usage) // is never relayed
}
