package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"daosbox/cluster/fault"

	"golang.org/x/sys/unix"
)

// The most open modes that files may have.
const (
	certMode     fs.FileMode = 0o664
	keyMode      fs.FileMode = 0o400
	adminKeyMode fs.FileMode = 0o440
)

// maxFile bounds what is read of one PEM file.
const maxFile = 1 << 20

// keyLimit returns the most open mode of a role's key.
func keyLimit(role Role) fs.FileMode {
	if role == Admin {
		return adminKeyMode
	}
	return keyMode
}

// read returns a file's content after checking that it is a regular file with no
// permission bits outside limit. Check and reading concern the same open file.
func read(path string, limit fs.FileMode) ([]byte, error) {
	// Non-blocking, so that a pipe in place of the file does not hang the caller.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, openFault(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.CertificateUnreadable, err, "cannot read %s", path)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Certificate, "cannot use %s: not a regular file", path).
			WithHint("name the PEM file itself in the configuration")
	}
	if mode := info.Mode().Perm(); mode&^limit != 0 {
		return nil, fault.New(fault.Certificate, "cannot use %s: mode %04o is too open, at most %04o is allowed", path, mode, limit).
			WithHint("run `chmod %04o %s`", limit, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fault.Wrap(fault.CertificateUnreadable, err, "cannot read %s", path)
	}
	if len(data) > maxFile {
		return nil, invalid(path, fmt.Sprintf("larger than %d bytes", maxFile))
	}
	return data, nil
}

// openFault classifies the failure to open a file or directory.
func openFault(path string, err error) error {
	why := reason(err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.CertificateMissing, "cannot use certificates: %s does not exist", path).
			WithHint("make certificates with `daosbox certs init`, or name the right path in the configuration")
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.CertificateUnreadable, "cannot use certificates: %s: %s for uid %d", path, why, os.Geteuid()).
			WithHint("give the file to the user that this program runs as, with `chown`, or run as its owner")
	}
	return fault.New(fault.CertificateUnreadable, "cannot use certificates: %s: %s", path, why).
		WithHint("check the path in the configuration")
}

// reason is the text of err without operation and path, which the message has.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// invalid is the fault of a file whose content cannot be used.
func invalid(path, why string) *fault.Error {
	return fault.New(fault.CertificateInvalid, "cannot use %s: %s", path, why).
		WithHint("look at it with `daosbox certs status --dir %s`, and issue a new one if needed", filepath.Dir(path))
}

// readCerts reads a PEM file of one or more certificates.
func readCerts(path string) ([]*x509.Certificate, error) {
	data, err := read(path, certMode)
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts(data)
	if err != nil {
		return nil, invalid(path, err.Error())
	}
	return certs, nil
}

// parseCerts reads every certificate of PEM data; text between blocks, as openssl
// writes it, is skipped.
func parseCerts(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM block of type %q, wanted CERTIFICATE", fault.OneLine(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("holds no PEM certificate")
	}
	return certs, nil
}

// readKey reads a PEM file of one private key.
func readKey(path string, limit fs.FileMode) (crypto.Signer, error) {
	data, err := read(path, limit)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, invalid(path, err.Error())
	}
	return key, nil
}

// parseKey reads a PKCS#8, PKCS#1 or SEC 1 key, RSA or ECDSA.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("holds no PEM key")
	case block.Type == "EC PARAMETERS": // openssl puts the curve's name before the key
		return parseKey(rest)
	case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf("holds a PEM block of type %q, wanted PRIVATE KEY", fault.OneLine(block.Type))
	case block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted, which is not supported")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("holds more than one PEM block")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the key cannot be parsed: %w", err)
	}
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("the key is %T, wanted RSA or ECDSA", parsed)
}

// samePublic says that the key belongs to the certificate.
func samePublic(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// LoadClientCert reads the certificate of a known client, "<dir>/<origin>.crt",
// as the validation of credentials needs it: exactly one PEM block, mode at most
// 0664. The file is read at each call, so that replacing it takes effect at once.
// Origins come from clients and may not leave the directory.
func LoadClientCert(dir, origin string) (*x509.Certificate, error) {
	if origin == "" || len(origin) > 64 || strings.Trim(origin, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return nil, fault.New(fault.Certificate, "cannot read the certificate of a client: bad origin %q", origin)
	}
	path := filepath.Join(dir, origin+".crt")
	data, err := read(path, certMode)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, invalid(path, "wanted exactly one PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, invalid(path, err.Error())
	}
	return cert, nil
}
