package helper

import (
	"os"
	"path/filepath"
	"testing"

	"daosbox/cluster/fault"

	"github.com/matryer/is"
)

func TestTrustNothingOfUsers(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root's files are trusted")
	}
	is := is.New(t)
	path := filepath.Join(t.TempDir(), "daos_server.yml")
	is.NoErr(os.WriteFile(path, nil, 0o600))
	is.Equal(fault.Of(trustPath(path, false)), fault.Permission)
	file, err := os.Open(path)
	is.NoErr(err)
	defer file.Close()
	is.Equal(fault.Of(trustFile(file)), fault.Permission)
	_, err = policy{config: path}.read()
	is.Equal(fault.Of(err), fault.Permission)
	is.True(fault.HintOf(err) != "")
}

func TestTrustPath(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files that are trusted")
	}
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	make := func(name string, mode os.FileMode, owner int) string {
		path := filepath.Join(dir, name)
		must(os.MkdirAll(path, 0o755))
		must(os.Chmod(path, mode))
		must(os.Lchown(path, owner, owner))
		return path
	}
	link := func(name, target string, owner int) {
		path := filepath.Join(dir, name)
		must(os.Symlink(target, path))
		must(os.Lchown(path, owner, owner))
	}
	make("root", 0o755, 0)
	make("root/given", 0o775, 65534)
	make("user", 0o755, 65534)
	make("user/root", 0o755, 0)
	make("group", 0o775, 0)
	make("sticky", 0o777|os.ModeSticky, 0)
	make("sticky/root", 0o755, 0)
	make("sticky/user", 0o755, 65534)
	make("open", 0o777, 0)
	make("open/root", 0o755, 0)
	link("toroot", "root", 0)
	link("up", "root/../user", 0)
	link("absolute", filepath.Join(dir, "root", "given"), 0)
	link("root/intouser", "../user/root", 0)
	link("sticky/link", "../root", 65534)
	link("loop", "loop", 0)

	for _, c := range []struct {
		path       string
		any, alone bool // trusted without and with alone
	}{
		{"root/given", true, true},
		{"root/missing", true, true},
		{"root/missing/deeper", true, true},
		{"root/given/below", false, false},
		{"user/x", false, false},
		{"user/root/x", false, false},
		{"group/x", false, false},
		{"sticky/root", true, false},
		{"sticky/root/x", true, true},
		{"sticky/user", false, false},
		{"sticky/missing", false, false},
		{"sticky/link", false, false},
		{"open/root", false, false},
		{"open/root/x", false, false},
		{"toroot/given", true, true},
		{"toroot", true, true},
		{"up/x", false, false},
		{"absolute", true, true},
		{"absolute/x", false, false},
		{"root/intouser", false, false},
		{"loop", false, false},
	} {
		t.Run(c.path, func(t *testing.T) {
			is := is.New(t)
			path := filepath.Join(dir, c.path)
			is.Equal(trustPath(path, false) == nil, c.any)
			is.Equal(trustPath(path, true) == nil, c.alone)
		})
	}
	is := is.New(t)
	is.NoErr(trustPath("/", true))
	is.True(trustPath("relative", false) != nil)
}

func TestTrustFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files that are trusted")
	}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		change func(path string) error
		ok     bool
	}{
		"good":          {func(string) error { return nil }, true},
		"readable":      {func(p string) error { return os.Chmod(p, 0o644) }, true},
		"group may":     {func(p string) error { return os.Chmod(p, 0o660) }, false},
		"everybody may": {func(p string) error { return os.Chmod(p, 0o606) }, false},
		"of a user":     {func(p string) error { return os.Chown(p, 65534, 0) }, false},
		"two names":     {func(p string) error { return os.Link(p, p+".2") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			path := filepath.Join(dir, name)
			is.NoErr(os.WriteFile(path, nil, 0o600))
			is.NoErr(c.change(path))
			file, err := os.Open(path)
			is.NoErr(err)
			defer file.Close()
			is.Equal(trustFile(file) == nil, c.ok)
		})
	}
}

func TestLogFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files that are trusted")
	}
	is := is.New(t)
	dir := t.TempDir()
	file, err := openLogFile(filepath.Join(dir, "helper.log"))
	is.NoErr(err)
	is.NoErr(file.Close())
	is.NoErr(os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	_, err = openLogFile(filepath.Join(dir, "link"))
	is.True(err != nil)
}

func TestAsCaller(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	is := is.New(t)
	path := filepath.Join(t.TempDir(), "secret")
	is.NoErr(os.WriteFile(path, nil, 0o600))
	err := asCaller(caller{uid: 65534, gid: 65534}, func() error {
		_, err := os.ReadFile(path)
		return err
	})
	is.True(os.IsPermission(err))
	_, err = os.ReadFile(path) // and nobody else lost a right
	is.NoErr(err)
	is.NoErr(asCaller(caller{}, func() error { _, err := os.ReadFile(path); return err }))
}
