package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"daosbox/cluster/fault"
)

// verifyPeer checks what a peer presented for a use.
func (id *Identity) verifyPeer(chain []*x509.Certificate, use x509.ExtKeyUsage) error {
	if len(chain) == 0 {
		return fault.New(fault.Certificate, "cannot trust the peer: it presented no certificate").
			WithHint("give the peer a certificate of the CA in %s", id.files.CA)
	}
	if err := id.now.Load().verify(chain, use, time.Now()); err != nil {
		err.Code = fault.Certificate
		err.What = "cannot trust the peer: " + err.What
		return err
	}
	return nil
}

// verify checks a chain, leaf first, against the authority at a time. Its verdict
// is a function of material, certificates, use and time alone, which is why m may
// remember it.
func (m *material) verify(chain []*x509.Certificate, use x509.ExtKeyUsage, now time.Time) *fault.Error {
	leaf := chain[0]
	if why := expiry(leaf, now); why != "" {
		return fault.New(fault.CertificateInvalid, "%s", why).WithHint("%s", hintFor(leaf, now))
	}
	key := keyOf(chain, use)
	if m.verdicts.holds(key, now) {
		return nil
	}
	options := x509.VerifyOptions{
		Roots:         m.pool,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{use},
	}
	for _, cert := range chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	found, err := leaf.Verify(options)
	if err == nil {
		m.verdicts.keep(key, found)
		return nil
	}
	return m.explain(chain, use, now, err)
}

// explain says in full what x509 found.
func (m *material) explain(chain []*x509.Certificate, use x509.ExtKeyUsage, now time.Time, err error) *fault.Error {
	leaf := chain[0]
	// An authority out of its validity shows as an unknown or an expired one.
	for _, ca := range append(chain[1:len(chain):len(chain)], m.cas...) {
		if why := expiry(ca, now); why != "" && leaf.CheckSignatureFrom(ca) == nil {
			return fault.New(fault.CertificateInvalid, "%s was signed by an authority out of its validity: %s", describe(leaf), why).
				WithHint("%s", hintFor(ca, now))
		}
	}
	if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if bad.Reason == x509.IncompatibleUsage {
			return fault.New(fault.CertificateInvalid, "%s is not made for use as a %s", describe(leaf), useName(use)).
				WithHint("install a certificate of the right role; `daosbox certs status` shows the roles")
		}
		return fault.New(fault.CertificateInvalid, "%s is invalid: %w", describe(leaf), err).
			WithHint("make a new one with `daosbox certs issue`")
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fault.New(fault.Certificate, "%s was signed by %q%s, which is not the CA in %s (%s)",
			describe(leaf), leaf.Issuer.CommonName, keyID(leaf.AuthorityKeyId), m.caPath, m.authorities()).
			WithHint("install certificates of one and the same CA on both sides; `daosbox certs status` shows the CA of each host")
	}
	return fault.New(fault.Certificate, "%s cannot be verified: %w", describe(leaf), err).
		WithHint("check the certificates of both sides with `daosbox certs status`")
}

func useName(use x509.ExtKeyUsage) string {
	if use == x509.ExtKeyUsageServerAuth {
		return "server"
	}
	return "client"
}

// authorities lists the CA's certificates with what tells two of one name apart.
func (m *material) authorities() string {
	var out bytes.Buffer
	for i, ca := range m.cas {
		if i > 0 {
			out.WriteString(", ")
		}
		fmt.Fprintf(&out, "CN %s, serial %s, SHA-256 %.8x", ca.Subject.CommonName, serial(ca), sha256.Sum256(ca.Raw))
		out.WriteString(keyID(ca.SubjectKeyId))
	}
	return out.String()
}

// keyID shows the beginning of a key identifier, where there is one.
func keyID(id []byte) string {
	if len(id) == 0 {
		return ""
	}
	return fmt.Sprintf(" with key id %.4x", id)
}
