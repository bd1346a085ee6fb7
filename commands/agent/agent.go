// Package agent is daos_agent: the daemon of a client node. Processes that use
// libdaos ask it, over a local socket, where the engines are and which fabric
// interface to use, and have it vouch for who they are. It remembers their pool
// handles and has those of dead processes evicted.
//
// The verbs are in this file and beside it, the life of the daemon in daemon.go,
// what clients call in calls.go. The parts do not know each other: attach.go keeps
// the service's map, choose.go picks interfaces, identity.go makes credentials,
// handles.go keeps handles and evict.go gets rid of them.
package agent

import (
	"context"
	"fmt"
	"io"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/config"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Run is the personality daos_agent.
func Run(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	t := cli.NewTool(env, name)
	o := &options{}
	globals := t.Globals("d")
	o.flags(globals)
	root := cli.NewRoot(t, "node agent: gives client processes credentials and addresses")
	root.AddCommand(startCommand(t, o), dumpCommand(t, o), netScanCommand(t), configCommand(t, o),
		&cobra.Command{Use: "version", Short: "print the version", Args: cli.NoArgs, RunE: cli.VersionVerb(t)})
	return cli.Execute(ctx, t, root, globals, eraArgs(t, globals, args))
}

// options are the global flags of daos_agent.
type options struct {
	config    string
	overrides config.AgentOverrides
}

func (o *options) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&o.config, "config-path", "o", "", "configuration file (default: daos_agent.yml in the usual places)")
	fs.BoolVarP(&o.overrides.Insecure, "insecure", "i", false, "talk to the servers without certificates")
	fs.StringVarP(&o.overrides.RuntimeDir, "runtime_dir", "s", "", "directory of the socket")
	fs.StringVarP(&o.overrides.LogFile, "logfile", "l", "", "log file")
}

// eraArgs understands what the agent was called with before there were verbs, and
// still is: flags alone start it.
func eraArgs(t *cli.Tool, globals *pflag.FlagSet, args []string) []string {
	args = append([]string(nil), args...)
	for i, arg := range args {
		if arg == "-runtime_dir" {
			t.Old(arg, "--runtime_dir")
			args[i] = "--runtime_dir"
		}
	}
	globals.SetInterspersed(false)
	err := globals.Parse(args)
	globals.SetInterspersed(true)
	if err == nil && globals.NArg() == 0 {
		return append(args, "start")
	}
	return args
}

// load reads, completes and checks the configuration, telling hints.
func (o *options) load(t *cli.Tool) (*config.Agent, error) {
	path, err := config.FindAgent(t.Path(o.config), t.ConfDir())
	if err != nil {
		return nil, err
	}
	over := o.overrides
	over.RuntimeDir, over.LogFile = t.Path(over.RuntimeDir), t.Path(over.LogFile)
	over.Debug, over.JSONLog = t.Debug, t.JSONLog
	cfg, hints, err := config.OpenAgent(path, over)
	for _, hint := range hints {
		t.Notice("%s", hint)
	}
	if err != nil {
		return nil, err
	}
	return cfg, supported(cfg)
}

// supported refuses what the configuration may ask for and this agent cannot do:
// it would be wrong to start without it in silence.
func supported(cfg *config.Agent) error {
	if cfg.EnableEvictOnStart {
		return fault.New(fault.Config, "cannot use %s: enable_evict_on_start is not supported by this version of daos_agent", cfg.Path()).
			WithHint("remove the key; handles of processes that die while the agent runs are evicted without it")
	}
	if cfg.ProviderIdx != 0 {
		return fault.New(fault.Config, "cannot use %s: provideridx %d is not supported, servers of this version have one provider", cfg.Path(), cfg.ProviderIdx).
			WithHint("remove the key")
	}
	return nil
}

func configCommand(t *cli.Tool, o *options) *cobra.Command {
	group := cli.Group("config", "look at the configuration file")
	group.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "read the configuration and tell every problem at once",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := o.load(t)
			if err != nil {
				return err
			}
			t.Show(cfg.Summary(), func(w io.Writer) { fmt.Fprint(w, cfg.Summary()) })
			return nil
		},
	})
	return group
}
