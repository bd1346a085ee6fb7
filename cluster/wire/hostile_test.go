package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

func openFrame(id uint32, flags uint8, method string, body []byte) []byte {
	return appendFrame(nil, kindOpen, flags, id, append(appendOpening(nil, 0, method), body...))
}

func TestBrokenFrames(t *testing.T) {
	s := serve(t, ServerConfig{})
	hello := clientPreface(Control).append(nil)
	for name, test := range map[string]struct {
		bytes []byte
		code  fault.Code
	}{
		"unknown kind":        {[]byte{0, 0, 0, 77, 0, 0, 0, 0, 1}, fault.Protocol},
		"huge length":         {[]byte{0xff, 0xff, 0xff, byte(kindData), 0, 0, 0, 0, 1}, fault.TooLarge},
		"unknown flag":        {[]byte{0, 0, 0, byte(kindCancel), 0x80, 0, 0, 0, 1}, fault.Protocol},
		"open on stream 0":    {openFrame(0, 0, "echo", nil), fault.Protocol},
		"even stream":         {openFrame(2, 0, "echo", nil), fault.Protocol},
		"reused stream":       {append(openFrame(3, 0, "echo", nil), openFrame(3, 0, "echo", nil)...), fault.Protocol},
		"falling stream":      {append(openFrame(3, 0, "echo", nil), openFrame(1, 0, "echo", nil)...), fault.Protocol},
		"data of no stream":   {appendFrame(nil, kindData, 0, 9, nil), fault.Protocol},
		"window of no stream": {appendFrame(nil, kindWindow, 0, 9, []byte{0, 0, 0, 1}), fault.Protocol},
		"data after request":  {append(openFrame(1, 0, "wait", nil), appendFrame(nil, kindData, 0, 1, nil)...), fault.Protocol},
		"window of 0":         {append(openFrame(1, 0, "wait", nil), appendFrame(nil, kindWindow, 0, 1, make([]byte, 4))...), fault.Protocol},
		"bad method":          {openFrame(1, 0, "a b", nil), fault.Protocol},
		"end from client":     {append(openFrame(1, 0, "wait", nil), appendFrame(nil, kindEnd, 0, 1, nil)...), fault.Protocol},
		"method past frame":   {appendFrame(nil, kindOpen, 0, 1, []byte{0, 0, 0, 0, 200, 'x'}), fault.Protocol},
	} {
		t.Run(name, func(t *testing.T) {
			r := raw(t, s.addr)
			r.send(hello, test.bytes)
			r.preface()
			r.fails(test.code)
		})
	}
}

func TestBadPrefaces(t *testing.T) {
	s := serve(t, ServerConfig{})
	for name, change := range map[string]func(b []byte){
		"newer":       func(b []byte) { b[9], b[11] = 9, 7 },
		"version 0":   func(b []byte) { b[9], b[11] = 0, 0 },
		"tiny frames": func(b []byte) { copy(b[16:], []byte{0, 0, 0, 1}) },
		"no window":   func(b []byte) { copy(b[20:], []byte{0, 0, 0, 0}) },
		"no name":     func(b []byte) { b[32] = 0 },
		"half magic":  func(b []byte) { b[7] = '\r' },
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			b := clientPreface(Control).append(nil)
			change(b)
			r := raw(t, s.addr)
			r.send(b)
			is.True(r.preface().refused)
			r.fails(fault.Protocol)
		})
	}
}

