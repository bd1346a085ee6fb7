package helper

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"daosbox/cluster/fault"

	"github.com/fxamacker/cbor/v2"
	"github.com/matryer/is"
)

func frame(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	data, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRequestTravels(t *testing.T) {
	is := is.New(t)
	want := request{Method: methodFormat, Engine: 3, Options: requestOptions{Force: true}}
	message, err := encodeMessage(want)
	is.NoErr(err)
	data, err := readMessage(bytes.NewReader(message))
	is.NoErr(err)
	got, err := decodeRequest(data)
	is.NoErr(err)
	is.Equal(got, want)
}

func TestReplyTravels(t *testing.T) {
	is := is.New(t)
	want := reply{
		Error: fault.New(fault.Busy, "cannot unmount /mnt/daos0: device or resource busy").WithHint("stop the engine"),
		Info:  Info{Version: "1", Engines: []Engine{{Index: 1, Mount: "/mnt/daos1", SizeGiB: 8}}},
	}
	message, err := encodeMessage(want)
	is.NoErr(err)
	data, err := readMessage(bytes.NewReader(message))
	is.NoErr(err)
	var got reply
	is.NoErr(decode(data, &got))
	is.Equal(got.Info, want.Info)
	is.Equal(got.Error.Code, fault.Busy)
	is.Equal(got.Error.What, want.Error.What)
	is.Equal(got.Error.Hint, want.Error.Hint)
}

func TestLongErrorFits(t *testing.T) {
	is := is.New(t)
	err := fault.New(fault.Config, "cannot use it: %s", strings.Repeat("é", messageLimit))
	_, e := encodeMessage(reply{Error: faultOf(err)})
	is.NoErr(e)
	is.True(faultOf(nil) == nil)
}

func TestReadMessageRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		code fault.Code // 0: any error
	}{
		"nothing":   {nil, 0},
		"half head": {[]byte{0, 0}, 0},
		"empty":     {[]byte{0, 0, 0, 0}, fault.TooLarge},
		"oversized": {binary.BigEndian.AppendUint32(nil, messageLimit+1), fault.TooLarge},
		"gigantic":  {[]byte{255, 255, 255, 255}, fault.TooLarge},
		"cut off":   {[]byte{0, 0, 0, 9, 1, 2}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			_, err := readMessage(bytes.NewReader(c.data))
			is.True(err != nil)
			if c.code != 0 {
				is.Equal(fault.Of(err), c.code)
			}
		})
	}
	_, err := readMessage(strings.NewReader("\x00\x00\x00\x05abc"))
	is.New(t).Equal(err, io.ErrUnexpectedEOF)
}

func TestDecodeRequestRefuses(t *testing.T) {
	for name, data := range map[string][]byte{
		"garbage":        []byte("GET / HTTP/1.1"),
		"another type":   encoded(t, []int{1, 2}),
		"a path":         encoded(t, map[string]any{"method": methodMount, "engine": 0, "path": "/etc"}),
		"a path deeper":  encoded(t, map[string]any{"method": methodMount, "engine": 0, "options": map[string]any{"target": "/etc"}}),
		"engine as text": encoded(t, map[string]any{"method": methodMount, "engine": "0"}),
		"engine too big": encoded(t, map[string]any{"method": methodMount, "engine": uint64(1) << 63}),
		"trailing bytes": append(encoded(t, request{Method: methodPing}), 0),
		"key twice":      []byte("\xa2\x66method\x64ping\x66method\x64ping"),
		"endless map":    []byte("\xbf\x66method\x64ping\xff"),
		"deep":           append(bytes.Repeat([]byte{0x81}, 100), 0),
		"long array":     {0x9a, 0xff, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			_, err := decodeRequest(data)
			is.Equal(fault.Of(err), fault.Protocol)
		})
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, method := range []string{methodPing, methodFormat, methodMount, methodUnmount, ""} {
		f.Add(frame(encoded(f, request{Method: method, Engine: 1})))
	}
	f.Add([]byte{0, 0, 0, 1})
	f.Add([]byte{255, 255, 255, 255, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := readMessage(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(body) > messageLimit {
			t.Fatalf("a message of %d bytes passed", len(body))
		}
		r, err := decodeRequest(body)
		if err != nil {
			return
		}
		again, err := decodeRequest(encoded(t, r))
		if err != nil || again != r {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}
