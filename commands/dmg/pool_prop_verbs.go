package dmg

import (
	"context"
	"fmt"
	"io"
	"slices"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
)

func poolSetPropCommand(a *app) *cobra.Command {
	cmd, target := poolVerb(a, "set-prop", "change properties of a pool", "KEY:VALUE[,KEY:VALUE...]")
	cmd.ValidArgsFunction = a.completePools(completeProps(":", true))
	cmd.Long = `Change properties of a pool. "dmg pool get-prop" lists them with their values; those that
are fixed when the pool is created are refused. Values of several words are joined by a
semicolon, which a shell wants quoted.`
	cmd.Example = examples("dmg pool set-prop blue reclaim:time", "dmg pool set-prop blue 'self_heal:exclude;rebuild,space_rb:10%'", "dmg pool set-prop blue label:red")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := poolOf(cmd, args, "KEY:VALUE")
		if err != nil {
			return err
		}
		properties, err := parseProps(args[1:], false)
		if err != nil {
			return err
		}
		return runPoolSetProp(cmd.Context(), a, &control.PoolSetPropReq{Target: *target, ID: id, Properties: properties})
	}
	return cmd
}

func runPoolSetProp(ctx context.Context, a *app, req *control.PoolSetPropReq) error {
	if _, err := ask(ctx, a, "pool set-prop", control.PoolSetProp, req); err != nil {
		return err
	}
	a.Show(nil, func(w io.Writer) { fmt.Fprintln(w, "pool set-prop succeeded") })
	return nil
}

func poolGetPropCommand(a *app) *cobra.Command {
	cmd, target := poolVerb(a, "get-prop", "show properties of a pool", "[KEY,KEY...]")
	cmd.ValidArgsFunction = a.completePools(completeProps("", false))
	cmd.Long = `Show all properties of a pool, or those that are named.`
	cmd.Example = examples("dmg pool get-prop blue", "dmg pool get-prop blue label,rd_fac --json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list := ""
		if len(args) == 2 {
			args, list = args[:1], args[1]
		}
		id, err := poolOf(cmd, args)
		if err != nil {
			return err
		}
		req := &control.PoolGetPropReq{Target: *target, ID: id}
		if req.Numbers, err = wantedProps(list); err != nil {
			return err
		}
		return runPoolGetProp(cmd.Context(), a, req)
	}
	return cmd
}

// wantedProps are the numbers of the named properties, of all when none is named.
func wantedProps(list string) ([]uint32, error) {
	keys, err := parseKeys(list)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		for _, p := range poolPropTable() {
			keys = append(keys, p.name)
		}
	}
	var numbers []uint32
	for _, key := range keys {
		_, row, err := findProp(key)
		if err != nil {
			return nil, err
		}
		if slices.Contains(numbers, row.Number) {
			return nil, fault.New(fault.Usage, "cannot get pool property %s twice", row.Name).WithHint("name it once")
		}
		numbers = append(numbers, row.Number)
	}
	return numbers, nil
}

// shownProperty is one element of the answer of get-prop.
type shownProperty struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Value       any    `json:"value"`
}

func runPoolGetProp(ctx context.Context, a *app, req *control.PoolGetPropReq) error {
	resp, err := ask(ctx, a, "pool get-prop", control.PoolGetProp, req)
	if err != nil {
		return err
	}
	order := func(p control.PoolProperty) int { return slices.Index(req.Numbers, p.Number) }
	slices.SortStableFunc(resp.Properties, func(x, y control.PoolProperty) int { return order(x) - order(y) })
	shown, rows := []shownProperty{}, [][]string{}
	for _, property := range resp.Properties {
		p, row, ok := findPropNumber(property.Number)
		if !ok {
			continue // a newer server knows more
		}
		shown = append(shown, shownProperty{p.name, p.about, p.json(row, property)})
		rows = append(rows, []string{fmt.Sprintf("%s (%s)", p.about, p.name), p.text(row, property)})
	}
	a.Show(shown, func(w io.Writer) {
		fmt.Fprintf(w, "Pool %s properties:\n", req.ID)
		cli.Table(w, "", []string{"Name", "Value"}, rows)
	})
	return nil
}
