package pki

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"daosbox/cluster/fault"
)

// Identity is a loaded certificate with its key and the authority it trusts. It is
// safe for use by many goroutines; the TLS configurations made from it follow a
// Reload from the next handshake on.
type Identity struct {
	files Files
	role  Role
	now   atomic.Pointer[material]
}

// material is what one load produced; it never changes, so that a handshake sees
// one authority and one certificate from beginning to end. Only verdicts grow,
// which follow from the rest.
type material struct {
	caPath string
	cas    []*x509.Certificate
	pool   *x509.CertPool
	cert   tls.Certificate
	key    crypto.Signer

	verdicts verdicts
}

// Load reads an identity and checks it: the client directory can be listed, no
// file is more open than allowed (CA and certificate 0664, key 0400, an
// administrator's 0440), the key belongs to the certificate, the certificate has
// this role, is valid now and comes from the CA. A missing file is
// fault.CertificateMissing, one without access fault.CertificateUnreadable, bad
// content or validity fault.CertificateInvalid, the rest fault.Certificate; each
// has a hint.
func Load(files Files, role Role) (*Identity, error) {
	id := &Identity{files: files, role: role}
	if err := id.Reload(); err != nil {
		return nil, err
	}
	return id, nil
}

// Reload reads the files again. When anything is wrong with them it returns the
// error and the identity stays as it was.
func (id *Identity) Reload() error {
	m, err := load(id.files, id.role, time.Now())
	if err != nil {
		return err
	}
	id.now.Store(m)
	return nil
}

// Role returns the role the identity was loaded for.
func (id *Identity) Role() Role { return id.role }

// Certificate returns the identity's own certificate, for reports of its subject
// and expiry.
func (id *Identity) Certificate() *x509.Certificate { return id.now.Load().cert.Leaf }

// Fingerprint names the certificate together with the authorities it trusts: what
// is remembered of connections under it holds for no other.
func (id *Identity) Fingerprint() [sha256.Size]byte {
	m := id.now.Load()
	h := sha256.New()
	for _, der := range m.cert.Certificate {
		h.Write(der)
	}
	for _, ca := range m.cas {
		h.Write(ca.Raw)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func load(files Files, role Role, now time.Time) (*material, error) {
	if files.ClientDir != "" {
		if err := listable(files.ClientDir); err != nil {
			return nil, err
		}
	}
	m := &material{caPath: files.CA, pool: x509.NewCertPool()}
	var err error
	if m.cas, err = readCerts(files.CA); err != nil {
		return nil, err
	}
	for _, ca := range m.cas {
		m.pool.AddCert(ca)
	}
	chain, err := readCerts(files.Cert)
	if err != nil {
		return nil, err
	}
	if m.key, err = readKey(files.Key, keyLimit(role)); err != nil {
		return nil, err
	}
	leaf := chain[0]
	if !samePublic(leaf, m.key) {
		return nil, fault.New(fault.Certificate, "cannot use %s: the key does not belong to the certificate in %s", files.Key, files.Cert).
			WithHint("install key and certificate of the same `daosbox certs issue`")
	}
	m.cert = tls.Certificate{PrivateKey: m.key, Leaf: leaf}
	for _, cert := range chain {
		m.cert.Certificate = append(m.cert.Certificate, cert.Raw)
	}
	if leaf.Subject.CommonName != string(role) {
		return nil, fault.New(fault.Certificate, "cannot use %s: %s, wanted common name %q", files.Cert, describe(leaf), role).
			WithHint("install the %s certificate, or make one with `daosbox certs issue --role %s`", role, role)
	}
	if err := m.verify(chain, x509.ExtKeyUsageAny, now); err != nil {
		err.What = "cannot use " + files.Cert + ": " + err.What
		return nil, err
	}
	return m, nil
}

func listable(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return openFault(dir, err)
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); err != nil && !errors.Is(err, io.EOF) {
		return openFault(dir, err)
	}
	return nil
}

// ServerTLS returns the configuration of a listener: TLS 1.3, a client certificate
// is required, must come from the CA, be valid now, be made for clients and have a
// role. The errors of a handshake are *fault.Error.
func (id *Identity) ServerTLS() *tls.Config {
	cfg := id.baseTLS()
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &id.now.Load().cert, nil
	}
	// The chain is verified below, for errors that name the certificate.
	cfg.ClientAuth = tls.RequireAnyClientCert
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if err := id.verifyPeer(state.PeerCertificates, x509.ExtKeyUsageClientAuth); err != nil {
			return err
		}
		_, err := RoleOf(state.PeerCertificates[0])
		return err
	}
	return cfg
}

// ClientTLS returns the configuration of a dialer: TLS 1.3, the peer's certificate
// must come from the CA, be valid now, be made for servers and have the role
// server; its host names are not looked at. The errors of a handshake are
// *fault.Error; what the server says is for Explain.
func (id *Identity) ClientTLS() *tls.Config {
	cfg := id.baseTLS()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		m, now := id.now.Load(), time.Now()
		// The server would refuse it and could not say why.
		if why := expiry(m.cert.Leaf, now); why != "" {
			return nil, fault.New(fault.CertificateInvalid, "cannot use %s: %s", id.files.Cert, why).
				WithHint("%s", hintFor(m.cert.Leaf, now))
		}
		return &m.cert, nil
	}
	cfg.CurvePreferences = dialCurves()
	cfg.InsecureSkipVerify = true // replaced by VerifyConnection: no host names, better errors
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if err := id.verifyPeer(state.PeerCertificates, x509.ExtKeyUsageServerAuth); err != nil {
			return err
		}
		if leaf := state.PeerCertificates[0]; leaf.Subject.CommonName != string(Server) {
			return fault.New(fault.Certificate, "cannot trust the peer: it is no server, it has the %s", describe(leaf)).
				WithHint("check that the address is that of a server, and that the server has its own certificate")
		}
		return nil
	}
	return cfg
}

func (id *Identity) baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
	}
}

// dialCurves is what a client offers. No post-quantum hybrid: its client part alone
// costs 0.1 ms of every connection, which counts where one client dials a thousand
// hosts. And of the classical ones P-256 alone, which every server takes and whose
// keys are made in a third of the time: crypto/tls sends a share of the first curve in
// its own order, so naming both would mean X25519.
func dialCurves() []tls.CurveID { return []tls.CurveID{tls.CurveP256} }

// Explain turns the alert that a peer sent instead of going on into a
// fault.Certificate that says which of our certificates it did not take; other
// errors are returned as they are. An alert may arrive with the first read, after
// the handshake.
func (id *Identity) Explain(err error) error {
	remote, ok := errors.AsType[*net.OpError](err)
	if !ok || remote.Op != "remote error" {
		return err
	}
	text := remote.Err.Error()
	if !strings.Contains(text, "certificate") && !strings.Contains(text, "unknown authority") && !strings.Contains(text, "access denied") {
		return err
	}
	return fault.Wrap(fault.Certificate, err, "cannot talk to the peer: it refused our %s", describe(id.Certificate())).
		WithHint("the peer's log says why; both sides need certificates of the same CA, see `daosbox certs status` on both hosts")
}
