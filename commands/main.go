// Package commands is the way in: the table of personalities and the dispatch by
// the name the executable was called with, or by its first argument.
package commands

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/commands/agent"
	"daosbox/commands/certs"
	"daosbox/commands/cli"
	"daosbox/commands/dmg"
	"daosbox/commands/helper"
	"daosbox/commands/sandbox"
	"daosbox/commands/server"
	"daosbox/commands/wire"
	"daosbox/engine/emulator"
)

// personality is one row of the table: a name that the executable answers to.
type personality struct {
	// name is called through a link of that name or as the first argument.
	name string
	// old are names of earlier eras that mean the same.
	old []string
	// summary is one line for --list and --help.
	summary string
	// link is set when --install makes a link for it.
	link bool
	// synopsis and about (paragraphs) are the manual page of a tool without verbs;
	// others print theirs from their own commands.
	synopsis string
	about    []string
	// run does the work; args are without the name.
	run func(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit
}

// table lists the personalities, sorted by name. Only the chosen one is built.
func table() []personality {
	return []personality{
		{name: "certs", summary: "make, issue and show the certificates of a system", run: certs.Run},
		{name: "daos_agent", link: true, summary: "node agent: gives client processes credentials and addresses", run: agent.Run},
		{name: "daos_engine_emulator", link: true, summary: "stands in for daos_engine in sandboxes and tests; serves no data",
			synopsis: "[OPTION...] (those of daos_engine)", about: aboutEmulator(), run: runEmulator},
		{name: "daos_server", link: true, summary: "daemon of a storage node: devices, engines, management service", run: server.Run},
		{name: "daos_server_helper", old: []string{"daos_admin"}, link: true, summary: "privileged helper of daos_server", run: helper.Run},
		{name: "dmg", old: []string{"daos_shell"}, link: true, summary: "administer a system: one command, many servers", run: dmg.Run},
		{name: "sandbox", summary: "a whole system on this machine, without hardware or root", run: runSandbox},
		{name: "version", summary: "print the version",
			synopsis: "[--json]", about: []string{"Print the version, and the newest DAOS release whose interfaces it speaks."}, run: runVersion},
		{name: "wire", summary: "look at the protocol between servers, agents and dmg", run: wire.Run},
	}
}

// Main runs the personality that env.Args asks for and returns the exit status.
func Main(ctx context.Context, env *cli.Env) cli.Exit {
	if len(env.Args) == 0 || env.Args[0] == "" {
		fmt.Fprintln(env.Stderr, "ERROR: daosbox: called without a name: argv is empty")
		return cli.Usage
	}
	t := cli.NewTool(env, "daosbox")
	if env.Secure || env.UID != env.EUID {
		return t.Finish(fault.New(fault.Permission, "cannot run with borrowed privilege (set-user-id, set-group-id or file capabilities)").
			WithHint("remove it: chmod u-s,g-s %s; privileged work goes through daos_server_helper", env.Executable))
	}
	if p, ok := lookup(filepath.Base(env.Args[0])); ok {
		return p.run(ctx, env, filepath.Base(env.Args[0]), env.Args[1:])
	}
	return box(ctx, t, env.Args[1:])
}

// box is the executable under its own name.
func box(ctx context.Context, t *cli.Tool, args []string) cli.Exit {
	var leading []string // --json before a command is the command's
	for ; len(args) > 0 && isJSON(args[0]); args = args[1:] {
		leading = append(leading, args[0])
	}
	if len(args) > 0 {
		if p, ok := lookup(args[0]); ok {
			return p.run(ctx, t.Env, args[0], append(leading, args[1:]...))
		}
	}
	words := slices.DeleteFunc(slices.Clone(args), isJSON)
	t.JSON = len(leading) > 0 || len(words) < len(args)
	if len(words) == 0 && t.JSON {
		return t.Finish(fault.New(fault.Usage, "cannot run \"daosbox\" alone: it needs one of the commands %s", strings.Join(names(), ", ")).
			WithHint("see `daosbox --help`"))
	}
	if len(words) == 0 {
		usage(t.Stderr)
		return cli.Usage
	}
	return boxSwitch(ctx, t, words[0], words[1:])
}

// isJSON reports whether a word asks for the answer as JSON.
func isJSON(word string) bool { return word == "--json" || word == "-j" }

// boxSwitch runs one of the switches that the executable has under its own name.
func boxSwitch(ctx context.Context, t *cli.Tool, word string, args []string) cli.Exit {
	switch word {
	case "-h", "--help", "help":
		exit := t.Finish(nil) // the envelope, if asked for, stands before the help
		usage(t.Stdout)
		return exit
	case "--version":
		if t.JSON {
			args = append([]string{"--json"}, args...)
		}
		return runVersion(ctx, t.Env, "version", args)
	case "--list":
		return t.Finish(list(t, args))
	case "--install":
		return t.Finish(install(t, args))
	case "--man":
		return t.Finish(man(ctx, t, args))
	}
	return t.Finish(fault.New(fault.Usage, "unknown command %q: it is none of %s", word, strings.Join(names(), ", ")).
		WithHint("see `daosbox --help`"))
}

// runSandbox tells the sandbox the names of the table, which it has links for.
func runSandbox(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	return sandbox.Run(ctx, env, name, args, append([]string{"daosbox"}, links()...))
}

func lookup(name string) (personality, bool) {
	for _, p := range table() {
		if p.name == name {
			return p, true
		}
		for _, old := range p.old {
			if old == name {
				return p, true
			}
		}
	}
	return personality{}, false
}

func names() []string {
	var all []string
	for _, p := range table() {
		all = append(all, p.name)
	}
	return all
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: daosbox COMMAND [ARGUMENT...]   or through a link named after the command")
	fmt.Fprintln(w)
	for _, p := range table() {
		fmt.Fprintf(w, "  %-22s %s\n", p.name, p.summary)
	}
	fmt.Fprintln(w, "\n  --list                 print the names that --install links")
	fmt.Fprintln(w, "  --install [-s] DIR     make a link for each in DIR (hard links; -s: symbolic links)")
	fmt.Fprintln(w, "  --json, -j             with these: print one JSON document: response, error, status")
	fmt.Fprintln(w, "\nA system to play with: daosbox sandbox up --dir /tmp/box --hosts 3")
}

func aboutEmulator() []string {
	return []string{
		"The process behaves towards daos_server and its peers as daos_engine does, with real state below its --storage directory, so that a system can run without hardware. It serves no data: clients cannot read or write through it.",
		"daos_server starts it where the configuration has engine_binary: emulator; there is no need to start it by hand.",
	}
}

// runEmulator starts the engine's stand-in like a real engine: no flags of ours.
func runEmulator(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	if err := emulator.Run(ctx, args, env.Getenv, env.Stdout, env.Stderr); err != nil {
		return cli.NewTool(env, name).Finish(err)
	}
	return cli.OK
}
