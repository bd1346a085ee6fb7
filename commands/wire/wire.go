// Package wire has the verbs of `daosbox wire`, for people who look at what goes
// over the network.
package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"daosbox/cluster/fault"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

// Run runs the verb that args name.
func Run(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	t := cli.NewTool(env, name)
	root := cli.NewRoot(t, "look at the protocol between servers, agents and dmg")
	root.RunE = cli.Group(name, root.Short).RunE
	root.AddCommand(newDecode(t))
	return cli.Execute(ctx, t, root, t.Globals(""), args)
}

func newDecode(t *cli.Tool) *cobra.Command {
	var lines bool
	cmd := &cobra.Command{
		Use:   "decode [FILE]",
		Short: "print a captured byte stream, one frame a line",
		Long: `Print a captured byte stream, one frame a line. FILE, else standard input, has one
direction of a connection as bytes, or text: lines of hex digits, where ">" begins
what the client sent and "<" what the server did; ";" begins a remark. What TLS has
encrypted cannot be read; capture a system that allows insecure connections.`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVar(&lines, "json-lines", false, "print each frame as a JSON object")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 || args[0] == "-" {
			return runDecode(t, t.Stdin, "standard input", lines)
		}
		f, err := os.Open(t.Path(args[0]))
		if err != nil {
			return fault.Wrap(fault.Usage, err, "cannot open the capture")
		}
		defer f.Close()
		return runDecode(t, f, args[0], lines)
	}
	return cmd
}

// runDecode prints what it can, also before what it cannot.
func runDecode(t *cli.Tool, r io.Reader, name string, lines bool) error {
	in := bufio.NewReader(r)
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return fault.Wrap(fault.Usage, err, "cannot read %s", name)
	}
	decode := wire.Decode
	if isText(head) {
		decode = wire.DecodeText
	}
	items := []wire.Item{}
	out := bufio.NewWriter(t.Stdout)
	encode := json.NewEncoder(out)
	err = decode(in, func(item wire.Item) {
		switch {
		case t.JSON:
			items = append(items, item)
		case lines:
			_ = encode.Encode(item) // Flush tells
		default:
			fmt.Fprintln(out, item)
		}
	})
	if flushErr := out.Flush(); flushErr != nil {
		return fault.Wrap(fault.Unknown, flushErr, "cannot print the capture")
	}
	t.Show(items, nil)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Protocol, "cannot decode all of %s: it ends inside a frame", name)
	case err != nil:
		return fault.Wrap(fault.Protocol, err, "cannot decode all of %s", name).
			WithHint("is it one direction of a connection, from its first byte on and without TLS?")
	}
	return nil
}

// isText tells hex from bytes: no frame and no preface is without a byte that text
// cannot have.
func isText(head []byte) bool {
	return bytes.IndexFunc(head, func(c rune) bool { return (c < ' ' || c > '~') && c != '\n' && c != '\r' && c != '\t' }) < 0
}
