package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"

	"github.com/matryer/is"
)

// sendRaw hands a relayed request to a host and returns its refusal.
func sendRaw(t *testing.T, id *pki.Identity, addr string, fan relayFan) error {
	t.Helper()
	d := new(wire.Dialer)
	if id != nil {
		d.TLS = id.ClientTLS()
	}
	conn, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body, err := encoding.Marshal(fan)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Call(t.Context(), RelayFan.Name, body)
	return err
}

// envelopeOf changes an envelope and signs it again with id, or leaves the old
// signature when id is nil.
func envelopeOf(t *testing.T, s sealed, id *pki.Identity, change func(*envelope)) sealed {
	t.Helper()
	e, _, err := decodeEnvelope(s.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	change(e)
	if s.Envelope, err = encoding.Marshal(e); err != nil {
		t.Fatal(err)
	}
	if id != nil {
		if s.Signature, err = id.Sign(toSign(s.Envelope)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestRelayRefuses tries what a relay, an agent or a stranger could try.
func TestRelayRefuses(t *testing.T) {
	is := is.New(t)
	f := newFleet(t, 4, true, nil)
	other := filepath.Join(t.TempDir(), "other")
	is.NoErr(pki.Init(other, pki.InitOptions{}))
	admin, server, agent := f.identity(pki.Admin), f.identity(pki.Server), f.identity(pki.Agent)
	stranger := loadIdentity(t, other, pki.Admin)
	second, err := pki.Issue(f.certs, pki.Admin, pki.IssueOptions{Out: filepath.Join(t.TempDir(), "second")})
	is.NoErr(err)
	colleague, err := pki.Load(pki.Files{CA: filepath.Join(f.certs, "daosCA.crt"), Cert: second.Cert, Key: second.Key}, pki.Admin)
	is.NoErr(err)

	body, err := encoding.Marshal(NetworkScanReq{})
	is.NoErr(err)
	all := f.targets()
	few := newTargets([]netip.AddrPort{f.hosts[0].addr, f.hosts[1].addr})
	make := func(id *pki.Identity, method string, to *targets) sealed {
		s, err := seal(id, "test", method, body, to, time.Now(), time.Minute)
		is.NoErr(err)
		return s
	}
	good := make(admin, NetworkScan.Name, all)
	keep := func(*envelope) {}
	cases := []struct {
		name string
		by   *pki.Identity // whose connection
		send sealed
		from int
		to   int
		code fault.Code
		text string
	}{
		{"forged", server, envelopeOf(t, good, server, keep), 0, 1, fault.Permission, "signature does not fit"},
		{"forged with a stranger's key", server, envelopeOf(t, good, stranger, keep), 0, 1, fault.Permission, "signature does not fit"},
		{"unsigned", admin, sealed{Envelope: good.Envelope, Body: body}, 0, 1, fault.Permission, "signature does not fit"},
		{"other method", server, envelopeOf(t, good, nil, func(e *envelope) { e.Method = SetLogMasks.Name }), 0, 1, fault.Permission, "signature does not fit"},
		{"altered body", server, sealed{good.Envelope, good.Signature, append(body[:len(body):len(body)], 0)}, 0, 1, fault.Permission, "body is not the one"},
		{"widened targets", server, envelopeOf(t, make(admin, NetworkScan.Name, few), nil, func(e *envelope) { e.Targets = all.encode() }), 2, 3, fault.Permission, "signature does not fit"},
		{"beyond the targets", server, make(admin, NetworkScan.Name, few), 0, 3, fault.Permission, "not signed for"},
		{"another's place", server, make(admin, NetworkScan.Name, all), 1, 2, fault.Refused, "no control address of this server"},
		{"nobody's place", server, make(admin, NetworkScan.Name, all), -1, 1, fault.Permission, "not signed for"},
		{"expired", server, envelopeOf(t, good, admin, func(e *envelope) { e.Issued -= 600e3; e.Expires -= 600e3 }), 0, 1, fault.Refused, "expired at"},
		{"good for too long", server, envelopeOf(t, good, admin, func(e *envelope) { e.Expires += 600e3 }), 0, 1, fault.Refused, "is from"},
		{"from the future", server, envelopeOf(t, good, admin, func(e *envelope) { e.Issued += 600e3; e.Expires += 600e3 }), 0, 1, fault.Refused, "is from"},
		{"agent as origin", server, make(agent, NetworkScan.Name, all), 0, 1, fault.Permission, `role "agent"`},
		{"agent's connection", agent, good, 0, 1, fault.Permission, `role "agent"`},
		{"server as origin", server, make(server, NetworkScan.Name, all), 0, 1, fault.Permission, `role "server"`},
		{"foreign authority", server, make(stranger, NetworkScan.Name, all), 0, 1, fault.Certificate, "not the CA"},
		{"no chain", server, envelopeOf(t, good, admin, func(e *envelope) { e.Chain = nil }), 0, 1, fault.Permission, "nobody signed"},
		{"cut certificate", server, envelopeOf(t, good, admin, func(e *envelope) { e.Chain = [][]byte{e.Chain[0][:200]} }), 0, 1, fault.Certificate, "damaged"},
		{"truncated chain", server, intermediate(t, f, good), 0, 1, fault.Certificate, "not the CA"},
		{"another administrator's connection", colleague, make(admin, NetworkScan.Name, all), 0, 1, fault.Permission, "signed by another"},
		{"another system", server, envelopeOf(t, good, admin, func(e *envelope) { e.System = "other" }), 0, 1, fault.WrongSystem, `"other"`},
		{"no method to relay", server, make(admin, StorageFormat.Name, all), 0, 1, fault.Permission, "each host"},
		{"relay of a relay", server, make(admin, RelayFan.Name, all), 0, 1, fault.Permission, "each host"},
		{"garbage", server, sealed{Envelope: []byte("garbage")}, 0, 1, fault.Usage, "cannot read the envelope"},
	}
	host := f.hosts[0]
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			host.relay.log.seen = nil
			before := len(host.log.String())
			for range 3 {
				err := sendRaw(t, c.by, host.addr.String(), relayFan{c.send, c.from, c.to})
				is.Equal(fault.Of(err), c.code)
				is.True(strings.Contains(err.Error(), c.text)) // says why
			}
			if c.by != agent { // the table of methods refuses that
				logged := host.log.String()[before:]
				is.Equal(strings.Count(logged, "refused a relayed request"), 1) // once
				is.True(strings.Contains(logged, "peer="))
			}
		})
	}
	for _, h := range f.hosts {
		is.Equal(h.calls.Load(), int32(0)) // nothing was done
	}

	// After all that the true request is served, once.
	one := relayFan{good, 0, 4}
	is.NoErr(sendRaw(t, admin, host.addr.String(), one))
	before := len(host.log.String())
	for range 3 {
		err = sendRaw(t, server, host.addr.String(), one)
		is.Equal(fault.Of(err), fault.Refused)
		is.True(strings.Contains(err.Error(), "served already"))
	}
	is.Equal(strings.Count(host.log.String()[before:], "served already"), 1)
	is.Equal(fault.Of(sendRaw(t, server, f.hosts[2].addr.String(), relayFan{good, 2, 3})), fault.Refused) // nor on another
	for _, h := range f.hosts {
		is.Equal(h.calls.Load(), int32(1))
	}
	host.relay.began = time.Now().Add(time.Second)
	err = sendRaw(t, admin, host.addr.String(), relayFan{make(admin, NetworkScan.Name, all), 0, 1})
	is.Equal(fault.Of(err), fault.NotReady) // it may have been served before the restart
}

// intermediate signs s as an administrator whose certificate is from an authority
// between, which the envelope leaves out.
func intermediate(t *testing.T, f *fleet, s sealed) sealed {
	t.Helper()
	is := is.New(t)
	caKey, caCert := readPair(t, f.certs)
	between, betweenKey := issue(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "between"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, caCert, caKey)
	leaf, leafKey := issue(t, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "admin"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature}, between, betweenKey)
	dir := t.TempDir()
	writeTestPair(t, dir, []*x509.Certificate{leaf, between}, leafKey)
	id, err := pki.Load(pki.Files{CA: filepath.Join(f.certs, "daosCA.crt"), Cert: filepath.Join(dir, "admin.crt"), Key: filepath.Join(dir, "admin.key")}, pki.Admin)
	is.NoErr(err)
	// With its whole chain it is good.
	whole, err := seal(id, "test", NetworkScan.Name, s.Body, newTargets([]netip.AddrPort{f.hosts[3].addr}), time.Now(), time.Minute)
	is.NoErr(err)
	is.NoErr(sendRaw(t, f.identity(pki.Server), f.hosts[3].addr.String(), relayFan{whole, 0, 1}))
	f.hosts[3].calls.Store(0)
	return envelopeOf(t, s, id, func(e *envelope) { e.Chain = [][]byte{leaf.Raw} })
}

