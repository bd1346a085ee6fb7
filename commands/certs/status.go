package certs

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

type statusOptions struct {
	dir      string
	warnDays int
}

func (o *statusOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dir, "dir", "/etc/daos/certs", "directory of certificates, or one PEM file")
	cmd.Flags().IntVar(&o.warnDays, "warn-days", pki.WarnDays, "warn this many days before a certificate ends")
}

func newStatus(t *cli.Tool) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show who certificates are for and until when; exit 1 when one cannot be used",
		Args:  cli.NoArgs,
	}
	o.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needDir(cmd, o.dir); err != nil {
			return err
		}
		return runStatus(t, o, time.Now())
	}
	return cmd
}

// report is what status answers to programs.
type report struct {
	Dir          string           `json:"dir"`
	WarnDays     int              `json:"warn_days"`
	Certificates []pki.CertStatus `json:"certificates"`
}

func runStatus(t *cli.Tool, o statusOptions, now time.Time) error {
	if o.warnDays < 0 {
		return fault.New(fault.Usage, "cannot warn %d days before the end", o.warnDays).WithHint("--warn-days is 0 or more")
	}
	dir := t.Path(o.dir)
	all, err := pki.Status(dir, now, time.Duration(min(o.warnDays, 36500))*24*time.Hour)
	if err != nil {
		return err
	}
	t.Show(report{Dir: dir, WarnDays: o.warnDays, Certificates: all}, func(w io.Writer) { printStatus(w, dir, all) })
	bad := 0
	for _, s := range all {
		if s.State == pki.StateOK {
			continue
		}
		t.Notice("%s: %s", s.Path, s.Reason)
		if s.State != pki.StateWarn {
			bad++
		}
	}
	if bad > 0 {
		return fault.New(fault.Unknown, "%d of %d certificates cannot be used", bad, len(all)).
			WithHint("make new ones with `daosbox certs issue --dir DIR --role ROLE --force` where the authority is")
	}
	return nil
}

func printStatus(w io.Writer, dir string, all []pki.CertStatus) {
	rows := make([][]string, len(all))
	for i, s := range all {
		name, err := filepath.Rel(dir, s.Path)
		if err != nil || name == "." || strings.HasPrefix(name, "..") {
			name = s.Path
		}
		row := []string{name, s.Subject, string(s.Role), s.KeyType, "", "", string(s.State)}
		if s.Kind == "ca" {
			row[2] = "CA"
		}
		if !s.NotAfter.IsZero() {
			row[4], row[5] = s.NotAfter.Format(time.DateOnly), strconv.Itoa(s.DaysLeft)
		}
		rows[i] = row
	}
	cli.Table(w, "", []string{"File", "Name", "Role", "Key", "Until", "Days", "State"}, rows)
	fmt.Fprintln(w)
}
