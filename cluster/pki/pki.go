// Package pki holds the certificates that servers, agents and administrators
// know each other by: it makes and issues them, loads them with checks of mode,
// validity and role, reports on them, and turns them into TLS configurations whose
// errors say which certificate was refused and why.
//
// A certificate's common name is its role. Host names are never checked: a system
// trusts one certificate authority of its own, and roles under it. Keys are P-256
// by default; RSA certificates made by the script of older systems load and work
// the same way.
package pki

import (
	"crypto/x509"
	"fmt"
	"time"

	"daosbox/cluster/fault"
)

// Role is what a certificate entitles its holder to be.
type Role string

// The roles; each is the common name of its certificates.
const (
	Server Role = "server"
	Agent  Role = "agent"
	Admin  Role = "admin"
)

// roles in the order they are issued and listed.
var roles = [...]Role{Server, Agent, Admin}

// Known says that r is one of the three roles.
func (r Role) Known() bool { return r == Server || r == Agent || r == Admin }

// Files names what an Identity is loaded from.
type Files struct {
	// CA is the PEM file of the certificate authority; it may hold several
	// certificates while one authority replaces another.
	CA string
	// Cert and Key are the PEM files of the holder's own certificate and key.
	Cert, Key string
	// ClientDir has the certificates of known clients; servers only, may be
	// empty.
	ClientDir string
}

// RoleOf returns the role that a certificate's common name gives; other names are
// a fault.Certificate.
func RoleOf(cert *x509.Certificate) (Role, error) {
	if role := Role(cert.Subject.CommonName); role.Known() {
		return role, nil
	}
	return "", fault.New(fault.Certificate, "%s has no role: its common name is not server, agent or admin", describe(cert)).
		WithHint("make one with `daosbox certs issue --role server|agent|admin`")
}

// describe says whose certificate it is, in the words of every message.
func describe(cert *x509.Certificate) string {
	name := cert.Subject.CommonName
	if cert.IsCA {
		return fmt.Sprintf("certificate of the authority (CN %s, serial %s)", name, serial(cert))
	}
	holder := name
	if !Role(name).Known() {
		holder = "an unknown role"
	}
	return fmt.Sprintf("certificate of %s (CN %s, serial %s)", holder, name, serial(cert))
}

// serial is the serial number in hexadecimal.
func serial(cert *x509.Certificate) string { return fmt.Sprintf("%x", cert.SerialNumber) }

// expiry says what is wrong with the validity of cert at now, "" when nothing is.
func expiry(cert *x509.Certificate, now time.Time) string {
	switch {
	case now.After(cert.NotAfter):
		return fmt.Sprintf("%s expired on %s (%s ago)", describe(cert), stamp(cert.NotAfter), age(now.Sub(cert.NotAfter)))
	case now.Before(cert.NotBefore):
		return fmt.Sprintf("%s is not valid before %s (in %s; clock here %s)",
			describe(cert), stamp(cert.NotBefore), age(cert.NotBefore.Sub(now)), stamp(now))
	}
	return ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// age rounds a time span to what a reader wants to know.
func age(d time.Duration) string {
	count := func(n int, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return fmt.Sprintf("%d %ss", n, unit)
	}
	switch {
	case d >= 24*time.Hour:
		return count(int(d/(24*time.Hour)), "day")
	case d >= time.Hour:
		return count(int(d/time.Hour), "hour")
	case d >= time.Minute:
		return count(int(d/time.Minute), "minute")
	}
	return count(int(d/time.Second), "second")
}

// hintFor is the next step for a certificate that is out of its validity.
func hintFor(cert *x509.Certificate, now time.Time) string {
	switch {
	case now.Before(cert.NotBefore):
		return "compare the clocks of both hosts; the certificate is from the future"
	case cert.IsCA:
		return "make a new authority with `daosbox certs init` and distribute its certificates to every host"
	case Role(cert.Subject.CommonName).Known():
		return fmt.Sprintf("run `daosbox certs issue --role %s --force` where the CA key is, and copy the result to the holder", cert.Subject.CommonName)
	}
	return "run `daosbox certs issue` where the CA key is, and copy the result to the holder"
}
