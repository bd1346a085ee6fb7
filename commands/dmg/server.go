package dmg

import (
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

func serverCommand(a *app) *cobra.Command { return cli.Group("server", "server") }
