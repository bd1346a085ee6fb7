package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/pki"
)

var hostileCount = flag.Int("hostile", 200, "connections of TestHostileCrowd")

// crowdRole makes the test's own executable the server, or the crowd, of
// TestHostileCrowd: processes of their own, so that what is measured is theirs.
const (
	crowdRole  = "WIRE_TEST_ROLE"
	crowdCerts = "WIRE_TEST_CERTS"
	crowdAddr  = "WIRE_TEST_ADDR"
	crowdSize  = "WIRE_TEST_SIZE"
)

func playRole(role string) error {
	if role == "server" {
		return playServer()
	}
	return playCrowd()
}

func roleIdentity(role pki.Role) (*pki.Identity, error) {
	dir := os.Getenv(crowdCerts)
	return pki.Load(pki.Files{CA: filepath.Join(dir, "daosCA.crt"), Cert: filepath.Join(dir, string(role)+".crt"),
		Key: filepath.Join(dir, string(role)+".key")}, role)
}

// playServer serves, and prints its metrics, memory and end for every line it reads.
func playServer() error {
	id, err := roleIdentity(pki.Server)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return err
	}
	s := NewServer(ServerConfig{TLS: id.ServerTLS(), Handler: echo, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "VmHWM:") {
				fmt.Print(line)
			}
		}
		s.WriteMetrics(os.Stdout)
		fmt.Println("end")
	}
	cancel()
	return <-served
}

// playCrowd makes as many hostile connections as it is told and keeps each until the
// server ends it, then comes again, until its standard input ends.
func playCrowd() error {
	size, err := strconv.Atoi(os.Getenv(crowdSize))
	if err != nil {
		return err
	}
	own, err := roleIdentity(pki.Admin)
	if err != nil {
		return err
	}
	strangers := filepath.Join(os.Getenv(crowdCerts), "strangers")
	stranger, err := tls.LoadX509KeyPair(filepath.Join(strangers, "admin.crt"), filepath.Join(strangers, "admin.key"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer cancel(); _, _ = io.Copy(io.Discard, os.Stdin) }()
	h := &hostile{addr: os.Getenv(crowdAddr), own: own.ClientTLS(), stranger: &tls.Config{Certificates: []tls.Certificate{stranger},
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn(Control)}}}
	h.own.NextProtos = []string{alpn(Control)}
	var made atomic.Int64
	var all sync.WaitGroup
	for i := range size {
		all.Go(func() {
			for first := true; ctx.Err() == nil; first = false {
				if err := h.once(ctx, i); err == nil && first && made.Add(1) == int64(size) {
					fmt.Println("all were there")
				}
				select { // an attacker's machine is not endless either
				case <-ctx.Done():
				case <-time.After(5*time.Second + rand.N(5*time.Second)):
				}
			}
		})
	}
	all.Wait()
	return nil
}

type hostile struct {
	addr          string
	own, stranger *tls.Config
}

// once is one hostile connection from first to last byte.
func (h *hostile) once(ctx context.Context, i int) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, byte(i/250), byte(1+i%250))}}
	c, err := d.DialContext(ctx, "tcp4", h.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	hello := clientPreface(Control).append(nil)
	switch i % 10 {
	case 0: // silent
	case 1: // garbage
		_, _ = c.Write(bytes.Repeat([]byte{byte(i), 0xff, 3}, 100))
	case 2: // half a record of TLS, announced as large as can be
		_, _ = c.Write([]byte{0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff})
	case 3: // a byte at a time
		drip(ctx, c, append([]byte{0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb}, make([]byte, 1<<14)...))
	case 4: // plain at TLS
		_, _ = c.Write(append(hello, openFrame(1, 0, "echo", nil)...))
	case 5, 6: // a certificate of another authority
		t := tls.Client(c, h.stranger)
		if t.HandshakeContext(ctx) == nil {
			_, _ = t.Write(hello)
			_, _ = io.Copy(io.Discard, t)
		}
		return nil
	default:
		return h.insider(ctx, c, i, hello)
	}
	_, _ = io.Copy(io.Discard, c)
	return nil
}

// insider has a good certificate and bad manners.
func (h *hostile) insider(ctx context.Context, c net.Conn, i int, hello []byte) error {
	t := tls.Client(c, h.own)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := t.Write(hello); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { defer close(gone); _, _ = io.Copy(io.Discard, t) }()
	defer func() { _ = c.Close(); <-gone }()
	switch i % 30 {
	case 7: // opens and gives up, as fast as it can
		for id := uint32(1); ctx.Err() == nil; id += 2 {
			b := append(openFrame(id, 0, "wait", nil), appendFrame(nil, kindCancel, 0, id, nil)...)
			if _, err := t.Write(b); err != nil {
				return nil
			}
		}
	case 17: // opens without end
		for id := uint32(1); ctx.Err() == nil; id += 2 {
			if _, err := t.Write(openFrame(id, 0, "wait", nil)); err != nil {
				return nil
			}
		}
	case 27: // a request that does not get whole, in all its streams
		for id := uint32(1); id < 300; id += 2 {
			_, _ = t.Write(openFrame(id, flagMore, "echo", make([]byte, 2000)))
		}
	case 8: // a stream that was used
		_, _ = t.Write(append(openFrame(1, 0, "echo", nil), openFrame(1, 0, "echo", nil)...))
	case 18: // the largest length
		_, _ = t.Write([]byte{0xff, 0xff, 0xff, byte(kindData), 0, 0, 0, 0, 1})
	case 28: // a frame that stops in the middle
		_, _ = t.Write(openFrame(1, 0, "echo", make([]byte, 9000))[:4000])
	default: // connects and stays
	}
	<-gone
	return nil
}

