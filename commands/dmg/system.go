package dmg

import (
	"fmt"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

func systemCommand(a *app) *cobra.Command {
	group := cli.Group("system", "the system as a whole: its ranks and its management service", "sys")
	group.AddCommand(
		leaderQueryCommand(a),
		poolListCommand(a, "list-pools"),
		systemQueryCommand(a),
		systemStartCommand(a),
		systemStopCommand(a),
	)
	group.AddCommand(administerCommands(a)...)
	return group
}

// selectorOptions pick ranks by number or by host.
type selectorOptions struct {
	ranks string
	hosts string
}

func (o *selectorOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.ranks, "ranks", "r", "", "only these `ranks`, as in 0-3,9")
	cmd.Flags().StringVar(&o.hosts, "rank-hosts", "", "only the ranks of these `hosts`, as in node[1-8]")
}

func (o *selectorOptions) given() bool { return o.ranks != "" || o.hosts != "" }

func (o *selectorOptions) selector() (sel control.Selector, err error) {
	if o.ranks != "" && o.hosts != "" {
		return sel, fault.New(fault.Usage, "cannot use --ranks and --rank-hosts together").WithHint("leave one of them out")
	}
	if o.ranks != "" {
		if sel.Ranks, err = hostlist.ParseRanks(o.ranks); err != nil {
			return sel, err
		}
		if sel.Ranks.Len() == 0 {
			return sel, fault.New(fault.Usage, "cannot use --ranks=%q: it names no rank", o.ranks)
		}
	}
	if o.hosts != "" {
		if sel.Hosts, err = hostlist.Parse(o.hosts); err != nil {
			return sel, err
		}
		if sel.Hosts.Len() == 0 {
			return sel, fault.New(fault.Usage, "cannot use --rank-hosts=%q: it names no host", o.hosts)
		}
	}
	return sel, nil
}

// absent is what of a selection the system does not know.
type absent struct {
	ranks *hostlist.RankSet
	hosts *hostlist.Set
}

func (m absent) none() bool { return m.ranks.Len() == 0 && m.hosts.Len() == 0 }

// err is the error of the command for an absent part; known says whether anything
// else was selected.
func (m absent) err(what string, known bool) error {
	if m.none() {
		return nil
	}
	var parts []string
	if m.hosts.Len() > 0 {
		parts = append(parts, "non-existent hosts "+m.hosts.WithoutPorts().String())
	}
	if m.ranks.Len() > 0 {
		parts = append(parts, "non-existent ranks "+m.ranks.String())
	}
	code := fault.NotFound
	if known {
		code = fault.Partial
	}
	return fault.New(code, "%s failed: %s", what, strings.Join(parts, ", ")).
		WithHint("`dmg system query --verbose` lists the ranks and the hosts they are on")
}

// tell names what is absent on standard error, one line each.
func (m absent) tell(a *app) {
	if m.hosts.Len() > 0 {
		fmt.Fprintf(a.Stderr, "Unknown host%s: %s\n", plural(m.hosts.Len()), m.hosts.WithoutPorts())
	}
	if m.ranks.Len() > 0 {
		fmt.Fprintf(a.Stderr, "Unknown rank%s: %s\n", plural(m.ranks.Len()), m.ranks)
	}
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// lowest is the first rank of a set, by which rows are sorted.
func lowest(set *hostlist.RankSet) hostlist.Rank {
	if set.Len() == 0 {
		return hostlist.NilRank
	}
	return set.Slice()[0]
}
