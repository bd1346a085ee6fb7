package dmg

import (
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

func networkCommand(a *app) *cobra.Command { return cli.Group("network", "network") }
