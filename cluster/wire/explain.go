package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// timedOut is the fault of a host that was silent for wait.
func timedOut(addr string, wait time.Duration) *fault.Error {
	return fault.New(fault.Timeout, "host %s did not answer within %s", addr, roundWait(wait)).
		WithHint("check the host and the network to it, or allow more time")
}

func roundWait(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return max(d.Round(time.Millisecond), time.Millisecond)
}

// ended is the fault of a call whose context ended after it waited since start.
func ended(ctx context.Context, addr string, start time.Time) *fault.Error {
	err := context.Cause(ctx)
	if e, ok := fault.As(err); ok {
		return e
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		wait := time.Since(start)
		if deadline, ok := ctx.Deadline(); ok {
			wait = deadline.Sub(start)
		}
		return timedOut(addr, wait)
	}
	return fault.New(fault.Canceled, "call to host %s was given up: %w", addr, err)
}

// explainer turns what the network says into faults that name the host.
type explainer struct {
	addr string
	own  *x509.Certificate // that we showed, nil when none
	tls  bool
}

// dial explains why a connection could not be made within wait.
func (x explainer) dial(ctx context.Context, err error, wait time.Duration) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.New(fault.Canceled, "call to host %s was given up: %w", x.addr, context.Cause(ctx))
	}
	if isTimeout(err) || errors.Is(err, context.DeadlineExceeded) {
		return timedOut(x.addr, wait)
	}
	var unknown *net.DNSError
	var bad *net.AddrError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fault.New(fault.Unreachable, "cannot reach host %s: connection refused", x.addr).
			WithHint("is daos_server running on %s?", hostOf(x.addr))
	case errors.As(err, &unknown):
		return fault.New(fault.Unreachable, "cannot reach host %s: name not found", x.addr).
			WithHint("check the spelling of %s, /etc/hosts and the name service", hostOf(x.addr))
	case errors.As(err, &bad):
		return fault.New(fault.Usage, "cannot use address %q: %s", x.addr, bad.Err).
			WithHint("write host:port")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fault.New(fault.Unreachable, "cannot reach host %s: %v", x.addr, root(err)).
			WithHint("check the network and the firewall between here and %s", hostOf(x.addr))
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fault.New(fault.Unreachable, "cannot reach host %s: too many open files here", x.addr).
			WithHint("raise the limit of open files (ulimit -n) or ask fewer hosts at a time")
	}
	return x.link(err)
}

// link explains why a connection broke, in the handshake or later.
func (x explainer) link(err error) error {
	if e, ok := fault.As(err); ok {
		return e
	}
	var notTLS tls.RecordHeaderError
	if errors.As(err, &notTLS) && x.tls {
		return x.plain(notTLS.RecordHeader[:])
	}
	if text, ok := remoteAlert(err); ok {
		return x.alert(text, err)
	}
	var untrusted *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fault.New(fault.Certificate, "cannot trust host %s: the server's certificate %s", x.addr, validity(invalid.Cert, time.Now())).
			WithHint("issue a new certificate for the server, or set this machine's clock")
	case errors.As(err, &untrusted):
		return fault.New(fault.Certificate, "cannot trust host %s: %w", x.addr, untrusted.Err).
			WithHint("check that both sides use certificates of the same authority (ca_cert)")
	case isTimeout(err):
		return fault.New(fault.Timeout, "host %s stopped answering", x.addr).
			WithHint("check the host and the network to it")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fault.New(fault.Unreachable, "host %s closed the connection", x.addr).
			WithHint("is %s shutting down or overloaded? its log may say why", hostOf(x.addr))
	}
	return fault.New(fault.Unreachable, "cannot talk to host %s: %w", x.addr, err)
}

// remoteAlert finds what crypto/tls calls a remote error; the type of the alert
// itself is not exported there.
func remoteAlert(err error) (string, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return "", false
	}
	return strings.TrimPrefix(op.Err.Error(), "tls: "), true
}

// alert explains why the server broke off TLS. With TLS 1.3 a client learns that
// its certificate was refused only when it first reads.
func (x explainer) alert(text string, err error) error {
	ours := "our certificate"
	if x.own != nil {
		ours += " (" + x.own.Subject.CommonName + ")"
	}
	switch text {
	case "no application protocol":
		return fault.New(fault.Protocol, "host %s does not offer this service of daosbox", x.addr).
			WithHint("is %s the control port of a daos_server?", x.addr)
	case "certificate required":
		return fault.New(fault.Certificate, "host %s requires a certificate and got none", x.addr).
			WithHint("set cert and key of this program's transport_config")
	case "expired certificate", "bad certificate", "unknown certificate authority", "unknown certificate",
		"unsupported certificate", "revoked certificate", "access denied", "error decrypting message":
		if x.own != nil && outside(x.own, time.Now()) {
			return fault.New(fault.Certificate, "host %s rejected %s: it %s", x.addr, ours, validity(x.own, time.Now())).
				WithHint("issue a new certificate with: daosbox certs issue")
		}
		hint := "the certificates of both sides must come from the same authority and name the right role; the server's log says more"
		if text == "expired certificate" && x.own != nil {
			hint = "compare the clocks of both machines; the certificate is good until " + day(x.own.NotAfter)
		}
		return fault.New(fault.Certificate, "host %s rejected %s: %s", x.addr, ours, text).WithHint("%s", hint)
	}
	return fault.New(fault.Protocol, "host %s broke off the TLS handshake: %w", x.addr, err).
		WithHint("the server's log says why")
}

// plain explains an answer to TLS, or to a preface, that is neither.
func (x explainer) plain(head []byte) error {
	has := func(prefix string) bool { return strings.HasPrefix(string(head), prefix) }
	switch {
	case x.tls && len(head) > 0 && has(string(magic[:min(len(magic), len(head))])):
		return fault.New(fault.Protocol, "server at %s speaks plain text: it has allow_insecure, and this side uses certificates", x.addr).
			WithHint("switch certificates on at the server, or allow_insecure (-i) here if that is wanted")
	case !x.tls && len(head) > 1 && (head[0] == 0x15 || head[0] == 0x16) && head[1] == 3:
		return fault.New(fault.Protocol, "server at %s requires TLS, and this side has allow_insecure", x.addr).
			WithHint("use certificates here: switch allow_insecure (-i) off")
	case len(head) > 3 && head[0] == 0 && head[1] == 0 && head[3] == 4:
		return fault.New(fault.Protocol, "server at %s speaks HTTP/2, as daos_server of other makes does, not the protocol of daosbox", x.addr).
			WithHint("use the dmg that came with that server")
	}
	return fault.New(fault.Protocol, "server at %s is not a daos_server of daosbox: it answered %q", x.addr, head).
		WithHint("check host and port")
}

func outside(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotAfter) || now.Before(c.NotBefore)
}

// validity says since when a certificate is no good.
func validity(c *x509.Certificate, now time.Time) string {
	if now.Before(c.NotBefore) {
		return "(" + c.Subject.CommonName + ") is valid only from " + day(c.NotBefore) + " on"
	}
	return "(" + c.Subject.CommonName + ") expired on " + day(c.NotAfter)
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// root is the errno at the bottom of a network error.
func root(err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}
