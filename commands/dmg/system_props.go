package dmg

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

func systemSetAttrCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "set-attr KEY:VALUE[,KEY:VALUE...]",
		Short: "set attributes of the system",
		Long: `Set attributes of the system: names and values of your own, which the system keeps and
does not look at. Commas and colons that belong to a value are quoted or follow a
backslash.`,
		Example: examples("dmg system set-attr site:north,contact:ops@example.org"),
		Args:    cli.ExactArgs("KEY:VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pairs, err := uniquePairs(args[0])
			if err != nil {
				return err
			}
			return runSetAttributes(cmd.Context(), a, "set-attr", pairs)
		},
	}
}

func systemDelAttrCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "del-attr KEY[,KEY...]",
		Short:   "delete attributes of the system",
		Long:    `Delete attributes of the system. One that there is not is no error.`,
		Example: examples("dmg system del-attr site,contact"),
		Args:    cli.ExactArgs("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := parseKeys(args[0])
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				return fault.New(fault.Usage, "cannot delete attributes: none is named")
			}
			attributes := make(map[string]string)
			for _, key := range keys {
				attributes[key] = ""
			}
			return runSetAttributes(cmd.Context(), a, "del-attr", attributes)
		},
	}
}

// uniquePairs reads a list in which no key is twice.
func uniquePairs(text string) (map[string]string, error) {
	pairs, err := parsePairs(text)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for _, p := range pairs {
		if _, twice := values[p.key]; twice {
			return nil, fault.New(fault.Usage, "cannot set %q twice", brief(p.key))
		}
		values[p.key] = p.value
	}
	return values, nil
}

func runSetAttributes(ctx context.Context, a *app, verb string, attributes map[string]string) error {
	if _, err := ask(ctx, a, "system "+verb, control.SystemSetAttr, &control.SystemSetAttrReq{Attributes: attributes}); err != nil {
		return err
	}
	a.Show(nil, func(w io.Writer) { fmt.Fprintf(w, "system %s succeeded\n", verb) })
	return nil
}

// someKeys is the optional list of keys of a verb that shows all without one.
func someKeys(cmd *cobra.Command, args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if err := cli.ExactArgs("KEY")(cmd, args); err != nil {
		return nil, err
	}
	return parseKeys(args[0])
}

func systemGetAttrCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "get-attr [KEY,KEY...]",
		Short:   "show attributes of the system",
		Long:    `Show all attributes of the system, or those that are named.`,
		Example: examples("dmg system get-attr", "dmg system get-attr site --json"),
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := someKeys(cmd, args)
			if err != nil {
				return err
			}
			return runGetAttributes(cmd.Context(), a, keys)
		},
	}
}

func runGetAttributes(ctx context.Context, a *app, keys []string) error {
	resp, err := ask(ctx, a, "system get-attr", control.SystemGetAttr, &control.SystemGetAttrReq{Keys: keys})
	if err != nil {
		return err
	}
	if resp.Attributes == nil {
		resp.Attributes = make(map[string]string)
	}
	a.Show(resp, func(w io.Writer) {
		if len(resp.Attributes) == 0 {
			fmt.Fprintln(w, "No system attributes found.")
			return
		}
		var rows [][]string
		for _, key := range slices.Sorted(maps.Keys(resp.Attributes)) {
			rows = append(rows, []string{key, resp.Attributes[key]})
		}
		cli.Table(w, "", []string{"Name", "Value"}, rows)
	})
	return nil
}

func systemSetPropCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "set-prop KEY:VALUE[,KEY:VALUE...]",
		Short: "set properties of the system",
		Long: `Set properties of the system, at once for all pools there are and for those to come:

  pool_scrub_mode    checksum scrubbing of pools: off, lazy or timed
  pool_scrub_thresh  errors after which a target is given up, 0 for none
  self_heal          what happens by itself when a rank fails: none, or some of
                     exclude;pool_exclude;pool_rebuild in this order

A value with a semicolon wants quotes from the shell.`,
		Example: examples("dmg system set-prop pool_scrub_mode:timed", "dmg system set-prop 'self_heal:exclude;pool_exclude'"),
		Args:    cli.ExactArgs("KEY:VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pairs, err := parsePairs(args[0])
			if err != nil {
				return err
			}
			return runSystemSetProp(cmd.Context(), a, pairs)
		},
	}
}

func runSystemSetProp(ctx context.Context, a *app, pairs []pair) error {
	values := make(map[string]string)
	for _, p := range pairs {
		key, value, err := control.CheckSystemProperty(p.key, p.value)
		if err != nil {
			return err
		}
		if _, twice := values[key]; twice {
			return fault.New(fault.Usage, "cannot set system property %s twice", key)
		}
		values[key] = value
	}
	if _, err := ask(ctx, a, "system set-prop", control.SystemSetProp, &control.SystemSetPropReq{Properties: values}); err != nil {
		return err
	}
	a.Show(nil, func(w io.Writer) { fmt.Fprintln(w, "system set-prop succeeded") })
	return nil
}

func systemGetPropCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "get-prop [KEY,KEY...]",
		Short:   "show properties of the system",
		Long:    `Show all properties of the system, or those that are named.`,
		Example: examples("dmg system get-prop", "dmg system get-prop self_heal --json"),
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := someKeys(cmd, args)
			if err != nil {
				return err
			}
			return runSystemGetProp(cmd.Context(), a, keys)
		},
	}
}

func runSystemGetProp(ctx context.Context, a *app, keys []string) error {
	resp, err := ask(ctx, a, "system get-prop", control.SystemGetProp, &control.SystemGetPropReq{Keys: keys})
	if err != nil {
		return err
	}
	a.Show(append([]control.SystemProperty{}, resp.Properties...), func(w io.Writer) {
		var rows [][]string
		for _, p := range resp.Properties {
			rows = append(rows, []string{fmt.Sprintf("%s (%s)", p.Description, p.Key), p.Value})
		}
		cli.Table(w, "", []string{"Name", "Value"}, rows)
	})
	return nil
}

func serverVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "server-version",
		Short:   "print the version of the servers",
		Long:    `Print the version of the server that answers for the management service.`,
		Example: examples("dmg server-version", "dmg server-version --json"),
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			resp, err := ask(cmd.Context(), a, "server-version", control.SystemVersion, &control.SystemVersionReq{})
			if err != nil {
				return err
			}
			a.Show(resp, func(w io.Writer) {
				fmt.Fprintf(w, "%s version %s\n%s\n", resp.Name, resp.Version, resp.BuildInfo)
			})
			return nil
		},
	}
}
