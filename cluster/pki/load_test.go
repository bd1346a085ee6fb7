package pki_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"

	"github.com/matryer/is"
	"golang.org/x/sys/unix"
)

func TestLoadRefuses(t *testing.T) {
	foreign := newCA(t, pki.InitOptions{})
	for _, c := range []struct {
		name string
		role pki.Role
		ruin func(t *testing.T, dir string)
		code fault.Code
		want string // in the error
		hint string
	}{
		{"no key", pki.Server, func(t *testing.T, dir string) { is.New(t).NoErr(os.Remove(dir + "/server.key")) },
			fault.CertificateMissing, "server.key does not exist", "certs init"},
		{"no client directory", pki.Server, func(t *testing.T, dir string) { is.New(t).NoErr(os.RemoveAll(dir + "/clients")) },
			fault.CertificateMissing, "clients does not exist", "certs init"},
		{"open key", pki.Server, func(t *testing.T, dir string) { is.New(t).NoErr(os.Chmod(dir+"/server.key", 0o600)) },
			fault.Certificate, "mode 0600 is too open, at most 0400", "chmod 0400 "},
		{"open admin key", pki.Admin, func(t *testing.T, dir string) { is.New(t).NoErr(os.Chmod(dir+"/admin.key", 0o444)) },
			fault.Certificate, "mode 0444 is too open, at most 0440", "chmod 0440 "},
		{"writable certificate", pki.Agent, func(t *testing.T, dir string) { is.New(t).NoErr(os.Chmod(dir+"/agent.crt", 0o666)) },
			fault.Certificate, "mode 0666 is too open, at most 0664", "chmod 0664 "},
		{"executable CA", pki.Agent, func(t *testing.T, dir string) { is.New(t).NoErr(os.Chmod(dir+"/daosCA.crt", 0o755)) },
			fault.Certificate, "mode 0755 is too open", "chmod 0664 "},
		{"directory for a file", pki.Agent, func(t *testing.T, dir string) {
			is.New(t).NoErr(os.Remove(dir + "/agent.crt"))
			is.New(t).NoErr(os.Mkdir(dir+"/agent.crt", 0o755))
		}, fault.Certificate, "not a regular file", "PEM file"},
		{"pipe for a file", pki.Agent, func(t *testing.T, dir string) {
			is.New(t).NoErr(os.Remove(dir + "/agent.crt"))
			is.New(t).NoErr(unix.Mkfifo(dir+"/agent.crt", 0o644))
		}, fault.Certificate, "not a regular file", "PEM file"},
		{"no PEM in CA", pki.Agent, func(t *testing.T, dir string) { write(t, dir+"/daosCA.crt", []byte("x"), 0o644) },
			fault.CertificateInvalid, "holds no PEM certificate", "certs status"},
		{"no PEM in key", pki.Agent, func(t *testing.T, dir string) { write(t, dir+"/agent.key", []byte("x"), 0o400) },
			fault.CertificateInvalid, "holds no PEM key", "certs status"},
		{"certificate for key", pki.Agent, func(t *testing.T, dir string) { copyFile(t, dir+"/agent.crt", dir+"/agent.key", 0o400) },
			fault.CertificateInvalid, `"CERTIFICATE", wanted PRIVATE KEY`, ""},
		{"huge file", pki.Agent, func(t *testing.T, dir string) { write(t, dir+"/agent.crt", make([]byte, 2<<20), 0o644) },
			fault.CertificateInvalid, "larger than", ""},
		{"key of another", pki.Agent, func(t *testing.T, dir string) { copyFile(t, dir+"/admin.key", dir+"/agent.key", 0o400) },
			fault.Certificate, "does not belong to the certificate", "certs issue"},
		{"certificate of another role", pki.Agent, func(t *testing.T, dir string) {
			copyFile(t, dir+"/admin.crt", dir+"/agent.crt", 0o644)
			copyFile(t, dir+"/admin.key", dir+"/agent.key", 0o400)
		}, fault.Certificate, `certificate of admin (CN admin, serial `, "certs issue --role agent"},
		{"foreign CA", pki.Agent, func(t *testing.T, dir string) { copyFile(t, foreign+"/daosCA.crt", dir+"/daosCA.crt", 0o644) },
			fault.Certificate, `was signed by "DAOS CA"`, "same CA"},
		{"expired", pki.Agent, func(t *testing.T, dir string) {
			_, err := pki.Issue(dir, pki.Agent, pki.IssueOptions{Force: true, Days: 1, Start: time.Now().AddDate(0, 0, -4)})
			is.New(t).NoErr(err)
		}, fault.CertificateInvalid, "(3 days ago)", "certs issue --role agent --force"},
		{"not yet", pki.Agent, func(t *testing.T, dir string) {
			_, err := pki.Issue(dir, pki.Agent, pki.IssueOptions{Force: true, Start: time.Now().Add(49 * time.Hour)})
			is.New(t).NoErr(err)
		}, fault.CertificateInvalid, "is not valid before ", "clocks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			dir := newCA(t, pki.InitOptions{})
			c.ruin(t, dir)
			_, err := pki.Load(files(dir, c.role), c.role)
			is.True(err != nil)
			t.Log(err, "|", fault.HintOf(err))
			is.Equal(fault.Of(err), c.code)
			is.True(strings.Contains(err.Error(), c.want))
			is.True(strings.Contains(fault.HintOf(err), c.hint))
			is.True(fault.HintOf(err) != "")
		})
	}
}