func TestEndsWithoutWords(t *testing.T) {
	is := is.New(t)
	s := serve(t, ServerConfig{Limits: Limits{Handshake: 50 * time.Millisecond, Idle: 80 * time.Millisecond, FrameTime: 50 * time.Millisecond}})
	hello := clientPreface(Control).append(nil)
	for _, start := range [][]byte{nil, hello[:5], hello, append(bytes.Clone(hello), 0, 0), append(bytes.Clone(hello), openFrame(1, 0, "echo", make([]byte, 99))[:50]...)} {
		r := raw(t, s.addr)
		begin := time.Now()
		r.send(start)
		_, err := io.Copy(io.Discard, r.br)
		is.NoErr(err)
		is.True(time.Since(begin) < 3*time.Second)
	}
	// A byte now and then does not keep a frame open.
	r := raw(t, s.addr)
	r.send(hello)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	closed := make(chan struct{})
	go func() { defer close(closed); _, _ = io.Copy(io.Discard, r.br) }()
	frame := openFrame(1, 0, "echo", make([]byte, 10_000))
	for i := 0; ; i++ {
		select {
		case <-closed:
			is.True(i < 500)
			return
		case <-tick.C:
			_, _ = r.Write(frame[i : i+1])
		}
	}
}

func TestLimits(t *testing.T) {
	is := is.New(t)
	s := serve(t, ServerConfig{
		Limits:  Limits{Streams: 32, ConnMemory: 1 << 20},
		MaxBody: func(p Peer, method string) int { return map[string]int{"small": 10}[method] },
	})
	c := dial(t, &Dialer{MaxBody: 1000}, s.addr)
	_, err := c.Call(t.Context(), "small", make([]byte, 11))
	is.Equal(fault.Of(err), fault.TooLarge)
	_, err = c.Call(t.Context(), "small", make([]byte, 500_000)) // refused while it is sent
	is.Equal(fault.Of(err), fault.TooLarge)
	_, err = c.Call(t.Context(), "echo", make([]byte, 2<<20))
	is.Equal(fault.Of(err), fault.Busy) // too much for the connection
	_, err = c.Call(t.Context(), "echo", make([]byte, 1001))
	is.Equal(fault.Of(err), fault.TooLarge) // the answer, for us
	_, err = c.Call(t.Context(), "echo", make([]byte, 1000))
	is.NoErr(err)
	eventually(t, "memory is given back", func() bool { return s.held.Load() == 0 })

	// The client waits for a slot, and only as long as it may.
	var streams []*Stream
	for range 32 {
		st, err := c.Stream(t.Context(), "wait", nil)
		is.NoErr(err)
		streams = append(streams, st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = c.Call(ctx, "echo", nil)
	is.Equal(fault.Of(err), fault.Timeout)
	is.NoErr(streams[0].Close())
	eventually(t, "a slot is free", func() bool {
		_, err := c.Call(t.Context(), "echo", nil)
		return err == nil // the server counts the closed one until its handler is over
	})
}

func TestTooManyStreams(t *testing.T) {
	is := is.New(t)
	s := serve(t, ServerConfig{Limits: Limits{Streams: 32}})
	r := raw(t, s.addr)
	r.send(clientPreface(Control).append(nil))
	is.Equal(r.preface().streams, uint16(32))
	for i := range uint32(33) {
		r.send(openFrame(2*i+1, 0, "wait", nil))
	}
	f := r.next()
	is.Equal(f.stream, uint32(65))
	is.Equal(decodeFault(f.payload).Code, fault.Busy)
	r.send(appendFrame(nil, kindPing, 0, 0, []byte("12345678")))
	is.Equal(string(r.next().payload), "12345678")
}

func TestTooManyConnections(t *testing.T) {
	is := is.New(t)
	s := serve(t, ServerConfig{Limits: Limits{Conns: 1}})
	first := dial(t, &Dialer{}, s.addr)
	is.NoErr(first.Ping(t.Context()))
	second := dial(t, &Dialer{}, s.addr)
	wantFault(t, second.Ping(t.Context()), fault.Busy, s.addr)
	is.NoErr(first.Ping(t.Context()))
}

// Announced bytes cost nothing: many connections that each announce the largest
// frame and send nothing of it.
func TestAnnouncedIsNotAllocated(t *testing.T) {
	is := is.New(t)
	s := serve(t, ServerConfig{Limits: Limits{Frame: maxFrame}})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	head := appendHeader(clientPreface(Control).append(nil), header{length: maxFrame, kind: kindOpen, stream: 1})
	for range 50 {
		raw(t, s.addr).send(head)
	}
	eventually(t, "all are served", func() bool { return s.count.Load() == 50 })
	runtime.ReadMemStats(&after)
	is.True(after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc) < 10<<20)
}

// A crowd that connects and says nothing does not keep an honest client out.
func TestSilentCrowd(t *testing.T) {
	is := is.New(t)
	s := serve(t, ServerConfig{Limits: Limits{Pending: 20}})
	for range 60 {
		raw(t, s.addr)
	}
	c := dial(t, &Dialer{}, s.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	is.NoErr(c.Ping(ctx))
}

// A peer that makes the server answer and reads nothing loses its connection.
func TestAnswersUnread(t *testing.T) {
	s := serve(t, ServerConfig{Limits: Limits{Write: 100 * time.Millisecond}})
	r := raw(t, s.addr)
	_ = r.Conn.(*net.TCPConn).SetReadBuffer(4096)
	r.send(clientPreface(Control).append(nil))
	pings := bytes.Repeat(appendFrame(nil, kindPing, 0, 0, make([]byte, 8)), 1000)
	deadline := time.Now().Add(8 * time.Second)
	for time.Now().Before(deadline) {
		if _, err := r.Write(pings); err != nil {
			return
		}
	}
	t.Fatal("still answering")
}

// A server that breaks the rules loses its client.
func TestHostileServer(t *testing.T) {
	over := minWindow + 512<<10
	for name, test := range map[string]struct {
		bytes []byte
		code  fault.Code
	}{
		"data of no stream": {appendFrame(nil, kindData, 0, 99, nil), fault.Protocol},
		"open":              {openFrame(1, 0, "x", nil), fault.Protocol},
		"cut message":       {append(appendFrame(nil, kindData, flagMore, 1, []byte("x")), appendFrame(nil, kindEnd, 0, 1, nil)...), fault.Protocol},
		"window overrun":    {bytes.Repeat(appendFrame(nil, kindData, 0, 3, make([]byte, 8000)), over/8000), fault.Protocol},
		"truncated":         {[]byte{0, 0, 1}, fault.Unreachable},
		"garbled error":     {appendFrame(nil, kindError, 0, 0, []byte{0xff}), fault.Protocol},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			is.NoErr(err)
			defer ln.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := ln.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				want := make([]byte, prefaceLen+2*headerLen)
				if _, err := io.ReadFull(c, want); err != nil {
					return
				}
				p := NewServer(ServerConfig{}).preface(Control)
				_, _ = c.Write(append(p.append(nil), test.bytes...))
				closeWrite(c)
				_, _ = io.Copy(io.Discard, c)
			}()
			c := dial(t, &Dialer{}, ln.Addr().String())
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			st1, err := c.Stream(ctx, "one", nil)
			is.NoErr(err)
			st2, err := c.Stream(ctx, "two", nil)
			is.NoErr(err)
			_, err = st1.Recv()
			is.Equal(fault.Of(err), test.code)
			is.NoErr(st1.Close())
			is.NoErr(st2.Close())
			is.NoErr(c.Close())
			<-done
		})
	}
}

func TestGarbage(t *testing.T) {
	s := serve(t, ServerConfig{})
	seed := uint64(1)
	for range 200 {
		b := clientPreface(Control).append(nil)
		for range 40 {
			seed = seed*6364136223846793005 + 1442695040888963407
			b = binary.BigEndian.AppendUint32(b, uint32(seed>>32))
		}
		r := raw(t, s.addr)
		r.send(b)
		closeWrite(r.Conn)
		_, _ = io.Copy(io.Discard, r.br)
		_ = r.Close()
	}
	c := dial(t, &Dialer{}, s.addr)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}
