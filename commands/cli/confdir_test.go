package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/matryer/is"
)

func TestConfDir(t *testing.T) {
	is := is.New(t)
	root := t.TempDir()
	box := filepath.Join(root, "box")
	executable := filepath.Join(root, "daosbox")
	other := filepath.Join(root, "other", "dmg")
	for _, dir := range []string{filepath.Join(box, "bin"), filepath.Join(root, "plain", "bin"), filepath.Dir(other)} {
		is.NoErr(os.MkdirAll(dir, 0o755))
	}
	is.NoErr(os.WriteFile(executable, nil, 0o755))
	is.NoErr(os.WriteFile(other, nil, 0o755))
	is.NoErr(os.WriteFile(filepath.Join(box, "sandbox.json"), nil, 0o644))
	is.NoErr(os.Symlink(executable, filepath.Join(box, "bin", "dmg")))
	is.NoErr(os.Symlink(executable, filepath.Join(root, "plain", "bin", "dmg")))

	for _, c := range []struct{ name, arg0, path, dir, want string }{
		{"absolute", filepath.Join(box, "bin", "dmg"), "", "/", box},
		{"relative", "box/bin/dmg", "", root, box},
		{"beside", "./dmg", "", filepath.Join(box, "bin"), box},
		{"found in PATH", "dmg", "/nowhere:" + filepath.Join(box, "bin"), "/", box},
		{"another file comes first in PATH", "dmg", filepath.Dir(other) + ":" + filepath.Join(box, "bin"), "/", box},
		{"not in PATH", "dmg", "/nowhere", "/", ""},
		{"no sandbox", filepath.Join(root, "plain", "bin", "dmg"), "", "/", ""},
		{"no bin", executable, "", "/", ""},
		{"another program", other, "", "/", ""},
		{"nothing", "", "", "/", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := is.New(t)
			env := &Env{Args: []string{c.arg0}, Dir: c.dir, Executable: executable,
				LookupEnv: func(name string) (string, bool) { return c.path, name == "PATH" }}
			is.Equal(env.ConfDir(), c.want)
		})
	}
}
