package emulator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// corpus is where the recorded exchanges are.
const corpus = "../../testdata/drpc"

// exchange is a recorded call and its reply.
type exchange struct {
	call  pb.Call
	reply pb.Response
}

func readExchange(t *testing.T, name string) *exchange {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(corpus, name+"-*.hex"))
	if err != nil || len(found) != 1 {
		t.Fatalf("exchange %s: %v %v", name, found, err)
	}
	f, err := os.Open(found[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var sides [2][]byte
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		side, text, _ := strings.Cut(lines.Text(), " ")
		data, err := hex.DecodeString(text)
		if err != nil || len(data) < 24 {
			t.Fatalf("exchange %s: bad line", name)
		}
		i := strings.Index("><", side)
		sides[i] = append(sides[i], data[24:]...) // after the chunk header
	}
	x := new(exchange)
	if proto.Unmarshal(sides[0], &x.call) != nil || proto.Unmarshal(sides[1], &x.reply) != nil {
		t.Fatalf("exchange %s: cannot decode", name)
	}
	return x
}

// inProcess runs an emulator in this process; stop ends it.
func inProcess(t *testing.T, srv *server, env map[string]string, args ...string) *child {
	t.Helper()
	c := &child{t: t, srv: srv, framing: drpc.Chunked, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	lookup := func(name string) string {
		base := map[string]string{
			"D_PROVIDER": "ofi+tcp", "D_INTERFACE": "lo", "DAOS_EMULATOR_SCM_BYTES": "1073741824", "CRT_EVENT_DELAY": "0",
		}
		if v, ok := env[name]; ok {
			return v
		}
		return base[name]
	}
	argv := append([]string{"-t", "1", "-x", "0", "-g", "daos_server", "-d", srv.dir, "-s", t.TempDir()}, args...)
	died := func(sig syscall.Signal) { t.Errorf("the emulator dies by %v", sig) }
	go func() { c.done <- run(ctx, argv, lookup, io.Discard, io.Discard, os.Getpid(), died) }()
	t.Cleanup(func() {
		cancel()
		c.wait()
	})
	return c
}

// replay sends the request of an exchange, changed by edit, and returns the reply
// of the emulator and the recorded one.
func (c *child) replay(name string, edit func(proto.Message)) (got, want proto.Message) {
	c.t.Helper()
	x := readExchange(c.t, name)
	m := drpc.Method(x.call.GetMethod())
	req := newRequest(m)
	if req != nil {
		if err := proto.Unmarshal(x.call.GetBody(), req); err != nil {
			c.t.Fatal(err)
		}
		if edit != nil {
			edit(req)
		}
	}
	got, want = newReply(m), newReply(m)
	c.call(m, req, got)
	if err := proto.Unmarshal(x.reply.GetBody(), want); err != nil {
		c.t.Fatal(err)
	}
	return got, want
}

// shape lists the fields that are filled, with those of nested messages.
func shape(m protoreflect.Message, prefix string, into map[string]bool) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := prefix + string(fd.Name())
		into[name] = true
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				shape(v.List().Get(i).Message(), name+".", into)
			}
		case fd.Message() != nil && !fd.IsMap():
			shape(v.Message(), name+".", into)
		}
		return true
	})
}

