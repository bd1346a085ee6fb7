package dmg

import (
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

func systemCommand(a *app) *cobra.Command { return cli.Group("system", "system") }
