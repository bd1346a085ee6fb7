// Package sandbox brings a whole system up on one machine, without hardware or
// root: real daos_server processes on addresses of the loopback interface, real
// certificates, a replicated management service, emulated engines on directories
// and an agent. It uses what an administrator has: configuration files, processes
// and the control API; nothing in the other packages knows of it.
//
// A sandbox is a directory. layout.go names its files, manifest.go remembers what
// does not change between runs, process.go finds its processes by what they were
// started with, so that no file can be wrong about them.
package sandbox

import (
	"context"

	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

// Run runs the verb that args name. links are the names by which a sandbox's bin
// leads to the executable.
func Run(ctx context.Context, env *cli.Env, name string, args, links []string) cli.Exit {
	t := cli.NewTool(env, name)
	root := cli.NewRoot(t, "a whole system on this machine, without hardware or root")
	root.RunE = cli.Group(name, root.Short).RunE
	root.AddCommand(newUp(t, links), newStatus(t), newDown(t), newDemo(t), newFault(t))
	return cli.Execute(ctx, t, root, t.Globals("d"), args)
}

// dirFlag declares --dir; the links in a sandbox's own bin need none.
func dirFlag(t *cli.Tool, cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", t.ConfDir(), "directory of the sandbox")
}
