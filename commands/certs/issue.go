package certs

import (
	"fmt"
	"io"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

type issueOptions struct {
	dir, out, role string
	days           int
	force          bool
}

func (o *issueOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dir, "dir", "", "directory of the authority")
	cmd.Flags().StringVar(&o.role, "role", "", "server, agent or admin")
	cmd.Flags().IntVar(&o.days, "days", pki.DefaultDays, "validity in days; ends with the authority's at the latest")
	cmd.Flags().StringVar(&o.out, "out", "", "directory to write to (default: beside the authority's other certificates)")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace files that exist")
}

func newIssue(t *cli.Tool) *cobra.Command {
	var o issueOptions
	cmd := &cobra.Command{
		Use:   "issue --dir DIR --role ROLE",
		Short: "make one more certificate, also with the authority of the old script",
		Args:  cli.NoArgs,
	}
	o.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needDir(cmd, o.dir); err != nil {
			return err
		}
		return runIssue(t, o)
	}
	return cmd
}

// issued is what issue answers to programs; the paths are those of the files.
type issued struct {
	Cert     string    `json:"cert"`
	Key      string    `json:"key"`
	Client   string    `json:"client,omitempty"`
	Role     pki.Role  `json:"role"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
}

func runIssue(t *cli.Tool, o issueOptions) error {
	role := pki.Role(o.role)
	if !role.Known() {
		return fault.New(fault.Usage, "cannot issue a certificate for role %q: it is not server, agent or admin", o.role).
			WithHint("say which with --role")
	}
	if err := needDays(o.days); err != nil {
		return err
	}
	result, err := pki.Issue(t.Path(o.dir), role, pki.IssueOptions{Days: o.days, Out: t.Path(o.out), Force: o.force})
	if err != nil {
		return err
	}
	answer := issued{
		Cert: result.Cert, Key: result.Key, Client: result.Client, Role: role,
		Serial:   fmt.Sprintf("%x", result.Certificate.SerialNumber),
		NotAfter: result.Certificate.NotAfter.UTC(),
	}
	t.Show(answer, func(w io.Writer) {
		fmt.Fprintf(w, "made %s and %s\nvalid until %s\n", answer.Cert, answer.Key, answer.NotAfter.Format(time.RFC3339))
		if answer.Client != "" {
			fmt.Fprintf(w, "copy %s to clients/ of the certificates of every server\n", answer.Client)
		}
	})
	if asked := time.Now().AddDate(0, 0, o.days); asked.Sub(answer.NotAfter) > time.Hour {
		t.Notice("the certificate ends with the authority's, before the %d days are over", o.days)
	}
	return nil
}
