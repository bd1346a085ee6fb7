package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"daosbox/commands/cli"
	"daosbox/commands/wire"

	"github.com/matryer/is"
)

func run(t *testing.T, stdin []byte, args ...string) (out, errs string, exit cli.Exit) {
	t.Helper()
	var o, e bytes.Buffer
	env := &cli.Env{Args: append([]string{"wire"}, args...), Stdin: bytes.NewReader(stdin), Stdout: &o, Stderr: &e,
		LookupEnv: func(string) (string, bool) { return "", false }, Dir: t.TempDir()}
	exit = wire.Run(t.Context(), env, "wire", args)
	return o.String(), e.String(), exit
}

func TestDecode(t *testing.T) {
	is := is.New(t)
	path, err := filepath.Abs("../../testdata/wire/client-n-server-n.txt")
	is.NoErr(err)
	text, err := os.ReadFile(path)
	is.NoErr(err)
	out, _, exit := run(t, nil, "decode", path)
	is.Equal(exit, cli.OK)
	var want strings.Builder
	var sent []byte
	for line := range strings.Lines(string(text)) {
		digits, remark, ok := strings.Cut(line, " ; ")
		if !ok {
			continue
		}
		want.WriteString(line[:2] + remark)
		if line[0] == '>' {
			b, err := hex.DecodeString(digits[2:])
			is.NoErr(err)
			sent = append(sent, b...)
		}
	}
	is.Equal(out, want.String())

	// One direction as bytes, and as objects.
	out, _, exit = run(t, sent, "decode")
	is.Equal(exit, cli.OK)
	is.True(strings.HasPrefix(out, "preface control "))
	out, _, exit = run(t, sent, "decode", "--json-lines", "-")
	is.Equal(exit, cli.OK)
	var second struct {
		Offset int64
		Kind   string
		Stream int
	}
	is.NoErr(json.Unmarshal([]byte(strings.Split(out, "\n")[1]), &second))
	is.Equal(second.Offset, int64(48))
	is.Equal(second.Kind, "open")
	is.Equal(second.Stream, 1)
	out, _, exit = run(t, sent, "decode", "--json")
	is.Equal(exit, cli.OK)
	var envelope struct{ Response []struct{ Kind string } }
	is.NoErr(json.Unmarshal([]byte(out), &envelope))
	is.Equal(envelope.Response[0].Kind, "preface")
}

func TestDecodeFails(t *testing.T) {
	is := is.New(t)
	_, errs, exit := run(t, []byte("00 00 00 03"), "decode")
	is.True(exit != cli.OK)
	is.True(strings.Contains(errs, "inside a frame"))
	out, errs, exit := run(t, []byte("000000 03 00 00000001 ffffff 09"), "decode")
	is.True(exit != cli.OK)
	is.Equal(out, "end 1\n") // what could be read
	is.True(strings.Contains(errs, "inside a frame"))
	_, errs, exit = run(t, []byte("zz"), "decode")
	is.True(exit != cli.OK)
	is.True(strings.Contains(errs, "line 1"))
	_, _, exit = run(t, nil, "decode", "no-such-file")
	is.True(exit != cli.OK)
}
