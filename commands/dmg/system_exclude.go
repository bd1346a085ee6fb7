package dmg

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

// administerCommands are the verbs that change what the system is.
func administerCommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		systemExcludeCommand(a, false), systemExcludeCommand(a, true), systemDrainCommand(a, false), systemDrainCommand(a, true),
		systemCleanupCommand(a), systemEraseCommand(a), systemRebuildCommand(a), systemSelfHealCommand(a),
		systemSetAttrCommand(a), systemGetAttrCommand(a), systemDelAttrCommand(a), systemSetPropCommand(a), systemGetPropCommand(a),
	}
}

// named is the selector of a command that must be told which ranks it is about.
func (o *selectorOptions) named() (control.Selector, error) {
	if !o.given() {
		return control.Selector{}, fault.New(fault.Usage, "no ranks or hosts specified").WithHint("name them with --ranks or --rank-hosts")
	}
	return o.selector()
}

func systemExcludeCommand(a *app, lift bool) *cobra.Command {
	o := &selectorOptions{}
	cmd := &cobra.Command{
		Use:   "exclude",
		Short: "keep ranks out of the system until clear-exclude",
		Long: `Keep ranks out of the system. Their engines end themselves, do not start again and do not
join until "dmg system clear-exclude" is given for them; pools do without them. Starting
and stopping the system passes them over.`,
		Example: examples("dmg system exclude --ranks 3", "dmg system exclude --rank-hosts node[1-2]"),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runSystemExclude(cmd.Context(), a, o, lift) },
	}
	if lift {
		cmd.Use, cmd.Short = "clear-exclude", "let ranks that were excluded join again"
		cmd.Long = `Let ranks join again that "dmg system exclude" has kept out. They are then excluded as
ranks are that died; "dmg system start" brings them back.`
		cmd.Example = examples("dmg system clear-exclude --ranks 3", "dmg system clear-exclude --rank-hosts node[1-2]")
	}
	o.addFlags(cmd)
	return cmd
}

func runSystemExclude(ctx context.Context, a *app, o *selectorOptions, lift bool) error {
	what := "system exclude"
	if lift {
		what = "system clear-exclude"
	}
	sel, err := o.named()
	if err != nil {
		return err
	}
	resp, err := ask(ctx, a, what, control.SystemExclude, &control.SystemExcludeReq{Selector: sel, Clear: lift})
	if err != nil {
		return err
	}
	updated, wrong := hostlist.Ranks(), 0
	for _, r := range resp.Results {
		if r.Errored {
			wrong++
			continue
		}
		updated.Add(r.Rank)
	}
	missing := absent{resp.AbsentRanks, resp.AbsentHosts}
	a.Show(control.SystemRanksResp{Results: append([]control.RankResult{}, resp.Results...)}, func(w io.Writer) {
		missing.tell(a)
		for _, r := range resp.Results {
			if r.Errored {
				fmt.Fprintf(a.Stderr, "rank %d: %s\n", r.Rank, fault.OneLine(r.Msg))
			}
		}
		if updated.Len() > 0 {
			fmt.Fprintf(w, "updated ranks: %s\n", updated)
		}
	})
	if err := missing.err(what, updated.Len() > 0); err != nil {
		return err
	}
	if err := cli.PartialError(wrong, len(resp.Results), "rank"); err != nil {
		return failed(what, err)
	}
	return nil
}

func systemDrainCommand(a *app, reint bool) *cobra.Command {
	o := &selectorOptions{}
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "move data away from ranks in all pools",
		Long: `Move what the pools have on these ranks to their other ranks, pool by pool, so that the
ranks can be stopped or excluded without loss of redundancy. "dmg pool query" shows how
far each pool is.`,
		Example: examples("dmg system drain --ranks 3", "dmg system drain --rank-hosts node[1-2]"),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runSystemDrain(cmd.Context(), a, o, reint) },
	}
	if reint {
		cmd.Use, cmd.Aliases, cmd.Short = "reintegrate", []string{"reint"}, "take ranks back into all pools that do without them"
		cmd.Long = `Take ranks that were drained or excluded back into the pools that were created on them,
pool by pool. The ranks must have joined.`
		cmd.Example = examples("dmg system reintegrate --ranks 3", "dmg system reintegrate --rank-hosts node[1-2]")
	}
	o.addFlags(cmd)
	return cmd
}

