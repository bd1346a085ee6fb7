package drpc

import (
	"bytes"
	"slices"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/drpctest"
)

func chunks(t testing.TB, message []byte) [][]byte {
	t.Helper()
	var all [][]byte
	if err := split(message, func(d []byte) error {
		all = append(all, bytes.Clone(d))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSplitJoin(t *testing.T) {
	for _, size := range []int{0, 1, maxChunk - 1, maxChunk, maxChunk + 1, 2 * maxChunk, 3*maxChunk + 7} {
		is := is.New(t)
		message := bytes.Repeat([]byte{0xa5, 1, 2}, size/3+1)[:size]
		all := chunks(t, message)
		is.Equal(all, drpctest.Datagrams(drpctest.Chunked, message)) // as the independent peer cuts it
		for _, d := range all {
			is.True(len(d) <= maxDatagram)
		}
		is.True(bytes.Equal(join(t, all), message))
	}
}

func TestJoinRefuses(t *testing.T) {
	chunk := func(total, size uint64, index, count uint32, n int) []byte {
		return append(drpctest.Header(total, size, index, count), make([]byte, n)...)
	}
	for name, all := range map[string][][]byte{
		"short":           {make([]byte, headerLen-1)},
		"no chunks":       {chunk(4, 4, 0, 0, 4)},
		"index too high":  {chunk(4, 4, 1, 1, 4)},
		"starts late":     {chunk(4, 2, 1, 2, 2)},
		"size lies":       {chunk(9, 9, 0, 1, 4)},
		"size below":      {chunk(9, 2, 0, 3, 4)},
		"chunk too large": {chunk(1<<20, maxChunk+1, 0, 9, maxChunk+1)},
		"larger than all": {chunk(3, 4, 0, 2, 4)},
		"one is not all":  {chunk(9, 4, 0, 1, 4)},
		"empty in many":   {chunk(0, 0, 0, 2, 0)},
		"empty chunk":     {chunk(9, 0, 0, 2, 0)},
		"more than bytes": {chunk(3, 1, 0, 4, 1)},
		"over the limit":  {chunk(DefaultMaxMessage+1, 8, 0, 600, 8)},
		"order":           {chunk(6, 2, 0, 3, 2), chunk(6, 2, 2, 3, 2)},
		"repeated":        {chunk(6, 2, 0, 3, 2), chunk(6, 2, 0, 3, 2)},
		"total changes":   {chunk(6, 2, 0, 3, 2), chunk(7, 2, 1, 3, 2)},
		"count changes":   {chunk(6, 2, 0, 3, 2), chunk(6, 2, 1, 4, 2)},
		"sum above total": {chunk(6, 4, 0, 3, 4), chunk(6, 4, 1, 3, 4)},
		"sum below total": {chunk(6, 2, 0, 2, 2), chunk(6, 2, 1, 2, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			a := assembler{limit: DefaultMaxMessage}
			var err error
			for _, d := range all {
				var done bool
				if done, err = a.add(d); err != nil {
					break
				}
				is.True(!done)
			}
			is.True(slices.Contains([]fault.Code{fault.Protocol, fault.TooLarge}, fault.Of(err)))
		})
	}
}

// A header that announces much and brings little takes little memory.
func TestJoinGrowsWithBytes(t *testing.T) {
	is := is.New(t)
	a := assembler{limit: DefaultMaxMessage}
	done, err := a.add(append(drpctest.Header(DefaultMaxMessage, 3, 0, 1000), 1, 2, 3))
	is.NoErr(err)
	is.True(!done)
	is.True(cap(a.data) < 1024)
}

func TestDetect(t *testing.T) {
	call := drpctest.CallBytes(3, 301, 0, bytes.Repeat([]byte("uri"), 40))
	for name, c := range map[string]struct {
		first   []byte
		framing Framing
		ok      bool
	}{
		"chunked call":         {chunks(t, call)[0], Chunked, true},
		"first of two chunks":  {append(drpctest.Header(9, 3, 0, 2), 1, 2, 3), Chunked, true},
		"chunked garbage":      {chunks(t, []byte{255, 255, 255, 255})[0], Chunked, true},
		"bare header":          {drpctest.Header(0, 0, 0, 1), Chunked, true},
		"later chunk":          {append(drpctest.Header(9, 3, 1, 2), 1, 2, 3), Chunked, false},
		"broken header":        {append(drpctest.Header(9, 4, 0, 2), 1, 2, 3), Chunked, false},
		"plain call":           {call, Datagram, true},
		"short plain call":     {drpctest.CallBytes(2, 233, 0, nil), Datagram, true},
		"module 0":             {drpctest.CallBytes(0, 233, 1, nil), Datagram, true},
		"plain garbage":        {[]byte{255, 255, 255, 255}, Datagram, true},
		"long garbage":         {bytes.Repeat([]byte{255}, 100), Datagram, true},
		"more than one in one": {append(drpctest.Header(5, 5, 0, 3), 1, 2, 3, 4, 5), Chunked, true},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			framing, ok := detect(c.first)
			is.Equal(framing, c.framing)
			is.Equal(ok, c.ok)
		})
	}
}

func FuzzAssembler(f *testing.F) {
	f.Add(chunks(f, []byte("message"))[0], []byte{})
	f.Add(append(drpctest.Header(6, 3, 0, 2), 1, 2, 3), append(drpctest.Header(6, 3, 1, 2), 4, 5, 6))
	f.Add(drpctest.Header(0, 0, 0, 1), []byte{1})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		const limit = 4096
		a := assembler{limit: limit}
		for _, d := range [][]byte{first, second} {
			done, err := a.add(d)
			if len(a.data) > limit || len(a.data) > len(first)+len(second) {
				t.Fatal("more data than came")
			}
			if err != nil {
				return
			}
			if done {
				if uint64(len(a.data)) != a.first.total {
					t.Fatal("done without all data")
				}
				return
			}
		}
	})
}

