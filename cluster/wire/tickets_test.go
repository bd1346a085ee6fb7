package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
)

// resumed makes one call and says whether its connection resumed a session.
func resumed(t *testing.T, d *Dialer, addr string) (bool, error) {
	t.Helper()
	c, err := d.Dial(t.Context(), addr)
	if err != nil {
		return false, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = c.Call(ctx, "echo", []byte("x"))
	return c.conn.(*tls.Conn).ConnectionState().DidResume, err
}

func TestTicketsAcrossRuns(t *testing.T) {
	is := is.New(t)
	dir, cache := filepath.Join(t.TempDir(), "certs"), filepath.Join(t.TempDir(), "cache")
	is.NoErr(pki.Init(dir, pki.InitOptions{}))
	server, admin := identity(t, dir, pki.Server), identity(t, dir, pki.Admin)
	s := serve(t, ServerConfig{TLS: server.ServerTLS(), Handler: func(_ context.Context, req *Request, out Sender) error {
		role, err := pki.RoleOf(req.Peer.Cert)
		if err != nil {
			return err
		}
		return out.Send([]byte(role))
	}})
	run := func(id *pki.Identity) bool {
		t.Helper()
		tickets := OpenTickets(cache, id.Fingerprint())
		again, err := resumed(t, &Dialer{TLS: id.ClientTLS(), Tickets: tickets}, s.addr)
		is.NoErr(err)
		is.NoErr(tickets.Save())
		return again
	}
	is.True(!run(admin))
	is.True(run(admin))
	is.True(run(admin)) // every connection brings the next ticket
	path := OpenTickets(cache, admin.Fingerprint()).path
	info, err := os.Stat(path)
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), os.FileMode(0o600))

	is.True(!run(identity(t, dir, pki.Agent))) // another identity has its own
	is.True(run(admin))

	// Damaged, or open to others: as good as none.
	data, err := os.ReadFile(path)
	is.NoErr(err)
	is.NoErr(os.WriteFile(path, data[:len(data)-1], 0o600))
	is.True(!run(admin))
	is.True(run(admin))
	is.NoErr(os.Chmod(path, 0o644))
	is.True(!run(admin))
	is.True(run(admin))

	// Another's file under our name is not used.
	is.NoErr(os.Rename(OpenTickets(cache, identity(t, dir, pki.Agent).Fingerprint()).path, path))
	is.True(!run(admin))

	// A server that was restarted has other keys: the handshake is a full one.
	other := serve(t, ServerConfig{TLS: identity(t, dir, pki.Server).ServerTLS()})
	tickets := OpenTickets(cache, admin.Fingerprint())
	_, err = resumed(t, &Dialer{TLS: admin.ClientTLS(), Tickets: tickets}, s.addr)
	is.NoErr(err)
	tickets.byKey[Control+" "+other.addr] = tickets.byKey[Control+" "+s.addr]
	again, err := resumed(t, &Dialer{TLS: admin.ClientTLS(), Tickets: tickets}, other.addr)
	is.NoErr(err)
	is.True(!again)
}

// A resumed session is no way round the check of the certificate behind it.
func TestTicketOfRejected(t *testing.T) {
	is := is.New(t)
	dir := filepath.Join(t.TempDir(), "certs")
	is.NoErr(pki.Init(dir, pki.InitOptions{}))
	server, admin := identity(t, dir, pki.Server), identity(t, dir, pki.Admin)
	cfg := server.ServerTLS()
	verify, refuse := cfg.VerifyConnection, false
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if refuse && state.DidResume {
			if len(state.PeerCertificates) == 0 {
				t.Error("a resumed connection without its certificate")
			}
			return fault.New(fault.Certificate, "not any more")
		}
		return verify(state)
	}
	s := serve(t, ServerConfig{TLS: cfg})
	d := &Dialer{TLS: admin.ClientTLS(), Tickets: OpenTickets(t.TempDir(), admin.Fingerprint())}
	_, err := resumed(t, d, s.addr)
	is.NoErr(err)
	refuse = true
	again, err := resumed(t, d, s.addr)
	is.True(again)
	is.Equal(fault.Of(err), fault.Certificate)

	// A new authority at the server: what the old one signed is refused, resumed or not.
	refuse = false
	_, err = resumed(t, d, s.addr)
	is.NoErr(err)
	fresh := filepath.Join(t.TempDir(), "fresh")
	is.NoErr(pki.Init(fresh, pki.InitOptions{}))
	for _, name := range []string{"daosCA.crt", "server.crt", "server.key"} {
		data, err := os.ReadFile(filepath.Join(fresh, name))
		is.NoErr(err)
		is.NoErr(os.Remove(filepath.Join(dir, name)))
		mode := os.FileMode(0o644)
		if filepath.Ext(name) == ".key" {
			mode = 0o400
		}
		is.NoErr(os.WriteFile(filepath.Join(dir, name), data, mode))
	}
	is.NoErr(server.Reload())
	_, err = resumed(t, d, s.addr)
	is.Equal(fault.Of(err), fault.Certificate)
}

func TestTicketsAreBounded(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	all := OpenTickets(dir, sha256.Sum256([]byte("me")))
	for i := range maxTickets {
		all.byKey[fmt.Sprint("control host", i)] = ticket{at: all.now().Unix(), ticket: []byte("t"), state: []byte("s")}
	}
	all.mu.Lock()
	all.evict()
	all.changed = true
	all.mu.Unlock()
	is.True(len(all.byKey) <= maxTickets/2+1)
	is.NoErr(all.Save())
	again := OpenTickets(dir, all.owner)
	is.Equal(len(again.byKey), len(all.byKey))
	is.NoErr(again.Save()) // nothing new, nothing written

	// Old tickets and files of many identities go.
	late := time.Now().Add(ticketLife + time.Hour)
	known, err := decodeTickets(encodeTickets(all.byKey, all.owner), all.owner, late)
	is.NoErr(err)
	is.Equal(len(known), 0)
	for i := range 3 * maxTicketFiles {
		one := OpenTickets(dir, sha256.Sum256([]byte{byte(i)}))
		one.changed = true
		is.NoErr(one.Save())
	}
	files, err := os.ReadDir(dir)
	is.NoErr(err)
	is.True(len(files) <= maxTicketFiles)
}

func FuzzTickets(f *testing.F) {
	owner := sha256.Sum256([]byte("me"))
	now := time.Unix(1_800_000_000, 0)
	f.Add([]byte{})
	f.Add(binaryTickets("control a:1"))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := append([]byte(ticketMagic), owner[:]...)
		b = append(b, body...)
		sum := sha256.Sum256(b)
		all, err := decodeTickets(append(b, sum[:]...), owner, now)
		if err != nil {
			return
		}
		again, err := decodeTickets(encodeTickets(all, owner), owner, now)
		if err != nil || len(again) != len(all) {
			t.Fatalf("%d tickets became %d: %v", len(all), len(again), err)
		}
	})
}

func binaryTickets(key string) []byte {
	owner := sha256.Sum256([]byte("me"))
	b := encodeTickets(map[string]ticket{key: {at: 1_800_000_000, ticket: []byte("t"), state: []byte("s")}}, owner)
	return bytes.TrimPrefix(b[:len(b)-sha256.Size], append([]byte(ticketMagic), owner[:]...))
}
