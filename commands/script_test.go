package commands

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
	"github.com/rogpeppe/go-internal/testscript"
)

// scriptParams is how scripts are run: with the executable and its links in PATH,
// a home of their own, and the commands below beside those of testscript.
func scriptParams() testscript.Params {
	return testscript.Params{
		UpdateScripts:      *update,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("BOX", filepath.Join(env.WorkDir, "box"))
			// Races of all processes are told in files; a second of sleep at each end
			// of a process would find few more.
			env.Setenv("GORACE", "atexit_sleep_ms=20 log_path="+filepath.Join(env.WorkDir, "race"))
			env.Defer(func() {
				takeDown(env)
				tellRaces(env)
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exit":  scriptExit,
			"until": scriptUntil,
		},
	}
}

// takeDown ends what a script left running in its sandbox, also when it failed.
func takeDown(env *testscript.Env) {
	box := env.Getenv("BOX")
	if _, err := os.Stat(filepath.Join(box, "sandbox.json")); errors.Is(err, fs.ErrNotExist) {
		return
	}
	out, err := exec.Command(filepath.Join(bin, "daosbox"), "sandbox", "down", "--dir", box).CombinedOutput()
	if err != nil {
		env.T().Log("cannot take the sandbox down: ", err, "\n", string(out))
	}
}

// tellRaces fails a script whose processes had data races.
func tellRaces(env *testscript.Env) {
	reports, err := filepath.Glob(filepath.Join(env.WorkDir, "race.*"))
	if err != nil || len(reports) == 0 {
		return
	}
	text, err := os.ReadFile(reports[0])
	env.T().Log(len(reports), " processes had data races; the first: ", string(text), err)
	env.T().FailNow()
}

// scriptExit is `exit CODE COMMAND...`: the command must end with that status.
func scriptExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("cannot run %s: %v", args[1], err)
	}
	got := 0
	if exit != nil {
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// untilTime bounds the wait for a state that follows from what was done.
const untilTime = 30 * time.Second

// scriptUntil is `until PATTERN COMMAND...`: the command is run until its standard
// output matches.
func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(untilTime); ; <-tick.C {
		err := ts.Exec(args[1], args[2:]...)
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no match of %#q within %v (last: %v)", args[0], untilTime, err)
		}
	}
}

// TestScripts runs testdata/script: what a user types and what he sees.
func TestScripts(t *testing.T) {
	params := scriptParams()
	params.Dir = "../testdata/script"
	testscript.Run(t, params)
}

// TestTour runs the tour of the README as it is printed there.
func TestTour(t *testing.T) {
	if testing.Short() {
		t.Skip("brings a whole system up")
	}
	is := is.New(t)
	readme, err := os.ReadFile("../README.md")
	is.NoErr(err)
	_, after, found := strings.Cut(string(readme), "<!-- tour -->\n```sh\n")
	is.True(found) // the block after the mark
	tour, _, found := strings.Cut(after, "```")
	is.True(found) // the end of the block
	is.True(strings.Count(tour, "\n") > 8)

	params := scriptParams()
	params.Files = []string{"../testdata/tour.txtar"}
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		if err := setup(env); err != nil {
			return err
		}
		// The tour begins where `make build` leaves the executable.
		if err := os.Symlink(filepath.Join(bin, "daosbox"), filepath.Join(env.WorkDir, "daosbox")); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(env.WorkDir, "tour.sh"), []byte(tour), 0o644)
	}
	testscript.Run(t, params)
}
