package helper

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"

	"github.com/matryer/is"
)

// log collects the lines of a service.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// started runs s on a socket of its own and returns a client of it.
func started(t *testing.T, s *service) (*Client, *log) {
	t.Helper()
	lines := &log{}
	s.log = slog.New(slog.NewTextHandler(lines, nil))
	if s.admit == nil {
		s.admit = func(caller) error { return nil }
	}
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	c.root = uint32(os.Geteuid())
	return c, lines
}

// echo does nothing and returns what was asked as the mount of an engine.
func echo(_ context.Context, _ caller, r request) (Info, error) {
	return Info{Version: cli.Version, Engines: []Engine{{Index: r.Engine, Mount: r.Method}}}, nil
}

func TestServeAnswers(t *testing.T) {
	is := is.New(t)
	var seen caller
	c, lines := started(t, &service{do: func(ctx context.Context, who caller, r request) (Info, error) {
		seen = who
		return echo(ctx, who, r)
	}})
	info, err := c.Ping(t.Context())
	is.NoErr(err)
	is.Equal(info.Engines[0].Mount, methodPing)
	is.Equal(seen, caller{pid: int32(os.Getpid()), uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())})
	is.NoErr(c.Mount(t.Context(), 7))
	is.True(strings.Contains(lines.String(), "method=scm.mount engine=7"))
}

func TestFaultsTravel(t *testing.T) {
	is := is.New(t)
	c, lines := started(t, &service{do: func(context.Context, caller, request) (Info, error) {
		return Info{}, fault.New(fault.Busy, "cannot do it: somebody is there").WithHint("go")
	}})
	err := c.Format(t.Context(), 0, true)
	is.Equal(fault.Of(err), fault.Busy)
	is.Equal(fault.HintOf(err), "go")
	is.Equal(err.Error(), "cannot do it: somebody is there")
	is.True(strings.Contains(lines.String(), "force=true"))
}

func TestStrangerIsRefused(t *testing.T) {
	is := is.New(t)
	c, lines := started(t, &service{do: echo, admit: policy{uid: uint32(os.Geteuid()) + 1}.admitOnly})
	err := c.Mount(t.Context(), 0)
	is.Equal(fault.Of(err), fault.Permission)
	is.True(fault.HintOf(err) != "")
	is.True(strings.Contains(lines.String(), "refused a caller"))
}

// admitOnly is admit without the exception for root, whom tests may run as.
func (p policy) admitOnly(c caller) error {
	if c.uid == 0 {
		c.uid = p.uid + 1
	}
	return p.admit(c)
}

func TestOtherVersionIsRefused(t *testing.T) {
	is := is.New(t)
	c, _ := started(t, &service{do: func(context.Context, caller, request) (Info, error) { return Info{Version: "0.0"}, nil }})
	_, err := c.Ping(t.Context())
	is.Equal(fault.Of(err), fault.IncompatibleVersion)
}

func TestImpostorIsRefused(t *testing.T) {
	is := is.New(t)
	c, _ := started(t, &service{do: echo})
	c.root++
	_, err := c.Ping(t.Context())
	is.Equal(fault.Of(err), fault.Permission)
}

func TestBadMessages(t *testing.T) {
	c, lines := started(t, &service{do: echo, wait: 50 * time.Millisecond})
	for name, data := range map[string][]byte{
		"garbage":   frame([]byte("give me a shell")),
		"oversized": binary.BigEndian.AppendUint32(nil, 1<<30),
		"empty":     {0, 0, 0, 0},
		"slow":      {0, 0},
		"silent":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			conn, err := net.Dial("unix", c.path)
			is.NoErr(err)
			defer conn.Close()
			_, err = conn.Write(data)
			is.NoErr(err)
			body, err := readMessage(conn)
			is.NoErr(err)
			var r reply
			is.NoErr(decode(body, &r))
			is.True(r.Error != nil)
			// The connection is over after it.
			_, err = io.ReadAll(conn)
			is.NoErr(err)
		})
	}
	is := is.New(t)
	is.True(!strings.Contains(lines.String(), "request done"))
	_, err := c.Ping(t.Context()) // and the helper goes on
	is.NoErr(err)
}

func TestConnectionsAreBounded(t *testing.T) {
	is := is.New(t)
	release, entered := make(chan struct{}), make(chan struct{}, 2*maxConnections)
	c, _ := started(t, &service{do: func(ctx context.Context, who caller, r request) (Info, error) {
		entered <- struct{}{}
		<-release
		return echo(ctx, who, r)
	}})
	var calls sync.WaitGroup
	for range maxConnections + 4 {
		calls.Go(func() {
			if err := c.Mount(t.Context(), 0); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxConnections {
		<-entered
	}
	is.Equal(len(entered), 0) // the others wait to be accepted
	close(release)
	calls.Wait()
	is.Equal(len(entered), 4)
}

func TestStopEndsWaitingConnections(t *testing.T) {
	is := is.New(t)
	c, _ := started(t, &service{do: echo, wait: time.Hour})
	conn, err := net.Dial("unix", c.path)
	is.NoErr(err)
	// Cleanup of the service runs after this one and would hang if the connection
	// were still being waited for.
	t.Cleanup(func() { _ = conn.Close() })
	_, err = c.Ping(t.Context()) // the silent connection was accepted before this one
	is.NoErr(err)
}

func TestClientGivesUp(t *testing.T) {
	is := is.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	c, _ := started(t, &service{do: func(work context.Context, who caller, r request) (Info, error) {
		cancel()
		<-work.Done()
		return Info{}, work.Err()
	}})
	is.Equal(fault.Of(c.Mount(ctx, 0)), fault.Canceled)
}

func TestDialFails(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	_, err := Dial(filepath.Join(dir, "missing"))
	is.Equal(fault.Of(err), fault.NotFound)
	file := filepath.Join(dir, "file")
	is.NoErr(os.WriteFile(file, nil, 0o600))
	_, err = Dial(file)
	is.Equal(fault.Of(err), fault.Config)

	stale := filepath.Join(dir, "stale")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	is.NoErr(err)
	ln.SetUnlinkOnClose(false)
	is.NoErr(ln.Close())
	c, err := Dial(stale)
	is.NoErr(err)
	_, err = c.Ping(t.Context())
	is.Equal(fault.Of(err), fault.Unreachable)
	is.NoErr(clearStale(stale))
	_, err = os.Lstat(stale)
	is.True(os.IsNotExist(err))
	is.Equal(fault.Of(clearStale(file)), fault.Exists)
}

func TestLiveSocketStays(t *testing.T) {
	is := is.New(t)
	c, _ := started(t, &service{do: echo})
	is.Equal(fault.Of(clearStale(c.path)), fault.SocketInUse)
	_, err := c.Ping(t.Context())
	is.NoErr(err)
}
