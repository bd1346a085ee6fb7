package dmg

import (
	"fmt"
	"io"
	"runtime/debug"

	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

// versionInfo is the answer of version. What the build does not know is left out.
type versionInfo struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Revision  string `json:"revision,omitempty"`
	Dirty     bool   `json:"dirty,omitempty"`
	BuildTime string `json:"build_time"`
	BuildInfo string `json:"build_info"`
}

// toolName is what the tool calls itself in answers that scripts know.
const toolName = "DAOS Admin Tool"

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Long: `Print the version of this tool and the newest release of DAOS whose interfaces it
speaks. Neither configuration nor servers are needed.`,
		Example:     examples("dmg version", "dmg version --json"),
		Annotations: local(),
		Args:        cobra.ArbitraryArgs, // always were ignored here
		RunE: func(*cobra.Command, []string) error {
			runVersion(a)
			return nil
		},
	}
}

func runVersion(a *app) {
	info := versionInfo{Name: toolName, Version: cli.Version, BuildInfo: "speaks DAOS " + cli.DAOSVersion}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				info.Revision = s.Value
			case "vcs.time":
				info.BuildTime = s.Value
			case "vcs.modified":
				info.Dirty = s.Value == "true"
			}
		}
	}
	a.Show(info, func(w io.Writer) {
		fmt.Fprintf(w, "%s version %s\n", info.Name, info.Version)
		fmt.Fprintf(w, "%s\n", info.BuildInfo)
	})
}
