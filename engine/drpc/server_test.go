package drpc

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"
	"google.golang.org/protobuf/proto"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/drpctest"
	"daosbox/engine/drpc/pb"
)

var bothFramings = []Framing{Datagram, Chunked}

// socketPath is a short path: those of t.TempDir may pass the limit of sockets.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "drpc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s.sock")
}

// serve runs a server until the test ends and returns its path.
func serve(t *testing.T, cfg ServerConfig) string {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = socketPath(t)
	}
	s := NewServer(cfg)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return cfg.Path
}

func dial(t *testing.T, path string, f Framing) *drpctest.Peer {
	t.Helper()
	p, err := drpctest.Dial(path, drpctest.Framing(f))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// serverSide answers like a small daos_server.
func serverSide(_ context.Context, call *Call) (proto.Message, error) {
	switch call.Method {
	case MethodNotifyReady:
		req := new(pb.NotifyReadyReq)
		return nil, Unmarshal(call.Body, req)
	case MethodGetPoolSvc:
		req := new(pb.GetPoolSvcReq)
		if err := Unmarshal(call.Body, req); err != nil {
			return nil, err
		}
		if req.GetUuid() == "" {
			return &pb.GetPoolSvcResp{Status: int32(StatusNonexist)}, nil
		}
		return &pb.GetPoolSvcResp{Svcreps: []uint32{0, 3}}, nil
	case MethodPoolFindByLabel: // as long as the label asks for
		return &pb.PoolFindByLabelResp{Uuid: strings.Repeat("u", len(call.Body)*2)}, nil
	case MethodClusterEvent:
		return nil, errors.New("no event")
	case MethodListPools:
		return nil, ErrUnknownModule
	}
	return nil, ErrUnknownMethod
}

func TestServerAnswers(t *testing.T) {
	path := serve(t, ServerConfig{Handler: serverSide, Modules: []Module{ModuleSrv, ModuleSec, ModuleMgmt}})
	uuid := drpctest.Encode(drpctest.Text(1, "some-uuid"))
	for _, f := range bothFramings {
		for name, c := range map[string]struct {
			module, method int32
			body           []byte
			status         pb.Status
			reply          []byte
		}{
			"empty reply":    {3, 301, drpctest.Encode(drpctest.Text(1, "uri")), 0, nil},
			"reply":          {3, 303, uuid, 0, drpctest.Encode(drpctest.Packed(2, 0, 3))},
			"negative":       {3, 303, nil, 0, drpctest.Encode(drpctest.Int(1, -1005))},
			"failure":        {3, 304, nil, pb.Status_FAILURE, nil},
			"bad body":       {3, 303, []byte{255, 255, 255}, pb.Status_FAILED_UNMARSHAL_PAYLOAD, nil},
			"no UTF-8":       {3, 303, drpctest.Encode(drpctest.Bytes(1, []byte{0xff})), pb.Status_FAILED_UNMARSHAL_PAYLOAD, nil},
			"module":         {9, 901, nil, pb.Status_UNKNOWN_MODULE, nil},
			"absent module":  {1, 101, nil, pb.Status_UNKNOWN_MODULE, nil},
			"module zero":    {0, 301, nil, pb.Status_UNKNOWN_MODULE, nil},
			"handler module": {3, 310, nil, pb.Status_UNKNOWN_MODULE, nil},
			"method":         {3, 399, nil, pb.Status_UNKNOWN_METHOD, nil},
			"wrong module":   {3, 202, nil, pb.Status_UNKNOWN_METHOD, nil},
			"not handled":    {2, 225, nil, pb.Status_UNKNOWN_METHOD, nil},
		} {
			t.Run(f.String()+" "+name, func(t *testing.T) {
				is := is.New(t)
				p := dial(t, path, f)
				for _, p.Sequence = range []int64{1, 77, 0} {
					sequence := p.Sequence
					reply, err := p.Call(c.module, c.method, c.body)
					is.NoErr(err)
					is.Equal(reply.Sequence, sequence)
					is.Equal(pb.Status(reply.Status), c.status)
					is.True(bytes.Equal(reply.Body, c.reply))
				}
			})
		}
	}
}

// A call with sequence 0 and an empty successful reply has a reply of no bytes,
// which must travel, and the session must survive it.
func TestServerZeroLengthReply(t *testing.T) {
	path := serve(t, ServerConfig{Handler: serverSide})
	for f, want := range map[Framing][]byte{Datagram: {}, Chunked: drpctest.Header(0, 0, 0, 1)} {
		t.Run(f.String(), func(t *testing.T) {
			is := is.New(t)
			p := dial(t, path, f)
			is.NoErr(p.Send(drpctest.CallBytes(3, 301, 0, nil)))
			got, err := p.RecvDatagram()
			is.NoErr(err)
			is.True(bytes.Equal(got, want))
			p.Sequence = 5
			reply, err := p.Call(3, 303, nil)
			is.NoErr(err) // the session is still open
			is.Equal(reply.Sequence, int64(5))
		})
	}
}

func TestServerUndecodableCall(t *testing.T) {
	for _, closes := range []bool{false, true} {
		path := serve(t, ServerConfig{Handler: serverSide, CloseOnBadCall: closes})
		for _, f := range bothFramings {
			is := is.New(t)
			p := dial(t, path, f)
			is.NoErr(p.Send([]byte{255, 255, 255, 255}))
			reply, err := p.RecvReply()
			is.NoErr(err)
			is.Equal(reply.Sequence, int64(-1))
			is.Equal(pb.Status(reply.Status), pb.Status_FAILED_UNMARSHAL_CALL)
			reply, err = p.Call(3, 303, nil)
			// An engine closes here, the others go on.
			is.Equal(err != nil || reply.Sequence == 0, closes)
		}
	}
}

func TestServerBrokenFraming(t *testing.T) {
	path := serve(t, ServerConfig{Handler: serverSide})
	good := drpctest.Datagrams(drpctest.Chunked, drpctest.CallBytes(3, 303, 1, nil))[0]
	for name, all := range map[string][][]byte{
		"first header":   {append(drpctest.Header(9, 4, 0, 2), 1, 2, 3)},
		"second short":   {good, {1, 2, 3}},
		"chunk order":    {append(drpctest.Header(9, 3, 0, 3), 1, 2, 3), append(drpctest.Header(9, 3, 2, 3), 1, 2, 3)},
		"over the cap":   {append(drpctest.Header(DefaultMaxMessage+1, 4, 0, 1000), 1, 2, 3, 4)},
		"empty datagram": {good, {}},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			p := dial(t, path, Chunked)
			for _, d := range all {
				is.NoErr(p.SendDatagram(d))
			}
			if bytes.Equal(all[0], good) {
				_, err := p.RecvReply()
				is.NoErr(err) // the good call before
			}
			got, err := p.RecvDatagram()
			is.True(err != nil || len(got) == 0) // closed without a reply
		})
	}
}