// drainAnswer is what scripts know of the answer.
type drainAnswer struct {
	Responses []control.PoolRanksResp `json:"responses"`
}

func runSystemDrain(ctx context.Context, a *app, o *selectorOptions, reint bool) error {
	what := "system drain"
	if reint {
		what = "system reintegrate"
	}
	sel, err := o.named()
	if err != nil {
		return err
	}
	resp, err := ask(ctx, a, what, control.SystemDrain, &control.SystemDrainReq{Selector: sel, Reint: reint})
	if err != nil {
		return err
	}
	missing := absent{resp.AbsentRanks, resp.AbsentHosts}
	a.Show(drainAnswer{append([]control.PoolRanksResp{}, resp.Responses...)}, func(w io.Writer) {
		missing.tell(a)
		printPoolRanks(w, resp.Responses...)
	})
	wrong, all := countErrored(resp.Responses...)
	if err := missing.err(what, all > wrong); err != nil {
		return err
	}
	return poolRanksError(what, wrong, all)
}

func countErrored(pools ...control.PoolRanksResp) (wrong, all int) {
	for _, pool := range pools {
		for _, r := range pool.Results {
			all++
			if r.Errored {
				wrong++
			}
		}
	}
	return wrong, all
}

func poolRanksError(what string, wrong, all int) error {
	if err := cli.PartialError(wrong, all, "pool rank"); err != nil {
		return failed(what, err)
	}
	return nil
}

// printPoolRanks has one row for each pool and outcome.
func printPoolRanks(w io.Writer, pools ...control.PoolRanksResp) {
	var rows [][]string
	for _, pool := range pools {
		var reasons []string
		ranks := make(map[string]*hostlist.RankSet)
		for _, r := range pool.Results {
			reason := "-"
			if r.Errored {
				reason = cmp.Or(fault.OneLine(r.Msg), "failed")
			}
			if ranks[reason] == nil {
				ranks[reason] = hostlist.Ranks()
				reasons = append(reasons, reason)
			}
			ranks[reason].Add(r.Rank)
		}
		for _, reason := range reasons {
			result := "FAIL"
			if reason == "-" {
				result = "OK"
			}
			rows = append(rows, []string{pool.ID, ranks[reason].String(), result, reason})
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "No pool ranks processed")
		return
	}
	cli.Table(w, "", []string{"Pool", "Ranks", "Result", "Reason"}, rows)
}

func systemCleanupCommand(a *app) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "cleanup MACHINE",
		Short: "close all pool handles of a machine",
		Long: `Close the pool handles that processes on a machine opened and can no longer close: after
it has crashed, for instance. MACHINE is its name as its agent told it. Processes that
run there all the same lose their connections.`,
		Example: examples("dmg system cleanup client17", "dmg system cleanup client17 --verbose"),
		Args:    cli.ExactArgs("MACHINE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSystemCleanup(cmd.Context(), a, args[0], verbose)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show how many handles were closed in which pool")
	return cmd
}

func runSystemCleanup(ctx context.Context, a *app, machine string, verbose bool) error {
	const what = "system cleanup"
	if machine == "" {
		return fault.New(fault.Usage, "cannot clean up: the name of the machine is empty")
	}
	resp, err := ask(ctx, a, what, control.SystemCleanup, &control.SystemCleanupReq{Machine: machine})
	if err != nil {
		return err
	}
	var rows [][]string
	var wrong []string
	for _, r := range resp.Results {
		switch {
		case r.Status != 0:
			wrong = append(wrong, fmt.Sprintf("pool %s: %s", r.PoolID, fault.OneLine(r.Msg)))
		case r.Count > 0:
			rows = append(rows, []string{r.PoolID, fmt.Sprint(r.Count)})
		}
	}
	a.Show(control.SystemCleanupResp{Results: append([]control.CleanupResult{}, resp.Results...)}, func(w io.Writer) {
		switch {
		case len(rows) == 0 && len(wrong) == 0:
			fmt.Fprintln(w, "No handles cleaned up")
		case len(rows) > 0 && verbose:
			cli.Table(w, "", []string{"Pool", "Handles Revoked"}, rows)
		case len(wrong) == 0:
			fmt.Fprintln(w, "System Cleanup Success")
		}
	})
	return poolErrors(what, wrong, len(resp.Results))
}

