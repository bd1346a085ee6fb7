package dmg

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func hostlistCommand(a *app) *cobra.Command {
	group := cli.Group("hostlist", "calculate with host lists, as -l takes them and beyond", "hl")
	group.Long = `Calculate with host lists: names with ranges such as rack[1-4]node[01-20/2],
joined from left to right by , (and) ! (without) & (in both) ^ (in one only), and
groups: @name, @source:name, @* for all. Without HOSTS, or for -, they are read
from standard input, one list a line. No server is asked.`
	group.AddCommand(
		hostlistFoldCommand(a), hostlistExpandCommand(a), hostlistCountCommand(a), hostlistSplitCommand(a),
		hostlistContainsCommand(a), hostlistDiffCommand(a), hostlistGroupsCommand(a))
	return group
}

// hostMath is what all verbs of hostlist take: where groups are, and operations on
// the hosts of the arguments, in the order of the command line.
type hostMath struct {
	groupFile, source string
	operations        []operation
	groups            *hostlist.Groups
}

type operation struct {
	apply func(*hostlist.Nodes, *hostlist.Nodes) *hostlist.Nodes
	hosts string
}

func (m *hostMath) addGroupFlags(fs *pflag.FlagSet) {
	fs.StringVar(&m.groupFile, "groups", "", "file of groups: lines name: hosts, *.yaml, or a groups.conf (default: that of ClusterShell)")
	fs.StringVarP(&m.source, "source", "s", "", "source of groups that @name means")
}

func (m *hostMath) addFlags(fs *pflag.FlagSet) {
	m.addGroupFlags(fs)
	fs.VarP(&operationFlag{m, (*hostlist.Nodes).Minus}, "exclude", "x", "take these hosts away")
	fs.VarP(&operationFlag{m, (*hostlist.Nodes).Intersect}, "intersection", "i", "keep only these hosts")
	fs.VarP(&operationFlag{m, (*hostlist.Nodes).Xor}, "xor", "X", "keep hosts that are either here or there")
}

// operationFlag adds an operation each time that it is set.
type operationFlag struct {
	m     *hostMath
	apply func(*hostlist.Nodes, *hostlist.Nodes) *hostlist.Nodes
}

func (f *operationFlag) Set(hosts string) error {
	f.m.operations = append(f.m.operations, operation{f.apply, hosts})
	return nil
}

func (f *operationFlag) String() string { return "" }
func (f *operationFlag) Type() string   { return "hosts" }

// known are the groups of the file that was named, or of ClusterShell's.
func (m *hostMath) known(a *app) *hostlist.Groups {
	if m.groups != nil {
		return m.groups
	}
	paths := []string{a.Path(m.groupFile)}
	if m.groupFile == "" {
		paths = nil
		for _, dir := range []string{a.Getenv("CLUSTERSHELL_CFGDIR"), under(a.Getenv("XDG_CONFIG_HOME"), "clustershell"),
			under(a.Getenv("HOME"), ".config/clustershell"), "/etc/clustershell"} {
			if dir != "" {
				paths = append(paths, filepath.Join(dir, "groups.conf"))
			}
		}
	}
	m.groups = hostlist.FindGroups(m.source, paths...)
	return m.groups
}

func under(dir, name string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}

// read evaluates one argument; "-" is standard input.
func (m *hostMath) read(ctx context.Context, a *app, text string) (*hostlist.Nodes, error) {
	if text == "-" {
		return hostlist.ReadNodes(ctx, a.Stdin, m.known(a))
	}
	return hostlist.Eval(ctx, text, m.known(a))
}

