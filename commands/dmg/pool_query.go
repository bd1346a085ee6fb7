package dmg

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"daosbox/cluster/hostlist"
	"daosbox/commands/control"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

type poolQueryOptions struct {
	control.PoolQueryReq
	showEnabled     bool
	healthOnly      bool
	noSelfHealCheck bool
}

func poolQueryCommand(a *app) *cobra.Command {
	var o poolQueryOptions
	cmd, target := poolVerb(a, "query", "show the state and the space of a pool")
	cmd.Long = `Show the state of a pool, its targets, its rebuild and the space of its tiers, with
free space in total and of the fullest and emptiest target. Where a policy keeps the
pool from healing itself, that is told.`
	cmd.Example = examples("dmg pool query blue", "dmg pool query blue --health-only", "dmg pool query 6f450a68-8c7d-4da9-8900-02691650f6a2 --json")
	fs := cmd.Flags()
	fs.BoolVarP(&o.showEnabled, "show-enabled", "e", false, "list the ranks that serve the pool")
	fs.BoolVarP(&o.healthOnly, "health-only", "t", false, "leave the space out, list dead ranks")
	fs.BoolVar(&o.noSelfHealCheck, "no-self-heal-check", false, "do not ask for the system's self-heal policy")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		o.Target = *target
		if o.ID, err = poolOf(cmd, args); err != nil {
			return err
		}
		return runPoolQuery(cmd.Context(), a, o)
	}
	return cmd
}

// mask names what is asked for, sorted.
func (o *poolQueryOptions) mask() string {
	names := []string{"disabled_engines", "rebuild", "self_heal_policy"}
	if o.showEnabled {
		names = append(names, "enabled_engines")
	}
	if o.healthOnly {
		names = append(names, "dead_engines")
	} else {
		names = append(names, "space")
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

func runPoolQuery(ctx context.Context, a *app, o poolQueryOptions) error {
	o.Mask = o.mask()
	info, err := ask(ctx, a, "pool query", control.PoolQuery, &o.PoolQueryReq)
	if err != nil {
		return err
	}
	var policies []string
	if !a.JSON && !o.noSelfHealCheck {
		policies = a.selfHealNotes(ctx, o.Target, &info)
	}
	a.Show(info, func(w io.Writer) {
		printPool(w, &info, o.healthOnly)
		for _, line := range policies {
			fmt.Fprintln(w, line)
		}
	})
	return nil
}

// selfHealNotes compares the pool's policy with the system's, which only people
// are told of. A system that cannot tell does not make the query fail.
func (a *app) selfHealNotes(ctx context.Context, target control.Target, info *control.PoolInfo) []string {
	req := &control.SystemGetPropReq{Target: target, Keys: []string{"self_heal"}}
	resp, err := ask(ctx, a, "system get-prop", control.SystemGetProp, req)
	if err != nil || len(resp.Properties) != 1 {
		a.Notice("cannot tell the system's self-heal policy: %v", err)
		return nil
	}
	return selfHealNotes(resp.Properties[0].Value, info.SelfHealPolicy)
}

// selfHealNotes says what does not happen by itself, and whose policy forbids it.
// A policy is the list of what it allows.
func selfHealNotes(system, pool string) []string {
	allows := func(policy string, flags ...string) bool {
		return slices.ContainsFunc(strings.Split(policy, ";"), func(flag string) bool { return slices.Contains(flags, flag) })
	}
	var notes []string
	for _, action := range []struct {
		name   string
		system string
		pool   []string
	}{{"exclude", "pool_exclude", []string{"exclude"}}, {"rebuild", "pool_rebuild", []string{"rebuild", "delay_rebuild"}}} {
		var whose []string
		if !allows(system, action.system) {
			whose = append(whose, "system")
		}
		if pool != "" && !allows(pool, action.pool...) {
			whose = append(whose, "pool")
		}
		if len(whose) > 0 {
			notes = append(notes, fmt.Sprintf("%s disabled on pool due to %v policies", action.name, whose))
		}
	}
	return notes
}

func printPool(w io.Writer, p *control.PoolInfo, healthOnly bool) {
	fmt.Fprintf(w, "Pool %s, ntarget=%d, disabled=%d, leader=%d, version=%d, state=%s\n",
		p.UUID, p.TotalTargets, p.DisabledTargets, p.SvcLeader, p.Version, p.State)
	if p.PoolLayoutVer != p.UpgradeLayoutVer {
		fmt.Fprintf(w, "Pool layout is out of date: version %d, the newest is %d\n", p.PoolLayoutVer, p.UpgradeLayoutVer)
	}
	printPoolHealth(w, p)
	if !healthOnly {
		printPoolSpace(w, p)
	}
}

func printPoolHealth(w io.Writer, p *control.PoolInfo) {
	fmt.Fprintln(w, "Pool health info:")
	for _, set := range []struct {
		title string
		ranks *hostlist.RankSet
	}{{"Enabled", p.EnabledRanks}, {"Disabled", p.DisabledRanks}, {"Dead", p.DeadRanks}} {
		if set.ranks.Len() > 0 {
			fmt.Fprintf(w, "- %s ranks: %s\n", set.title, set.ranks)
		}
	}
	r := p.Rebuild
	if r == nil {
		fmt.Fprintln(w, "- No rebuild status available.")
		return
	}
	if r.Status == 0 {
		fmt.Fprintf(w, "- Rebuild %s, %d objs, %d recs\n", r.State, r.Objects, r.Records)
	} else {
		fmt.Fprintf(w, "- Rebuild %s (state=%s, status=%d)\n", r.DerivedState, r.State, r.Status)
	}
	redundancy := "normal"
	if r.Degraded {
		redundancy = "degraded"
	}
	fmt.Fprintf(w, "- Data redundancy: %s\n", redundancy)
}

func printPoolSpace(w io.Writer, p *control.PoolInfo) {
	fmt.Fprintln(w, "Pool space info:")
	fmt.Fprintf(w, "- Target count:%d\n", p.ActiveTargets)
	if p.MDonSSDActive {
		fmt.Fprintf(w, "- Total memory-file size: %s\n", humanize.Bytes(p.MemFileBytes))
	}
	for i, tier := range p.TierStats {
		title := fmt.Sprintf("Storage tier %d (%s)", i, strings.ToUpper(tier.MediaType))
		if p.MDonSSDActive && i < 2 {
			title = [...]string{"Metadata storage", "Data storage"}[i]
		}
		fmt.Fprintf(w, "- %s:\n  Total size: %s\n", title, humanize.Bytes(tier.Total))
		fmt.Fprintf(w, "  Free: %s, min:%s, max:%s, mean:%s\n",
			humanize.Bytes(tier.Free), humanize.Bytes(tier.Min), humanize.Bytes(tier.Max), humanize.Bytes(tier.Mean))
	}
}
