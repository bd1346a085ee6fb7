package pki

import (
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"daosbox/cluster/fault"

	"github.com/matryer/is"
)

func identityOf(t *testing.T, dir string, role Role) *Identity {
	t.Helper()
	id, err := Load(Files{CA: filepath.Join(dir, "daosCA.crt"), Cert: filepath.Join(dir, string(role)+".crt"),
		Key: filepath.Join(dir, string(role)+".key")}, role)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A remembered verdict saves the signatures and nothing else: validity and use are
// asked anew, and another authority knows nothing of it.
func TestVerdictsAreRemembered(t *testing.T) {
	is := is.New(t)
	dir, other := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	is.NoErr(Init(dir, InitOptions{}))
	is.NoErr(Init(other, InitOptions{}))
	id := identityOf(t, dir, Server)
	m := id.now.Load()
	chain := []*x509.Certificate{identityOf(t, dir, Admin).Certificate()}
	client, now := x509.ExtKeyUsageClientAuth, time.Now()
	is.True(m.verify(chain, client, now) == nil)
	is.True(m.verdicts.holds(keyOf(chain, client), now))
	is.True(m.verify(chain, client, now) == nil)

	is.True(!m.verdicts.holds(keyOf(chain, x509.ExtKeyUsageServerAuth), now))
	late := chain[0].NotAfter.Add(time.Second)
	is.True(!m.verdicts.holds(keyOf(chain, client), late))
	is.Equal(m.verify(chain, client, late).Code, fault.CertificateInvalid)
	is.Equal(m.verify(chain, client, chain[0].NotBefore.Add(-time.Second)).Code, fault.CertificateInvalid)
	is.True(m.verify(chain, client, now) == nil)

	stranger := []*x509.Certificate{identityOf(t, other, Admin).Certificate()}
	is.True(m.verify(stranger, client, now) != nil)
	is.True(m.verify(stranger, client, now) != nil) // a bad one is not remembered
	is.Equal(len(m.verdicts.good), 2)               // the server's own, and the client's

	is.NoErr(id.Reload())
	is.True(!id.now.Load().verdicts.holds(keyOf(chain, client), now))
}

// The end of the authority counts like that of the leaf.
func TestVerdictEndsWithTheAuthority(t *testing.T) {
	is := is.New(t)
	now := time.Now()
	leaf := &x509.Certificate{Raw: []byte{1}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	short := &x509.Certificate{Raw: []byte{2}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Minute)}
	var v verdicts
	key := keyOf([]*x509.Certificate{leaf}, x509.ExtKeyUsageAny)
	v.keep(key, [][]*x509.Certificate{{leaf, short}})
	is.True(v.holds(key, now))
	is.True(!v.holds(key, now.Add(2*time.Minute)))
	is.True(!v.holds(key, now.Add(-2*time.Minute)))
}

func TestVerdictsAreBounded(t *testing.T) {
	is := is.New(t)
	var v verdicts
	now := time.Now()
	for i := range 2*maxVerdicts + 5 {
		leaf := &x509.Certificate{Raw: []byte{byte(i), byte(i >> 8), byte(i >> 16)}, NotAfter: now.Add(time.Hour)}
		v.keep(keyOf([]*x509.Certificate{leaf}, x509.ExtKeyUsageAny), [][]*x509.Certificate{{leaf}})
	}
	is.True(len(v.good) <= maxVerdicts)
}