// nodes unites the arguments and applies the operations. A named file of groups
// that is missing is an error also when no group is used.
func (m *hostMath) nodes(ctx context.Context, a *app, args []string) (*hostlist.Nodes, error) {
	if m.groupFile != "" {
		if _, err := hostlist.LoadGroups(a.Path(m.groupFile)); err != nil {
			return nil, err
		}
	}
	if len(args) == 0 {
		args = []string{"-"}
	}
	var all *hostlist.Nodes
	for _, arg := range args {
		n, err := m.read(ctx, a, arg)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = n
			continue
		}
		all = all.Union(n)
	}
	for _, op := range m.operations {
		n, err := m.read(ctx, a, op.hosts)
		if err != nil {
			return nil, err
		}
		all = op.apply(all, n)
	}
	return all, nil
}

// hostlistVerb is a verb that does something with one set of hosts.
func hostlistVerb(a *app, use, short string, m *hostMath, show func(*hostlist.Nodes) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use + " [HOSTS...]", Short: short, Annotations: local(), Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := m.nodes(cmd.Context(), a, args)
			if err != nil {
				return err
			}
			return show(n)
		},
	}
	m.addFlags(cmd.Flags())
	return cmd
}

// hostsAnswer is the answer of hostlist fold.
type hostsAnswer struct {
	Hosts string `json:"hosts"`
	Count int    `json:"count"`
}

func hostlistFoldCommand(a *app) *cobra.Command {
	return hostlistVerb(a, "fold", "write hosts as one list with ranges", new(hostMath), func(n *hostlist.Nodes) error {
		text := n.String()
		var err error
		a.Show(hostsAnswer{text, n.Len()}, func(w io.Writer) { _, err = fmt.Fprintln(w, text) })
		return err
	})
}

func hostlistCountCommand(a *app) *cobra.Command {
	type answer struct {
		Count int `json:"count"`
	}
	return hostlistVerb(a, "count", "count hosts", new(hostMath), func(n *hostlist.Nodes) error {
		a.Show(answer{n.Len()}, func(w io.Writer) { fmt.Fprintln(w, n.Len()) })
		return nil
	})
}

func hostlistExpandCommand(a *app) *cobra.Command {
	separator := " "
	cmd := hostlistVerb(a, "expand", "write each host by itself", new(hostMath), func(n *hostlist.Nodes) error {
		return runHostlistExpand(a, n, unescape(separator))
	})
	cmd.Flags().StringVarP(&separator, "separator", "S", separator, `what stands between hosts; \n and \t are understood`)
	return cmd
}

func unescape(text string) string {
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`).Replace(text)
}

func runHostlistExpand(a *app, n *hostlist.Nodes, separator string) error {
	var answer struct {
		Hosts []string `json:"hosts"`
		Count int      `json:"count"`
	}
	answer.Hosts, answer.Count = []string{}, n.Len()
	if a.JSON {
		for name := range n.All() {
			answer.Hosts = append(answer.Hosts, name)
		}
	}
	var err error
	a.Show(answer, func(w io.Writer) {
		if err = n.WriteNames(w, separator); err == nil {
			_, err = fmt.Fprintln(w)
		}
	})
	return err
}

func hostlistSplitCommand(a *app) *cobra.Command {
	parts := 2
	m := new(hostMath)
	cmd := hostlistVerb(a, "split", "write hosts as so many lists of about equal length", m, func(n *hostlist.Nodes) error {
		return runHostlistSplit(a, n, parts)
	})
	cmd.Flags().IntVarP(&parts, "parts", "n", parts, "how many lists; fewer when there are fewer hosts")
	return cmd
}

func runHostlistSplit(a *app, n *hostlist.Nodes, parts int) error {
	if parts < 1 {
		return fault.New(fault.Usage, "cannot split hosts into %d lists", parts).WithHint("give --parts a number from 1")
	}
	answer := struct {
		Parts []string `json:"parts"`
	}{[]string{}}
	for _, part := range n.Split(parts) {
		answer.Parts = append(answer.Parts, part.String())
	}
	a.Show(answer, func(w io.Writer) {
		for _, part := range answer.Parts {
			fmt.Fprintln(w, part)
		}
	})
	return nil
}