func drip(ctx context.Context, c net.Conn, b []byte) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := range b {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := c.Write(b[i : i+1]); err != nil {
			return
		}
	}
}

// player is a process in a role.
type player struct {
	in  io.WriteCloser
	out *bufio.Reader
	log *safeBuffer
}

func play(t *testing.T, role string, env ...string) *player {
	t.Helper()
	is := is.New(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, crowdRole+"="+role)...)
	p := &player{log: new(safeBuffer)}
	cmd.Stderr = p.log
	var err error
	p.in, err = cmd.StdinPipe()
	is.NoErr(err)
	out, err := cmd.StdoutPipe()
	is.NoErr(err)
	p.out = bufio.NewReader(out)
	is.NoErr(cmd.Start())
	t.Cleanup(func() {
		_ = p.in.Close()
		kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_, _ = io.Copy(io.Discard, p.out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	})
	return p
}

// ask gets the server's numbers by name.
func (p *player) ask(t *testing.T) map[string]int {
	t.Helper()
	is := is.New(t)
	_, err := io.WriteString(p.in, "\n")
	is.NoErr(err)
	all := make(map[string]int)
	for {
		line, err := p.out.ReadString('\n')
		is.NoErr(err)
		f := strings.Fields(line)
		if f[0] == "end" {
			return all
		}
		all[f[0]], err = strconv.Atoi(f[1])
		is.NoErr(err)
	}
}

// A crowd of hostile connections of every kind costs the server bounded memory and
// log, and leaves a real client served.
func TestHostileCrowd(t *testing.T) {
	is := is.New(t)
	var files syscall.Rlimit
	is.NoErr(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	if int(files.Max) < *hostileCount+500 {
		t.Skipf("%d open files are allowed, %d connections wanted", files.Max, *hostileCount)
	}
	dir := filepath.Join(t.TempDir(), "certs")
	is.NoErr(pki.Init(dir, pki.InitOptions{}))
	is.NoErr(pki.Init(filepath.Join(dir, "strangers"), pki.InitOptions{}))
	server := play(t, "server", crowdCerts+"="+dir)
	port, err := server.out.ReadString('\n')
	is.NoErr(err)
	addr := net.JoinHostPort("127.0.0.1", strings.TrimSpace(port))
	d := &Dialer{TLS: identity(t, dir, pki.Admin).ClientTLS()}
	warm := dial(t, d, addr)
	is.NoErr(warm.Ping(t.Context()))
	play(t, "crowd", crowdCerts+"="+dir, crowdAddr+"="+addr, crowdSize+"="+strconv.Itoa(*hostileCount))

	deadline := time.Now().Add(60 * time.Second)
	for server.ask(t)[`wire_connections_total{outcome="accepted"}`] < *hostileCount {
		is.True(time.Now().Before(deadline)) // the crowd is there in time
		<-time.After(20 * time.Millisecond)
	}
	var calls, colds []time.Duration
	for range 200 {
		calls = append(calls, measured(t, warm))
	}
	for range 60 {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		c, err := d.Dial(ctx, addr)
		is.NoErr(err)
		_, err = c.Call(ctx, "echo", []byte("served"))
		is.NoErr(err)
		is.NoErr(c.Close())
		cancel()
		colds = append(colds, time.Since(begin))
	}
	numbers := server.ask(t)
	rss := numbers["VmHWM:"] >> 10
	t.Logf("%d hostile connections: server RSS %d MiB; calls p50 %s p99 %s; cold p50 %s p99 %s; %d log lines; %v", *hostileCount, rss,
		percentile(calls, 50), percentile(calls, 99), percentile(colds, 50), percentile(colds, 99), strings.Count(server.log.String(), "\n"), numbers)
	if !raceDetector { // which takes memory and time of its own
		is.True(rss < 256)
		is.True(percentile(calls, 99) < 100*time.Millisecond)
	}
	is.True(strings.Count(server.log.String(), "\n") <= 8*logKeys)
	is.True(numbers[`wire_failures_total{kind="handshake"}`] > 0)
}

func measured(t *testing.T, c *Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := c.Call(ctx, "echo", []byte("served"))
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func percentile(all []time.Duration, p int) time.Duration {
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, len(sorted)*p/100)].Round(10 * time.Microsecond)
}
