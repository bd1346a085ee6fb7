package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// TestProtocolExamples decodes every example of PROTOCOL.md: a fenced block named
// wire has lines of hex, each with what it decodes to after a semicolon.
func TestProtocolExamples(t *testing.T) {
	is := is.New(t)
	doc, err := os.ReadFile("PROTOCOL.md")
	is.NoErr(err)
	blocks := regexp.MustCompile("(?s)```wire\n(.*?)```").FindAllSubmatch(doc, -1)
	is.True(len(blocks) >= 3)
	kinds := map[string]bool{}
	for _, block := range blocks {
		var stream []byte
		var want []string
		for line := range strings.Lines(string(block[1])) {
			digits, text, found := strings.Cut(strings.TrimSpace(line), ";")
			b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
			is.NoErr(err)
			stream = append(stream, b...)
			if found {
				want = append(want, strings.TrimSpace(text))
			}
		}
		var got []string
		is.NoErr(Decode(bytes.NewReader(stream), func(item Item) { got = append(got, item.String()) }))
		is.Equal(got, want)
		for _, g := range got {
			kinds[strings.Fields(g)[0]] = true
		}
	}
	for _, k := range kindNames[1:] {
		if !kinds[k] {
			t.Errorf("PROTOCOL.md has no example of %s", k)
		}
	}
}

func TestDecodeEnds(t *testing.T) {
	is := is.New(t)
	whole := append(clientPreface(Control).append(nil), openFrame(1, 0, "a.b", []byte("body"))...)
	n := 0
	count := func(Item) { n++ }
	is.NoErr(Decode(bytes.NewReader(whole), count))
	is.Equal(n, 2)
	for cut := 1; cut < len(whole); cut++ {
		err := Decode(bytes.NewReader(whole[:cut]), count)
		if cut == prefaceLen {
			is.NoErr(err) // an end between frames
		} else {
			is.True(errors.Is(err, io.ErrUnexpectedEOF))
		}
	}
	is.NoErr(Decode(bytes.NewReader(append(clientPreface(Raft).append(nil), "anything"...)), count))
}

func TestOpening(t *testing.T) {
	is := is.New(t)
	o, err := parseOpening(append(appendOpening(nil, 1500*time.Microsecond, "m"), 'x'), "m")
	is.NoErr(err)
	is.Equal(o, opening{2 * time.Millisecond, "m", []byte("x")}) // rounded up
	o, err = parseOpening(appendOpening(nil, 1<<62, "m"), "")
	is.NoErr(err)
	is.Equal(o.timeout, (1<<32-1)*time.Millisecond)
}

func TestFaultCrosses(t *testing.T) {
	is := is.New(t)
	sent := fault.New(fault.Engine, "cannot create pool: no space").WithHint("free some").WithStatus(-1007).WithData("rank", "3")
	got := decodeFault(encodeFault(sent))
	is.Equal(got.Code, sent.Code)
	is.Equal(got.What, sent.What)
	is.Equal(got.Hint, sent.Hint)
	is.Equal(got.Status, sent.Status)
	is.Equal(got.Data, sent.Data)
	is.True(errors.Is(got, sent))
	// What wraps a fault keeps its own text; what is too long is cut.
	got = decodeFault(encodeFault(fmt.Errorf("outer: %w", sent)))
	is.Equal(got.What, "outer: cannot create pool: no space")
	is.Equal(got.Status, int32(-1007))
	long := fault.New(fault.Busy, "%s", strings.Repeat("é", 40_000)).WithHint("wait").WithData("x", "y")
	b := encodeFault(long)
	is.True(len(b) <= minFrame)
	got = decodeFault(b)
	is.Equal(got.Code, fault.Busy)
	is.Equal(got.Hint, "wait")
	is.Equal(fault.Of(decodeFault(encodeFault(errors.New("plain")))), fault.Unknown)
	is.Equal(fault.Of(decodeFault(encodeFault(os.ErrDeadlineExceeded))), fault.Unknown)
	is.Equal(fault.Of(decodeFault([]byte{0xa1})), fault.Protocol)
}

func TestSparseLog(t *testing.T) {
	is := is.New(t)
	var out bytes.Buffer
	l := newSparseLog(slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Unix(0, 0)
	l.now = func() time.Time { return now }
	warn := func(kind, ip string) { l.warn(kind, &net.TCPAddr{IP: net.ParseIP(ip)}, "refused", io.EOF) }
	lines := func() int { return strings.Count(out.String(), "\n") }
	for range 100 {
		warn("a", "127.0.0.1")
	}
	is.Equal(lines(), 1)
	warn("b", "127.0.0.1")
	warn("a", "127.0.0.2")
	is.Equal(lines(), 3)
	now = now.Add(logEvery)
	warn("a", "127.0.0.1")
	is.True(strings.Contains(out.String(), "unlogged=99"))
	for i := range 5000 { // addresses do not fill memory
		warn("a", fmt.Sprintf("10.0.%d.%d", i/250, i%250))
	}
	is.True(len(l.seen) <= logKeys+8)
}

func FuzzFrames(f *testing.F) {
	f.Add(openFrame(1, 0, "storage.scan", []byte("body")))
	f.Add(appendFrame(nil, kindData, flagMore, 1, []byte("x")))
	f.Add(appendFrame(nil, kindError, 0, 1, encodeFault(fault.New(fault.Busy, "busy").WithData("a", "b"))))
	f.Add(appendFrame(appendFrame(nil, kindWindow, 0, 1, []byte{0, 0, 1, 0}), kindGoAway, 0, 0, []byte{0, 0, 0, 1, 'x'}))
	f.Add(clientPreface(Control).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = Decode(bytes.NewReader(b), func(item Item) {
			text := item.String()
			if text == "" || strings.ContainsRune(text, '\n') {
				t.Fatalf("printed as %q", text)
			}
		})
		// What decodes encodes back to the same bytes.
		r := bytes.NewReader(b)
		fr, err := readFrame(r, maxFrame)
		if err == nil && !bytes.Equal(appendFrame(nil, fr.kind, fr.flags, fr.stream, fr.payload), b[:len(b)-r.Len()]) {
			t.Fatal("not the same bytes")
		}
	})
}

func FuzzPreface(f *testing.F) {
	f.Add(clientPreface(Control).append(nil))
	f.Add(NewServer(ServerConfig{}).preface(Raft).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePreface(b)
		if err != nil {
			return
		}
		again, err := parsePreface(p.append(nil))
		if err != nil || again != p {
			t.Fatalf("%v became %v: %v", p, again, err)
		}
	})
}
