package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"

	"github.com/matryer/is"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// talk connects a client to a listener, sends one byte there and back, and returns
// what each side ended with; the client's error is explained by its identity.
func talk(t *testing.T, server, client *tls.Config, explain func(error) error) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	defer ln.Close()
	ended := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close()
		ended <- echo(tls.Server(conn, server))
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	is.NoErr(err)
	defer raw.Close()
	conn := tls.Client(raw, client)
	clientErr = explain(ask(ctx, conn))
	raw.Close()
	return conn.ConnectionState(), <-ended, clientErr
}

func echo(conn *tls.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return err
	}
	buf := make([]byte, 1)
	if _, err := conn.Read(buf); err != nil {
		return err
	}
	_, err := conn.Write(buf)
	return err
}

func ask(ctx context.Context, conn *tls.Conn) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("a")); err != nil {
		return err
	}
	// The server judges the client after the client's handshake has ended.
	_, err := conn.Read(make([]byte, 1))
	return err
}

func same(err error) error { return err }

func TestHandshakeOfEveryRole(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	server := load(t, dir, pki.Server)
	for _, role := range []pki.Role{pki.Server, pki.Agent, pki.Admin} {
		client := load(t, dir, role)
		state, serverErr, clientErr := talk(t, server.ServerTLS(), client.ClientTLS(), client.Explain)
		is.NoErr(serverErr)
		is.NoErr(clientErr)
		is.Equal(state.Version, uint16(tls.VersionTLS13))
		is.Equal(state.CurveID, tls.CurveP256) // one classical share
		got, err := pki.RoleOf(state.PeerCertificates[0])
		is.NoErr(err)
		is.Equal(got, pki.Server)
	}
}

func TestHandshakeWithTheOldScriptsCertificates(t *testing.T) {
	is := is.New(t)
	certs := filepath.Join(oldScript(t), "daosCA", "certs")
	server, admin := load(t, certs, pki.Server), load(t, certs, pki.Admin)
	_, serverErr, clientErr := talk(t, server.ServerTLS(), admin.ClientTLS(), admin.Explain)
	is.NoErr(serverErr)
	is.NoErr(clientErr)
}

func TestHandshakeFollowsReload(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	server, agent := load(t, dir, pki.Server), load(t, dir, pki.Agent)
	serverTLS, agentTLS := server.ServerTLS(), agent.ClientTLS()
	other := newCA(t, pki.InitOptions{})
	for _, name := range []string{"daosCA.crt", "server.crt", "agent.crt"} {
		copyFile(t, filepath.Join(other, name), filepath.Join(dir, name), 0o644)
	}
	for _, name := range []string{"server.key", "agent.key"} {
		copyFile(t, filepath.Join(other, name), filepath.Join(dir, name), 0o400)
	}
	is.NoErr(server.Reload())
	is.NoErr(agent.Reload())
	state, serverErr, clientErr := talk(t, serverTLS, agentTLS, agent.Explain)
	is.NoErr(serverErr)
	is.NoErr(clientErr)
	is.True(state.PeerCertificates[0].Equal(server.Certificate()))
}

// present makes a configuration that shows the certificate in dir without looking
// at it, as a program with its own idea of checks would.
func present(t *testing.T, dir string, role pki.Role) *tls.Config {
	t.Helper()
	f := files(dir, role)
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	is.New(t).NoErr(err)
	return &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert}
}

func TestServerRefusesClients(t *testing.T) {
	dir := newCA(t, pki.InitOptions{})
	server := load(t, dir, pki.Server)
	foreign := newCA(t, pki.InitOptions{CAName: "Other CA"})
	reissue := func(t *testing.T, o pki.IssueOptions) string {
		o.Out = t.TempDir()
		_, err := pki.Issue(dir, pki.Admin, o)
		is.New(t).NoErr(err)
		return o.Out
	}
	for _, c := range []struct {
		name   string
		client func(t *testing.T) *tls.Config
		want   []string
	}{
		{"expired", func(t *testing.T) *tls.Config {
			return present(t, reissue(t, pki.IssueOptions{Days: 1, Start: time.Now().AddDate(0, 0, -4)}), pki.Admin)
		}, []string{"cannot trust the peer: certificate of admin (CN admin, serial ", " expired on 20", "Z (3 days ago)"}},
		{"not yet valid", func(t *testing.T) *tls.Config {
			return present(t, reissue(t, pki.IssueOptions{Start: time.Now().Add(time.Hour)}), pki.Admin)
		}, []string{"certificate of admin", "is not valid before 20"}},
		{"foreign", func(t *testing.T) *tls.Config { return present(t, foreign, pki.Admin) },
			[]string{`certificate of admin`, `was signed by "Other CA"`, "which is not the CA in " + dir, "CN DAOS CA"}},
		{"none", func(t *testing.T) *tls.Config { return &tls.Config{InsecureSkipVerify: true} },
			[]string{"client didn't provide a certificate"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			admin := load(t, dir, pki.Admin)
			_, serverErr, clientErr := talk(t, server.ServerTLS(), c.client(t), admin.Explain)
			is.True(serverErr != nil)
			t.Log(serverErr, "|", fault.HintOf(serverErr))
			for _, part := range c.want {
				is.True(strings.Contains(serverErr.Error(), part))
			}
			if c.name != "none" {
				is.Equal(fault.Of(serverErr), fault.Certificate)
				is.True(fault.HintOf(serverErr) != "")
			}
			is.Equal(fault.Of(clientErr), fault.Certificate) // told that it was refused
			is.True(strings.Contains(clientErr.Error(), "it refused our certificate of admin"))
		})
	}
}

