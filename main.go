// daosbox is the control plane of the DAOS storage system as one executable:
// daos_server, dmg, daos_agent and their helpers, chosen by the name it is called
// with. See README.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"daosbox/commands"
	"daosbox/commands/cli"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	exit := commands.Main(ctx, env())
	stop()
	os.Exit(int(exit))
}

// env is the only place that looks at the process.
func env() *cli.Env {
	e := &cli.Env{
		Args:      os.Args,
		Stdin:     os.Stdin,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		LookupEnv: os.LookupEnv,
		Environ:   os.Environ(),
		UID:       os.Getuid(),
		EUID:      os.Geteuid(),
		Secure:    secure(),
		StdoutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		StderrTTY: term.IsTerminal(int(os.Stderr.Fd())),
	}
	e.Dir, _ = os.Getwd()
	e.Executable, _ = os.Executable()
	if e.StdoutTTY {
		e.Width, _, _ = term.GetSize(int(os.Stdout.Fd()))
	}
	return e
}

// atSecure is the auxiliary vector's AT_SECURE (getauxval(3)).
const atSecure = 23

// secure reports AT_SECURE: the kernel gave this process privilege that its caller
// does not have (set-user-id, set-group-id or file capabilities).
func secure() bool {
	auxv, err := unix.Auxv()
	if err != nil {
		return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid()
	}
	for _, entry := range auxv {
		if entry[0] == atSecure {
			return entry[1] != 0
		}
	}
	return false
}