func TestLoadWithoutAccess(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read every file")
	}
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	is.NoErr(os.Chmod(filepath.Join(dir, "agent.key"), 0))
	_, err := pki.Load(files(dir, pki.Agent), pki.Agent)
	is.Equal(fault.Of(err), fault.CertificateUnreadable)
	is.True(fault.HintOf(err) != "")
}

func TestReloadKeepsTheLastGood(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	id := load(t, dir, pki.Agent)
	first := id.Certificate()
	key, err := os.ReadFile(filepath.Join(dir, "agent.key"))
	is.NoErr(err)
	write(t, filepath.Join(dir, "agent.key"), key[:20], 0o400)
	is.True(id.Reload() != nil)
	is.True(id.Certificate().Equal(first))
	_, err = id.Sign([]byte("still")) // the key in memory works
	is.NoErr(err)
	made, err := pki.Issue(dir, pki.Agent, pki.IssueOptions{Force: true})
	is.NoErr(err)
	is.NoErr(id.Reload())
	is.True(id.Certificate().Equal(made.Certificate))
}

func TestTwoAuthoritiesOverlap(t *testing.T) {
	is := is.New(t)
	before, after := newCA(t, pki.InitOptions{}), newCA(t, pki.InitOptions{})
	a, err := os.ReadFile(before + "/daosCA.crt")
	is.NoErr(err)
	b, err := os.ReadFile(after + "/daosCA.crt")
	is.NoErr(err)
	write(t, before+"/daosCA.crt", append([]byte("old and new\n"), append(a, b...)...), 0o644)
	copyFile(t, after+"/agent.crt", before+"/agent.crt", 0o644)
	copyFile(t, after+"/agent.key", before+"/agent.key", 0o400)
	load(t, before, pki.Agent)
	load(t, before, pki.Server)
}

func TestLoadClientCert(t *testing.T) {
	is := is.New(t)
	dir := filepath.Join(newCA(t, pki.InitOptions{}), "clients")
	cert, err := pki.LoadClientCert(dir, "agent")
	is.NoErr(err)
	is.Equal(cert.Subject.CommonName, "agent")
	for _, origin := range []string{"", "../agent", "a/b", "a.b", "..", strings.Repeat("a", 65), "a\x00"} {
		_, err := pki.LoadClientCert(dir, origin)
		is.Equal(fault.Of(err), fault.Certificate)
	}
	_, err = pki.LoadClientCert(dir, "other")
	is.Equal(fault.Of(err), fault.CertificateMissing)
	data, err := os.ReadFile(filepath.Join(dir, "agent.crt"))
	is.NoErr(err)
	write(t, filepath.Join(dir, "two.crt"), append(data, data...), 0o644)
	_, err = pki.LoadClientCert(dir, "two")
	is.Equal(fault.Of(err), fault.CertificateInvalid)
	is.NoErr(os.Chmod(filepath.Join(dir, "agent.crt"), 0o666))
	_, err = pki.LoadClientCert(dir, "agent")
	is.Equal(fault.Of(err), fault.Certificate)
}
