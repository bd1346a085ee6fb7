package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"
	"go.uber.org/goleak"

	"daosbox/cluster/fault"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(crowdRole); role != "" {
		if err := playRole(role); err != nil {
			fmt.Fprintln(os.Stderr, "ERROR:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// authority issues certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	pair := a.issue("test authority", time.Now().Add(time.Hour))
	a.cert = pair.Leaf
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(name string, until time.Time) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: a.cert == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer, a.key = template, key, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}
}

func (a *authority) server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.issue("server", time.Now().Add(time.Hour))},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool,
		CurvePreferences: []tls.CurveID{tls.X25519}, MinVersion: tls.VersionTLS13}
}

// client trusts the authority and no host name, as the certificates of DAOS want.
func (a *authority) client(own tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{own}, InsecureSkipVerify: true,
		CurvePreferences: []tls.CurveID{tls.X25519},
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: a.pool})
			return err
		}}
}

// echo is the handler of most tests.
func echo(ctx context.Context, req *Request, out Sender) error {
	switch req.Method {
	case "echo":
		return out.Send(req.Body)
	case "none":
		return nil
	case "count": // as many messages as the body says
		n, err := strconv.Atoi(string(req.Body))
		if err != nil {
			return fault.New(fault.Usage, "cannot count: %w", err).WithHint("send a number")
		}
		for i := range n {
			if err := out.Send([]byte(strconv.Itoa(i))); err != nil {
				return err
			}
		}
		return nil
	case "wait":
		<-ctx.Done()
		return ctx.Err()
	case "panic":
		panic("boom")
	}
	return fault.New(fault.Unimplemented, "no method %s", req.Method).WithData("method", req.Method)
}

// safeBuffer collects log lines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type running struct {
	*Server
	addr string
	log  *safeBuffer
	stop func()
}

// serve starts a server on a loopback address and stops it with the test.
func serve(t testing.TB, cfg ServerConfig, services ...string) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Handler == nil {
		cfg.Handler = echo
	}
	log := new(safeBuffer)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	s := NewServer(cfg)
	for _, name := range services {
		s.Service(name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve did not return")
		}
	})
	t.Cleanup(stop)
	return &running{s, ln.Addr().String(), log, stop}
}

