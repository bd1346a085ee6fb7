package commands

import (
	"context"

	"daosbox/commands/cli"
)

// runVersion prints the version of the executable.
func runVersion(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	t := cli.NewTool(env, "daosbox")
	root := cli.NewRoot(t, "print the version")
	root.Use = "version"
	root.Args = cli.NoArgs
	root.RunE = cli.VersionVerb(t)
	return cli.Execute(ctx, t, root, t.Globals(""), args)
}
