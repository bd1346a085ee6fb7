package dmg

import (
	"context"
	"fmt"
	"io"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

// poolRanksKind is a verb that goes over the ranks of a pool.
type poolRanksKind struct {
	use, short, long string
	aliases          []string
	method           control.Method[control.PoolRanksReq, control.PoolRanksResp]
	force            bool
}

func poolRanksKinds() []poolRanksKind {
	return []poolRanksKind{
		{use: "drain", short: "move data away from ranks of a pool", method: control.PoolDrain,
			long: `Move what a pool has on these ranks, or on some of their targets, to its others. The
targets leave the pool when that is done; "dmg pool query" shows how far it is.`},
		{use: "exclude", short: "take ranks out of a pool at once", method: control.PoolExclude, force: true,
			long: `Take ranks, or some of their targets, out of a pool at once. What they held is rebuilt
from its copies, if the pool has them; an exclusion that would leave too few is refused
unless forced.`},
		{use: "reintegrate", short: "take ranks back into a pool", aliases: []string{"reint"}, method: control.PoolReintegrate,
			long: `Take ranks, or some of their targets, back into a pool that was created on them: after
they were drained or excluded. The ranks must have joined.`},
	}
}

// targetCommands are the verbs on the targets of pools.
func targetCommands(a *app) []*cobra.Command {
	all := []*cobra.Command{poolExtendCommand(a), poolUpgradeCommand(a), poolQueryTargetsCommand(a), poolRebuildCommand(a)}
	for _, kind := range poolRanksKinds() {
		all = append(all, poolRanksCommand(a, kind))
	}
	return all
}

func poolRanksCommand(a *app, kind poolRanksKind) *cobra.Command {
	var ranks, targets string
	var force bool
	cmd, target := poolVerb(a, kind.use, kind.short)
	cmd.Aliases, cmd.Long = kind.aliases, kind.long
	cmd.Example = examples("dmg pool "+kind.use+" blue --ranks 3,5", "dmg pool "+kind.use+" blue --ranks 3 --target-idx 0,1")
	cmd.Flags().StringVar(&ranks, "ranks", "", "the `ranks`, as in 0-3,9 (required)")
	cmd.Flags().StringVar(&targets, "target-idx", "", "only these `targets` of each rank, as in 0,2 (default: all)")
	if kind.force {
		cmd.Flags().BoolVarP(&force, "force", "f", false, "also when too few copies of the data would be left")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		req := &control.PoolRanksReq{Target: *target, Force: force}
		if req.ID, err = poolOf(cmd, args); err != nil {
			return err
		}
		if req.Ranks, err = neededRanks(cmd, ranks); err != nil {
			return err
		}
		if req.Targets, err = parseTargets(targets); err != nil {
			return err
		}
		return runPoolRanks(cmd.Context(), a, kind, req)
	}
	return cmd
}

// neededRanks is the value of --ranks of a verb that needs it.
func neededRanks(cmd *cobra.Command, text string) (*hostlist.RankSet, error) {
	if text == "" {
		return nil, fault.New(fault.Usage, "missing flag: --ranks").WithHint("usage: %s --ranks RANKS", cmd.UseLine())
	}
	ranks, err := hostlist.ParseRanks(text)
	if err == nil && ranks.Len() == 0 {
		err = fault.New(fault.Usage, "cannot use --ranks=%q: it names no rank", text)
	}
	return ranks, err
}

// parseTargets reads numbers of targets; they are written as ranks are.
func parseTargets(text string) ([]uint32, error) {
	if text == "" {
		return nil, nil
	}
	set, err := hostlist.ParseRanks(text)
	if err != nil || set.Len() == 0 {
		return nil, fault.New(fault.Usage, "cannot use --target-idx=%q: it is no list of target numbers", brief(text)).
			WithHint("write it as in 0,2 or 4-7")
	}
	var targets []uint32
	for _, n := range set.Slice() {
		targets = append(targets, uint32(n))
	}
	return targets, nil
}

func runPoolRanks(ctx context.Context, a *app, kind poolRanksKind, req *control.PoolRanksReq) error {
	what := "pool " + kind.use
	resp, err := ask(ctx, a, what, kind.method, req)
	if err != nil {
		return err
	}
	resp.Results = append([]control.PoolRankResult{}, resp.Results...)
	a.Show(resp, func(w io.Writer) { printPoolRanks(w, resp) })
	wrong, all := countErrored(resp)
	return poolRanksError(what, wrong, all)
}

func poolExtendCommand(a *app) *cobra.Command {
	var ranks string
	cmd, target := poolVerb(a, "extend", "add ranks to a pool")
	cmd.Long = `Add ranks to a pool that it does not have. They take part with the same sizes as the
others, and data moves to them.`
	cmd.Example = examples("dmg pool extend blue --ranks 4-7")
	cmd.Flags().StringVar(&ranks, "ranks", "", "the `ranks`, as in 0-3,9 (required)")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		req := &control.PoolExtendReq{Target: *target}
		if req.ID, err = poolOf(cmd, args); err != nil {
			return err
		}
		if req.Ranks, err = neededRanks(cmd, ranks); err != nil {
			return err
		}
		return doPool(cmd.Context(), a, "pool extend", control.PoolExtend, req, "Extend command succeeded")
	}
	return cmd
}

// doPool carries out a verb whose answer is only that it was done.
func doPool[Req any](ctx context.Context, a *app, what string, method control.Method[Req, control.Empty], req *Req, done string) error {
	if _, err := ask(ctx, a, what, method, req); err != nil {
		return err
	}
	a.Show(nil, func(w io.Writer) { fmt.Fprintln(w, done) })
	return nil
}

