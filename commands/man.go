package commands

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
)

// man writes all manual pages into a directory: each tool prints its own, from its
// own commands. It is for those who build packages, and not in the help.
func man(ctx context.Context, t *cli.Tool, args []string) error {
	if len(args) != 1 {
		return fault.New(fault.Usage, "cannot write manual pages: want one directory").WithHint("usage: daosbox --man DIR")
	}
	dir := t.Path(args[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot make %s", dir)
	}
	written := []string{filepath.Join(dir, "daosbox.8")}
	if err := writePage(written[0], boxManual()); err != nil {
		return err
	}
	for _, p := range table() {
		path, err := p.man(ctx, t, dir)
		if err != nil {
			return err
		}
		written = append(written, path)
	}
	showLines(t, written)
	return nil
}

// man writes the page of one tool and returns its path.
func (p personality) man(ctx context.Context, t *cli.Tool, dir string) (string, error) {
	called := p.name
	if !p.link {
		called = "daosbox " + p.name
	}
	path := filepath.Join(dir, strings.ReplaceAll(called, " ", "-")+".8")
	if len(p.about) > 0 {
		return path, writePage(path, cli.PlainManual(called, p.summary, p.synopsis, p.about...))
	}
	if exit := p.run(ctx, t.Env, p.name, []string{"manpage", "--as", called, "--output", path}); exit != cli.OK {
		return "", fault.New(fault.Internal, "cannot write the manual page of %s", called)
	}
	return path, nil
}

func writePage(path, page string) error {
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot write the manual page")
	}
	return nil
}

// boxManual is the page of the executable under its own name.
func boxManual() string {
	var list strings.Builder
	for _, p := range table() {
		fmt.Fprintf(&list, "  %-22s %s\n", p.name, p.summary)
	}
	return cli.PlainManual("daosbox", "the control plane of the DAOS storage system", "COMMAND [ARGUMENT...]",
		"One executable holds all tools. It is the one whose name it is called by, through a link, or else the one that its first argument names:",
		list.String(),
		"The names daos_shell and daos_admin of earlier releases mean dmg and daos_server_helper.",
		"`daosbox --list` prints the names that want links; `daosbox --install [-s] DIR` makes them in DIR, hard links or, with -s, symbolic ones. With --json they, too, answer with one document {response, error, status}.",
	)
}