func dial(t testing.TB, d *Dialer, addr string) *Conn {
	t.Helper()
	c, err := d.Dial(context.Background(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}

// both runs a test over plain text and over TLS.
func both(t *testing.T, test func(t *testing.T, s *running, d *Dialer)) {
	t.Run("plain", func(t *testing.T) { test(t, serve(t, ServerConfig{}), &Dialer{}) })
	t.Run("tls", func(t *testing.T) {
		a := newAuthority(t)
		test(t, serve(t, ServerConfig{TLS: a.server()}), &Dialer{TLS: a.client(a.issue("admin", time.Now().Add(time.Hour)))})
	})
}

func TestUnary(t *testing.T) {
	both(t, func(t *testing.T, s *running, d *Dialer) {
		is := is.New(t)
		c := dial(t, d, s.addr)
		is.Equal(c.Peer().Secure, d.TLS != nil)
		for _, n := range []int{0, 1, 1000, minFrame, 100_000, 3 << 20} {
			body := bytes.Repeat([]byte{byte(n)}, n)
			reply, err := c.Call(t.Context(), "echo", body)
			is.NoErr(err)
			is.True(bytes.Equal(reply, body))
		}
		reply, err := c.Call(t.Context(), "none", nil)
		is.NoErr(err)
		is.Equal(len(reply), 0)
		_, err = c.Call(t.Context(), "nope", nil)
		is.Equal(fault.Of(err), fault.Unimplemented)
		e, _ := fault.As(err)
		is.Equal(e.Data["method"], "nope")
		_, err = c.Call(t.Context(), "panic", nil)
		is.Equal(fault.Of(err), fault.Internal)
		_, err = c.Call(t.Context(), "count", []byte("2"))
		is.Equal(fault.Of(err), fault.Protocol) // a stream is no reply
		_, err = c.Call(t.Context(), "count", []byte("x"))
		is.Equal(fault.HintOf(err), "send a number")
		is.NoErr(c.Ping(t.Context()))
		is.NoErr(c.Err())
	})
}

func TestStream(t *testing.T) {
	both(t, func(t *testing.T, s *running, d *Dialer) {
		is := is.New(t)
		c := dial(t, d, s.addr)
		st, err := c.Stream(t.Context(), "count", []byte("5000"))
		is.NoErr(err)
		defer st.Close()
		for i := range 5000 {
			m, err := st.Recv()
			is.NoErr(err)
			is.Equal(string(m), strconv.Itoa(i))
		}
		_, err = st.Recv()
		is.Equal(err, io.EOF)
	})
}

// A reader that does not read holds up its own stream and no other, and the
// server's memory stays bounded by the window.
func TestSlowReader(t *testing.T) {
	is := is.New(t)
	const messages, size = 200, 64 << 10
	sent := make(chan int, messages)
	s := serve(t, ServerConfig{Handler: func(ctx context.Context, req *Request, out Sender) error {
		if req.Method == "echo" {
			return out.Send(req.Body)
		}
		for i := range messages {
			if err := out.Send(make([]byte, size)); err != nil {
				return err
			}
			sent <- i
		}
		return nil
	}})
	c := dial(t, &Dialer{}, s.addr)
	slow, err := c.Stream(t.Context(), "flood", nil)
	is.NoErr(err)
	defer slow.Close()
	for range 2 {
		<-sent
	}
	for range 100 {
		_, err := c.Call(t.Context(), "echo", []byte("still here"))
		is.NoErr(err)
	}
	is.True(len(sent) < 10) // the window is 256 KiB
	n := 0
	for {
		m, err := slow.Recv()
		if err == io.EOF {
			break
		}
		is.NoErr(err)
		is.Equal(len(m), size)
		n++
	}
	is.Equal(n, messages)
}

func TestParallel(t *testing.T) {
	both(t, func(t *testing.T, s *running, d *Dialer) {
		is := is.New(t)
		c := dial(t, d, s.addr)
		var wg sync.WaitGroup
		errs := make(chan error, 64)
		for i := range 64 {
			wg.Go(func() {
				body := bytes.Repeat([]byte{byte(i)}, 20_000*(i%4)+1)
				for range 10 {
					reply, err := c.Call(t.Context(), "echo", body)
					if err != nil || !bytes.Equal(reply, body) {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			is.NoErr(err)
			t.Fatal("another answer")
		}
	})
}

func TestCancel(t *testing.T) {
	is := is.New(t)
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	s := serve(t, ServerConfig{Handler: func(ctx context.Context, req *Request, out Sender) error {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}})
	c := dial(t, &Dialer{}, s.addr)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	_, err := c.Call(ctx, "wait", nil)
	is.Equal(fault.Of(err), fault.Canceled)
	is.Equal(<-ended, context.Canceled)

	st, err := c.Stream(t.Context(), "wait", nil)
	is.NoErr(err)
	<-began
	is.NoErr(st.Close()) // closing an unfinished stream cancels it
	is.Equal(<-ended, context.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	st, err = c.Stream(ctx, "wait", nil)
	is.NoErr(err)
	<-began
	cancel() // nobody receives, the server is told all the same
	is.Equal(<-ended, context.Canceled)
	is.NoErr(st.Close())

	// The loss of the connection ends handlers as well.
	st, err = c.Stream(t.Context(), "wait", nil)
	is.NoErr(err)
	<-began
	is.NoErr(c.Close())
	is.Equal(<-ended, context.Canceled)
	_, err = st.Recv()
	is.Equal(fault.Of(err), fault.Canceled)
}

func TestDeadline(t *testing.T) {
	is := is.New(t)
	left := make(chan time.Duration, 1)
	s := serve(t, ServerConfig{Handler: func(ctx context.Context, req *Request, out Sender) error {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		<-ctx.Done()
		return ctx.Err()
	}})
	c := dial(t, &Dialer{}, s.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := c.Call(ctx, "wait", nil)
	is.Equal(fault.Of(err), fault.Timeout)
	got := <-left
	is.True(got > 0 && got < 250*time.Millisecond)
	is.NoErr(c.Err()) // the connection is good for more
}

func TestDrain(t *testing.T) {
	is := is.New(t)
	began, release := make(chan struct{}), make(chan struct{})
	s := serve(t, ServerConfig{Handler: func(ctx context.Context, req *Request, out Sender) error {
		close(began)
		<-release
		return out.Send([]byte("done"))
	}})
	c := dial(t, &Dialer{}, s.addr)
	idle := dial(t, &Dialer{}, s.addr)
	is.NoErr(idle.Ping(t.Context()))
	reply := make(chan error, 1)
	go func() {
		b, err := c.Call(context.Background(), "work", nil)
		if err == nil && string(b) != "done" {
			err = io.ErrUnexpectedEOF
		}
		reply <- err
	}()
	<-began
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	eventually(t, "the client hears of the drain", func() bool { return c.Err() != nil && idle.Err() != nil })
	is.Equal(fault.Of(c.Err()), fault.NotReady)
	_, err := c.Call(t.Context(), "work", nil)
	is.Equal(fault.Of(err), fault.NotReady)
	select {
	case <-down:
		t.Fatal("did not wait for the running call")
	default:
	}
	close(release)
	is.NoErr(<-reply)
	is.NoErr(<-down)
	_, err = (&Dialer{}).Dial(t.Context(), s.addr)
	is.Equal(fault.Of(err), fault.Unreachable)
}

func TestDrainOutOfTime(t *testing.T) {
	is := is.New(t)
	s := serve(t, ServerConfig{})
	c := dial(t, &Dialer{}, s.addr)
	st, err := c.Stream(t.Context(), "wait", nil)
	is.NoErr(err)
	defer st.Close()
	is.NoErr(c.Ping(t.Context())) // the call has arrived
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	is.Equal(fault.Of(s.Shutdown(ctx)), fault.Timeout)
	_, err = st.Recv()
	is.True(err != nil && err != io.EOF)
}

func TestServicePassesThrough(t *testing.T) {
	for _, secure := range []bool{false, true} {
		is := is.New(t)
		cfg, d := ServerConfig{}, &Dialer{}
		if secure {
			a := newAuthority(t)
			cfg.TLS = a.server()
			d.TLS = a.client(a.issue("server", time.Now().Add(time.Hour)))
		}
		cfg.Admit = func(service string, p Peer) error {
			if service == "closed" {
				return fault.New(fault.Permission, "not for you")
			}
			return nil
		}
		s := serve(t, cfg, Raft, "closed")
		accepted := make(chan error, 1)
		go func() {
			c, err := s.Service(Raft).Accept()
			if err == nil {
				p, _ := PeerOf(c)
				if p.Secure != secure || secure && p.Cert.Subject.CommonName != "server" {
					t.Errorf("peer %v", p)
				}
				_, err = io.Copy(c, c)
				_ = c.Close()
			}
			accepted <- err
		}()
		c, err := d.DialService(t.Context(), s.addr, Raft)
		is.NoErr(err)
		_, err = c.Write([]byte("raft speaks"))
		is.NoErr(err)
		b := make([]byte, 11)
		_, err = io.ReadFull(c, b)
		is.NoErr(err)
		is.Equal(string(b), "raft speaks")
		is.NoErr(c.Close())
		is.NoErr(<-accepted)
		_, err = d.DialService(t.Context(), s.addr, "closed")
		is.Equal(fault.Of(err), fault.Permission)
		_, err = d.DialService(t.Context(), s.addr, "unheard-of")
		is.True(fault.Of(err) == fault.NotFound || secure && fault.Of(err) == fault.Protocol)
		s.stop()
		is.NoErr(s.Shutdown(t.Context()))
		_, err = s.Service(Raft).Accept()
		is.True(err != nil)
	}
}
