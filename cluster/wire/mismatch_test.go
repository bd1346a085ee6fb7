package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

func wantFault(t *testing.T, err error, code fault.Code, words ...string) {
	t.Helper()
	if fault.Of(err) != code {
		t.Fatalf("got %v (code %d), want code %d", err, fault.Of(err), code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("%q does not say %q", err, w)
		}
	}
	if fault.HintOf(err) == "" {
		t.Fatalf("%q has no hint", err)
	}
}

func TestPlainClientMeetsTLS(t *testing.T) {
	is := is.New(t)
	s := serve(t, ServerConfig{TLS: newAuthority(t).server()}, Raft)
	c := dial(t, &Dialer{}, s.addr)
	_, err := c.Call(t.Context(), "echo", nil)
	wantFault(t, err, fault.Protocol, s.addr, "requires TLS")
	_, err = (&Dialer{}).DialService(t.Context(), s.addr, Raft)
	wantFault(t, err, fault.Protocol, s.addr, "requires TLS")
	is.True(strings.Contains(s.log.String(), "requires TLS"))
}

func TestTLSClientMeetsPlain(t *testing.T) {
	a := newAuthority(t)
	d := &Dialer{TLS: a.client(a.issue("admin", time.Now().Add(time.Hour)))}
	s := serve(t, ServerConfig{})
	_, err := d.Dial(t.Context(), s.addr)
	wantFault(t, err, fault.Protocol, "server at "+s.addr+" speaks plain text", "allow_insecure")
	eventually(t, "the server logs it", func() bool { return strings.Contains(s.log.String(), "speaks plain text") })
}

func TestOtherProtocolsAreTold(t *testing.T) {
	is := is.New(t)
	secure := serve(t, ServerConfig{TLS: newAuthority(t).server()})
	plain := serve(t, ServerConfig{})
	tell := func(addr, text string) string {
		c, err := net.Dial("tcp", addr)
		is.NoErr(err)
		defer c.Close()
		_, err = c.Write([]byte(text))
		is.NoErr(err)
		is.NoErr(c.SetReadDeadline(time.Now().Add(5 * time.Second)))
		b, err := io.ReadAll(c)
		is.NoErr(err)
		return string(b)
	}
	is.True(strings.HasPrefix(tell(secure.addr, "hello\n"), "this server requires TLS: "))
	is.True(strings.HasPrefix(tell(plain.addr, "hello\n"), "this port speaks the protocol of daosbox"))
	is.True(strings.HasPrefix(tell(plain.addr, "GET / HTTP/1.1\r\n\r\n"), "HTTP/1.0 400 "))
	is.True(strings.HasSuffix(tell(secure.addr, "POST / HTTP/1.1\r\n\r\n"), "use dmg to talk to it\n"))
	is.True(strings.HasPrefix(tell(plain.addr, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "this port speaks"))
}

// A client learns what kind of server it has met instead.
func TestOtherServersAreNamed(t *testing.T) {
	for _, test := range []struct{ answer, want string }{
		{"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00", "HTTP/2"},
		{"\x15\x03\x03\x00\x02\x02\x46", "requires TLS"},
		{"SSH-2.0-OpenSSH\r\n", "not a daos_server"},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if c, err := ln.Accept(); err == nil {
				_, _ = io.WriteString(c, test.answer)
				closeWrite(c)
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		}()
		c := dial(t, &Dialer{}, ln.Addr().String())
		_, err = c.Call(t.Context(), "echo", nil)
		wantFault(t, err, fault.Protocol, test.want)
		_ = c.Close()
		<-done
		_ = ln.Close()
	}
}

func TestCertificates(t *testing.T) {
	is := is.New(t)
	a, other := newAuthority(t), newAuthority(t)
	s := serve(t, ServerConfig{TLS: a.server()})
	call := func(own tls.Certificate) error {
		c, err := (&Dialer{TLS: a.client(own)}).Dial(t.Context(), s.addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Call(t.Context(), "echo", nil)
		return err
	}
	expired := a.issue("admin", time.Now().Add(-time.Hour))
	wantFault(t, call(expired), fault.Certificate, s.addr, "rejected our certificate (admin)", "expired on "+day(expired.Leaf.NotAfter))
	eventually(t, "the server logs it", func() bool { return strings.Contains(s.log.String(), "expired") })
	wantFault(t, call(other.issue("admin", time.Now().Add(time.Hour))), fault.Certificate, "rejected our certificate")
	wantFault(t, call(tls.Certificate{}), fault.Certificate, "requires a certificate")
	is.NoErr(call(a.issue("admin", time.Now().Add(time.Hour))))
	_, err := (&Dialer{TLS: a.client(expired)}).DialService(t.Context(), s.addr, Raft)
	is.True(err != nil)

	late := a.server()
	late.Certificates = []tls.Certificate{a.issue("server", time.Now().Add(-time.Hour))}
	s2 := serve(t, ServerConfig{TLS: late})
	_, err = (&Dialer{TLS: a.client(a.issue("admin", time.Now().Add(time.Hour)))}).Dial(t.Context(), s2.addr)
	wantFault(t, err, fault.Certificate, s2.addr, "server's certificate", "expired on ")

	// The peer's own faults pass as they are.
	mine := fault.New(fault.CertificateInvalid, "role is agent, not server").WithHint("x")
	cfg := a.client(a.issue("admin", time.Now().Add(time.Hour)))
	cfg.VerifyConnection = func(tls.ConnectionState) error { return mine }
	_, err = (&Dialer{TLS: cfg}).Dial(t.Context(), s.addr)
	is.True(errors.Is(err, mine))
	var x x509.CertificateInvalidError
	is.True(!errors.As(err, &x))
}

// A configuration that is picked per client (reload) keeps our names in TLS.
func TestReloadedTLS(t *testing.T) {
	is := is.New(t)
	a := newAuthority(t)
	inner := a.server()
	s := serve(t, ServerConfig{TLS: &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return inner, nil }}})
	own := a.issue("admin", time.Now().Add(time.Hour))
	cfg := a.client(tls.Certificate{})
	cfg.Certificates = nil
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	for range 2 {
		c := dial(t, &Dialer{TLS: cfg}, s.addr)
		is.NoErr(c.Ping(t.Context()))
		is.Equal(c.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol, "daosbox/1")
	}
}