func poolUpgradeCommand(a *app) *cobra.Command {
	cmd, target := poolVerb(a, "upgrade", "bring a pool to the newest layout")
	cmd.Long = `Bring a pool that an earlier release created to the layout of the running one. Its
clients are disconnected, and earlier releases cannot use it any more.`
	cmd.Example = examples("dmg pool upgrade blue")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := poolOf(cmd, args)
		if err != nil {
			return err
		}
		return doPool(cmd.Context(), a, "pool upgrade", control.PoolUpgrade, &control.PoolUpgradeReq{Target: *target, ID: id}, "Pool-upgrade command succeeded")
	}
	return cmd
}

// poolRebuildCommand is the group of verbs on the rebuild of a pool.
func poolRebuildCommand(a *app) *cobra.Command {
	group := cli.Group("rebuild", "start or stop the rebuild of a pool")
	start, target := poolVerb(a, "start", "start the rebuild of a pool")
	start.Long = `Start the rebuild of a pool that has one to do: after it was stopped, for instance.`
	start.Example = examples("dmg pool rebuild start blue")
	start.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := poolOf(cmd, args)
		if err != nil {
			return err
		}
		return doPool(cmd.Context(), a, "pool rebuild start", control.PoolRebuildStart, &control.PoolRebuildReq{Target: *target, ID: id}, "Pool-rebuild start request succeeded")
	}
	group.AddCommand(start, poolRebuildStopCommand(a))
	return group
}

func poolRebuildStopCommand(a *app) *cobra.Command {
	var force bool
	stop, target := poolVerb(a, "stop", "stop the rebuild of a pool")
	stop.Long = `Stop the rebuild of a pool. What it has done so far is given up; the pool stays degraded
until a rebuild is started again.`
	stop.Example = examples("dmg pool rebuild stop blue", "dmg pool rebuild stop blue --force")
	stop.Flags().BoolVarP(&force, "force", "f", false, "also where a failed rebuild is being undone again and again")
	stop.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := poolOf(cmd, args)
		if err != nil {
			return err
		}
		return doPool(cmd.Context(), a, "pool rebuild stop", control.PoolRebuildStop, &control.PoolRebuildReq{Target: *target, ID: id, Force: force}, "Pool-rebuild stop request succeeded")
	}
	return stop
}

func poolQueryTargetsCommand(a *app) *cobra.Command {
	var rank, targets string
	cmd, target := poolVerb(a, "query-targets", "show the targets of a rank of a pool")
	cmd.Long = `Show the state and the space of targets that a pool has on a rank. Targets that work are
up_in; down and down_out ones are excluded, up and new ones are on their way in, drain
ones on their way out.`
	cmd.Example = examples("dmg pool query-targets blue --rank 3", "dmg pool query-targets blue --rank 3 --target-idx 0-1")
	cmd.Flags().StringVar(&rank, "rank", "", "the `rank` (required)")
	cmd.Flags().StringVar(&targets, "target-idx", "", "only these `targets`, as in 0-2,5 (default: all)")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		req := &control.PoolQueryTargetsReq{Target: *target}
		if req.ID, err = poolOf(cmd, args); err != nil {
			return err
		}
		if rank == "" {
			return fault.New(fault.Usage, "missing flag: --rank").WithHint("usage: %s --rank RANK", cmd.UseLine())
		}
		one, err := hostlist.ParseRanks(rank)
		if err != nil {
			return err
		}
		if one.Len() != 1 {
			return fault.New(fault.Usage, "cannot use --rank=%q: want one rank", brief(rank))
		}
		req.Rank = one.Slice()[0]
		if req.Targets, err = parseTargets(targets); err != nil {
			return err
		}
		return runPoolQueryTargets(cmd.Context(), a, req)
	}
	return cmd
}

func runPoolQueryTargets(ctx context.Context, a *app, req *control.PoolQueryTargetsReq) error {
	resp, err := ask(ctx, a, "pool query-targets", control.PoolQueryTargets, req)
	if err != nil {
		return err
	}
	resp.Infos = append([]control.PoolTarget{}, resp.Infos...)
	for i := range resp.Infos {
		resp.Infos[i].Space = append([]control.TierStats{}, resp.Infos[i].Space...)
	}
	a.Show(resp, func(w io.Writer) {
		for _, info := range resp.Infos {
			printTarget(w, info)
		}
	})
	return nil
}

func printTarget(w io.Writer, info control.PoolTarget) {
	fmt.Fprintf(w, "Target: state %s\n", info.State)
	if info.MDonSSDActive {
		fmt.Fprintf(w, "- Memory-file size: %s\n", humanize.Bytes(info.MemFileBytes))
	}
	for i, tier := range info.Space {
		fmt.Fprintf(w, "- %s:\n  Total size: %s\n  Free: %s\n", tierTitle(i, tier, info.MDonSSDActive), humanize.Bytes(tier.Total), humanize.Bytes(tier.Free))
	}
}

// tierTitle names a tier: what it is made of, or what is on it where metadata is on
// SSDs.
func tierTitle(i int, tier control.TierStats, mdOnSSD bool) string {
	if mdOnSSD && i < 2 {
		return [...]string{"Metadata storage", "Data storage"}[i]
	}
	media := map[string]string{"scm": "SCM", "nvme": "NVME"}[tier.MediaType]
	return fmt.Sprintf("Storage tier %d (%s)", i, media)
}
