package dmg

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

type leaderQueryOptions struct{ down bool }

func leaderQueryCommand(a *app) *cobra.Command {
	o := &leaderQueryOptions{}
	cmd := &cobra.Command{
		Use:   "leader-query",
		Short: "tell who leads the management service and which of its replicas do not answer",
		Long: `Tell which server leads the management service, on which servers its replicas are, and
which of these do not answer. Each replica is asked itself, so that the answer is of now.
The service works while a majority of the replicas does.`,
		Example: examples("dmg system leader-query", "dmg system leader-query --down-replicas"),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runLeaderQuery(cmd.Context(), a, o) },
	}
	cmd.Flags().BoolVarP(&o.down, "down-replicas", "N", false, "print only the replicas that do not answer")
	return cmd
}

func runLeaderQuery(ctx context.Context, a *app, o *leaderQueryOptions) error {
	const what = "leader query"
	resp, err := ask(ctx, a, what, control.LeaderQuery, &control.LeaderQueryReq{})
	if err != nil {
		return err
	}
	client, err := a.client("")
	if err != nil {
		return err
	}
	resp.Replicas = append([]string{}, resp.Replicas...)
	leader, down := askReplicas(ctx, client, resp.Replicas)
	if resp.CurrentLeader == "" {
		resp.CurrentLeader = leader
	}
	resp.DownReplicas = append([]string{}, down.Hosts()...)
	a.Show(resp, func(w io.Writer) {
		if !o.down {
			printValue(w, "Current Leader:", resp.CurrentLeader)
			printValue(w, "Replica Set:", hostlist.Of(resp.Replicas...).String())
		}
		printValue(w, "Unresponsive Replicas:", down.String())
	})
	if resp.CurrentLeader == "" {
		return fault.New(fault.NoLeader, "%s failed: no replica leads", what).
			WithHint("a majority of the replicas (%s) must be up", strings.Join(resp.Replicas, ","))
	}
	return nil
}

func printValue(w io.Writer, name, value string) {
	if value != "" {
		name += " " + value
	}
	fmt.Fprintln(w, name)
}

// askReplicas asks each replica itself, for what the first one says about the
// others may be old. It returns the leader that most name and who did not answer.
func askReplicas(ctx context.Context, client *control.Client, replicas []string) (leader string, down *hostlist.Set) {
	down = hostlist.Of()
	votes := make(map[string]int)
	call := func(ctx context.Context, host string) (control.LeaderQueryResp, error) {
		return control.Call(ctx, client, host, control.LeaderQuery, &control.LeaderQueryReq{}, nil)
	}
	wire.FanOut(ctx, replicas, wire.FanOutOptions{HostTimeout: control.LeaderQuery.Timeout}, call, func(got wire.Result[control.LeaderQueryResp]) {
		if got.Err != nil {
			down.Add(got.Host)
		} else if got.Value.CurrentLeader != "" {
			votes[got.Value.CurrentLeader]++
		}
	})
	named := make([]string, 0, len(votes))
	for name := range votes {
		named = append(named, name)
	}
	slices.SortFunc(named, func(x, y string) int {
		if votes[x] != votes[y] {
			return votes[y] - votes[x]
		}
		return strings.Compare(x, y)
	})
	if len(named) > 0 {
		leader = named[0]
	}
	return leader, down
}
