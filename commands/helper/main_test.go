package helper_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/helper"
	"daosbox/commands/server"
	"daosbox/engine/emulator"

	"github.com/matryer/is"
	"go.uber.org/goleak"
)

// roleEnv makes the test binary play one of the processes of a test.
const roleEnv = "HELPER_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if filepath.Base(os.Args[0]) == "daos_engine_emulator" {
		role = "engine"
	}
	if role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

func play(role string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	self, _ := os.Executable()
	env := &cli.Env{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv,
		Environ: os.Environ(), Dir: "/", Executable: self, UID: os.Getuid(), EUID: os.Geteuid()}
	switch role {
	case "helper":
		return int(helper.Run(ctx, env, "daos_server_helper", os.Args[1:]))
	case "server":
		return int(server.Run(ctx, env, "daos_server", os.Args[1:]))
	case "engine":
		if err := emulator.Run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "client":
		return playClient(ctx, os.Args[1], os.Args[2], os.Args[3])
	}
	return 99
}

// playClient prints "code text" of what became of one call.
func playClient(ctx context.Context, path, method, engine string) int {
	index, err := strconv.Atoi(engine)
	var c *helper.Client
	if err == nil {
		c, err = helper.Dial(path)
	}
	if err == nil {
		switch method {
		case "ping":
			var info helper.Info
			if info, err = c.Ping(ctx); err == nil {
				fmt.Printf("%+v\n", info)
			}
		case "format", "force":
			err = c.Format(ctx, index, method == "force")
		case "mount":
			err = c.Mount(ctx, index)
		case "unmount":
			err = c.Unmount(ctx, index)
		}
	}
	fmt.Printf("%d %v\n", fault.Of(err), err)
	return 0
}

// runHere runs the personality in this process.
func runHere(t *testing.T, euid int, args ...string) (cli.Exit, string) {
	t.Helper()
	var out bytes.Buffer
	env := &cli.Env{Args: []string{"daos_server_helper"}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out,
		LookupEnv: func(string) (string, bool) { return "", false }, Dir: t.TempDir(), UID: euid, EUID: euid}
	exit := helper.Run(t.Context(), env, "daos_server_helper", args)
	return exit, out.String()
}

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "daos_server.yml")
	for name, c := range map[string]struct {
		euid int
		args []string
		exit cli.Exit
		says string
	}{
		"not root":       {1000, nil, cli.Permission, "needs root"},
		"unknown user":   {0, []string{"-o", config, "--user", "no such user"}, cli.Failed, "no such user"},
		"word":           {0, []string{"start"}, cli.Usage, "start"},
		"unknown flag":   {0, []string{"--setuid"}, cli.Usage, "setuid"},
		"missing config": {0, []string{"-o", config, "--user", "65534"}, cli.Failed, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			if name == "missing config" && os.Geteuid() != 0 {
				t.Skip("a user's directory is refused first")
			}
			exit, out := runHere(t, c.euid, c.args...)
			t.Log(out)
			is.Equal(exit, c.exit)
			is.True(strings.Contains(out, c.says))
		})
	}
}

func TestRunTells(t *testing.T) {
	is := is.New(t)
	exit, out := runHere(t, 1000, "version")
	is.Equal(exit, cli.OK)
	is.True(strings.Contains(out, cli.Version))
	exit, out = runHere(t, 1000, "--help")
	is.Equal(exit, cli.OK)
	is.True(strings.Contains(out, "--socket"))
}
