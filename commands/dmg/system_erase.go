package dmg

import (
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

func systemEraseCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "erase",
		Short: "give the whole system up: its ranks, its pools and all they hold",
		Long: `Give the whole system up. The management service forgets its ranks, pools, properties
and attributes, and every engine waits for "dmg storage format", which erases its data.
Nobody asks again.

All ranks must be stopped, and all servers of the system must be up. Repeat the command
if it was cut off or a server could not be reached: it goes on where it was. Until it
has succeeded, nothing joins the system any more.`,
		Example: examples("dmg system erase"),
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := ask(cmd.Context(), a, "system erase", control.SystemErase, &control.SystemEraseReq{}); err != nil {
				return err
			}
			a.Show(nil, nil)
			return nil
		},
	}
}
