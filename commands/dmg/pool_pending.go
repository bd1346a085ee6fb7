package dmg

import (
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

func poolCommand(a *app) *cobra.Command { return cli.Group("pool", "create, look at and destroy pools") }

func poolListCommand(a *app, use string) *cobra.Command {
	return &cobra.Command{Use: use, Short: "list the pools"}
}
