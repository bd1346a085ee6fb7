package dmg

import (
	"context"
	"fmt"
	"io"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// poolCommand is the group of verbs on pools.
func poolCommand(a *app) *cobra.Command {
	group := cli.Group("pool", "create, look at, change and destroy pools")
	group.Long = `Create, look at, change and destroy pools. A pool is named by its label or its UUID.`
	group.AddCommand(
		poolCreateCommand(a),
		poolDeleteACLCommand(a),
		poolDestroyCommand(a),
		poolEvictCommand(a),
		poolGetACLCommand(a),
		poolGetPropCommand(a),
		poolListCommand(a, "list"),
		poolOverwriteACLCommand(a),
		poolQueryCommand(a),
		poolSetPropCommand(a),
		poolUpdateACLCommand(a),
	)
	group.AddCommand(targetCommands(a)...)
	return group
}

// poolVerb makes a verb on an existing pool, which its first argument names. names
// are the arguments that follow; one in brackets may be left out.
func poolVerb(a *app, use, short string, names ...string) (*cobra.Command, *control.Target) {
	line := strings.Join(append([]string{use, "POOL"}, names...), " ")
	cmd := &cobra.Command{Use: line, Short: short, Args: cobra.ArbitraryArgs, ValidArgsFunction: a.completePools(nil)}
	target := new(control.Target)
	sysFlag(cmd, target)
	return cmd, target
}

// sysFlag declares the way to name the system up to 1.2; now the configuration does.
func sysFlag(cmd *cobra.Command, target *control.Target) {
	cmd.Flags().StringVarP(&target.System, "sys", "S", "", "`name` of the system")
	_ = cmd.Flags().MarkHidden("sys")
}

// poolOf is the pool that the arguments name; it stands alone, or names follow.
func poolOf(cmd *cobra.Command, args []string, names ...string) (string, error) {
	if err := cli.ExactArgs(append([]string{"POOL"}, names...)...)(cmd, args); err != nil {
		return "", err
	}
	return args[0], checkPoolID(args[0])
}

// checkPoolID reports a text that is neither a UUID nor a label.
func checkPoolID(id string) error {
	if _, err := uuid.Parse(id); err == nil {
		return nil
	}
	if err := checkLabel(id); err != nil {
		return fault.New(fault.Usage, "cannot use %q as a pool: it is neither a label nor a UUID", brief(id)).
			WithHint("see the pools with `dmg pool list`")
	}
	return nil
}

// rankText is a list of ranks as people read it: "0-2,5".
func rankText(ranks []hostlist.Rank) string { return hostlist.Ranks(ranks...).String() }

// poolName is what a listing calls a pool: its label, or the start of its UUID.
func poolName(p *control.PoolInfo) string {
	if p.Label != "" {
		return p.Label
	}
	first, _, _ := strings.Cut(p.UUID, "-")
	return first
}

// say prints a line of information, which programs do not get.
func (a *app) say(format string, args ...any) {
	if !a.JSON {
		fmt.Fprintf(a.Stdout, format+"\n", args...)
	}
}

type poolDestroyOptions struct {
	control.PoolDestroyReq
}

func poolDestroyCommand(a *app) *cobra.Command {
	var o poolDestroyOptions
	cmd, target := poolVerb(a, "destroy", "destroy a pool and all that is in it")
	cmd.Long = `Destroy a pool and give its storage back. What it holds is lost, and nobody asks again.
A pool that has containers needs --recursive, one that clients are connected to --force.`
	cmd.Example = examples("dmg pool destroy blue", "dmg pool destroy blue --recursive --force")
	fs := cmd.Flags()
	fs.BoolVarP(&o.Recursive, "recursive", "r", false, "destroy the pool's containers too")
	fs.BoolVarP(&o.Force, "force", "f", false, "close handles that are open")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		o.Target = *target
		if o.ID, err = poolOf(cmd, args); err != nil {
			return err
		}
		return runPoolDestroy(cmd.Context(), a, o)
	}
	return cmd
}

func runPoolDestroy(ctx context.Context, a *app, o poolDestroyOptions) error {
	if _, err := ask(ctx, a, "pool destroy", control.PoolDestroy, &o.PoolDestroyReq); err != nil {
		return err
	}
	a.Show(nil, func(w io.Writer) { fmt.Fprintln(w, "Pool-destroy command succeeded") })
	return nil
}

func poolEvictCommand(a *app) *cobra.Command {
	cmd, target := poolVerb(a, "evict", "close all handles of a pool")
	cmd.Long = `Disconnect all clients of a pool: their next operations fail, and they must connect again.`
	cmd.Example = examples("dmg pool evict blue")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := poolOf(cmd, args)
		if err != nil {
			return err
		}
		return runPoolEvict(cmd.Context(), a, &control.PoolEvictReq{Target: *target, ID: id})
	}
	return cmd
}

func runPoolEvict(ctx context.Context, a *app, req *control.PoolEvictReq) error {
	if _, err := ask(ctx, a, "pool evict", control.PoolEvict, req); err != nil {
		return err
	}
	a.Show(nil, func(w io.Writer) { fmt.Fprintln(w, "Pool-evict command succeeded") })
	return nil
}
