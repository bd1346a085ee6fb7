package pki_test

import (
	"crypto/ecdsa"
	"crypto/x509"
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

func TestInitMakesNamesModesAndContents(t *testing.T) {
	old := unix.Umask(0o077) // modes are exact whatever the umask
	defer unix.Umask(old)
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	for name, mode := range map[string]os.FileMode{
		".": 0o755, "daosCA.crt": 0o644, "private": 0o700, "private/daosCA.key": 0o400,
		"server.crt": 0o644, "server.key": 0o400, "agent.crt": 0o644, "agent.key": 0o400, "admin.crt": 0o644, "admin.key": 0o400,
		"clients": 0o755, "clients/agent.crt": 0o644, "clients/admin.crt": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		is.NoErr(err)
		is.Equal(info.Mode().Perm(), mode) // mode of name
	}
	entries, err := os.ReadDir(dir)
	is.NoErr(err)
	is.Equal(len(entries), 9) // nothing left over

	server := load(t, dir, pki.Server).Certificate()
	is.Equal(server.Subject.String(), "CN=server,O=DAOS")
	is.Equal(server.Issuer.String(), "CN=DAOS CA,O=DAOS")
	is.Equal(server.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth})
	is.Equal(server.KeyUsage, x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment)
	is.True(!server.BasicConstraintsValid)
	is.Equal(len(server.DNSNames)+len(server.IPAddresses), 0)
	is.True(server.SerialNumber.BitLen() > 64)
	_, ok := server.PublicKey.(*ecdsa.PublicKey)
	is.True(ok)
	left := time.Until(server.NotAfter)
	is.True(left > 1094*24*time.Hour && left < 1097*24*time.Hour)
	is.Equal(load(t, dir, pki.Agent).Certificate().ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
	load(t, dir, pki.Admin)
	key, err := os.ReadFile(filepath.Join(dir, "agent.key"))
	is.NoErr(err)
	is.True(strings.HasPrefix(string(key), "-----BEGIN PRIVATE KEY-----\n")) // PKCS#8
}

func TestInitRefusesWhatItWouldReplace(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	before, err := os.ReadFile(filepath.Join(dir, "daosCA.crt"))
	is.NoErr(err)
	err = pki.Init(dir, pki.InitOptions{})
	is.Equal(fault.Of(err), fault.Exists)
	is.True(strings.Contains(err.Error(), "daosCA.crt"))
	is.True(strings.Contains(fault.HintOf(err), "certs issue --dir "+dir))
	after, err := os.ReadFile(filepath.Join(dir, "daosCA.crt"))
	is.NoErr(err)
	is.Equal(string(before), string(after))

	is.Equal(fault.Of(pki.Init(oldScript(t), pki.InitOptions{})), fault.Exists) // the script's CA counts
	for _, name := range []string{"server.key", "private/daosCA.key", "clients/agent.crt"} {
		taken := t.TempDir()
		write(t, filepath.Join(taken, name), []byte("mine"), 0o400)
		is.Equal(fault.Of(pki.Init(taken, pki.InitOptions{})), fault.Exists) // name is kept
	}
	is.Equal(fault.Of(pki.Init(t.TempDir(), pki.InitOptions{Days: -1})), fault.Usage)
	is.Equal(fault.Of(pki.Init(t.TempDir(), pki.InitOptions{Days: 1 << 40})), fault.Usage)
}

// An Init that ended anywhere before the CA certificate was in place is repeated
// as if it had not been.
func TestInitAfterCrash(t *testing.T) {
	whole := newCA(t, pki.InitOptions{})
	order := []string{"private/daosCA.key", "server.key", "server.crt", "agent.key", "agent.crt", "clients/agent.crt", "admin.key", "admin.crt", "clients/admin.crt"}
	for n := range len(order) + 1 {
		is := is.New(t)
		dir := t.TempDir()
		write(t, filepath.Join(dir, ".daosbox-certs-init"), nil, 0o600)
		write(t, filepath.Join(dir, ".tmp-daosCA.crt-12"), nil, 0o644)
		for _, name := range order[:n] {
			copyFile(t, filepath.Join(whole, name), filepath.Join(dir, name), 0o400)
		}
		is.NoErr(pki.Init(dir, pki.InitOptions{CAName: "second"}))
		for _, role := range []pki.Role{pki.Server, pki.Agent, pki.Admin} {
			is.Equal(load(t, dir, role).Certificate().Issuer.CommonName, "second")
		}
		rest, err := filepath.Glob(filepath.Join(dir, ".*"))
		is.NoErr(err)
		is.Equal(len(rest), 0) // nothing aside is left
	}
}

func TestInitWhileAnotherWrites(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	f, err := os.Open(dir)
	is.NoErr(err)
	defer f.Close()
	is.NoErr(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	is.Equal(fault.Of(pki.Init(dir, pki.InitOptions{})), fault.Busy)
}

func TestIssue(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{Days: 100})
	_, err := pki.Issue(dir, pki.Agent, pki.IssueOptions{})
	is.Equal(fault.Of(err), fault.Exists)
	is.True(strings.Contains(fault.HintOf(err), "--force"))
	first := load(t, dir, pki.Agent).Certificate()
	made, err := pki.Issue(dir, pki.Agent, pki.IssueOptions{Force: true, Days: 7})
	is.NoErr(err)
	second := load(t, dir, pki.Agent).Certificate()
	is.True(!first.Equal(second))
	is.True(made.Certificate.Equal(second))
	is.True(time.Until(second.NotAfter) < 8*24*time.Hour)
	client, err := pki.LoadClientCert(filepath.Join(dir, "clients"), "agent")
	is.NoErr(err)
	is.True(client.Equal(second)) // the servers' copy follows
	is.Equal(made.Client, filepath.Join(dir, "clients", "agent.crt"))

	out := filepath.Join(t.TempDir(), "new", "host")
	made, err = pki.Issue(dir, pki.Server, pki.IssueOptions{Out: out})
	is.NoErr(err)
	is.Equal(made.Client, "")
	host := load(t, out, pki.Server) // complete: CA, certificate, key, clients
	ca := host.Certificate().NotAfter
	is.True(time.Until(ca) < 101*24*time.Hour) // no longer than the CA
	_, err = pki.Issue(newCA(t, pki.InitOptions{}), pki.Agent, pki.IssueOptions{Out: out})
	is.Equal(fault.Of(err), fault.Exists) // another CA's directory

	_, err = pki.Issue(dir, "root", pki.IssueOptions{})
	is.Equal(fault.Of(err), fault.Usage)
	_, err = pki.Issue(t.TempDir(), pki.Agent, pki.IssueOptions{})
	is.Equal(fault.Of(err), fault.CertificateMissing)
	_, err = pki.Issue(out, pki.Agent, pki.IssueOptions{})
	is.Equal(fault.Of(err), fault.CertificateMissing) // a host has no CA key
	is.True(strings.Contains(fault.HintOf(err), "where the CA was made"))
	_, err = pki.Issue(newCA(t, pki.InitOptions{Days: 1, Start: time.Now().AddDate(0, 0, -3)}), pki.Agent, pki.IssueOptions{Force: true})
	is.Equal(fault.Of(err), fault.CertificateInvalid)
	is.True(strings.Contains(err.Error(), "expired on"))
}

func TestIssueWithTheOldScriptsCA(t *testing.T) {
	is := is.New(t)
	root := oldScript(t)
	certs := filepath.Join(root, "daosCA", "certs")
	for _, dir := range []string{root, filepath.Join(root, "daosCA")} {
		made, err := pki.Issue(dir, pki.Agent, pki.IssueOptions{Force: true})
		is.NoErr(err)
		is.Equal(made.Cert, filepath.Join(certs, "agent.crt"))
		is.Equal(made.Certificate.SignatureAlgorithm, x509.SHA512WithRSA)
		load(t, certs, pki.Agent)
	}
}

func TestStatus(t *testing.T) {
	is := is.New(t)
	dir := newCA(t, pki.InitOptions{})
	now := time.Now()
	const warn = pki.WarnDays * 24 * time.Hour
	states := func(now time.Time) string {
		all, err := pki.Status(dir, now, warn)
		is.NoErr(err)
		var out []string
		for _, s := range all {
			out = append(out, strings.TrimPrefix(s.Path, dir+"/")+"="+string(s.State))
			is.True((s.State == pki.StateOK) == (s.Reason == "")) // a reason for what is not ok
		}
		return strings.Join(out, " ")
	}
	is.Equal(states(now), "daosCA.crt=ok server.crt=ok agent.crt=ok admin.crt=ok clients/admin.crt=ok clients/agent.crt=ok")
	is.Equal(states(now.AddDate(0, 0, 1050)), strings.ReplaceAll(states(now), "ok", "warn"))
	is.Equal(states(now.AddDate(0, 0, 1100)), strings.ReplaceAll(states(now), "ok", "expired"))
	is.Equal(states(now.AddDate(0, 0, -1)), strings.ReplaceAll(states(now), "ok", "not-yet"))

	all, err := pki.Status(filepath.Join(dir, "server.crt"), now, warn)
	is.NoErr(err)
	is.Equal(len(all), 1)
	s := all[0]
	is.Equal(s.Subject+" "+string(s.Role)+" "+s.Kind+" "+s.KeyType+" "+s.Issuer, "server server leaf ECDSA P-256 DAOS CA")
	is.Equal(s.DaysLeft, 1094)

	other := newCA(t, pki.InitOptions{})
	copyFile(t, filepath.Join(other, "server.crt"), filepath.Join(dir, "server.crt"), 0o644) // foreign
	copyFile(t, filepath.Join(dir, "admin.key"), filepath.Join(dir, "agent.key"), 0o400)     // key of another
	copyFile(t, filepath.Join(dir, "agent.crt"), filepath.Join(dir, "clients", "admin.crt"), 0o644)
	write(t, filepath.Join(dir, "clients", "zero.crt"), nil, 0o644)
	is.Equal(states(now), "daosCA.crt=ok server.crt=mismatch agent.crt=mismatch admin.crt=ok "+
		"clients/admin.crt=mismatch clients/agent.crt=ok clients/zero.crt=invalid")

	old, err := pki.Status(oldScript(t), now, warn)
	is.NoErr(err)
	is.Equal(len(old), 6)
	is.Equal(old[1].KeyType, "RSA 3072")
	for _, s := range old {
		is.Equal(s.State, pki.StateOK)
	}
	_, err = pki.Status(t.TempDir(), now, warn)
	is.Equal(fault.Of(err), fault.CertificateMissing)
	_, err = pki.Status("/nonexistent", now, warn)
	is.Equal(fault.Of(err), fault.CertificateMissing)
}