func TestServerRefusesUseAndName(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	server := load(t, dir, pki.Server)
	f := files(dir, pki.Server)
	pair, err := tls.LoadX509KeyPair(f.CA, filepath.Join(dir, "private", "daosCA.key"))
	is.NoErr(err)
	client := &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}
	_, serverErr, _ := talk(t, server.ServerTLS(), client, same)
	is.Equal(fault.Of(serverErr), fault.Certificate) // the authority's own certificate has no role
	is.True(strings.Contains(serverErr.Error(), "CN DAOS CA"))
}

func TestClientRefusesServers(t *testing.T) {
	dir := newCA(t, pki.InitOptions{})
	foreign := newCA(t, pki.InitOptions{})
	late := t.TempDir()
	_, err := pki.Issue(dir, pki.Server, pki.IssueOptions{Out: late, Days: 2, Start: time.Now().AddDate(0, 0, -3)})
	is.New(t).NoErr(err)
	for _, c := range []struct {
		name, dir string
		role      pki.Role
		want      []string
	}{
		{"expired", late, pki.Server, []string{"cannot trust the peer: certificate of server (CN server, serial ", " expired on 20", "(1 day ago)"}},
		{"foreign", foreign, pki.Server, []string{`certificate of server`, `was signed by "DAOS CA" with key id `, "which is not the CA in " + dir}},
		{"agent as server", dir, pki.Agent, []string{"certificate of agent (CN agent, serial ", "is not made for use as a server"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			agent := load(t, dir, pki.Agent)
			_, _, clientErr := talk(t, present(t, c.dir, c.role), agent.ClientTLS(), agent.Explain)
			is.True(clientErr != nil)
			t.Log(clientErr, "|", fault.HintOf(clientErr))
			is.Equal(fault.Of(clientErr), fault.Certificate)
			for _, part := range c.want {
				is.True(strings.Contains(clientErr.Error(), part))
			}
			is.True(fault.HintOf(clientErr) != "")
		})
	}
}

// A certificate that runs out while its holder runs is the holder's own error.
func TestClientWithItsOwnCertificateRunOut(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	end := time.Now().Add(2 * time.Second)
	_, err := pki.Issue(dir, pki.Agent, pki.IssueOptions{Force: true, Days: 1, Start: end.AddDate(0, 0, -1)})
	is.NoErr(err)
	agent, server := load(t, dir, pki.Agent), load(t, dir, pki.Server)
	<-time.After(time.Until(agent.Certificate().NotAfter.Add(time.Second))) // time is the subject
	_, _, clientErr := talk(t, server.ServerTLS(), agent.ClientTLS(), agent.Explain)
	is.Equal(fault.Of(clientErr), fault.CertificateInvalid)
	is.True(strings.Contains(clientErr.Error(), "agent.crt: certificate of agent (CN agent"))
	is.True(strings.Contains(clientErr.Error(), "expired on"))
}

func TestExpiredAuthority(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{Days: 5, Start: time.Now().AddDate(0, 0, -10)})
	_, err := pki.Load(files(dir, pki.Server), pki.Server)
	is.Equal(fault.Of(err), fault.CertificateInvalid)
	is.True(strings.Contains(err.Error(), "(5 days ago)"))
}

func TestRoleOf(t *testing.T) {
	is := is.New(t)
	cert := new(x509.Certificate)
	cert.Subject.CommonName = "test"
	_, err := pki.RoleOf(cert)
	is.Equal(fault.Of(err), fault.Certificate)
	cert.Subject.CommonName = "admin"
	role, err := pki.RoleOf(cert)
	is.NoErr(err)
	is.Equal(role, pki.Admin)
	is.Equal(load(t, newCA(t, pki.InitOptions{}), pki.Admin).Role(), pki.Admin)
}

func TestExplainLeavesOtherErrors(t *testing.T) {
	is := is.New(t)
	id := load(t, newCA(t, pki.InitOptions{}), pki.Admin)
	is.Equal(id.Explain(nil), nil)
	is.Equal(id.Explain(os.ErrClosed), os.ErrClosed)
}
