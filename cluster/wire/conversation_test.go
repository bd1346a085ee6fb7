package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

var record = flag.Bool("record", false, "write the conversations of testdata/wire anew")

const conversations = "../../testdata/wire"

// releases are five in a row, as they would stand if each raised the version: each
// speaks its own and the two before. The odd ones know no uploads, the newest sets a
// feature bit and reserved bytes that nobody knows yet.
var releases = map[string]dialect{
	"n-2": {3, 1, 0},
	"n-1": {4, 2, featureUploads},
	"n":   {5, 3, featureUploads},
	"n+1": {6, 4, featureUploads},
	"n+2": {7, 5, featureUploads | 1<<9},
}

// pairs are who talks to whom: every release with ours, both ways.
func pairs() [][2]string {
	var all [][2]string
	for _, other := range []string{"n-2", "n-1", "n", "n+1", "n+2"} {
		all = append(all, [2]string{"n", other})
		if other != "n" {
			all = append(all, [2]string{other, "n"})
		}
	}
	return append(all, [2]string{"n-2", "n+2"}, [2]string{"n-2", "n+1"}) // common 3: none with n+1 (4 to 6)
}

// converse is what a client says in every conversation. It returns what it heard.
func converse(ctx context.Context, d *Dialer, addr string) []string {
	var heard []string
	say := func(format string, args ...any) { heard = append(heard, fmt.Sprintf(format, args...)) }
	c, err := d.Dial(ctx, addr)
	if err != nil {
		return []string{err.Error()}
	}
	defer c.Close()
	reply, err := c.Call(ctx, "echo", []byte("hello"))
	say("echo %q %v", reply, fault.Of(err))
	if err != nil {
		return heard
	}
	_, err = c.Call(ctx, "unheard-of", nil)
	say("unknown %v", fault.Of(err))
	st, err := c.Stream(ctx, "count", []byte("3"))
	for err == nil {
		var m []byte
		if m, err = st.Recv(); err == nil {
			say("count %s", m)
		}
	}
	say("end %v", err == io.EOF)
	_ = st.Close()
	say("ping %v", c.Ping(ctx))
	up, err := c.Upload(ctx, "sum", []byte("a"))
	if err != nil {
		say("upload %v", fault.Of(err))
		return heard
	}
	defer up.Close()
	_ = up.Send([]byte("b"))
	_ = up.CloseSend()
	m, err := up.Recv()
	say("upload %q %v", m, fault.Of(err))
	_, err = up.Recv()
	say("end %v", err == io.EOF)
	return heard
}

// line is a part of a conversation.
type line struct {
	from byte
	b    []byte
}

func TestConversations(t *testing.T) {
	for _, pair := range pairs() {
		client, server := releases[pair[0]], releases[pair[1]]
		name := fmt.Sprintf("client-%s-server-%s.txt", pair[0], pair[1])
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			path := filepath.Join(conversations, name)
			if *record {
				recordConversation(t, path, client, server)
			}
			lines, wanted := readConversation(t, path)

			// What is in the file reads as its remarks say.
			data, err := os.ReadFile(path)
			is.NoErr(err)
			var texts []string
			is.NoErr(DecodeText(bytes.NewReader(data), func(i Item) { texts = append(texts, i.String()) }))
			is.Equal(texts, remarks(string(data)))

			// Its client, played back, gets the same from our server, and its server
			// hears the same from our client.
			s := serve(t, ServerConfig{Handler: collect})
			s.dialect = server
			playClient(t, s.addr, lines)
			heard := playServerTo(t, &Dialer{dialect: client}, lines)
			is.Equal(heard, wanted)
			_, err = common(preface{version: client.version, minVersion: client.minVersion}, preface{version: server.version, minVersion: server.minVersion})
			is.Equal(err == nil, strings.Contains(strings.Join(heard, "\n"), `echo "hello"`))
		})
	}
}

// remarks are what stands behind the hex.
func remarks(text string) []string {
	var all []string
	for l := range strings.Lines(text) {
		if before, after, ok := strings.Cut(l, ";"); ok && !strings.HasPrefix(l, "#") {
			all = append(all, before[:1]+" "+strings.TrimSpace(after))
		}
	}
	return all
}

func readConversation(t *testing.T, path string) (lines []line, heard []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(data)) {
		if after, ok := strings.CutPrefix(text, "#= "); ok {
			heard = append(heard, strings.TrimSpace(after))
		}
		from, b, err := parseLine(text)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 {
			lines = append(lines, line{from, b})
		}
	}
	return lines, heard
}