// poolErrors is the error of a command that failed for some pools, with what was
// wrong in each.
func poolErrors(what string, wrong []string, all int) error {
	err := cli.PartialError(len(wrong), all, "pool")
	if err == nil {
		return nil
	}
	return fault.New(fault.Of(err), "%s failed: %s: %s", what, err, strings.Join(wrong, "; "))
}

// systemRebuildCommand is the group of verbs on the rebuilds of all pools.
func systemRebuildCommand(a *app) *cobra.Command {
	group := cli.Group("rebuild", "start or stop the rebuilds of all pools")
	group.AddCommand(systemRebuildVerb(a, control.RebuildStart), systemRebuildVerb(a, control.RebuildStop))
	return group
}

func systemRebuildVerb(a *app, op control.RebuildOp) *cobra.Command {
	var verbose, force bool
	cmd := &cobra.Command{
		Use:     "start",
		Short:   "start rebuilds in all pools",
		Long:    `Start the rebuild of every pool that has one to do: after it was stopped, for instance.`,
		Example: examples("dmg system rebuild start", "dmg system rebuild start --verbose"),
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSystemRebuild(cmd.Context(), a, &control.SystemRebuildReq{OpCode: op, Force: force}, verbose)
		},
	}
	if op == control.RebuildStop {
		cmd.Use, cmd.Short = "stop", "stop rebuilds in all pools"
		cmd.Long = `Stop the rebuild of every pool. What it has done so far is given up; the pools stay
degraded until a rebuild is started again. A pool without a rebuild is an error.`
		cmd.Example = examples("dmg system rebuild stop", "dmg system rebuild stop --force")
		cmd.Flags().BoolVarP(&force, "force", "f", false, "also where a failed rebuild is being undone again and again")
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "name the pools")
	return cmd
}

func runSystemRebuild(ctx context.Context, a *app, req *control.SystemRebuildReq, verbose bool) error {
	verb := map[control.RebuildOp]string{control.RebuildStart: "start", control.RebuildStop: "stop"}[req.OpCode]
	what := "system rebuild " + verb
	resp, err := ask(ctx, a, what, control.SystemRebuild, req)
	if err != nil {
		return err
	}
	var done, wrong []string
	for _, r := range resp.Results {
		if r.Errored {
			wrong = append(wrong, fmt.Sprintf("pool %s: %s", r.ID, fault.OneLine(r.Msg)))
		} else {
			done = append(done, r.ID)
		}
	}
	a.Show(control.SystemRebuildResp{Results: append([]control.PoolRebuildResult{}, resp.Results...)}, func(w io.Writer) {
		names := ""
		if verbose {
			names = " [" + strings.Join(done, " ") + "]"
		}
		fmt.Fprintf(w, "System-rebuild %s request succeeded on %d pools%s\n", verb, len(done), names)
	})
	return poolErrors(what, wrong, len(resp.Results))
}

func systemSelfHealCommand(a *app) *cobra.Command {
	group := cli.Group("self-heal", "what the system does by itself about ranks that fail")
	group.AddCommand(&cobra.Command{
		Use:   "eval",
		Short: "apply the self-heal policy to what happened while it was another",
		Long: `Apply the policy of the system property self_heal to ranks that died and to pools that
lost targets while it was another: "dmg system set-prop self_heal:..." alone only decides
what comes after it.`,
		Example: examples("dmg system self-heal eval"),
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := ask(cmd.Context(), a, "system self-heal eval", control.SystemSelfHealEval, &control.SystemSelfHealEvalReq{}); err != nil {
				return err
			}
			a.Show(struct{}{}, func(w io.Writer) { fmt.Fprintln(w, "System self-heal eval request succeeded") })
			return nil
		},
	})
	return group
}
