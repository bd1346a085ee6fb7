package dmg

import (
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

func storageCommand(a *app) *cobra.Command { return cli.Group("storage", "storage") }
