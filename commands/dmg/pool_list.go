package dmg

import (
	"context"
	"fmt"
	"io"
	"slices"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

type poolListOptions struct {
	control.PoolListReq
	verbose     bool
	rebuildOnly bool
}

// poolListCommand is both `pool list` and `system list-pools`.
func poolListCommand(a *app, use string) *cobra.Command {
	var o poolListOptions
	cmd := &cobra.Command{Use: use, Short: "list the pools", Args: cli.NoArgs}
	if use == "list" {
		cmd.Aliases = []string{"ls"}
	}
	cmd.Long = `List the pools of the system with their size, how much of it is used, how uneven their
targets are filled and how many of these are disabled. Each pool is asked itself, unless
--no-query is given; those that do not answer are told, and the command fails.`
	line := "dmg pool list"
	if use != "list" {
		line = "dmg system " + use
	}
	cmd.Example = examples(line, line+" --verbose", line+" --rebuild-only", line+" --no-query --json")
	fs := cmd.Flags()
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "show more of each pool")
	fs.BoolVarP(&o.NoQuery, "no-query", "n", false, "show only what is known without asking the pools")
	fs.BoolVarP(&o.rebuildOnly, "rebuild-only", "r", false, "show only pools whose rebuild is not idle")
	sysFlag(cmd, &o.Target)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runPoolList(cmd.Context(), a, o) }
	return cmd
}

func runPoolList(ctx context.Context, a *app, o poolListOptions) error {
	if o.NoQuery && o.rebuildOnly {
		return fault.New(fault.Usage, "cannot tell rebuilds without asking the pools").WithHint("use either --no-query or --rebuild-only")
	}
	resp, err := ask(ctx, a, "pool list", control.PoolList, &o.PoolListReq)
	if err != nil {
		return err
	}
	asked := len(resp.Pools)
	var failures []error
	var silent []string // UUIDs of pools that could not be queried
	for i := range resp.Pools {
		p := &resp.Pools[i]
		if p.QueryError != "" {
			failures = append(failures, fault.New(fault.Engine, "pool %s: %s", poolName(p), fault.OneLine(p.QueryError)))
			silent = append(silent, p.UUID)
			p.QueryError = "" // told as an error; the answer has no place for it
		}
	}
	if o.rebuildOnly {
		resp.Pools = slices.DeleteFunc(resp.Pools, func(p control.PoolInfo) bool {
			return p.Rebuild == nil || p.Rebuild.DerivedState == "idle"
		})
	}
	if resp.Pools == nil {
		resp.Pools = []control.PoolInfo{}
	}
	a.Show(resp, func(w io.Writer) {
		shown := slices.DeleteFunc(slices.Clone(resp.Pools), func(p control.PoolInfo) bool { return slices.Contains(silent, p.UUID) })
		printPools(w, shown, o, len(silent) > 0)
	})
	if len(failures) == 0 {
		return nil
	}
	return cli.Joined(append([]error{cli.PartialError(len(failures), asked, "pool")}, failures...)...)
}

// printPools prints the list; some tells that there are pools besides.
func printPools(w io.Writer, pools []control.PoolInfo, o poolListOptions, some bool) {
	switch {
	case len(pools) == 0 && some:
	case len(pools) == 0 && o.rebuildOnly:
		fmt.Fprintln(w, "No pools with a rebuild in progress")
	case len(pools) == 0:
		fmt.Fprintln(w, "No pools in system")
	case o.verbose:
		printPoolsVerbose(w, pools, o.NoQuery)
	default:
		printPoolsShort(w, pools, o.NoQuery)
	}
}

// queried reports whether the pool's service told something: those that are being
// made or destroyed are not asked.
func queried(p *control.PoolInfo) bool { return p.TotalTargets > 0 }

func printPoolsShort(w io.Writer, pools []control.PoolInfo, noQuery bool) {
	titles := []string{"Pool", "State"}
	if !noQuery {
		titles = []string{"Pool", "Size", "State", "Used", "Imbalance", "Disabled"}
		if slices.ContainsFunc(pools, func(p control.PoolInfo) bool { return upgradeOf(&p) != "" }) {
			titles = append(titles, "UpgradeNeeded?")
		}
	}
	var rows [][]string
	for i := range pools {
		p := &pools[i]
		switch tier, ok := lastTier(p); {
		case noQuery:
			rows = append(rows, []string{poolName(p), p.State})
		case !ok:
			rows = append(rows, []string{poolName(p), "", p.State, "", "", disabledOf(p), upgradeOf(p)})
		default:
			rows = append(rows, []string{poolName(p), humanize.Bytes(tier.Size), p.State,
				usedShare(tier), fmt.Sprintf("%d%%", tier.Imbalance), disabledOf(p), upgradeOf(p)})
		}
	}
	cli.Table(w, "", titles, rows)
}

// lastTier is the tier that counts for people: the last that has any room.
func lastTier(p *control.PoolInfo) (control.TierUsage, bool) {
	for _, tier := range slices.Backward(p.Usage) {
		if tier.Size > 0 {
			return tier, true
		}
	}
	return control.TierUsage{}, false
}

func usedShare(tier control.TierUsage) string {
	used := tier.Size - min(tier.Free, tier.Size)
	return fmt.Sprintf("%d%%", int(float64(used)/float64(tier.Size)*100))
}

func disabledOf(p *control.PoolInfo) string {
	if !queried(p) {
		return ""
	}
	return fmt.Sprintf("%d/%d", p.DisabledTargets, p.TotalTargets)
}

// upgradeOf is "1->2" when the pool's layout is older than the newest.
func upgradeOf(p *control.PoolInfo) string {
	if p.PoolLayoutVer == p.UpgradeLayoutVer {
		return ""
	}
	return fmt.Sprintf("%d->%d", p.PoolLayoutVer, p.UpgradeLayoutVer)
}

func printPoolsVerbose(w io.Writer, pools []control.PoolInfo, noQuery bool) {
	titles := []string{"Label", "UUID", "State", "SvcReps"}
	if !noQuery {
		tiers := [2]string{"SCM", "NVME"}
		if slices.ContainsFunc(pools, func(p control.PoolInfo) bool { return p.MDonSSDActive }) {
			tiers = [2]string{"Meta", "Data"}
		}
		for _, tier := range tiers {
			titles = append(titles, tier+" Size", tier+" Used", tier+" Imbalance")
		}
		titles = append(titles, "Disabled", "UpgradeNeeded?", "Rebuild State")
	}
	var rows [][]string
	for i := range pools {
		p := &pools[i]
		row := []string{orElse(p.Label, "-"), p.UUID, p.State, orElse(rankText(p.SvcReps), "N/A")}
		if !noQuery {
			row = append(row, tierCells(p, 0)...)
			row = append(row, tierCells(p, 1)...)
			row = append(row, disabledOf(p), upgradeOf(p), rebuildCell(p))
		}
		rows = append(rows, row)
	}
	cli.Table(w, "", titles, rows)
}

func tierCells(p *control.PoolInfo, i int) []string {
	switch {
	case i < len(p.Usage):
		tier := p.Usage[i]
		return []string{humanize.Bytes(tier.Size), humanize.Bytes(tier.Size - min(tier.Free, tier.Size)), fmt.Sprintf("%d%%", tier.Imbalance)}
	case queried(p):
		return []string{"0 B", "0 B", "0%"}
	}
	return []string{"", "", ""}
}

func rebuildCell(p *control.PoolInfo) string {
	if p.Rebuild == nil {
		return ""
	}
	return p.Rebuild.DerivedState
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
