package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// collect counts what an upload brings, except what its method says otherwise.
func collect(ctx context.Context, req *Request, out Sender) error {
	if req.Messages == nil {
		return echo(ctx, req, out)
	}
	all := bytes.Clone(req.Body)
	for {
		m, err := req.Messages.Recv()
		if err == io.EOF {
			return out.Send(all)
		}
		if err != nil {
			return err
		}
		all = append(all, m...)
		switch req.Method {
		case "early":
			return out.Send([]byte("enough"))
		case "talk":
			if err := out.Send(m); err != nil {
				return err
			}
		}
	}
}

func TestUpload(t *testing.T) {
	both(t, func(t *testing.T, s *running, d *Dialer) {
		is := is.New(t)
		s.cfg.Handler = collect
		c := dial(t, d, s.addr) // no call before: the upload waits for the preface
		up, err := c.Upload(t.Context(), "sum", []byte("first"))
		is.NoErr(err)
		want := []byte("first")
		for i := range 50 {
			part := bytes.Repeat([]byte{byte(i)}, i*1500)
			if i == 20 {
				part = make([]byte, 2<<20) // larger than the window
			}
			is.NoErr(up.Send(part))
			want = append(want, part...)
		}
		is.NoErr(up.CloseSend())
		got, err := up.Recv()
		is.NoErr(err)
		is.True(bytes.Equal(got, want))
		_, err = up.Recv()
		is.Equal(err, io.EOF)
		is.NoErr(up.Close())
		eventually(t, "memory is given back", func() bool { return s.held.Load() == 0 })

		// Both sides speak by turns.
		up, err = c.Upload(t.Context(), "talk", nil)
		is.NoErr(err)
		for i := range 20 {
			is.NoErr(up.Send([]byte{byte(i)}))
			m, err := up.Recv()
			is.NoErr(err)
			is.Equal(m, []byte{byte(i)})
		}
		is.NoErr(up.CloseSend())
		_, err = up.Recv()
		is.NoErr(err)
		is.NoErr(up.Close())

		// The server may have enough.
		up, err = c.Upload(t.Context(), "early", nil)
		is.NoErr(err)
		for err == nil {
			err = up.Send(make([]byte, 10_000))
		}
		is.Equal(err, io.EOF)
		m, err := up.Recv()
		is.NoErr(err)
		is.Equal(string(m), "enough")
		is.NoErr(up.Close())
		is.NoErr(c.Ping(t.Context()))
	})
}

func TestUploadEnds(t *testing.T) {
	is := is.New(t)
	ended := make(chan error, 1)
	s := serve(t, ServerConfig{Limits: Limits{Body: 100_000, ConnMemory: 1 << 20}, Handler: func(ctx context.Context, req *Request, out Sender) error {
		for {
			if _, err := req.Messages.Recv(); err != nil {
				ended <- err
				return err
			}
		}
	}})
	c := dial(t, &Dialer{}, s.addr)
	up, err := c.Upload(t.Context(), "x", nil)
	is.NoErr(err)
	is.NoErr(up.Close()) // gives it up
	is.True(errors.Is(<-ended, context.Canceled))

	up, err = c.Upload(t.Context(), "x", nil)
	is.NoErr(err)
	err = up.Send(make([]byte, 100_001))
	is.True(err == nil || err == io.EOF)
	_, err = up.Recv()
	is.Equal(fault.Of(err), fault.TooLarge)
	is.True(errors.Is(<-ended, context.Canceled))
	eventually(t, "memory is given back", func() bool { return s.held.Load() == 0 })

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	up, err = c.Upload(ctx, "x", nil)
	is.NoErr(err)
	_, err = up.Recv()
	is.Equal(fault.Of(err), fault.Timeout)
	is.True(<-ended != nil)

	// A server of a release without uploads.
	s.dialect = dialect{1, 1, 0}
	old := dial(t, &Dialer{}, s.addr)
	_, err = old.Upload(t.Context(), "x", nil)
	is.Equal(fault.Of(err), fault.Unimplemented)
	is.NoErr(old.Ping(t.Context()))
}

// What must not come on an upload, or without one.
func TestBrokenUploads(t *testing.T) {
	s := serve(t, ServerConfig{Handler: collect})
	hello := clientPreface(Control).append(nil)
	end := func(id uint32) []byte { return appendFrame(nil, kindEnd, 0, id, nil) }
	open := openFrame(1, flagUpload, "sum", nil)
	for name, b := range map[string][]byte{
		"data after end":     bytes.Join([][]byte{open, end(1), appendFrame(nil, kindData, 0, 1, nil)}, nil),
		"end twice":          bytes.Join([][]byte{open, end(1), end(1)}, nil),
		"end inside message": bytes.Join([][]byte{open, appendFrame(nil, kindData, flagMore, 1, []byte("x")), end(1)}, nil),
		"end of first":       bytes.Join([][]byte{openFrame(1, flagUpload|flagMore, "sum", nil), end(1)}, nil),
		"end of none":        end(1),
		"end of a call":      bytes.Join([][]byte{openFrame(1, 0, "wait", nil), end(1)}, nil),
		"over the window":    append(bytes.Clone(open), bytes.Repeat(appendFrame(nil, kindData, flagMore, 1, make([]byte, 16000)), 40)...),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "end twice" || name == "data after end" || name == "over the window" {
				blocked := serve(t, ServerConfig{Handler: func(ctx context.Context, _ *Request, _ Sender) error { <-ctx.Done(); return ctx.Err() }})
				r := raw(t, blocked.addr)
				r.send(hello, b)
				r.preface()
				r.fails(fault.Protocol)
				return
			}
			r := raw(t, s.addr)
			r.send(hello, b)
			r.preface()
			r.fails(fault.Protocol)
		})
	}
	// Nor without the feature.
	old := clientPreface(Control)
	old.features = 0
	for _, b := range [][]byte{open, bytes.Join([][]byte{openFrame(1, 0, "wait", nil), end(1)}, nil)} {
		r := raw(t, s.addr)
		r.send(old.append(nil), b)
		r.preface()
		r.fails(fault.Protocol)
	}
}

// A handler's context is one for package context, too.
func TestCallContext(t *testing.T) {
	is := is.New(t)
	type seen struct {
		cause error
		err   error
	}
	got := make(chan seen, 1)
	s := serve(t, ServerConfig{Handler: func(ctx context.Context, req *Request, out Sender) error {
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		after := make(chan struct{})
		stop := context.AfterFunc(ctx, func() { close(after) })
		defer stop()
		is.NoErr(ctx.Err())
		if req.Method == "quick" {
			is.True(stop())
			return nil
		}
		<-child.Done()
		<-after
		got <- seen{context.Cause(child), ctx.Err()}
		return ctx.Err()
	}})
	c := dial(t, &Dialer{}, s.addr)
	_, err := c.Call(t.Context(), "quick", nil)
	is.NoErr(err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = c.Call(ctx, "slow", nil)
	is.Equal(fault.Of(err), fault.Timeout)
	one := <-got
	is.True(one.cause != nil && one.err != nil)
	st, err := c.Stream(t.Context(), "slow", nil)
	is.NoErr(err)
	is.NoErr(c.Ping(t.Context()))
	is.NoErr(st.Close())
	is.Equal((<-got).err, context.Canceled)
}
