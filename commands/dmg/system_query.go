package dmg

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

type systemQueryOptions struct {
	selectorOptions
	verbose bool
	notOK   bool
	states  string
}

func systemQueryCommand(a *app) *cobra.Command {
	o := &systemQueryOptions{}
	cmd := &cobra.Command{
		Use:   "query",
		Short: "show the ranks of the system and their states",
		Long: `Show the ranks of the system by state, or with --verbose each with its server, its
fault domain and the reason of its state. A rank is an engine; "joined" is the state of
one that works.`,
		Example: examples("dmg system query", "dmg system query --verbose --ranks 0-3,9", "dmg system query --rank-hosts node[1-8] --not-ok",
			"dmg system query --with-states stopped,excluded --json"),
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runSystemQuery(cmd.Context(), a, o) },
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show each rank with its place and the reason of its state")
	cmd.Flags().BoolVar(&o.notOK, "not-ok", false, "only ranks that are not joined")
	cmd.Flags().StringVar(&o.states, "with-states", "", "only ranks in one of these `states`, as in stopped,excluded")
	_ = cmd.RegisterFlagCompletionFunc("with-states", completeStates)
	return cmd
}

// mask is the filter of states, 0 for all.
func (o *systemQueryOptions) mask() (cluster.MemberState, error) {
	if o.notOK && o.states != "" {
		return 0, fault.New(fault.Usage, "cannot use --not-ok and --with-states together").WithHint("leave one of them out")
	}
	if o.notOK {
		return cluster.StatesAll &^ cluster.StateJoined, nil
	}
	var mask cluster.MemberState
	if o.states == "" {
		return mask, nil
	}
	for _, name := range strings.Split(o.states, ",") {
		state, err := cluster.ParseMemberState(name)
		if err != nil {
			return 0, err
		}
		if state == cluster.StateUnknown {
			return 0, fault.New(fault.Usage, "cannot filter by state %q: no rank of the system is in it", name)
		}
		mask |= state
	}
	return mask, nil
}

func runSystemQuery(ctx context.Context, a *app, o *systemQueryOptions) error {
	const what = "system query"
	sel, err := o.selector()
	if err != nil {
		return err
	}
	mask, err := o.mask()
	if err != nil {
		return err
	}
	resp, err := ask(ctx, a, what, control.SystemQuery, &control.SystemQueryReq{Selector: sel, States: mask})
	if err != nil {
		return err
	}
	missing := absent{resp.AbsentRanks, resp.AbsentHosts}
	a.Show(queryBody(resp), func(w io.Writer) { printSystem(a, w, o, resp, missing) })
	return missing.err(what, len(resp.Members) > 0)
}

// queryBody is what scripts know: who answered and what is absent are not in it.
func queryBody(resp control.SystemQueryResp) control.SystemQueryResp {
	body := control.SystemQueryResp{SysSelfHealPolicy: resp.SysSelfHealPolicy,
		Members: append([]cluster.Member{}, resp.Members...), Providers: append([]string{}, resp.Providers...)}
	for i := range body.Members {
		m := &body.Members[i]
		m.SecondaryFabricURIs = append([]string{}, m.SecondaryFabricURIs...)
		m.SecondaryFabricContexts = append([]uint32{}, m.SecondaryFabricContexts...)
	}
	return body
}

func printSystem(a *app, w io.Writer, o *systemQueryOptions, resp control.SystemQueryResp, missing absent) {
	if len(resp.Members) == 0 && missing.none() {
		fmt.Fprintln(w, "Query matches no ranks in system")
		return
	}
	if o.verbose {
		missing.tell(a)
		printMembers(w, resp.Members)
	} else {
		absent{hosts: missing.hosts}.tell(a)
		printStates(w, resp.Members, missing.ranks)
	}
	if off := disabled(resp.SysSelfHealPolicy); off != "" {
		fmt.Fprintf(w, "\nSystem property self_heal flags disabled: %s\n", off)
	}
}

// printStates has one row for each state, in the order of the lowest rank.
func printStates(w io.Writer, members []cluster.Member, unknown *hostlist.RankSet) {
	byState := make(map[string]*hostlist.RankSet)
	var states []string
	for _, m := range members {
		state := m.State.String()
		if byState[state] == nil {
			byState[state] = hostlist.Ranks()
			states = append(states, state)
		}
		byState[state].Add(m.Rank)
	}
	slices.SortFunc(states, func(x, y string) int { return cmp.Compare(lowest(byState[x]), lowest(byState[y])) })
	rows := make([][]string, 0, len(states)+1)
	for _, state := range states {
		rows = append(rows, []string{byState[state].Bracketed(), state})
	}
	if unknown.Len() > 0 {
		rows = append(rows, []string{unknown.Bracketed(), "Unknown Rank"})
	}
	if len(rows) > 0 {
		cli.Table(w, "", []string{"Rank", "State"}, rows)
	}
}

func printMembers(w io.Writer, members []cluster.Member) {
	if len(members) == 0 {
		return
	}
	rows := make([][]string, len(members))
	for i, m := range members {
		rows[i] = []string{strconv.FormatUint(uint64(m.Rank), 10), m.UUID, m.Addr, m.FaultDomain, m.State.String(), m.Info}
	}
	cli.Table(w, "", []string{"Rank", "UUID", "Control Address", "Fault Domain", "State", "Reason"}, rows)
}

// disabled lists what the self-heal policy leaves out, empty when nothing.
func disabled(policy string) string {
	if policy == "" {
		return "" // a server that does not know the property
	}
	on := strings.Split(policy, ";")
	var off []string
	for _, flag := range []string{"exclude", "pool_exclude", "pool_rebuild"} {
		if !slices.Contains(on, flag) {
			off = append(off, flag)
		}
	}
	return strings.Join(off, ", ")
}
