package commands

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/matryer/is"
)

// update rewrites the expected output in the scripts; read the difference then.
var update = flag.Bool("update", false, "rewrite expected output of scripts and manual pages")

// bin holds the executable and its links; TestMain makes it.
var bin string

func TestMain(m *testing.M) { os.Exit(withExecutable(m)) }

// withExecutable runs the tests with the real executable in bin, built like this
// test: with the race detector if it has one.
func withExecutable(m *testing.M) int {
	flag.Parse()
	dir, err := os.MkdirTemp("", "daosbox-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		bin = filepath.Join(dir, "bin")
		err = build(bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot build the executable:", err)
		return 1
	}
	return m.Run()
}

func build(bin string) error {
	if err := os.MkdirAll(bin, 0o755); err != nil { // may be run by others than its owner
		return err
	}
	executable := filepath.Join(bin, "daosbox")
	args := []string{"build", "-buildvcs=false", "-o", executable}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	for _, words := range [][]string{append(append([]string{"go"}, args...), ".."), {executable, "--install", "-s", bin}} {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
		}
	}
	return os.Chmod(filepath.Dir(bin), 0o755)
}

func TestManualPagesAreFresh(t *testing.T) {
	is := is.New(t)
	fresh, committed := t.TempDir(), "../docs/man"
	if *update {
		fresh = committed
	}
	out, err := exec.Command(filepath.Join(bin, "daosbox"), "--man", fresh).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(fresh, "*.8"))
	is.NoErr(err)
	old, err := filepath.Glob(filepath.Join(committed, "*.8"))
	is.NoErr(err)
	is.Equal(len(pages), len(table())+1) // one for each personality, and daosbox.8
	is.Equal(len(old), len(pages))       // docs/man has a page too many or too few: `make man`
	for _, page := range pages {
		want, err := os.ReadFile(page)
		is.NoErr(err)
		got, err := os.ReadFile(filepath.Join(committed, filepath.Base(page)))
		is.NoErr(err)
		if string(got) != string(want) {
			t.Errorf("docs/man/%s is stale: `make man`", filepath.Base(page))
		}
		is.True(strings.Contains(string(want), "EXIT STATUS"))
	}
}

// TestEmptyArguments and TestBorrowedPrivilege start the executable in the two ways
// that it refuses and that no script can have.
func TestEmptyArguments(t *testing.T) {
	is := is.New(t)
	var stderr strings.Builder
	cmd := &exec.Cmd{Path: filepath.Join(bin, "daosbox"), Args: []string{""}, Stderr: &stderr}
	err := cmd.Run()
	var exit *exec.ExitError
	is.True(errors.As(err, &exit))
	is.Equal(exit.ExitCode(), 2)
	is.True(strings.Contains(stderr.String(), "called without a name"))
}

func TestBorrowedPrivilege(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can lend its privilege")
	}
	is := is.New(t)
	data, err := os.ReadFile(filepath.Join(bin, "daosbox"))
	is.NoErr(err)
	dir, err := os.MkdirTemp("", "daosbox-suid-")
	is.NoErr(err)
	defer os.RemoveAll(dir)
	is.NoErr(os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "dmg")
	is.NoErr(os.WriteFile(path, data, 0o755))
	is.NoErr(os.Chmod(path, 0o755|os.ModeSetuid))

	const nobody = 65534
	var stderr strings.Builder
	cmd := exec.Command(path, "version")
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	err = cmd.Run()
	if err == nil && nosuid(dir) {
		t.Skip("the temporary directory ignores set-user-id")
	}
	var exit *exec.ExitError
	is.True(errors.As(err, &exit))
	is.Equal(exit.ExitCode(), 7)
	is.True(strings.Contains(stderr.String(), "borrowed privilege"))
	is.True(strings.Contains(stderr.String(), "HINT")) // says how to remove it
}

// nosuid reports whether the filesystem of dir is mounted so.
func nosuid(dir string) bool {
	var s syscall.Statfs_t
	const flag = 2 // ST_NOSUID
	return syscall.Statfs(dir, &s) == nil && s.Flags&flag != 0
}
