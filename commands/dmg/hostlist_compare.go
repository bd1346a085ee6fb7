package dmg

import (
	"context"
	"fmt"
	"io"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

// both reads two arguments.
func (m *hostMath) both(ctx context.Context, a *app, args []string) (first, second *hostlist.Nodes, err error) {
	if first, err = m.nodes(ctx, a, args[:1]); err == nil {
		second, err = m.nodes(ctx, a, args[1:])
	}
	return first, second, err
}

func hostlistContainsCommand(a *app) *cobra.Command {
	m := new(hostMath)
	cmd := &cobra.Command{
		Use: "contains HOSTS PART", Short: "tell whether HOSTS has all hosts of PART; exit status 1 when not",
		Annotations: local(), Args: cli.ExactArgs("HOSTS", "PART"),
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts, part, err := m.both(cmd.Context(), a, args)
			if err != nil {
				return err
			}
			return runHostlistContains(a, hosts, part)
		},
	}
	m.addGroupFlags(cmd.Flags())
	return cmd
}

func runHostlistContains(a *app, hosts, part *hostlist.Nodes) error {
	missing := part.Minus(hosts)
	answer := struct {
		Contains bool   `json:"contains"`
		Missing  string `json:"missing"`
	}{missing.Len() == 0, missing.String()}
	a.Show(answer, nil)
	if !answer.Contains {
		return fault.New(fault.NotFound, "%d of %d host(s) are missing: %s", missing.Len(), part.Len(), answer.Missing)
	}
	return nil
}

func hostlistDiffCommand(a *app) *cobra.Command {
	m := new(hostMath)
	cmd := &cobra.Command{
		Use: "diff FIRST SECOND", Short: "tell which hosts only one of two lists has (- FIRST, + SECOND); exit status 0 also then",
		Annotations: local(), Args: cli.ExactArgs("FIRST", "SECOND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			first, second, err := m.both(cmd.Context(), a, args)
			if err != nil {
				return err
			}
			runHostlistDiff(a, first, second)
			return nil
		},
	}
	m.addGroupFlags(cmd.Flags())
	return cmd
}

func runHostlistDiff(a *app, first, second *hostlist.Nodes) {
	answer := struct {
		First  *hostlist.Nodes `json:"only_first"`
		Second *hostlist.Nodes `json:"only_second"`
		Both   *hostlist.Nodes `json:"both"`
	}{first.Minus(second), second.Minus(first), first.Intersect(second)}
	a.Show(answer, func(w io.Writer) {
		if answer.First.Len() > 0 {
			fmt.Fprintf(w, "-%s\n", answer.First)
		}
		if answer.Second.Len() > 0 {
			fmt.Fprintf(w, "+%s\n", answer.Second)
		}
	})
}

func hostlistGroupsCommand(a *app) *cobra.Command {
	m := new(hostMath)
	holding := ""
	cmd := &cobra.Command{
		Use: "groups", Short: "list the groups of a source, or those that a host is in",
		Annotations: local(), Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runHostlistGroups(cmd.Context(), a, m, holding) },
	}
	m.addGroupFlags(cmd.Flags())
	cmd.Flags().StringVar(&holding, "of", "", "host whose groups are listed")
	return cmd
}

func runHostlistGroups(ctx context.Context, a *app, m *hostMath, holding string) error {
	if _, err := m.nodes(ctx, a, []string{""}); err != nil {
		return err
	}
	groups := m.known(a)
	var names []string
	var err error
	if holding == "" {
		names, err = groups.Names(ctx, "")
	} else {
		names, err = groups.Holding(ctx, "", holding)
	}
	if err != nil {
		return err
	}
	answer := struct {
		Sources []string `json:"sources"`
		Groups  []string `json:"groups"`
	}{groups.Sources(), append([]string{}, names...)}
	a.Show(answer, func(w io.Writer) {
		for _, name := range names {
			fmt.Fprintf(w, "@%s\n", name)
		}
	})
	return nil
}