func TestServerChunks(t *testing.T) {
	is := is.New(t)
	path := serve(t, ServerConfig{Handler: serverSide})
	p := dial(t, path, Chunked)
	label := drpctest.Encode(drpctest.Text(1, strings.Repeat("l", 300_000)))
	reply, err := p.Call(3, 305, label)
	is.NoErr(err)
	is.Equal(len(reply.Fields().Text(2)), 2*len(label))

	// Chunks smaller than they could be are fine too.
	call := drpctest.CallBytes(3, 303, 9, nil)
	size, half := uint64(len(call)), uint64(len(call)/2)
	is.NoErr(p.SendDatagram(append(drpctest.Header(size, half, 0, 2), call[:half]...)))
	is.NoErr(p.SendDatagram(append(drpctest.Header(size, size-half, 1, 2), call[half:]...)))
	reply, err = p.RecvReply()
	is.NoErr(err)
	is.Equal(reply.Sequence, int64(9))
}

// Without chunks a reply that old receivers would cut off is refused.
func TestServerReplyTooLarge(t *testing.T) {
	is := is.New(t)
	path := serve(t, ServerConfig{Handler: serverSide})
	p := dial(t, path, Datagram)
	reply, err := p.Call(3, 305, drpctest.Encode(drpctest.Text(1, strings.Repeat("l", 70_000))))
	is.NoErr(err)
	is.Equal(pb.Status(reply.Status), pb.Status_FAILED_MARSHAL)
	is.Equal(len(reply.Body), 0)
}

