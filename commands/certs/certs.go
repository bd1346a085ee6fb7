// Package certs has the verbs of `daosbox certs`: make an authority, issue
// certificates of it, and show how long they last.
package certs

import (
	"context"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

// Run runs the verb that args name.
func Run(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	t := cli.NewTool(env, name)
	root := cli.NewRoot(t, "make, issue and show the certificates of a system")
	root.RunE = cli.Group(name, root.Short).RunE
	root.AddCommand(newInit(t), newIssue(t), newStatus(t))
	return cli.Execute(ctx, t, root, t.Globals(""), args)
}

// needDir refuses a missing --dir.
func needDir(cmd *cobra.Command, dir string) error {
	if dir == "" {
		return fault.New(fault.Usage, "missing flag: --dir").WithHint("usage: %s --dir DIR", cmd.CommandPath())
	}
	return nil
}

// needDays refuses a validity that the user cannot mean.
func needDays(days int) error {
	if days < 1 {
		return fault.New(fault.Usage, "cannot make a certificate for %d days", days).WithHint("--days counts from now, 1 or more")
	}
	return nil
}
