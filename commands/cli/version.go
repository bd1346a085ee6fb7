package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The version of daosbox, and the newest DAOS release whose interfaces it speaks.
const (
	Version     = "0.1.0"
	DAOSVersion = "2.8.0"
)

// VersionVerb is the RunE of every version command. Scripts know the keys name
// and version.
func VersionVerb(t *Tool) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		response := map[string]string{"name": t.Name, "version": Version, "daos_version": DAOSVersion}
		t.Show(response, func(w io.Writer) {
			fmt.Fprintf(w, "%s v%s (DAOS %s)\n", t.Name, Version, DAOSVersion)
		})
		return nil
	}
}
