package commands

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
)

// list prints the names that the executable wants links for, old ones included.
func list(t *cli.Tool, args []string) error {
	if len(args) > 0 {
		return fault.New(fault.Usage, "unexpected argument %q after --list", args[0])
	}
	showLines(t, links())
	return nil
}

// showLines is the answer of a switch that lists names or files.
func showLines(t *cli.Tool, lines []string) {
	t.Show(lines, func(w io.Writer) {
		for _, line := range lines {
			fmt.Fprintln(w, line)
		}
	})
}

func links() []string {
	var all []string
	for _, p := range table() {
		if p.link {
			all = append(all, p.name)
			all = append(all, p.old...)
		}
	}
	return all
}

// install makes one link per name in a directory. A link that is right already is
// left alone; a file that is not ours is never replaced.
func install(t *cli.Tool, args []string) error {
	symbolic := len(args) > 0 && args[0] == "-s"
	if symbolic {
		args = args[1:]
	}
	if len(args) != 1 {
		return fault.New(fault.Usage, "cannot install: want one directory").WithHint("usage: daosbox --install [-s] DIR")
	}
	dir := t.Path(args[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot make %s", dir)
	}
	made := []string{}
	defer func() { showLines(t, made) }()
	for _, name := range links() {
		path := filepath.Join(dir, name)
		if err := link(t.Executable, path, symbolic); err != nil {
			return err
		}
		made = append(made, path)
	}
	return nil
}

func link(target, path string, symbolic bool) error {
	if same(target, path) {
		return nil
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return fault.New(fault.Exists, "cannot link %s: another file is there", path).WithHint("move it away, or choose another directory")
	}
	aside := path + ".new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Permission, err, "cannot link %s", path)
	}
	make := os.Link
	if symbolic {
		make = os.Symlink
	}
	if err := make(target, aside); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot link %s", path).
			WithHint("hard links need the same filesystem; -s makes symbolic links")
	}
	if err := os.Rename(aside, path); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot link %s", path)
	}
	return nil
}

// same reports whether path leads to the executable already.
func same(target, path string) bool {
	a, err := os.Stat(target)
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
