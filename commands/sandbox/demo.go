package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

func newDemo(t *cli.Tool) *cobra.Command {
	dir, hosts := "", defaultHosts
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "show it: bring a system up, use it, take it down",
		Long: `Bring a system up in a new directory (a temporary one unless --dir names it), create
and query a pool, ask the agent what a client would, and take all down again. Each
step is shown as the command that a user would type.`,
		Args: cli.NoArgs,
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory to use; it must be new, and is removed")
	cmd.Flags().IntVar(&hosts, "hosts", defaultHosts, "servers")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), t, dir, hosts) }
	return cmd
}

// demoStep is one command of the demo with its outcome.
type demoStep struct {
	Command string  `json:"command"`
	Output  string  `json:"output"`
	Exit    int     `json:"exit"`
	Seconds float64 `json:"seconds"`
}

// demo shows steps and keeps them.
type demo struct {
	*cli.Tool
	layout
	steps []demoStep
}

func runDemo(ctx context.Context, t *cli.Tool, dir string, hosts int) (err error) {
	d := &demo{Tool: t}
	if d.layout, err = demoDir(t, dir); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.cleanup(context.WithoutCancel(ctx)))
		t.Show(struct {
			Steps []demoStep `json:"steps"`
		}{d.steps}, func(w io.Writer) {
			if err == nil {
				fmt.Fprintln(w, "the demo went well: a system came up, served, and is gone")
			}
		})
	}()
	return d.play(ctx, hosts)
}

// demoDir is the directory of a demo, which must not be in use: it is removed.
func demoDir(t *cli.Tool, dir string) (layout, error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "daosbox-")
		if err != nil {
			return layout{}, fault.Wrap(fault.Permission, err, "cannot make a temporary directory").WithHint("name one with --dir")
		}
		return resolve(t, made)
	}
	l, err := resolve(t, dir)
	if err == nil {
		err = emptyOrNew(l.dir)
	}
	return l, err
}

// label names the pool of the demo.
const label = "demo"

func (d *demo) play(ctx context.Context, hosts int) error {
	if err := d.run(ctx, d.Executable, "daosbox", "sandbox", "up", "--dir", d.dir, "--hosts", fmt.Sprint(hosts)); err != nil {
		return err
	}
	dmg := filepath.Join(d.bin(), "dmg")
	for _, args := range [][]string{
		{"system", "query"},
		{"pool", "create", label, "--size", poolSize(hosts)},
		{"pool", "query", label},
		{"pool", "list"},
	} {
		if err := d.run(ctx, dmg, append([]string{"dmg"}, args...)...); err != nil {
			return err
		}
	}
	return d.attach(ctx)
}

// attach asks the agent over its socket, as the client library does.
func (d *demo) attach(ctx context.Context) error {
	began := time.Now()
	d.announce("a client asks the agent: GetAttachInfo on %s", d.agentSocket())
	resp, err := askAgent(ctx, d.layout, systemName)
	if err != nil {
		return err
	}
	var b strings.Builder
	hint := resp.GetClientNetHint()
	fmt.Fprintf(&b, "system %s, provider %s, interface %s\n", resp.GetSys(), hint.GetProvider(), hint.GetInterface())
	for _, uri := range resp.GetRankUris() {
		fmt.Fprintf(&b, "rank %d: %s\n", uri.GetRank(), uri.GetUri())
	}
	if len(resp.GetRankUris()) == 0 {
		return fault.New(fault.Unknown, "the agent knows no rank")
	}
	d.print("%s", b.String())
	d.steps = append(d.steps, demoStep{Command: "GetAttachInfo", Output: b.String(), Seconds: time.Since(began).Seconds()})
	return nil
}

// cleanup takes everything down, whatever was reached.
func (d *demo) cleanup(ctx context.Context) error {
	if _, err := readManifest(d.layout); err != nil {
		if err := os.Remove(d.dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return fault.Wrap(fault.Permission, err, "cannot remove %s", d.dir)
		}
		return nil
	}
	return d.run(ctx, d.Executable, "daosbox", "sandbox", "down", "--dir", d.dir, "--purge")
}

// stepTime bounds one command.
const stepTime = 3 * time.Minute

// run shows and runs a command: words are what the user would type, path is the
// file that they would find.
func (d *demo) run(ctx context.Context, path string, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	text := strings.Join(words, " ")
	d.announce("%s", text)
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, path, words[1:]...)
	cmd.Args[0] = path
	if words[0] == "daosbox" {
		cmd.Args[0] = "daosbox" // the file may have another name
	}
	cmd.Env, cmd.Dir = d.Environ, d.Env.Dir
	cmd.Stdout, cmd.Stderr = &output, &output
	if !d.JSON {
		cmd.Stdout, cmd.Stderr = io.MultiWriter(d.Stdout, &output), io.MultiWriter(d.Stderr, &output)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	began := time.Now()
	err := cmd.Run()
	d.steps = append(d.steps, demoStep{Command: text, Output: output.String(), Exit: cmd.ProcessState.ExitCode(), Seconds: time.Since(began).Seconds()})
	if err == nil {
		d.print("\n")
		return nil
	}
	if ctx.Err() != nil {
		return fault.Wrap(fault.Of(canceled(ctx)), err, "cannot finish `%s`", text)
	}
	return fault.Wrap(fault.Unknown, err, "cannot go on with the demo: `%s` failed", text)
}

func (d *demo) announce(format string, args ...any) { d.print("$ "+format+"\n", args...) }

func (d *demo) print(format string, args ...any) {
	if !d.JSON {
		fmt.Fprintf(d.Stdout, format, args...)
	}
}
