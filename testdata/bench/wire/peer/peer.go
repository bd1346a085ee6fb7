// Package peer is what the compared programs share: one executable per stack is
// server and client, so that start, memory and size are each stack's own.
package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options say how a client or server of a stack is to be made.
type Options struct {
	// Certs is the directory of certificates, empty for plain text.
	Certs string
	// Tickets is the directory of session tickets, empty for none.
	Tickets string
}

// Stack is one of the compared protocols.
type Stack interface {
	// Serve answers every call with its own body until ln is closed.
	Serve(ln net.Listener, o Options) error
	// Client makes what dials.
	Client(o Options) (Client, error)
}

// Client dials hosts of a stack.
type Client interface {
	Dial(ctx context.Context, addr string) (Conn, error)
	// Close is called at the end of a run, before it is measured.
	Close() error
}

// Conn carries calls.
type Conn interface {
	Call(ctx context.Context, body []byte) ([]byte, error)
	Close() error
}

// Usage is what a process has used up.
type Usage struct {
	CPU    time.Duration // user and system
	Allocs uint64
	RSS    int64 // the most, in bytes
}

// Report is what a client run tells.
type Report struct {
	Calls  int
	Failed int
	Error  string
	Wall   time.Duration
	Usage
}

// BodySize is the size of request and answer.
const BodySize = 100

const port = "10001"

// Main runs server or client as the arguments say.
func Main(s Stack) {
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR:", err)
		os.Exit(1)
	}
}

func run(s Stack) error {
	if len(os.Args) < 2 {
		return fmt.Errorf("usage: %s serve|cold|warm|noop", os.Args[0])
	}
	var o Options
	f := flag.NewFlagSet(os.Args[1], flag.ContinueOnError)
	f.StringVar(&o.Certs, "certs", "", "directory of certificates")
	f.StringVar(&o.Tickets, "tickets", "", "directory of session tickets")
	listen := f.String("listen", "0.0.0.0:0", "address of the server")
	to := f.String("port", port, "port of all hosts")
	hosts := f.Int("hosts", 1, "number of hosts")
	calls := f.Int("calls", 1, "cold: rounds over all hosts; warm: calls in all")
	parallel := f.Int("parallel", 256, "hosts at a time")
	depth := f.Int("depth", 1, "warm: calls at a time on a connection")
	if err := f.Parse(os.Args[2:]); err != nil {
		return err
	}
	switch os.Args[1] {
	case "noop":
		_, err := s.Client(o)
		return err
	case "serve":
		return serve(s, o, *listen)
	case "cold":
		return cold(s, o, addresses(*hosts, *to), *calls, *parallel)
	case "warm":
		return warm(s, o, addresses(*hosts, *to), *calls, *parallel, *depth)
	}
	return fmt.Errorf("unknown verb %s", os.Args[1])
}

// addresses are hosts 127.1.x.y, which one listener on every address serves.
func addresses(n int, port string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("127.1.%d.%d:%s", i/250, 1+i%250, port)
	}
	return all
}

// serve prints its address, and its usage for every line on standard input.
func serve(s Stack, o Options, listen string) error {
	ln, err := net.Listen("tcp4", listen)
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(ln, o) }()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		select {
		case err := <-failed:
			return err
		default:
		}
		if err := json.NewEncoder(os.Stdout).Encode(usage()); err != nil {
			return err
		}
	}
	return nil
}

func usage() Usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), Allocs: m.Mallocs, RSS: peak()}
}

// peak is the most memory that this program had; what getrusage tells begins with
// that of the process which started it.
func peak() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	var kib int64
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

// each runs do for every index, parallel of them at a time.
func each(n, parallel int, do func(i int) error) (failed int, first error) {
	var next, bad atomic.Int64
	var once sync.Once
	var all sync.WaitGroup
	for range min(n, parallel) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					bad.Add(1)
					once.Do(func() { first = err })
				}
			}
		})
	}
	all.Wait()
	return int(bad.Load()), first
}

func call(ctx context.Context, c Conn, body []byte) error {
	answer, err := c.Call(ctx, body)
	if err == nil && len(answer) != len(body) {
		err = fmt.Errorf("answer of %d bytes", len(answer))
	}
	return err
}

// cold connects, calls and closes, as one command does for each of its hosts.
func cold(s Stack, o Options, hosts []string, rounds, parallel int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	body := make([]byte, BodySize)
	begin := time.Now()
	c, err := s.Client(o)
	if err != nil {
		return err
	}
	var r Report
	for range rounds {
		failed, err := each(len(hosts), parallel, func(i int) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			conn, err := c.Dial(ctx, hosts[i])
			if err != nil {
				return err
			}
			defer conn.Close()
			return call(ctx, conn, body)
		})
		r.Calls += len(hosts)
		r.Failed += failed
		if err != nil {
			r.Error = err.Error()
		}
	}
	if err := c.Close(); err != nil {
		return err
	}
	r.Wall, r.Usage = time.Since(begin), usage()
	return json.NewEncoder(os.Stdout).Encode(r)
}

// warm calls over connections that stand.
func warm(s Stack, o Options, hosts []string, calls, parallel, depth int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := s.Client(o)
	if err != nil {
		return err
	}
	body := make([]byte, BodySize)
	conns := make([]Conn, len(hosts))
	if failed, err := each(len(hosts), parallel, func(i int) error {
		var err error
		if conns[i], err = c.Dial(ctx, hosts[i]); err != nil {
			return err
		}
		return call(ctx, conns[i], body)
	}); failed > 0 {
		return err
	}
	// What the dialling left behind is not the calls' to pay.
	runtime.GC()
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	before, begin := usage(), time.Now()
	var r Report
	var bad error
	r.Calls = calls
	r.Failed, bad = each(calls, min(parallel, len(hosts)*depth), func(i int) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return call(ctx, conns[i%len(hosts)], body)
	})
	if bad != nil {
		r.Error = bad.Error()
	}
	r.Wall, r.Usage = time.Since(begin), usage()
	r.CPU -= before.CPU
	r.Allocs -= before.Allocs
	for _, conn := range conns {
		_ = conn.Close()
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// ServerTLS is what a program would write with crypto/tls alone; nil for plain text.
func (o Options) ServerTLS() (*tls.Config, error) {
	cfg, pool, err := o.load("server")
	if cfg != nil {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, pool
	}
	return cfg, err
}

// ClientTLS is the same for clients; the certificates of DAOS name no hosts.
func (o Options) ClientTLS() (*tls.Config, error) {
	cfg, pool, err := o.load("admin")
	if cfg != nil {
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
			return err
		}
	}
	return cfg, err
}

func (o Options) load(role string) (*tls.Config, *x509.CertPool, error) {
	if o.Certs == "" {
		return nil, nil, nil
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(o.Certs, role+".crt"), filepath.Join(o.Certs, role+".key"))
	if err != nil {
		return nil, nil, err
	}
	ca, err := os.ReadFile(filepath.Join(o.Certs, "daosCA.crt"))
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}, pool, nil
}