// recordConversation listens in between a real client and a real server.
func recordConversation(t *testing.T, path string, client, server dialect) {
	t.Helper()
	is := is.New(t)
	s := serve(t, ServerConfig{Handler: collect})
	s.dialect = server
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	is.NoErr(err)
	defer ln.Close()
	var mu sync.Mutex
	var out bytes.Buffer
	tap := func(dst, src net.Conn, d *decoder, arrow string) {
		buf := make([]byte, 64<<10)
		var whole []byte
		for {
			n, err := src.Read(buf)
			mu.Lock()
			whole = append(whole, buf[:n]...)
			_ = d.write(buf[:n], func(i Item) {
				size := headerLen + i.Length
				if i.Kind == "preface" {
					size = prefaceLen
				}
				fmt.Fprintf(&out, "%s %s ; %s\n", arrow, hex.EncodeToString(whole[:size]), i.Text)
				whole = whole[size:]
			})
			mu.Unlock()
			_, _ = dst.Write(buf[:n])
			if err != nil {
				closeWrite(dst)
				return
			}
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		near, err := ln.Accept()
		if err != nil {
			return
		}
		defer near.Close()
		far, err := net.Dial("tcp4", s.addr)
		if err != nil {
			return
		}
		defer far.Close()
		var both sync.WaitGroup
		both.Go(func() { tap(far, near, &decoder{}, ">") })
		both.Go(func() { tap(near, far, &decoder{}, "<") })
		both.Wait()
	}()
	heard := converse(t.Context(), &Dialer{dialect: client}, ln.Addr().String())
	<-done
	head := fmt.Sprintf("# A client that speaks versions %d to %d at a server that speaks %d to %d, recorded from\n# a connection. Lines with = are what the client made of it.\n",
		client.minVersion, client.version, server.minVersion, server.version)
	for _, h := range heard {
		head += "#= " + strings.ReplaceAll(h, ln.Addr().String(), "HOST") + "\n"
	}
	is.NoErr(os.MkdirAll(filepath.Dir(path), 0o755))
	is.NoErr(os.WriteFile(path, append([]byte(head), out.Bytes()...), 0o644))
}

// playClient sends a recorded client's frames and wants the recorded answers, except
// for what a preface says of limits.
func playClient(t *testing.T, addr string, lines []line) {
	t.Helper()
	is := is.New(t)
	c, err := net.Dial("tcp4", addr)
	is.NoErr(err)
	defer c.Close()
	is.NoErr(c.SetDeadline(time.Now().Add(10 * time.Second)))
	for _, l := range lines {
		if l.from == '>' {
			_, err := c.Write(l.b)
			is.NoErr(err)
			continue
		}
		got := make([]byte, len(l.b))
		_, err := io.ReadFull(c, got)
		is.NoErr(err)
		is.Equal(comparable(got), comparable(l.b))
	}
}

// comparable leaves out of a preface what is a matter of configuration.
func comparable(b []byte) string {
	if len(b) == prefaceLen && b[0] == magic[0] {
		b = bytes.Clone(b)
		clear(b[16:26])
	}
	return hex.EncodeToString(b)
}

// playServerTo answers our client with recorded frames and wants what was recorded of
// the client. It returns what the client heard.
func playServerTo(t *testing.T, d *Dialer, lines []line) []string {
	t.Helper()
	is := is.New(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	is.NoErr(err)
	defer ln.Close()
	played := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			played <- err.Error()
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReader(c)
		for _, l := range lines {
			if l.from == '<' {
				_, _ = c.Write(l.b)
				continue
			}
			got := make([]byte, len(l.b))
			if _, err := io.ReadFull(r, got); err != nil || comparable(got) != comparable(l.b) {
				played <- fmt.Sprintf("client sent %x, %x was recorded (%v)", got, l.b, err)
				return
			}
		}
		_, _ = io.Copy(io.Discard, r) // the client ends it
		played <- ""
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	heard := converse(untimed{ctx}, d, ln.Addr().String())
	is.Equal(<-played, "")
	for i := range heard {
		heard[i] = strings.ReplaceAll(heard[i], ln.Addr().String(), "HOST")
	}
	return heard
}

// untimed ends with its context and tells no deadline, as when it was recorded.
type untimed struct{ context.Context }

func (untimed) Deadline() (time.Time, bool) { return time.Time{}, false }

func FuzzConversation(f *testing.F) {
	f.Add("> da4f ; x\n# y\n< 00")
	f.Fuzz(func(t *testing.T, text string) {
		_ = DecodeText(strings.NewReader(text), func(i Item) {
			if i.String() == "" || strings.ContainsRune(i.Text, '\n') {
				t.Fatalf("printed as %q", i)
			}
		})
	})
}
