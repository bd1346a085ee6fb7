package cli

import (
	"io"
	"slices"
	"strings"

	"daosbox/cluster/fault"

	"github.com/spf13/cobra"
)

// completionVerb is the hidden verb `completion` of every personality: it prints
// the script that makes a shell complete its commands and flags.
func completionVerb(t *Tool) *cobra.Command {
	shells := []string{"bash", "fish", "zsh"}
	return &cobra.Command{
		Use:       "completion {" + strings.Join(shells, "|") + "}",
		Short:     "print the completion script of a shell",
		Hidden:    true,
		Args:      ExactArgs("shell"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(shells, args[0]) {
				return fault.New(fault.Usage, "cannot complete in %q: it is none of %s", args[0], strings.Join(shells, ", "))
			}
			var script strings.Builder
			if err := printCompletion(cmd.Root(), args[0], &script); err != nil {
				return fault.Wrap(fault.Internal, err, "cannot make the completion script")
			}
			t.Show(script.String(), func(w io.Writer) { _, _ = io.WriteString(w, script.String()) })
			return nil
		},
	}
}

func printCompletion(root *cobra.Command, shell string, w io.Writer) error {
	switch shell {
	case "fish":
		return root.GenFishCompletion(w, true)
	case "zsh":
		return root.GenZshCompletion(w)
	}
	return root.GenBashCompletionV2(w, true)
}

// isCompletion reports whether word, where a verb is expected, is the request of a
// completion script; what follows it is a command line in the making.
func isCompletion(word string) bool {
	return word == cobra.ShellCompRequestCmd || word == cobra.ShellCompNoDescRequestCmd
}
