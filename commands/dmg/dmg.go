// Package dmg is the administrator's tool: one command, many servers. Verbs that
// concern hosts ask all of them at once (fanout.go), verbs that concern the system
// ask whoever leads its management service (app.go). Each verb is a file with an
// options struct and a function that knows nothing of the command line; old.go
// understands the command lines of earlier eras.
package dmg

import (
	"context"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Run is the personality dmg, and daos_shell, which is its name up to 0.6.
func Run(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	a := newApp(cli.NewTool(env, name))
	defer a.close()
	globals := a.globals()
	root := tree(a)
	args, err := modernize(a, root, globals, args)
	if err != nil {
		root = refusing(a, err)
	}
	return cli.Execute(ctx, a.Tool, root, globals, args)
}

// tree makes the commands; nothing is read or connected yet.
func tree(a *app) *cobra.Command {
	root := cli.NewRoot(a.Tool, "administer a DAOS system: one command, many servers")
	root.RunE = cli.Group(root.Use, root.Short).RunE
	root.Long = `Administer a DAOS system: one command, many servers.

Verbs of storage, network and server ask every host of -l, or else of hostlist in
daos_control.yml, at the same time; hosts that do not answer are rows of the answer.
Verbs of system and pool ask the management service, wherever it is led.

The configuration is the file of -o, or else ~/.daos_control.yml, or daos_control.yml
in /etc/daos. Data goes to standard output, all else to standard error; with --json
the answer is one document {response, error, status}.

Exit codes: ` + strings.Join(cli.ExitTable(), ", ") + `.`
	root.Example = examples("dmg system query --verbose", "dmg storage scan -l node[1-8]", "dmg pool create blue --size=10TB", "dmg pool query blue --json")
	root.AddCommand(
		configCommand(a),
		hostlistCommand(a),
		networkCommand(a),
		poolCommand(a),
		serverCommand(a),
		serverVersionCommand(a),
		storageCommand(a),
		systemCommand(a),
		versionCommand(a),
	)
	prepare(a, root)
	return root
}

// globals declares the flags that stand before the verb and after it alike.
func (a *app) globals() *pflag.FlagSet {
	fs := a.Globals("d")
	fs.BoolVarP(&a.insecure, "insecure", "i", false, "use no certificates; the servers must allow it")
	fs.StringVarP(&a.configPath, "config-path", "o", "", "configuration `file` (default: daos_control.yml in the usual places)")
	fs.StringVar(&a.logFile, "log-file", "", "append everything that is logged to this `file` as well")
	fs.StringVarP(&a.hostList, hostListFlag, "l", "", "`hosts` to ask")
	_ = fs.MarkHidden(hostListFlag)
	fs.IntVar(&a.fanout, "fanout", 0, "`number` of hosts asked at a time at most (0: 256)")
	fs.DurationVar(&a.timeout, "timeout", 0, "`time` for an answer, such as 30s (0: as each command needs)")
	return fs
}

// examples are the lines that --help of a verb shows; each is a command that works.
func examples(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }

// hostListFlag is a flag of each verb that asks hosts, and a hidden one of all.
const hostListFlag = "host-list"

// prepare makes every verb begin with what the global flags ask for.
func prepare(a *app, cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	for _, sub := range cmd.Commands() {
		prepare(a, sub)
	}
	if cmd.HasSubCommands() {
		return
	}
	before := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if a.hostList != "" && isLocal(cmd) {
			return fault.New(fault.Usage, "cannot parse the command line: unknown flag: --%s", hostListFlag).
				WithHint("`%s` asks no server", cmd.CommandPath())
		}
		if err := a.checkFan(); err != nil {
			return err
		}
		if err := a.openLog(); err != nil || before == nil {
			return err
		}
		return before(cmd, args)
	}
}

// localVerb marks a command that asks no server.
const localVerb = "local"

func isLocal(cmd *cobra.Command) bool { return cmd.Annotations[localVerb] != "" }

func local() map[string]string { return map[string]string{localVerb: "true"} }
