// Package server is daos_server: it wires storage, engines and the management
// service of one storage node together and serves the control API. The verbs are
// in run.go, the life of the daemon in server.go; each further file is one
// subject of it.
package server

import (
	"context"
	"fmt"
	"io"
	"strings"

	"daosbox/commands/cli"
	"daosbox/commands/config"
	"daosbox/commands/fabric"

	"github.com/spf13/cobra"
)

// Run is the personality daos_server.
func Run(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	t := cli.NewTool(env, name)
	globals := t.Globals("b")
	syslog := globals.Bool("syslog", false, "send log lines to syslog as well")
	root := cli.NewRoot(t, "daemon of a storage node: devices, engines, management service")
	start := startCommand(t, syslog)
	root.AddCommand(start, configCommand(t), networkCommand(t), versionCommand(t))
	return cli.Execute(ctx, t, root, globals, eraArgs(t, root, args))
}

// eraArgs understands earlier command lines: flags alone start the server, from
// the time before there were verbs; the configuration file before the verb, from
// the time when it was a global flag.
func eraArgs(t *cli.Tool, root *cobra.Command, args []string) []string {
	var file, rest []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "-h" || arg == "--help" {
			return args
		}
		if n := configWords(arg); n > 0 && i+n <= len(args) {
			file = append(file, args[i:i+n]...)
			i += n - 1
			continue
		}
		if known(root, arg) {
			if len(file) == 0 {
				return args
			}
			if arg == "version" {
				file = nil // it was never read
			} else {
				t.Old(t.Name+" -o FILE "+arg, t.Name+" "+arg+" -o FILE")
			}
			return append(append(rest, args[i:]...), file...)
		}
		if i == 0 && !strings.HasPrefix(arg, "-") {
			return args // no verb there is; told as such
		}
		rest = append(rest, arg)
	}
	if len(args) == 0 {
		return args
	}
	t.Old(t.Name+" FLAGS", t.Name+" start FLAGS")
	return append([]string{"start"}, args...)
}

// configWords is how many words name the configuration file, beginning with arg; 0
// when it does something else.
func configWords(arg string) int {
	switch name, _, joined := strings.Cut(arg, "="); {
	case name == "--config" || name == "--config_path":
		if joined {
			return 1
		}
		return 2
	case arg == "-o":
		return 2
	case strings.HasPrefix(arg, "-o"):
		return 1
	}
	return 0
}

func known(root *cobra.Command, word string) bool {
	for _, sub := range root.Commands() {
		if sub.Name() == word || sub.HasAlias(word) {
			return true
		}
	}
	return cli.IsOwnVerb(word)
}

func versionCommand(t *cli.Tool) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: cli.NoArgs, RunE: cli.VersionVerb(t)}
}

func configCommand(t *cli.Tool) *cobra.Command {
	group := cli.Group("config", "look at the configuration file", "cfg")
	path := ""
	check := &cobra.Command{
		Use:   "check",
		Short: "read the configuration and tell every problem at once",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := load(t, path, config.ServerOverrides{})
			if err != nil {
				return err
			}
			t.Show(cfg.Summary(), func(w io.Writer) { fmt.Fprint(w, cfg.Summary()) })
			return nil
		},
	}
	configFlag(check, &path)
	group.AddCommand(check)
	return group
}

func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "o", "", "configuration file (default: daos_server.yml in the usual places)")
	cmd.Flags().StringVar(path, "config_path", "", "old spelling of --config")
	_ = cmd.Flags().MarkHidden("config_path")
}

// load reads, completes and validates the configuration, telling hints.
func load(t *cli.Tool, path string, overrides config.ServerOverrides) (*config.Server, error) {
	path, err := config.FindServer(t.Path(path), config.EtcDir)
	if err != nil {
		return nil, err
	}
	cfg, hints, err := config.OpenServer(path, overrides)
	for _, hint := range hints {
		t.Notice("%s", hint)
	}
	return cfg, err
}

func networkCommand(t *cli.Tool) *cobra.Command {
	group := cli.Group("network", "fabric interfaces of this host", "net")
	provider, path, all := "", "", false
	scan := &cobra.Command{
		Use:   "scan",
		Short: "list the fabric interfaces and the providers they support",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if all {
				t.Old("network scan -a", "network scan -p all")
				provider = "all"
			}
			host, err := fabric.Scan("", provider)
			if err != nil {
				return err
			}
			t.Show(host, func(w io.Writer) { fabric.Print(w, host) })
			return nil
		},
	}
	scan.Flags().StringVarP(&provider, "provider", "p", "", "only this provider, or all")
	configFlag(scan, &path)
	_ = scan.Flags().MarkHidden("config")
	scan.Flags().BoolVarP(&all, "all", "a", false, "old spelling of --provider all")
	_ = scan.Flags().MarkHidden("all")
	list := &cobra.Command{Use: "list", Hidden: true, Args: cli.NoArgs, RunE: func(cmd *cobra.Command, args []string) error {
		t.Old("network list", "network scan -p all")
		provider = "all"
		return scan.RunE(cmd, args)
	}}
	group.AddCommand(scan, list)
	return group
}
