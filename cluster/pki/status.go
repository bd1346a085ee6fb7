package pki

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"daosbox/cluster/fault"
)

// WarnDays is how many days before the end of a certificate warnings begin.
const WarnDays = 60

// State is the verdict on one certificate.
type State string

// The states, from good to bad.
const (
	StateOK       State = "ok"
	StateWarn     State = "warn"     // ends within the warning time
	StateNotYet   State = "not-yet"  // begins in the future
	StateExpired  State = "expired"  // has ended
	StateMismatch State = "mismatch" // does not fit its CA, key or name
	StateInvalid  State = "invalid"  // cannot be read
)

// CertStatus reports on one certificate.
type CertStatus struct {
	Path    string `json:"path"`
	Subject string `json:"subject"` // common name
	Role    Role   `json:"role"`    // "" for an authority or an unknown name
	Kind    string `json:"kind"`    // "ca" or "leaf"
	KeyType string `json:"key_type"`
	Serial  string `json:"serial"` // hexadecimal
	Issuer  string `json:"issuer"` // common name
	SHA256  string `json:"sha256"` // of the certificate, hexadecimal

	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  int       `json:"days_left"` // whole days, negative after the end

	State  State  `json:"state"`
	Reason string `json:"reason"` // why the state is not ok, one line
}

// Status reports on the certificates at path, which is a directory made by Init,
// Issue or the script of older systems, a directory of .crt files, or one PEM
// file. warn is how long before its end a certificate is reported as such. Files
// that cannot be read are rows too; an error is returned only when path itself
// cannot be read or holds no certificate.
func Status(path string, now time.Time, warn time.Duration) ([]CertStatus, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, openFault(path, err)
	}
	if !info.IsDir() {
		l := layout{caCert: filepath.Join(filepath.Dir(path), "daosCA.crt")}
		cas, _ := readCerts(l.caCert) // a lone certificate may have no CA beside it
		return statusOf(path, cas, now, warn), nil
	}
	l, err := find(path)
	if err != nil && fault.Of(err) != fault.CertificateMissing {
		return nil, err
	}
	if err != nil {
		l = ours(path)
	}
	files, globErr := filepath.Glob(filepath.Join(globEscape(l.certs), "*.crt"))
	clients, clientErr := filepath.Glob(filepath.Join(globEscape(l.certs), "clients", "*.crt"))
	if globErr != nil || clientErr != nil {
		return nil, fault.New(fault.Internal, "cannot list the certificates in %s", path)
	}
	if len(files)+len(clients) == 0 {
		return nil, fault.New(fault.CertificateMissing, "cannot report on %s: there is no certificate in it", path).
			WithHint("make some with `daosbox certs init --dir %s`", path)
	}
	slices.SortStableFunc(files, func(a, b string) int { return rank(a) - rank(b) })
	cas, _ := readCerts(l.caCert) // a bad CA file is a row of its own
	var all []CertStatus
	for _, file := range append(files, clients...) {
		all = append(all, statusOf(file, cas, now, warn)...)
	}
	return all, nil
}

// globEscape makes a path match itself in a pattern.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// rank orders files: the authority, the roles, the rest.
func rank(path string) int {
	name := strings.TrimSuffix(filepath.Base(path), ".crt")
	if name == "daosCA" {
		return 0
	}
	if i := slices.Index(roles[:], Role(name)); i >= 0 {
		return 1 + i
	}
	return 1 + len(roles)
}

// statusOf reports on each certificate of a file.
func statusOf(path string, cas []*x509.Certificate, now time.Time, warn time.Duration) []CertStatus {
	certs, err := readCerts(path)
	if err != nil {
		return []CertStatus{{Path: path, State: StateInvalid, Reason: err.Error()}}
	}
	var all []CertStatus
	for i, cert := range certs {
		s := describeStatus(path, cert)
		s.DaysLeft = int(math.Floor(cert.NotAfter.Sub(now).Hours() / 24))
		s.State, s.Reason = judge(cert, cas, now, warn)
		if s.State == StateOK || s.State == StateWarn {
			if why := misplaced(path, cert, i == 0); why != "" {
				s.State, s.Reason = StateMismatch, why
			}
		}
		all = append(all, s)
	}
	return all
}

func describeStatus(path string, cert *x509.Certificate) CertStatus {
	sum := sha256.Sum256(cert.Raw)
	s := CertStatus{
		Path:      path,
		Subject:   cert.Subject.CommonName,
		Kind:      "leaf",
		KeyType:   keyType(cert),
		Serial:    serial(cert),
		Issuer:    cert.Issuer.CommonName,
		SHA256:    hex.EncodeToString(sum[:]),
		NotBefore: cert.NotBefore.UTC(),
		NotAfter:  cert.NotAfter.UTC(),
	}
	if cert.IsCA {
		s.Kind = "ca"
	} else if role := Role(cert.Subject.CommonName); role.Known() {
		s.Role = role
	}
	return s
}

func keyType(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	}
	return cert.PublicKeyAlgorithm.String()
}

// judge gives the verdict on a certificate as it is.
func judge(cert *x509.Certificate, cas []*x509.Certificate, now time.Time, warn time.Duration) (State, string) {
	switch why := expiry(cert, now); {
	case why != "" && now.Before(cert.NotBefore):
		return StateNotYet, why
	case why != "":
		return StateExpired, why
	}
	if !cert.IsCA && len(cas) > 0 {
		m := material{caPath: "daosCA.crt", cas: cas, pool: x509.NewCertPool()}
		for _, ca := range cas {
			m.pool.AddCert(ca)
		}
		if err := m.verify([]*x509.Certificate{cert}, x509.ExtKeyUsageAny, now); err != nil {
			return StateMismatch, err.What
		}
	}
	if left := cert.NotAfter.Sub(now); left < warn {
		return StateWarn, fmt.Sprintf("%s ends on %s (in %s)", describe(cert), stamp(cert.NotAfter), age(left))
	}
	return StateOK, ""
}

// misplaced says what in the surroundings of a good certificate is wrong: its
// file's name, or the key beside it. A key that this user may not read is taken as
// right.
func misplaced(path string, cert *x509.Certificate, first bool) string {
	name := strings.TrimSuffix(filepath.Base(path), ".crt")
	if role := Role(name); first && role.Known() && cert.Subject.CommonName != name {
		return fmt.Sprintf("%s is in the file of the %s", describe(cert), role)
	}
	if !first || cert.IsCA {
		return ""
	}
	file := strings.TrimSuffix(path, ".crt") + ".key"
	key, err := readKey(file, keyLimit(Role(cert.Subject.CommonName)))
	switch fault.Of(err) {
	case 0:
		if !samePublic(cert, key) {
			return fmt.Sprintf("the key in %s does not belong to it", file)
		}
	case fault.CertificateMissing, fault.CertificateUnreadable:
	default:
		return err.Error()
	}
	return ""
}
