package server

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"daosbox/commands/control"
)

// serveRelay lets this server pass requests of administrators on to others, over
// the connections that it keeps to them. An administrator's certificate is checked
// as in a handshake.
func (s *server) serveRelay() {
	relay := &control.Relay{Client: s.client, Own: s.ownAddress}
	if s.identity != nil {
		verify := s.identity.ServerTLS().VerifyConnection // follows a reload
		relay.Verify = func(chain []*x509.Certificate) error {
			return verify(tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: chain})
		}
	}
	s.mux.HandleRelay(relay)
}

// ownAddress reports whether addr is where this server alone is reached: its
// address in the system or, when it listens on all, any of its interfaces'. A
// loopback address is only its own where the configuration says so.
func (s *server) ownAddress(addr netip.AddrPort) bool {
	if addr.String() == s.self {
		return true
	}
	host, port, err := net.SplitHostPort(listenAddress(s.cfg))
	if err != nil || strconv.Itoa(int(addr.Port())) != port || addr.Addr().IsLoopback() {
		return false
	}
	if listen, err := netip.ParseAddr(host); err == nil && !listen.IsUnspecified() {
		return listen == addr.Addr()
	}
	own, err := ownAddresses()
	return err == nil && slices.Contains(own, addr.Addr().String())
}