func TestUnreachable(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	addr := ln.Addr().String()

	// A host that accepts and says nothing.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	c := dial(t, &Dialer{}, addr)
	_, err = c.Call(ctx, "echo", nil)
	wantFault(t, err, fault.Timeout, "host "+addr+" did not answer within")
	a := newAuthority(t)
	_, err = (&Dialer{TLS: a.client(tls.Certificate{}), Timeout: 50 * time.Millisecond}).Dial(t.Context(), addr)
	wantFault(t, err, fault.Timeout, "did not answer within 50ms")
	_, err = (&Dialer{Timeout: 50 * time.Millisecond}).DialService(t.Context(), addr, Raft)
	wantFault(t, err, fault.Timeout, "did not answer within 50ms")
	gone, stop := context.WithCancel(t.Context())
	stop()
	_, err = (&Dialer{}).Dial(gone, addr)
	is.Equal(fault.Of(err), fault.Canceled)

	is.NoErr(ln.Close())
	_, err = (&Dialer{}).Dial(t.Context(), addr)
	wantFault(t, err, fault.Unreachable, addr, "connection refused")
	is.Equal(fault.HintOf(err), "is daos_server running on 127.0.0.1?")
	_, err = (&Dialer{}).Dial(t.Context(), "127.0.0.1")
	wantFault(t, err, fault.Usage)
}

// rawClient speaks to a server below the level of Conn.
type rawClient struct {
	net.Conn
	br *bufio.Reader
	t  *testing.T
}

func raw(t *testing.T, addr string) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &rawClient{c, bufio.NewReader(c), t}
}

func (r *rawClient) send(parts ...[]byte) {
	r.t.Helper()
	for _, p := range parts {
		if _, err := r.Write(p); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rawClient) preface() preface {
	r.t.Helper()
	p, err := readPreface(r.br)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *rawClient) next() frame {
	r.t.Helper()
	f, err := readFrame(r.br, maxFrame)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// fails wants the end of the connection with a fault.
func (r *rawClient) fails(code fault.Code) {
	r.t.Helper()
	for {
		f := r.next()
		if f.kind == kindError && f.stream == 0 {
			if e := decodeFault(f.payload); e.Code != code {
				r.t.Fatalf("got %v (%d), want %d", e, e.Code, code)
			}
			break
		}
	}
	if _, err := r.br.ReadByte(); err == nil {
		r.t.Fatal("the server goes on")
	}
}
