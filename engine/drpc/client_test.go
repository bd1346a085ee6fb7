package drpc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
	"google.golang.org/protobuf/proto"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/drpctest"
	"daosbox/engine/drpc/pb"
)

// callee accepts sessions of the independent peer and lets answer deal with the
// first call of each.
func callee(t *testing.T, f Framing, answer func(p *drpctest.Peer, r drpctest.Request)) string {
	t.Helper()
	path := socketPath(t)
	ln, err := drpctest.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p, err := ln.Accept(drpctest.Framing(f))
		if err != nil {
			return
		}
		defer p.Close()
		if r, err := p.RecvCall(); err == nil {
			answer(p, r)
		}
	}()
	t.Cleanup(func() {
		<-done
		ln.Close()
	})
	return path
}

func TestInvoke(t *testing.T) {
	for _, f := range bothFramings {
		is := is.New(t)
		got := make(chan drpctest.Request, 1)
		path := callee(t, f, func(p *drpctest.Peer, r drpctest.Request) {
			got <- r
			p.SendReply(r.Sequence, 0, drpctest.Encode(drpctest.Int(1, -1003)))
		})
		resp := new(pb.DaosResp)
		is.NoErr(Invoke(t.Context(), path, f, MethodSetRank, &pb.SetRankReq{Rank: 7, MapVersion: 3}, resp))
		is.Equal(resp.GetStatus(), int32(StatusInval))
		r := <-got
		is.Equal(r.Module, int32(2))
		is.Equal(r.Method, int32(202))
		is.Equal(r.Sequence, int64(1)) // never 0: that aborts engines
		fields, err := drpctest.Messages().Decode("mgmt.SetRankReq", r.Body)
		is.NoErr(err)
		is.Equal(fields, map[string]any{"rank": uint64(7), "map_version": uint64(3)})
	}
}

func TestInvokeChunks(t *testing.T) {
	is := is.New(t)
	long := strings.Repeat("u", 400_000)
	path := callee(t, Chunked, func(p *drpctest.Peer, r drpctest.Request) {
		p.SendReply(r.Sequence, 0, drpctest.Encode(drpctest.Text(2, long)))
	})
	resp := new(pb.PoolQueryResp)
	is.NoErr(Invoke(t.Context(), path, Chunked, MethodPoolQuery, &pb.PoolQueryReq{Id: long}, resp))
	is.Equal(len(resp.GetUuid()), len(long))
}

func TestInvokeFails(t *testing.T) {
	reply := func(sequence, status int64, body []byte) func(*drpctest.Peer, drpctest.Request) {
		return func(p *drpctest.Peer, _ drpctest.Request) { p.SendReply(sequence, status, body) }
	}
	for name, c := range map[string]struct {
		answer func(*drpctest.Peer, drpctest.Request)
		code   fault.Code
	}{
		"failure":        {reply(1, 2, nil), fault.Engine},
		"module":         {reply(1, 3, nil), fault.Unimplemented},
		"method":         {reply(1, 4, nil), fault.Unimplemented},
		"call":           {reply(-1, 5, nil), fault.Engine},
		"payload":        {reply(1, 6, nil), fault.Engine},
		"odd status":     {reply(1, 99, nil), fault.Engine},
		"sequence":       {reply(2, 0, nil), fault.Protocol},
		"bad body":       {reply(1, 0, []byte{255}), fault.Protocol},
		"hang up":        {func(*drpctest.Peer, drpctest.Request) {}, fault.Engine},
		"empty datagram": {func(p *drpctest.Peer, _ drpctest.Request) { p.SendDatagram(nil) }, fault.Engine},
		"garbage": {func(p *drpctest.Peer, _ drpctest.Request) {
			for _, d := range drpctest.Datagrams(drpctest.Chunked, []byte{255, 255}) {
				p.SendDatagram(d)
			}
		}, fault.Protocol},
		"short header": {func(p *drpctest.Peer, _ drpctest.Request) { p.SendDatagram([]byte{1, 2, 3}) }, fault.Protocol},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			path := callee(t, Chunked, c.answer)
			err := Invoke(t.Context(), path, Chunked, MethodSetRank, new(pb.SetRankReq), new(pb.DaosResp))
			is.Equal(fault.Of(err), c.code)
			is.True(strings.HasPrefix(err.Error(), "cannot call SetRank(202)"))
		})
	}
}

