package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"

	"daosbox/cluster/fault"
)

const (
	// DefaultDays is the validity that the script of older systems gave, too.
	DefaultDays = 1095
	maxDays     = 36500
	// DefaultCAName is the common name of the authority.
	DefaultCAName = "DAOS CA"
	organization  = "DAOS"
	// skew is how far the clock of another host may be behind when it sees a
	// new certificate.
	skew = 10 * time.Minute
)

// pair is a new certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// validity returns the span of days from start; 0 days mean the default.
func validity(start time.Time, days int) (from, to time.Time, err error) {
	if days == 0 {
		days = DefaultDays
	}
	if days < 1 || days > maxDays {
		return from, to, fault.New(fault.Usage, "cannot make a certificate for %d days: 1 to %d are possible", days, maxDays)
	}
	if start.IsZero() {
		start = time.Now()
	}
	return start.Add(-skew), start.AddDate(0, 0, days), nil
}

// makeCA makes a self-signed authority.
func makeCA(name string, from, to time.Time) (pair, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{organization}, CommonName: name},
		NotBefore: from,
		NotAfter:  to,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment |
			x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1,
	}
	return sign(template, nil)
}

// makeLeaf makes a certificate of a role that ends no later than its authority.
func makeLeaf(role Role, ca pair, from, to time.Time) (pair, error) {
	if to.After(ca.cert.NotAfter) {
		to = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{organization}, CommonName: string(role)},
		NotBefore:   from,
		NotAfter:    to,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if role == Server {
		// Servers dial each other, too.
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return sign(template, &ca)
}

// sign makes a P-256 key and a certificate for it, self-signed without ca. The
// signature algorithm follows the authority's key: SHA-256 with P-256, SHA-512
// with RSA, as the script of older systems does.
func sign(template *x509.Certificate, ca *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fault.Wrap(fault.Internal, err, "cannot make a key")
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return pair{}, err
	}
	parent, signer := template, crypto.Signer(key)
	if ca != nil {
		parent, signer = ca.cert, ca.key
		if ca.cert.PublicKeyAlgorithm == x509.RSA {
			template.SignatureAlgorithm = x509.SHA512WithRSA
		}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return pair{}, fault.Wrap(fault.Certificate, err, "cannot make the certificate of %s", template.Subject.CommonName)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return pair{}, fault.Wrap(fault.Internal, err, "cannot read back a new certificate")
	}
	return pair{cert: cert, key: key}, nil
}

// newSerial returns a random positive number of 128 bits.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot make a serial number")
	}
	return n.Add(n, big.NewInt(1)), nil
}

func certPEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot encode a key")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}