func issue(t *testing.T, template, parent *x509.Certificate, parentKey any) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	is := is.New(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(err)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	is.NoErr(err)
	cert, err := x509.ParseCertificate(der)
	is.NoErr(err)
	return cert, key
}

func readPair(t *testing.T, certs string) (any, *x509.Certificate) {
	t.Helper()
	is := is.New(t)
	block := func(path string) []byte {
		data, err := os.ReadFile(filepath.Join(certs, path))
		is.NoErr(err)
		b, _ := pem.Decode(data)
		is.True(b != nil)
		return b.Bytes
	}
	key, err := x509.ParsePKCS8PrivateKey(block("private/daosCA.key"))
	is.NoErr(err)
	cert, err := x509.ParseCertificate(block("daosCA.crt"))
	is.NoErr(err)
	return key, cert
}

func writeTestPair(t *testing.T, dir string, chain []*x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	is := is.New(t)
	var certs []byte
	for _, cert := range chain {
		certs = append(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	is.NoErr(err)
	is.NoErr(os.WriteFile(filepath.Join(dir, "admin.crt"), certs, 0o644))
	is.NoErr(os.WriteFile(filepath.Join(dir, "admin.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o400))
}

func TestNoncesAreBounded(t *testing.T) {
	is := is.New(t)
	n := nonces{most: 4}
	now := time.Now()
	nonce := func(i int) []byte { return append([]byte{byte(i)}, make([]byte, nonceSize-1)...) }
	for i := range 4 {
		is.NoErr(n.use(nonce(i), now.Add(time.Duration(i+1)*time.Minute), now))
	}
	is.Equal(fault.Of(n.use(nonce(9), now.Add(time.Minute), now)), fault.Busy) // none is forgotten for it
	is.Equal(fault.Of(n.use(nonce(0), now.Add(time.Minute), now)), fault.Refused)
	later := now.Add(2*time.Minute + time.Second)
	is.NoErr(n.use(nonce(9), later.Add(time.Minute), later)) // two are over
	is.Equal(len(n.until), 3)
	is.Equal(fault.Of(n.use(nonce(2), later.Add(time.Minute), later)), fault.Refused)
}

func TestRelayInsecure(t *testing.T) {
	is := is.New(t)
	f := newFleet(t, 2, false, nil)
	body, err := encoding.Marshal(NetworkScanReq{})
	is.NoErr(err)
	s, err := seal(nil, "test", NetworkScan.Name, body, f.targets(), time.Now(), time.Minute)
	is.NoErr(err)
	is.NoErr(sendRaw(t, nil, f.hosts[0].addr.String(), relayFan{s, 0, 2}))
	is.Equal(fault.Of(sendRaw(t, nil, f.hosts[0].addr.String(), relayFan{s, 0, 2})), fault.Refused)
	s.Body = append(s.Body, 0)
	is.Equal(fault.Of(sendRaw(t, nil, f.hosts[1].addr.String(), relayFan{s, 1, 2})), fault.Permission)
}
