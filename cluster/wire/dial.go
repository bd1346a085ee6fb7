package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// Dialer makes connections. Its fields are read only; one Dialer serves any
// number of goroutines.
type Dialer struct {
	// TLS has our certificate and whom we trust, nil for plain text.
	TLS *tls.Config
	// Timeout bounds making a connection (default 10 s).
	Timeout time.Duration
	// Tickets are TLS sessions to resume, nil for none. They must be those of the
	// identity in TLS.
	Tickets *Tickets
	// MaxBody is the largest message accepted from a server in bytes (default 16 MiB).
	MaxBody int
	// Logger gets every frame at debug level, nil discards.
	Logger *slog.Logger
	// Control is called before a socket connects, see net.Dialer.
	Control func(network, address string, c syscall.RawConn) error

	dialect dialect
}

const dialTimeout = 10 * time.Second

// transport is a connection before its first byte of ours.
type transport struct {
	net.Conn
	explainer
	peer Peer
}

// Dial connects to the control service at addr (host:port). It returns once the
// transport stands, without waiting for the server's first word, so that the
// first call leaves with the preface; a server that does not want us is told
// about by that call. Faults: Unreachable, Timeout, Canceled, Certificate,
// Protocol when the other side speaks no TLS.
func (d *Dialer) Dial(ctx context.Context, addr string) (*Conn, error) {
	t, err := d.connect(ctx, addr, Control)
	if err != nil {
		return nil, err
	}
	return newConn(t, d), nil
}

// DialService connects to another service at addr and returns the bare connection
// once the server has agreed. Faults as of Dial, and those of a server that
// refuses: NotFound for an unknown service, Permission, Busy.
func (d *Dialer) DialService(ctx context.Context, addr, service string) (net.Conn, error) {
	if !validService(service) || service == Control {
		return nil, fault.New(fault.Usage, "cannot dial service %q: not a service name", service)
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	t, err := d.connect(ctx, addr, service)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = t.SetDeadline(time.Now()) })
	err = t.agree(d.preface(service))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = t.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = t.Close()
		if ctx.Err() != nil {
			return nil, ended(ctx, addr, start)
		}
		return nil, t.link(err)
	}
	return t.Conn, nil
}

// agree exchanges prefaces, reading not a byte more.
func (t *transport) agree(ours preface) error {
	_, writeErr := t.Write(ours.append(nil))
	theirs, err := t.readPreface(t)
	if err != nil {
		var op *net.OpError
		if writeErr != nil && (isTimeout(err) || !errors.As(err, &op)) {
			return writeErr
		}
		return err
	}
	if theirs.refused {
		return t.refusal(t)
	}
	_, err = common(ours, theirs)
	return err
}

// readPreface reads a server's preface; what is none is explained.
func (x explainer) readPreface(r io.Reader) (preface, error) {
	var b [prefaceLen]byte
	n, err := io.ReadFull(r, b[:])
	if n > 0 && (b[0] != magic[0] || n >= len(magic) && string(b[:len(magic)]) != string(magic[:])) {
		return preface{}, x.plain(b[:n])
	}
	if err != nil {
		return preface{}, err
	}
	return parsePreface(b[:])
}

// refusal reads the error frame after a refusing preface.
func (x explainer) refusal(r io.Reader) error {
	f, err := readFrame(r, minFrame)
	if err != nil {
		return truncated(err)
	}
	if f.kind != kindError {
		return fault.New(fault.Protocol, "host %s refused the connection with a frame of kind %s", x.addr, f.kind)
	}
	e := decodeFault(f.payload)
	return fault.Wrap(e.Code, e, "cannot use host %s", x.addr)
}

func clientPreface(service string) preface {
	l := Limits{}.withDefaults()
	return preface{version: version, minVersion: minVersion, features: ourFeatures, frame: uint32(l.Frame), window: uint32(l.Window), service: service}
}

// preface is what we say first.
func (d *Dialer) preface(service string) preface {
	p, own := clientPreface(service), d.dialect.orOurs()
	p.version, p.minVersion, p.features = own.version, own.minVersion, own.features
	return p
}

func (d *Dialer) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return dialTimeout
}

// connect makes the TCP connection and the TLS session.
func (d *Dialer) connect(ctx context.Context, addr, service string) (*transport, error) {
	wait := d.timeout()
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	t := &transport{explainer: explainer{addr: addr, tls: d.TLS != nil}}
	dialer := net.Dialer{Control: d.Control}
	if service == Control {
		dialer.KeepAlive = -1 // pings do that
	}
	raw, err := dialer.DialContext(limited, "tcp", addr)
	if err != nil {
		return nil, t.dial(ctx, err, wait)
	}
	t.Conn, t.peer = raw, Peer{Addr: raw.RemoteAddr()}
	if d.TLS == nil {
		return t, nil
	}
	cork := newCork(raw)
	secure := tls.Client(cork, d.config(addr, service, &t.own))
	if err := secure.HandshakeContext(limited); err != nil {
		_ = cork.flush() // the alert; the peer may be gone
		_ = raw.Close()
		if e, ok := fault.As(err); ok { // of whoever verifies: it does not know the host
			return nil, fault.Wrap(e.Code, e, "host %s", addr)
		}
		return nil, t.dial(ctx, err, wait)
	}
	cork.shaken()
	t.Conn, t.peer.Secure = secure, true
	if certs := secure.ConnectionState().PeerCertificates; len(certs) > 0 {
		t.peer.Cert = certs[0]
	}
	return t, nil
}

// config is TLS for one connection; own gets the certificate that it shows.
func (d *Dialer) config(addr, service string, own **x509.Certificate) *tls.Config {
	cfg := d.TLS.Clone()
	cfg.NextProtos = []string{alpn(service)}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS13)
	if d.Tickets != nil {
		cfg.ClientSessionCache = d.Tickets.at(addr, service)
	}
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		cfg.ServerName = hostOf(addr)
	}
	if pick := cfg.GetClientCertificate; pick != nil {
		cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := pick(info)
			if err == nil && c != nil {
				*own = leaf(c)
			}
			return c, err
		}
	} else if len(cfg.Certificates) > 0 {
		*own = leaf(&cfg.Certificates[0])
	}
	return cfg
}

func leaf(c *tls.Certificate) *x509.Certificate {
	if c.Leaf != nil || len(c.Certificate) == 0 {
		return c.Leaf
	}
	parsed, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil
	}
	return parsed
}