func shapeOf(m proto.Message) []string {
	fields := make(map[string]bool)
	shape(m.ProtoReflect(), "", fields)
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// The server's side of recorded exchanges is answered with the recorded reply:
// the same fields filled, and the same status. Steps go in order, since they are
// one story of one pool.
func TestCapturedExchanges(t *testing.T) {
	srv := newServer(t, drpc.Chunked)
	c := inProcess(t, srv, nil)
	c.awaitReady()
	own := func(req proto.Message) { // the engine is rank 0 at another address
		for _, m := range req.(*pb.GroupUpdateReq).GetEngines() {
			m.Uri = c.ready.GetUri()
		}
	}
	pair := func(version uint32) func(proto.Message) {
		return func(req proto.Message) {
			r := req.(*pb.GroupUpdateReq)
			r.MapVersion = version
			for _, m := range r.GetEngines() {
				m.Uri = c.ready.GetUri()
			}
		}
	}
	one := func(req proto.Message) { // the same request for one pool of one rank
		m := req.ProtoReflect()
		for _, field := range []string{"id", "pool_id"} {
			if fd := m.Descriptor().Fields().ByName(protoreflect.Name(field)); fd != nil && fd.Kind() == protoreflect.StringKind {
				m.Set(fd, protoreflect.ValueOfString(poolA))
			}
		}
		for _, field := range []string{"svc_ranks"} {
			fd := m.Descriptor().Fields().ByName(protoreflect.Name(field))
			list := m.NewField(fd).List()
			list.Append(protoreflect.ValueOfUint32(0))
			m.Set(fd, protoreflect.ValueOfList(list))
		}
		if fd := m.Descriptor().Fields().ByName("rank"); fd != nil {
			m.Clear(fd)
		}
	}
	steps := []struct {
		name string
		edit func(proto.Message)
	}{
		{"204", own}, {"205", nil}, {"206", nil}, {"207", nil}, {"208", nil}, {"209", nil}, {"210", own}, {"211", own}, {"212", nil},
		{"213", own}, {"160", nil}, {"161", nil}, {"162", pair(5)}, {"163", nil}, {"165", nil}, {"166", nil},
		{"167", nil}, {"168", nil}, {"169", nil}, {"170", nil}, {"171", nil}, {"172", nil}, {"173", nil},
		{"193", nil}, {"194", nil}, {"195", nil}, {"196", nil}, {"214", nil}, {"215", nil}, {"218", nil}, {"219", nil}, {"220", nil}, {"221", nil},
		{"018", nil}, {"019", nil}, {"080", nil},
		{"009", func(req proto.Message) { req.(*pb.PoolCreateReq).Uuid = poolA }}, {"039", nil}, {"014", one}, {"015", one}, {"016", nil}, {"017", nil}, {"022", one},
		{"026", one}, {"031", one}, {"032", one}, {"033", one}, {"034", one}, {"035", one}, {"036", one}, {"037", one}, {"038", one},
		{"049", one}, {"050", one}, {"029", one}, {"127", one}, {"128", one}, {"058", one}, {"060", one}, {"126", one}, {"081", one},
		{"077", one}, {"124", one}, {"068", one}, {"023", one}, {"100", one},
		{"101", func(req proto.Message) { req.(*pb.PoolDestroyReq).SvcRanks = []uint32{0} }}, {"102", nil},
		{"006", pair(20)}, {"008", nil}, {"216", nil},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			is := is.New(t)
			c.t = t
			got, want := c.replay(step.name, step.edit)
			is.Equal(shapeOf(got), shapeOf(want)) // fields that are filled
			field := got.ProtoReflect().Descriptor().Fields().ByName("status")
			is.Equal(got.ProtoReflect().Get(field).Int(), want.ProtoReflect().Get(field).Int()) // status
		})
	}
	c.t = t
}

// Calls that are wrong by the envelope get the recorded envelope status.
func TestCapturedEnvelopeErrors(t *testing.T) {
	is := is.New(t)
	srv := newServer(t, drpc.Chunked)
	c := inProcess(t, srv, nil)
	c.join(0, 1)
	for _, name := range []string{"153", "154", "155", "156", "158"} {
		x := readExchange(t, name)
		got := rawCall(t, c.ready.GetDrpcListenerSock(), &x.call)
		is.Equal(got.GetStatus(), x.reply.GetStatus())
		is.Equal(got.GetSequence(), x.reply.GetSequence())
	}
	for _, m := range []drpc.Method{242, 243, 244, 245, 246, 249} { // checker, not in check mode
		got := rawCall(t, c.ready.GetDrpcListenerSock(), &pb.Call{Module: 2, Method: int32(m), Sequence: 1})
		is.Equal(got.GetStatus(), pb.Status_UNKNOWN_MODULE)
	}
}

