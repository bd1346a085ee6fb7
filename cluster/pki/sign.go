package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"

	"daosbox/cluster/fault"
)

// Sign signs data with the identity's key, as the verifier of a credential: RSA
// keys by RSA-PSS with SHA-512 and the greatest salt, which is what existing
// clients and servers use; ECDSA keys over the SHA-512 digest, ASN.1 encoded.
func (id *Identity) Sign(data []byte) ([]byte, error) {
	digest := sha512.Sum512(data)
	var options crypto.SignerOpts = crypto.SHA512
	key := id.now.Load().key
	if _, ok := key.(*rsa.PrivateKey); ok {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA512}
	}
	sig, err := key.Sign(rand.Reader, digest[:], options)
	if err != nil {
		return nil, fault.Wrap(fault.Certificate, err, "cannot sign with the key in %s", id.files.Key).
			WithHint("RSA keys need at least 1024 bits; make a new pair with `daosbox certs issue --role %s`", id.role)
	}
	return sig, nil
}

// Verify checks a signature made by Sign with the certificate's key; RSA-PSS salts
// of any length are taken. A signature that does not fit is a fault.Permission.
func Verify(cert *x509.Certificate, data, sig []byte) error {
	digest := sha512.Sum512(data)
	var good bool
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		good = rsa.VerifyPSS(key, crypto.SHA512, digest[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(key, digest[:], sig)
	default:
		return fault.New(fault.Certificate, "cannot verify a signature: %s has a key that is neither RSA nor ECDSA", describe(cert))
	}
	if !good {
		return fault.New(fault.Permission, "cannot verify a signature: it was not made with the key of the %s", describe(cert)).
			WithHint("the client's certificate must be the one in the servers' client directory")
	}
	return nil
}
