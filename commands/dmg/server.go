package dmg

import (
	"context"
	"fmt"
	"io"

	"daosbox/commands/cli"
	"daosbox/commands/config"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/spf13/cobra"
)

func serverCommand(a *app) *cobra.Command {
	group := cli.Group("server", "the servers' engines", "srv")
	group.AddCommand(setLogMasksCommand(a))
	return group
}

// setLogMasksOptions are nil where a flag was not given: the engines then return
// to their configuration.
type setLogMasksOptions struct {
	masks, streams, subsystems *string
	hosts                      string
}

func setLogMasksCommand(a *app) *cobra.Command {
	o := &setLogMasksOptions{}
	var masks, streams, subsystems string
	cmd := &cobra.Command{
		Use:     "set-logmasks",
		Aliases: []string{"slm"},
		Short:   "change what the running engines log, until they end",
		Long: `Change what the running engines of the servers log, until they end. A flag that is
left out returns that part to the server's configuration, so that the command without
flags undoes what it did.

--masks is a level for all subsystems, then levels of single ones; the levels are DEBUG,
INFO, NOTE, WARN, ERROR, CRIT and FATAL. --streams chooses among debug messages, and
--subsystems limits to some whatever is less than an error.`,
		Example: examples("dmg server set-logmasks --masks ERR,RPC=DEBUG,MGMT=INFO", "dmg server set-logmasks --masks DEBUG --streams md,io -l node3",
			"# back to the configuration", "dmg server set-logmasks"),
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := func(flag string, value *string) *string {
				if !cmd.Flags().Changed(flag) {
					return nil
				}
				return value
			}
			o.masks, o.streams, o.subsystems = given("masks", &masks), given("streams", &streams), given("subsystems", &subsystems)
			return runSetLogMasks(cmd.Context(), a, o)
		},
	}
	cmd.Flags().StringVarP(&masks, "masks", "m", "", "`mask` LEVEL, or LEVEL,SUBSYSTEM=LEVEL,... as in ERR,RPC=DEBUG")
	cmd.Flags().StringVarP(&streams, "streams", "d", "", "debug `streams`, as in md,io; empty for all")
	cmd.Flags().StringVarP(&subsystems, "subsystems", "s", "", "`subsystems` that log less than errors, as in rpc,mgmt; empty for all")
	hostsFlag(a, cmd, &o.hosts)
	relayFlag(a, cmd)
	return cmd
}

// check refuses what an engine would refuse, before any is asked.
func (o *setLogMasksOptions) check() error {
	for _, given := range []struct {
		flag    string
		text    *string
		setting config.LogSetting
	}{
		{"--masks", o.masks, config.LogMask}, {"--streams", o.streams, config.LogStreams}, {"--subsystems", o.subsystems, config.LogSubsystems},
	} {
		if given.text == nil {
			continue
		}
		if err := config.CheckLogSetting(given.setting, fmt.Sprintf("%s=%q", given.flag, brief(*given.text)), *given.text); err != nil {
			return err
		}
	}
	return nil
}

func runSetLogMasks(ctx context.Context, a *app, o *setLogMasksOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	req := control.SetLogMasksReq{Masks: o.masks, Streams: o.streams, Subsystems: o.subsystems}
	got, err := fanOut(ctx, a, "server set-logmasks", o.hosts, control.SetLogMasks, req)
	if err != nil {
		return err
	}
	answers := make([]answer[storage.HostStorage], len(got.answers))
	for i, one := range got.answers {
		answers[i].host = one.host
		answers[i].value.Normalize()
	}
	groups, err := gather(answers, sameStorage)
	if err != nil {
		return err
	}
	a.Show(newStorageAnswer(got.failed, groups, got.via), func(w io.Writer) {
		got.failed.print(a.Stderr)
		for _, g := range groups {
			fmt.Fprintf(w, "Engine log-masks updated successfully on the following host(s): %s\n", g.title())
		}
	})
	return got.err()
}