// NVMe: devices as recorded, space in whole clusters, a faulty device and its
// return.
func TestNVMe(t *testing.T) {
	is := is.New(t)
	srv := newServer(t, drpc.Chunked)
	image := filepath.Join(t.TempDir(), "nvme0.img")
	is.NoErr(makeSparse(image, 4<<30))
	conf := filepath.Join(t.TempDir(), "daos_nvme.conf")
	data, err := os.ReadFile(filepath.Join(corpus, "..", "ondisk", "daos_nvme-file.conf"))
	is.NoErr(err)
	is.NoErr(os.WriteFile(conf, bytes.ReplaceAll(data, []byte("/mnt/nvme/nvme0.img"), []byte(image)), 0o600))
	c := inProcess(t, srv, nil, "-n", conf)
	c.join(0, 1)
	c.must(drpc.MethodGroupUpdate, groupOf(2, c), nil)

	got, want := c.replay("130", nil)
	is.Equal(shapeOf(got), shapeOf(want))
	id := got.(*pb.SmdDevResp).GetDevices()[0].GetUuid()
	device := func(req proto.Message) {
		switch r := req.(type) {
		case *pb.BioHealthReq:
			r.DevUuid = id
		case *pb.SetFaultyReq:
			r.Uuid = id
		case *pb.DevReplaceReq:
			r.OldDevUuid, r.NewDevUuid = id, id
		}
	}
	got, want = c.replay("131", device)
	is.Equal(shapeOf(got), shapeOf(want))
	is.Equal(got.(*pb.BioHealthResp).GetTotalBytes(), want.(*pb.BioHealthResp).GetTotalBytes())

	create := createReq(poolA, "with-nvme", 128*mib, 0)
	create.TierBytes[1] = 1 << 30
	c.must(drpc.MethodPoolCreate, create, nil)
	full := createReq(poolB, "full", 128*mib, 0)
	full.TierBytes[1] = 2<<30 + 1
	is.Equal(c.call(drpc.MethodPoolCreate, full, nil), int32(-1007))
	got, want = c.replay("136", device)
	is.Equal(got.(*pb.BioHealthResp).GetAvailBytes(), want.(*pb.BioHealthResp).GetAvailBytes())
	is.Equal(got.(*pb.BioHealthResp).GetMetaWalSize(), want.(*pb.BioHealthResp).GetMetaWalSize())
	is.Equal(got.(*pb.BioHealthResp).GetRdbWalSize(), want.(*pb.BioHealthResp).GetRdbWalSize())
	got, want = c.replay("132", nil)
	is.Equal(shapeOf(got), shapeOf(want))
	mine := func(req proto.Message) { req.(*pb.PoolQueryReq).Id = poolA }
	got, want = c.replay("133", mine)
	is.Equal(shapeOf(got), shapeOf(want))
	is.Equal(got.(*pb.PoolQueryResp).GetTierStats()[1].GetFree(), want.(*pb.PoolQueryResp).GetTierStats()[1].GetFree())

	srv.mu.Lock()
	srv.pool = []uint32{0}
	srv.mu.Unlock()
	got, want = c.replay("137", device)
	is.Equal(shapeOf(got), shapeOf(want))
	until(t, "its targets are excluded", func() bool {
		got, want = c.replay("143", mine)
		return got.(*pb.PoolQueryResp).GetDisabledRanks() == "[0]"
	})
	got, want = c.replay("139", nil)
	is.Equal(shapeOf(got), shapeOf(want))
	is.Equal(got.(*pb.SmdDevResp).GetDevices()[0].GetCtrlr().GetDevState(), pb.NvmeDevState_EVICTED)
	got, want = c.replay("142", device)
	is.Equal(shapeOf(got), shapeOf(want))
	got, _ = c.replay("144", func(req proto.Message) { req.(*pb.PoolReintReq).Id = poolA })
	is.Equal(got.(*pb.PoolReintResp).GetStatus(), int32(0))
	got, want = c.replay("145", mine)
	is.Equal(got.(*pb.PoolQueryResp).GetDisabledRanks(), want.(*pb.PoolQueryResp).GetDisabledRanks())
}

// rawCall sends any call, also one that no client would send.
func rawCall(t *testing.T, path string, call *pb.Call) *pb.Response {
	t.Helper()
	nc := dialSocket(t, path)
	defer nc.Close()
	body, err := proto.Marshal(call)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 24)
	head[0], head[8], head[20] = byte(len(body)), byte(len(body)), 1 // little-endian machines only
	if _, err := nc.Write(append(head, body...)); err != nil {
		t.Fatal(err)
	}
	nc.SetReadDeadline(time.Now().Add(patience))
	buffer := make([]byte, 4096)
	n, err := nc.Read(buffer)
	if err != nil || n < 24 {
		t.Fatal(n, err)
	}
	out := new(pb.Response)
	if err := proto.Unmarshal(buffer[24:n], out); err != nil {
		t.Fatal(err)
	}
	return out
}
