package sandbox

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

// injury is one thing that can happen to a process.
type injury struct {
	verb, past, short string
	signal            syscall.Signal
}

var injuries = []injury{
	{"kill", "killed", "end it at once (SIGKILL), as a crash does", syscall.SIGKILL},
	{"pause", "paused", "let it hang (SIGSTOP)", syscall.SIGSTOP},
	{"resume", "resumed", "let it go on (SIGCONT)", syscall.SIGCONT},
}

type faultOptions struct {
	dir  string
	host int
	rank int
}

func newFault(t *cli.Tool) *cobra.Command {
	group := cli.Group("fault", "hurt a process of the sandbox on purpose")
	for _, i := range injuries {
		group.AddCommand(newInjury(t, i))
	}
	return group
}

func newInjury(t *cli.Tool, i injury) *cobra.Command {
	var o faultOptions
	cmd := &cobra.Command{
		Use:   i.verb + " --dir DIR {--host N | --rank R}",
		Short: i.short,
		Long:  "The server of host N, or the engine of rank R: " + i.short + ".\nA killed server takes its engines along.",
		Args:  cli.NoArgs,
	}
	dirFlag(t, cmd, &o.dir)
	cmd.Flags().IntVar(&o.host, "host", 0, "the server of this host, from 1")
	cmd.Flags().IntVar(&o.rank, "rank", -1, "the engine of this rank")
	cmd.MarkFlagsMutuallyExclusive("host", "rank")
	cmd.MarkFlagsOneRequired("host", "rank")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runInjury(cmd.Context(), t, i, o) }
	return cmd
}

// injured is the answer of a fault.
type injured struct {
	Process string `json:"process"`
	PID     int    `json:"pid"`
	Signal  string `json:"signal"`
}

func runInjury(_ context.Context, t *cli.Tool, i injury, o faultOptions) error {
	l, err := resolve(t, o.dir)
	if err != nil {
		return err
	}
	b, err := openBox(t, l)
	if err != nil {
		return err
	}
	p, err := b.victim(o)
	if err != nil {
		return err
	}
	if err := p.signal(i.signal); err != nil {
		return err
	}
	t.Show(injured{p.name(), p.pid, i.signal.String()}, func(w io.Writer) {
		fmt.Fprintf(w, "%s %s (process %d)\n", i.past, p.name(), p.pid)
	})
	return nil
}

// victim is the process that the options mean.
func (b *box) victim(o faultOptions) (process, error) {
	running, err := find(b.layout)
	if err != nil {
		return process{}, err
	}
	if o.rank < 0 {
		if o.host < 1 || o.host > b.Hosts {
			return process{}, fault.New(fault.Usage, "cannot find host %d: the sandbox has hosts 1 to %d", o.host, b.Hosts)
		}
		if servers := only(running, serverProcess, o.host); len(servers) > 0 {
			return servers[0], nil
		}
		return process{}, fault.New(fault.NotFound, "cannot do this to %s: its server does not run", hostName(o.host)).
			WithHint("`daosbox sandbox status --dir %s` shows what runs", b.dir)
	}
	host, engine, err := b.engineOf(hostlist.Rank(o.rank))
	if err != nil {
		return process{}, err
	}
	for _, p := range only(running, engineProcess, host) {
		if p.engine == engine {
			return p, nil
		}
	}
	return process{}, fault.New(fault.NotFound, "cannot do this to rank %d: %s does not run", o.rank, processName(host, engine)).
		WithHint("`daosbox sandbox status --dir %s` shows what runs", b.dir)
}
