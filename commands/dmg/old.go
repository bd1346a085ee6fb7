package dmg

import (
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// modernize rewrites a command line of an earlier era.
func modernize(t *cli.Tool, root *cobra.Command, globals *pflag.FlagSet, args []string) ([]string, error) {
	return args, nil
}

// refuse is a command that only fails.
func refuse(err error) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error { return err }
}
