package pki_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"daosbox/cluster/pki"

	"github.com/matryer/is"
)

// newCA makes a directory of certificates with Init.
func newCA(t *testing.T, o pki.InitOptions) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	is.New(t).NoErr(pki.Init(dir, o))
	return dir
}

// files names the files of a role in a directory.
func files(dir string, role pki.Role) pki.Files {
	f := pki.Files{
		CA:   filepath.Join(dir, "daosCA.crt"),
		Cert: filepath.Join(dir, string(role)+".crt"),
		Key:  filepath.Join(dir, string(role)+".key"),
	}
	if role == pki.Server {
		f.ClientDir = filepath.Join(dir, "clients")
	}
	return f
}

func load(t *testing.T, dir string, role pki.Role) *pki.Identity {
	t.Helper()
	id, err := pki.Load(files(dir, role), role)
	is.New(t).NoErr(err)
	return id
}

func write(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	is := is.New(t)
	is.NoErr(os.MkdirAll(filepath.Dir(path), 0o755))
	if err := os.Remove(path); err != nil {
		is.True(os.IsNotExist(err))
	}
	is.NoErr(os.WriteFile(path, data, mode))
	is.NoErr(os.Chmod(path, mode)) // whatever the umask
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	is.New(t).NoErr(err)
	write(t, to, data, mode)
}

// oldKeys are RSA keys as long as the script's; making them is slow.
var oldKeys = sync.OnceValues(func() (ca, leaf *rsa.PrivateKey) {
	var err error
	if ca, err = rsa.GenerateKey(rand.Reader, 3072); err != nil {
		panic(err)
	}
	if leaf, err = rsa.GenerateKey(rand.Reader, 3072); err != nil {
		panic(err)
	}
	return ca, leaf
})

// oldScript makes what the certificate script of older systems makes: RSA keys,
// common names only, serial numbers from 1, SHA-512.
func oldScript(t *testing.T) string {
	t.Helper()
	is := is.New(t)
	root := t.TempDir()
	caKey, leafKey := oldKeys()
	now := time.Now()
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			Subject:            pkix.Name{Organization: []string{"DAOS"}, CommonName: name},
			SerialNumber:       big.NewInt(1),
			NotBefore:          now.Add(-time.Hour),
			NotAfter:           now.AddDate(0, 0, 1095),
			SignatureAlgorithm: x509.SHA512WithRSA,
			KeyUsage:           x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		}
	}
	save := func(dir, name string, raw []byte, key crypto.Signer) {
		write(t, filepath.Join(dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o644)
		der := x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))
		write(t, filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der}), 0o400)
	}
	certs := filepath.Join(root, "daosCA", "certs")
	ca := template("DAOS CA")
	ca.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageContentCommitment
	ca.BasicConstraintsValid, ca.IsCA, ca.MaxPathLen = true, true, 1
	raw, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	is.NoErr(err)
	save(certs, "daosCA", raw, caKey)
	is.NoErr(os.MkdirAll(filepath.Join(root, "daosCA", "private"), 0o700))
	is.NoErr(os.Rename(filepath.Join(certs, "daosCA.key"), filepath.Join(root, "daosCA", "private", "daosCA.key")))
	for _, role := range []pki.Role{pki.Server, pki.Agent, pki.Admin} {
		leaf := template(string(role))
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if role == pki.Server {
			leaf.ExtKeyUsage = append(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		}
		raw, err := x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), caKey)
		is.NoErr(err)
		save(certs, string(role), raw, leafKey)
		if role != pki.Server {
			copyFile(t, filepath.Join(certs, string(role)+".crt"), filepath.Join(certs, "clients", string(role)+".crt"), 0o644)
		}
	}
	return root
}