func TestServerMessageLimit(t *testing.T) {
	is := is.New(t)
	path := serve(t, ServerConfig{Handler: serverSide, MaxMessage: 1024})
	for _, f := range bothFramings {
		p := dial(t, path, f)
		_, err := p.Call(3, 303, drpctest.Encode(drpctest.Text(1, strings.Repeat("l", 2000))))
		is.True(err != nil) // closed
		p = dial(t, path, f)
		_, err = p.Call(3, 303, drpctest.Encode(drpctest.Text(1, strings.Repeat("l", 900))))
		is.NoErr(err)
	}
}

// Who sends an event hangs up at once: it is handled, and the server goes on.
func TestServerFireAndForget(t *testing.T) {
	for _, f := range bothFramings {
		is := is.New(t)
		handled := make(chan *Call, 1)
		hungUp := make(chan struct{})
		path := serve(t, ServerConfig{Handler: func(ctx context.Context, call *Call) (proto.Message, error) {
			if call.Method == MethodClusterEvent {
				<-hungUp
				handled <- call
			}
			return new(pb.ClusterEventResp), ctx.Err()
		}})
		is.NoErr(Post(t.Context(), path, f, MethodClusterEvent, &pb.ClusterEventReq{Event: &pb.RASEvent{Id: 17}}))
		close(hungUp)
		call := <-handled
		is.Equal(call.Framing, f)
		is.NoErr(Invoke(t.Context(), path, f, MethodClusterEvent, new(pb.ClusterEventReq), nil))
	}
}

func TestServerPeer(t *testing.T) {
	is := is.New(t)
	got := make(chan Cred, 1)
	path := serve(t, ServerConfig{Mode: 0o666, Handler: func(_ context.Context, call *Call) (proto.Message, error) {
		got <- call.Peer
		return nil, nil
	}})
	info, err := os.Stat(path)
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), fs.FileMode(0o666))
	_, err = dial(t, path, Datagram).Call(1, 101, nil)
	is.NoErr(err)
	cred := <-got
	is.Equal(int(cred.PID), os.Getpid())
	is.Equal(int(cred.UID), os.Getuid())
	is.Equal(int(cred.GID), os.Getgid())
}

// A begun message must be finished in time, and an idle session ends.
func TestServerTimeouts(t *testing.T) {
	is := is.New(t)
	path := serve(t, ServerConfig{Handler: serverSide, MessageTimeout: 20 * time.Millisecond, IdleTimeout: 40 * time.Millisecond})
	for _, first := range [][]byte{nil, append(drpctest.Header(9, 3, 0, 3), 1, 2, 3)} {
		p := dial(t, path, Chunked)
		if first != nil {
			is.NoErr(p.SendDatagram(first))
		}
		got, err := p.RecvDatagram()
		is.NoErr(err)
		is.Equal(len(got), 0) // closed
	}
}

