package wire

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/matryer/is"
	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

// blackHole is an address that takes no connection and says nothing of it: a
// listener whose queue is full and which nobody accepts from.
func blackHole(t *testing.T) string {
	t.Helper()
	is := is.New(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	is.NoErr(err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	is.NoErr(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 7}}))
	is.NoErr(unix.Listen(fd, 0))
	name, err := unix.Getsockname(fd)
	is.NoErr(err)
	addr := fmt.Sprintf("127.0.0.7:%d", name.(*unix.SockaddrInet4).Port)
	for range 8 { // until the queue is full
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		c, err := new(net.Dialer).DialContext(ctx, "tcp4", addr)
		cancel()
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("this kernel takes connections that nobody accepts")
	return ""
}

// Of many hosts a twentieth is behind a hole in the network: the others answer at
// once, and the whole takes one host's time.
func TestFanOutBlackHoles(t *testing.T) {
	is := is.New(t)
	hosts, wait := 1024, 2*time.Second
	if raceDetector {
		hosts, wait = 64, 10*time.Second // it makes handshakes ten times as dear
	}
	a := newAuthority(t)
	s := serve(t, ServerConfig{TLS: a.server()})
	d := &Dialer{TLS: a.client(a.issue("admin", time.Now().Add(time.Hour)))}
	hole := blackHole(t)
	names := make([]string, hosts)
	dead := 0
	for i := range names {
		if names[i] = s.addr; i%20 == 3 {
			names[i] = hole
			dead++
		}
	}
	begin := time.Now()
	good, bad := 0, 0
	var lastGood time.Duration
	FanOut(t.Context(), names, FanOutOptions{HostTimeout: wait}, func(ctx context.Context, host string) ([]byte, error) {
		c, err := d.Dial(ctx, host)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.Call(ctx, "echo", []byte("here"))
	}, func(r Result[[]byte]) {
		if r.Err == nil {
			good++
			lastGood = time.Since(begin)
			is.Equal(string(r.Value), "here")
			return
		}
		bad++
		is.Equal(fault.Of(r.Err), fault.Timeout)
	})
	took := time.Since(begin)
	t.Logf("%d hosts, %d of them black holes: the good had answered after %s, all was over after %s", hosts, dead, lastGood, took)
	is.Equal(good, hosts-dead)
	is.Equal(bad, dead)
	is.True(took < wait+wait/10)
	if !raceDetector {
		is.True(lastGood < wait*9/10) // nobody waited for the dead
	}
}