func TestInvokeEnds(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		is := is.New(t)
		arrived, closed := make(chan struct{}), make(chan struct{})
		path := callee(t, Chunked, func(p *drpctest.Peer, _ drpctest.Request) {
			close(arrived)
			p.RecvDatagram() // until the caller closes
			close(closed)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		want := fault.Timeout
		if cancelled {
			cancel()
			ctx, cancel = context.WithCancel(t.Context())
			want = fault.Canceled
			go func() { <-arrived; cancel() }()
		}
		is.Equal(fault.Of(Invoke(ctx, path, Chunked, MethodPingRank, nil, nil)), want)
		<-closed
		cancel()
	}
}

func TestInvokeUnreachable(t *testing.T) {
	is := is.New(t)
	path := socketPath(t)
	err := Invoke(t.Context(), path, Chunked, MethodPingRank, nil, nil)
	is.Equal(fault.Of(err), fault.InstanceNotReady)
	is.True(fault.HintOf(err) != "")
	is.Equal(fault.Of(Post(t.Context(), path, Chunked, MethodClusterEvent, nil)), fault.Unreachable)
}

// What would abort an engine, or what its release lacks, is not sent: nobody even
// connects.
func TestInvokeRefuses(t *testing.T) {
	is := is.New(t)
	for _, c := range []struct {
		f    Framing
		m    Method
		req  proto.Message
		code fault.Code
	}{
		{Chunked, MethodPoolSetProp, new(pb.PoolSetPropReq), fault.Refused},
		{Chunked, MethodPoolGetProp, new(pb.PoolGetPropReq), fault.Refused},
		{Datagram, MethodPoolGetProp, nil, fault.Refused},
		{Datagram, MethodPoolCreate, &pb.PoolCreateReq{MemRatio: 0.5}, fault.Refused},
		{Datagram, MethodPoolRebuildStart, new(pb.PoolRebuildStartReq), fault.Unimplemented},
		{Datagram, MethodGroupUpdate, &pb.GroupUpdateReq{Engines: many(4096)}, fault.TooLarge},
		{Chunked, Method(201), nil, fault.Internal},
	} {
		err := Invoke(t.Context(), "/nowhere", c.f, c.m, c.req, nil)
		is.Equal(fault.Of(err), c.code)
	}
	_, err := encodeCall(Chunked, MethodGroupUpdate, &pb.GroupUpdateReq{Engines: many(4096)})
	is.NoErr(err) // chunks carry it
}

func many(n int) []*pb.GroupUpdateReq_Engine {
	var all []*pb.GroupUpdateReq_Engine
	for i := range n {
		all = append(all, &pb.GroupUpdateReq_Engine{Rank: uint32(i), Uri: "ofi+tcp://192.168.100.100:31416", Incarnation: 1 << 60})
	}
	return all
}

// The reply of a 2.6 engine to a pool query has other numbers.
func TestInvokeOldQuery(t *testing.T) {
	is := is.New(t)
	path := callee(t, Datagram, func(p *drpctest.Peer, r drpctest.Request) {
		p.SendReply(r.Sequence, 0, drpctest.Encode(
			drpctest.Sub(7, drpctest.Int(2, 2), drpctest.Uint(3, 9)), // busy
			drpctest.Text(21, "[3]"),
		))
	})
	resp := new(pb.PoolQueryResp)
	is.NoErr(Invoke(t.Context(), path, Datagram, MethodPoolQuery, new(pb.PoolQueryReq), resp))
	is.Equal(resp.GetRebuild().GetState(), pb.PoolRebuildStatus_BUSY)
	is.Equal(resp.GetDeadRanks(), "[3]")
	is.Equal(resp.GetMemFileBytes(), uint64(0))
	is.Equal(unknown(resp.ProtoReflect()), nil)
}

// And a 2.6 engine that we play answers a pool query in its own layout.
func TestServeOldQuery(t *testing.T) {
	is := is.New(t)
	full := &pb.PoolQueryResp{DeadRanks: "[3]", MemFileBytes: 9, MdOnSsdActive: true,
		Rebuild: &pb.PoolRebuildStatus{State: pb.PoolRebuildStatus_IDLE, Degraded: true}}
	path := serve(t, ServerConfig{Handler: func(context.Context, *Call) (proto.Message, error) { return full, nil }})
	reply, err := dial(t, path, Datagram).Call(2, 223, nil)
	is.NoErr(err)
	is.Equal(reply.Fields().Text(21), "[3]")
	is.Equal(len(reply.Fields().All(22))+len(reply.Fields().All(23)), 0)
	is.Equal(reply.Fields().Sub(7).Int(2), int64(0)) // idle
	reply, err = dial(t, path, Chunked).Call(2, 223, nil)
	is.NoErr(err)
	is.Equal(reply.Fields().Text(22), "[3]")
	is.Equal(reply.Fields().Uint(21), uint64(9))
	is.Equal(full.GetDeadRanks(), "[3]") // the handler's own is untouched
	for s := pb.PoolRebuildStatus_BUSY; s <= pb.PoolRebuildStatus_DONE; s++ {
		is.Equal(rebuildFromOld(rebuildToOld(s)), s)
	}
}

func TestStatusError(t *testing.T) {
	is := is.New(t)
	is.NoErr(StatusError(0))
	err := StatusError(-1007)
	is.Equal(err.Error(), "DER_NOSPACE(-1007): storage full")
	is.Equal(fault.Of(err), fault.Engine)
	is.Equal(fault.StatusOf(err), int32(-1007))
	is.True(errors.Is(err, StatusNoSpace))
	is.Equal(StatusError(-4).Error(), "DER(-4): unknown status")
	is.True(StatusError(1) != nil)
	is.True(StatusAgain.Retryable())
	is.True(!StatusInval.Retryable())
}