// Sessions are served side by side; the end of ctx ends idle sessions, tells
// running calls and waits for their replies.
func TestServerStop(t *testing.T) {
	is := is.New(t)
	path := socketPath(t)
	var running sync.WaitGroup
	running.Add(2)
	s := NewServer(ServerConfig{Path: path, Handler: func(ctx context.Context, _ *Call) (proto.Message, error) {
		running.Done()
		<-ctx.Done()
		return nil, nil
	}})
	is.NoErr(s.Listen())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	idle := dial(t, path, Chunked)
	var busy []*drpctest.Peer
	for range 2 {
		p := dial(t, path, Chunked)
		is.NoErr(p.Send(drpctest.CallBytes(2, 225, 7, nil)))
		busy = append(busy, p)
	}
	running.Wait()
	cancel()
	for _, p := range busy {
		reply, err := p.RecvReply()
		is.NoErr(err)
		is.Equal(reply.Sequence, int64(7))
	}
	got, err := idle.RecvDatagram()
	is.True(err != nil || len(got) == 0)
	is.NoErr(<-ended)
	_, err = os.Lstat(path)
	is.True(errors.Is(err, fs.ErrNotExist)) // removed at the end
}

func TestServerMaxSessions(t *testing.T) {
	is := is.New(t)
	path := serve(t, ServerConfig{Handler: serverSide, MaxSessions: 1})
	first, second := dial(t, path, Chunked), dial(t, path, Chunked)
	_, err := first.Call(3, 303, nil)
	is.NoErr(err)
	is.NoErr(second.Send(drpctest.CallBytes(3, 303, 1, nil)))
	is.NoErr(first.Close())
	_, err = second.RecvReply() // waits its turn
	is.NoErr(err)
}

func TestServerOnlyFraming(t *testing.T) {
	is := is.New(t)
	only := Chunked
	path := serve(t, ServerConfig{Handler: serverSide, Only: &only})
	p := dial(t, path, Datagram)
	is.NoErr(p.Send(drpctest.CallBytes(3, 303, 1, nil)))
	closed, err := p.RecvDatagram()
	is.True(err != nil || len(closed) == 0) // without a reply
	got, err := dial(t, path, Chunked).Call(3, 303, nil)
	is.NoErr(err)
	is.Equal(got.Fields().Int(1), int64(-1005))
}

func TestListen(t *testing.T) {
	is := is.New(t)
	path := serve(t, ServerConfig{Handler: serverSide})
	is.Equal(fault.Of(NewServer(ServerConfig{Path: path}).Listen()), fault.SocketInUse) // someone answers

	stale := socketPath(t)
	ln, err := net.ListenUnix(network, &net.UnixAddr{Name: stale, Net: network})
	is.NoErr(err)
	ln.SetUnlinkOnClose(false)
	is.NoErr(ln.Close())
	serve(t, ServerConfig{Path: stale, Handler: serverSide})
	info, err := os.Stat(stale)
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), fs.FileMode(0o600))

	file := socketPath(t)
	is.NoErr(os.WriteFile(file, []byte("data"), 0o600))
	is.Equal(fault.Of(NewServer(ServerConfig{Path: file}).Listen()), fault.Config) // no socket: stays
	_, err = os.Stat(file)
	is.NoErr(err)

	is.Equal(fault.Of(NewServer(ServerConfig{Path: "/no/such/dir/s.sock"}).Listen()), fault.Config)
	is.Equal(fault.Of(NewServer(ServerConfig{Path: "/tmp/" + strings.Repeat("d", 110)}).Listen()), fault.Config)
}

func TestRemoveEngineSockets(t *testing.T) {
	is := is.New(t)
	dir := filepath.Dir(socketPath(t))
	live := filepath.Join(dir, "daos_engine_1.sock")
	dead := filepath.Join(dir, "daos_engine_2.sock")
	other := filepath.Join(dir, "other.sock")
	serve(t, ServerConfig{Path: live, Handler: serverSide})
	for _, path := range []string{dead, other} {
		ln, err := drpctest.Listen(path)
		is.NoErr(err)
		is.NoErr(ln.Close())
	}
	is.NoErr(RemoveEngineSockets(t.Context(), dir))
	for path, want := range map[string]bool{live: true, dead: false, other: true} {
		_, err := os.Lstat(path)
		is.Equal(err == nil, want)
	}
}
