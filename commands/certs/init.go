package certs

import (
	"fmt"
	"io"
	"time"

	"daosbox/cluster/pki"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

type initOptions struct {
	dir    string
	days   int
	caName string
}

func (o *initOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dir, "dir", "", "directory to make, for example /etc/daos/certs")
	cmd.Flags().IntVar(&o.days, "days", pki.DefaultDays, "validity of all certificates in days")
	cmd.Flags().StringVar(&o.caName, "ca-cn", pki.DefaultCAName, "common name of the authority")
}

func newInit(t *cli.Tool) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init --dir DIR",
		Short: "make an authority and certificates of server, agent and admin",
		Args:  cli.NoArgs,
	}
	o.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needDir(cmd, o.dir); err != nil {
			return err
		}
		return runInit(t, o)
	}
	return cmd
}

// made is what init answers to programs.
type made struct {
	Dir          string           `json:"dir"`
	Certificates []pki.CertStatus `json:"certificates"`
}

func runInit(t *cli.Tool, o initOptions) error {
	if err := needDays(o.days); err != nil {
		return err
	}
	dir := t.Path(o.dir)
	if err := pki.Init(dir, pki.InitOptions{Days: o.days, CAName: o.caName}); err != nil {
		return err
	}
	all, err := pki.Status(dir, time.Now(), 0)
	if err != nil {
		return err
	}
	t.Show(made{Dir: dir, Certificates: all}, func(w io.Writer) {
		fmt.Fprintf(w, "made the authority %q and certificates of server, agent and admin in %s\n", o.caName, dir)
		fmt.Fprintf(w, "valid until %s\n\n", all[0].NotAfter.Format(time.RFC3339))
		fmt.Fprintln(w, "copy to /etc/daos/certs of")
		fmt.Fprintln(w, "  servers:       daosCA.crt server.crt server.key clients/")
		fmt.Fprintln(w, "  compute nodes: daosCA.crt agent.crt agent.key")
		fmt.Fprintln(w, "  admin hosts:   daosCA.crt admin.crt admin.key")
		fmt.Fprintln(w, "keep private/ here: it signs new certificates")
	})
	return nil
}
