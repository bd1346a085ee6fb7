package dmg

import (
	"context"
	"strings"
	"time"

	"daosbox/cluster"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

// completionTime bounds what a shell waits for while it completes a word.
const completionTime = 2 * time.Second

// noFiles suggests words, which may be none: a system that does not answer must not
// disturb who types.
func noFiles(words []string) ([]string, cobra.ShellCompDirective) {
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completePools suggests the labels of pools for the first argument, then what next
// does for the others.
func (a *app) completePools(next func(begun string) ([]string, cobra.ShellCompDirective)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 1 && next != nil:
			return next(begun)
		case len(args) > 0:
			return noFiles(nil)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		client, err := a.client("")
		if err != nil {
			return noFiles(nil)
		}
		resp, err := control.Ask(ctx, client, control.PoolList, &control.PoolListReq{NoQuery: true}, nil)
		if err != nil {
			return noFiles(nil)
		}
		var names []string
		for _, p := range resp.Pools {
			name := p.Label
			if name == "" {
				name = p.UUID
			}
			names = append(names, name)
		}
		return noFiles(names)
	}
}

// completeProps suggests pool properties in a list, of which begun is the start;
// each is followed by what ends it.
func completeProps(end string, settable bool) func(begun string) ([]string, cobra.ShellCompDirective) {
	return func(begun string) ([]string, cobra.ShellCompDirective) {
		before := begun[:strings.LastIndexByte(begun, ',')+1]
		var words []string
		for _, p := range poolPropTable() {
			if _, row, err := findProp(p.name); err == nil && !(settable && (row.ReadOnly || p.atCreate)) {
				words = append(words, before+p.name+end)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// completeHosts suggests the configured hosts for -l.
func (a *app) completeHosts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	cfg, err := a.config("")
	if err != nil {
		return noFiles(nil)
	}
	return noFiles(cfg.HostList)
}

// completeStates suggests states of ranks in a list.
func completeStates(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	before := begun[:strings.LastIndexByte(begun, ',')+1]
	var words []string
	for _, state := range cluster.MemberStates() {
		words = append(words, before+strings.ToLower(state.String()))
	}
	return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
