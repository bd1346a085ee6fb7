package dmg

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

type systemStopOptions struct {
	selectorOptions
	force               bool
	full                bool
	ignoreAdminExcluded bool
}

func systemStopCommand(a *app) *cobra.Command {
	o := &systemStopOptions{}
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "stop ranks",
		Long: `Stop the engines of ranks, or of all. Their servers go on, and "dmg system start" starts
the engines again; until then what only they hold is out of reach.`,
		Example: examples("dmg system stop", "dmg system stop --ranks 3", "dmg system stop --rank-hosts node[1-2]"),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runSystemStop(cmd.Context(), a, o) },
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.force, "force", false, "stop without preparing, which is the default")
	cmd.Flags().BoolVar(&o.full, "full", false, "prepare all engines and let them end by themselves")
	cmd.Flags().BoolVar(&o.ignoreAdminExcluded, "ignore-admin-excluded", false, "leave out selected ranks that the administrator has excluded")
	_ = cmd.Flags().MarkHidden("full")
	return cmd
}

func runSystemStop(ctx context.Context, a *app, o *systemStopOptions) error {
	const what = "system stop"
	if o.full && (o.force || o.given()) {
		return fault.New(fault.Usage, "cannot use --full together with --force, --ranks or --rank-hosts").
			WithHint("--full prepares and stops the whole system")
	}
	sel, err := o.selector()
	if err != nil {
		return err
	}
	// A plain stop kills; only a full one asks the engines.
	req := &control.SystemStopReq{Selector: sel, Force: !o.full, Full: o.full, IgnoreAdminExcluded: o.ignoreAdminExcluded}
	resp, err := ask(ctx, a, what, control.SystemStop, req)
	if err != nil {
		return err
	}
	return showRanks(a, what, resp)
}

type systemStartOptions struct {
	selectorOptions
	ignoreAdminExcluded bool
}

func systemStartCommand(a *app) *cobra.Command {
	o := &systemStartOptions{}
	cmd := &cobra.Command{
		Use:   "start",
		Short: "start ranks that were stopped",
		Long: `Start the engines of ranks that were stopped, or that died, and wait until they have
joined. Their servers must run.`,
		Example: examples("dmg system start", "dmg system start --ranks 3", "dmg system start --rank-hosts node[1-2]"),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runSystemStart(cmd.Context(), a, o) },
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.ignoreAdminExcluded, "ignore-admin-excluded", false, "leave out selected ranks that the administrator has excluded")
	return cmd
}

func runSystemStart(ctx context.Context, a *app, o *systemStartOptions) error {
	const what = "system start"
	sel, err := o.selector()
	if err != nil {
		return err
	}
	req := &control.SystemStartReq{Selector: sel, IgnoreAdminExcluded: o.ignoreAdminExcluded}
	resp, err := ask(ctx, a, what, control.SystemStart, req)
	if err != nil {
		return err
	}
	return showRanks(a, what, resp)
}

// showRanks tells what became of each rank and returns the command's error.
func showRanks(a *app, what string, resp control.SystemRanksResp) error {
	seen := hostlist.Ranks()
	wrong := 0
	for _, r := range resp.Results {
		if seen.Contains(r.Rank) {
			return fault.New(fault.Protocol, "%s failed: the answer has rank %d twice", what, r.Rank)
		}
		seen.Add(r.Rank)
		if r.Errored {
			wrong++
		}
	}
	missing := absent{resp.AbsentRanks, resp.AbsentHosts}
	body := control.SystemRanksResp{Results: append([]control.RankResult{}, resp.Results...)}
	a.Show(body, func(w io.Writer) {
		missing.tell(a)
		printRanks(w, resp.Results)
	})
	if err := missing.err(what, len(resp.Results) > wrong); err != nil {
		return err
	}
	if err := cli.PartialError(wrong, len(resp.Results), "rank"); err != nil {
		return failed(what, err)
	}
	return nil
}

// printRanks has one row for each operation and result.
func printRanks(w io.Writer, results []control.RankResult) {
	if len(results) == 0 {
		fmt.Fprintln(w, "No results returned")
		return
	}
	type outcome struct{ action, result string }
	ranks := make(map[outcome]*hostlist.RankSet)
	var outcomes []outcome
	for _, r := range results {
		o := outcome{r.Action, "OK"}
		if r.Errored {
			o.result = cmp.Or(fault.OneLine(r.Msg), "failed")
		}
		if ranks[o] == nil {
			ranks[o] = hostlist.Ranks()
			outcomes = append(outcomes, o)
		}
		ranks[o].Add(r.Rank)
	}
	slices.SortFunc(outcomes, func(x, y outcome) int { return cmp.Compare(lowest(ranks[x]), lowest(ranks[y])) })
	rows := make([][]string, len(outcomes))
	for i, o := range outcomes {
		rows[i] = []string{ranks[o].Bracketed(), o.action, o.result}
	}
	cli.Table(w, "", []string{"Rank", "Operation", "Result"}, rows)
}
