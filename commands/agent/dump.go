package agent

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/config"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

func dumpCommand(t *cli.Tool, o *options) *cobra.Command {
	output, force := "", false
	cmd := &cobra.Command{
		Use:   "dump-attachinfo",
		Short: "show the addresses of all ranks, as clients get them",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := t.Path(output)
			if path != "" && !force && isConfig(path) {
				return fault.New(fault.Refused, "cannot write the list to %s: it is a configuration file", path).
					WithHint("the -o of a configuration stands before the verb: daos_agent -o %s dump-attachinfo; --force replaces the file", output)
			}
			return dump(cmd.Context(), t, o, path)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the list to this file instead of standard output")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file also when it is a configuration")
	return cmd
}

// isConfig reports whether path is a file that somebody configures something with.
// The other verbs take a configuration by -o, this one a file to write.
func isConfig(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	if slices.Contains([]string{".yml", ".yaml"}, filepath.Ext(path)) {
		return true
	}
	_, _, err := config.OpenAgent(path, config.AgentOverrides{})
	return err == nil
}

// attachDump is the map with the keys that scripts know.
type attachDump struct {
	Sys               string          `json:"sys"`
	RankURIs          []rankURI       `json:"rank_uris"`
	SecondaryRankURIs []rankURI       `json:"secondary_rank_uris"`
	MSRanks           []hostlist.Rank `json:"ms_ranks"`
	ClientNetHint     netHint         `json:"client_net_hint"`
	SecondaryNetHints []netHint       `json:"secondary_client_net_hints"`
	BuildInfo         control.Build   `json:"build_info"`
}

type rankURI struct {
	Rank        hostlist.Rank `json:"rank"`
	URI         string        `json:"uri"`
	ProviderIdx uint32        `json:"provider_idx"`
	Contexts    uint32        `json:"num_ctxs"`
}

// netHint lacks interface and domain here: they are chosen for each client.
type netHint struct {
	Provider    string   `json:"provider"`
	Interface   string   `json:"interface"`
	Domain      string   `json:"domain"`
	CRTTimeout  uint32   `json:"crt_timeout"`
	NetDevClass uint32   `json:"net_dev_class"`
	SrvSRXSet   int32    `json:"srv_srx_set"`
	EnvVars     []string `json:"env_vars"`
	ProviderIdx uint32   `json:"provider_idx"`
}

func newAttachDump(info control.AttachInfoResp) attachDump {
	hint := info.NetHint
	d := attachDump{Sys: info.System, RankURIs: []rankURI{}, SecondaryRankURIs: []rankURI{}, MSRanks: info.MSRanks,
		ClientNetHint: netHint{Provider: hint.Provider, CRTTimeout: hint.CRTTimeout, NetDevClass: hint.NetDevClass,
			SrvSRXSet: hint.SrvSRXSet, EnvVars: hint.EnvVars},
		SecondaryNetHints: []netHint{}, BuildInfo: info.Build}
	for _, r := range info.RankURIs {
		d.RankURIs = append(d.RankURIs, rankURI{Rank: r.Rank, URI: r.URI, Contexts: r.Contexts})
	}
	slices.SortFunc(d.RankURIs, func(a, b rankURI) int { return cmp.Compare(a.Rank, b.Rank) })
	return d
}

// text is the list as the tools always wrote it, a group file of CaRT.
func (d attachDump) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "name %s\nsize %d\nall\n", d.Sys, len(d.RankURIs))
	for _, r := range d.RankURIs {
		fmt.Fprintf(&b, "%d %s\n", r.Rank, r.URI)
	}
	return b.Bytes()
}

// dump asks the service; a running agent is not needed.
func dump(ctx context.Context, t *cli.Tool, o *options, output string) error {
	cfg, err := o.load(t)
	if err != nil {
		return err
	}
	identity, err := loadIdentity(cfg)
	if err != nil {
		return err
	}
	client := newClient(cfg, identity, slog.New(slog.DiscardHandler))
	info, err := control.Ask(ctx, client, control.AttachInfo, &control.AttachInfoReq{AllRanks: true}, nil)
	if err != nil {
		return err
	}
	d := newAttachDump(info)
	if output != "" {
		if err := replaceFile(output, d.text()); err != nil {
			return err
		}
	}
	t.Show(d, func(w io.Writer) {
		if output == "" {
			_, _ = w.Write(d.text())
		}
	})
	return nil
}

// replaceFile writes aside, syncs and renames, so that a reader finds the old or
// the new list and no half. What is no plain file (a pipe, /dev/stdout) is
// written to.
func replaceFile(path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fault.Wrap(fault.Unknown, err, "cannot write %s", path).
				WithHint("does the directory exist, and may this user write there?")
		}
	}()
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o644)
	}
	aside, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		_ = aside.Close()
		if err != nil {
			_ = os.Remove(aside.Name())
		}
	}()
	if _, err := aside.Write(data); err != nil {
		return err
	}
	if err := aside.Chmod(0o644); err != nil {
		return err
	}
	if err := aside.Sync(); err != nil {
		return err
	}
	return os.Rename(aside.Name(), path)
}