func FuzzDetect(f *testing.F) {
	f.Add(drpctest.CallBytes(3, 301, 0, []byte("body")))
	f.Add(drpctest.Header(0, 0, 0, 1))
	f.Add(chunks(f, drpctest.CallBytes(2, 202, 1, []byte("body of this")))[0])
	f.Fuzz(func(t *testing.T, first []byte) {
		framing, ok := detect(first)
		_, err := (&assembler{limit: DefaultMaxMessage}).add(first)
		if framing == Datagram && err == nil {
			t.Fatal("a good chunk was taken for a plain message")
		}
		if framing == Chunked && ok && err != nil && fault.Of(err) != fault.TooLarge {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeCall(f *testing.F) {
	f.Add(drpctest.CallBytes(3, 301, 0, []byte("body")))
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, message []byte) {
		call, err := decodeCall(message)
		if err != nil {
			return
		}
		fields, err := drpctest.Parse(message)
		if err != nil {
			return // groups: the independent parser does not know them
		}
		if !bytes.Equal(fields.Bytes(4), call.GetBody()) && len(fields.All(4)) == 1 && fields.All(4)[0].Wire == 2 {
			t.Fatalf("body %x, independently %x", call.GetBody(), fields.Bytes(4))
		}
		if info, ok := Method(call.GetMethod()).Info(); ok && info.Request != nil {
			_ = Unmarshal(call.GetBody(), info.Request())
		}
	})
}

func FuzzFaultDomains(f *testing.F) {
	f.Add([]byte{0, 2, 1, 1, 1, 2, 2, 0, 1})
	f.Add([]byte{2, 3, 1, 1, 2, 9, 2, 1, 4, 1, 1, 5, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		words := make([]uint32, len(b))
		for i, v := range b {
			words[i] = uint32(v)
		}
		root, flags, err := ParseFaultDomains(words)
		if err != nil {
			return
		}
		again, err := root.Words(flags)
		if err != nil || !slices.Equal(again, words) {
			t.Fatal(words, again, err)
		}
	})
}
