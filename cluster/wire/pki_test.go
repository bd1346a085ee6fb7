package wire

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
)

func identity(t testing.TB, dir string, role pki.Role) *pki.Identity {
	t.Helper()
	id, err := pki.Load(pki.Files{CA: filepath.Join(dir, "daosCA.crt"), Cert: filepath.Join(dir, string(role)+".crt"),
		Key: filepath.Join(dir, string(role)+".key"), ClientDir: filepath.Join(dir, "clients")}, role)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The certificates that the project makes, on the wire.
func TestIdentities(t *testing.T) {
	is := is.New(t)
	dir, other := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	is.NoErr(pki.Init(dir, pki.InitOptions{}))
	is.NoErr(pki.Init(other, pki.InitOptions{}))
	roles := func(ctx context.Context, req *Request, out Sender) error {
		role, err := pki.RoleOf(req.Peer.Cert)
		if err != nil {
			return err
		}
		return out.Send([]byte(role))
	}
	s := serve(t, ServerConfig{TLS: identity(t, dir, pki.Server).ServerTLS(), Handler: roles}, Raft)
	for _, role := range []pki.Role{pki.Admin, pki.Agent, pki.Server} {
		d := &Dialer{TLS: identity(t, dir, role).ClientTLS()}
		c := dial(t, d, s.addr)
		reply, err := c.Call(t.Context(), "who", nil)
		is.NoErr(err)
		is.Equal(string(reply), string(role))
		is.Equal(c.Peer().Cert.Subject.CommonName, "server")
		r, err := d.DialService(t.Context(), s.addr, Raft)
		is.NoErr(err)
		is.NoErr(r.Close())
	}
	// A stranger's client does not trust the server, and names it.
	_, err := (&Dialer{TLS: identity(t, other, pki.Admin).ClientTLS()}).Dial(t.Context(), s.addr)
	is.Equal(fault.Of(err), fault.Certificate)
	is.True(strings.Contains(err.Error(), s.addr))
	// One that trusts everybody is rejected by the server, which it learns when it
	// first reads.
	careless := identity(t, other, pki.Admin).ClientTLS()
	careless.VerifyConnection = nil
	c := dial(t, &Dialer{TLS: careless}, s.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = c.Call(ctx, "who", nil)
	wantFault(t, err, fault.Certificate, s.addr, "rejected our certificate (admin)")
	eventually(t, "the server logs why", func() bool { return strings.Contains(s.log.String(), "not the CA") })
}
