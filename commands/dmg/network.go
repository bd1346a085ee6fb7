package dmg

import (
	"context"
	"fmt"
	"io"
	"slices"

	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/commands/fabric"

	"github.com/spf13/cobra"
)

func networkCommand(a *app) *cobra.Command {
	group := cli.Group("network", "fabric of the servers", "net")
	group.AddCommand(networkScanCommand(a))
	return group
}

type networkScanOptions struct {
	provider string
	hosts    string
}

func networkScanCommand(a *app) *cobra.Command {
	o := &networkScanOptions{}
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "list the fabric interfaces of the servers and the providers they carry",
		Long: `List the network interfaces of the servers by NUMA node, with the fabric providers that
each carries. Servers look for the provider of their own configuration unless one is
named; hosts that have the same are shown once.`,
		Example: examples("dmg network scan", "dmg network scan --provider ofi+tcp -l node[1-8]", "dmg network scan -p all"),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runNetworkScan(cmd.Context(), a, o) },
	}
	cmd.Flags().StringVarP(&o.provider, "provider", "p", "", "only this `provider`, or all (default: each server's own)")
	hostsFlag(a, cmd, &o.hosts)
	relayFlag(a, cmd)
	return cmd
}

// networkAnswer is the body of network scan. The keys are those that scripts know.
type networkAnswer struct {
	HostErrors  hostErrors              `json:"host_errors"`
	HostFabrics map[string]networkGroup `json:"HostFabrics"`
	Via         ways                    `json:"via,omitempty"`
}

type networkGroup struct {
	HostFabric fabric.Host
	HostSet    *hostlist.Set
}

func runNetworkScan(ctx context.Context, a *app, o *networkScanOptions) error {
	got, err := fanOut(ctx, a, "network scan", o.hosts, control.NetworkScan, control.NetworkScanReq{Provider: o.provider})
	if err != nil {
		return err
	}
	answers := make([]answer[fabric.Host], len(got.answers))
	for i, one := range got.answers {
		answers[i] = answer[fabric.Host]{one.host, withLists(one.value.Fabric)}
	}
	groups, err := gather(answers, sameFabric)
	if err != nil {
		return err
	}
	body := networkAnswer{got.failed, make(map[string]networkGroup), got.via}
	for _, g := range groups {
		body.HostFabrics[g.hash] = networkGroup{g.value, g.hosts}
	}
	a.Show(body, func(w io.Writer) {
		got.failed.print(w)
		printEach(w, groups, printFabric)
	})
	return got.err()
}

func printFabric(w io.Writer, h fabric.Host) {
	if len(h.Interfaces) == 0 {
		fmt.Fprintf(w, "No fabric interfaces found\n\n")
		return
	}
	fabric.Print(w, h)
}

func withLists(h fabric.Host) fabric.Host {
	if h.Interfaces == nil {
		h.Interfaces = []fabric.Interface{}
	}
	if h.Providers == nil {
		h.Providers = []string{}
	}
	return h
}

// sameFabric makes the order of interfaces and providers not count.
func sameFabric(h fabric.Host) any {
	h.Interfaces = sortedBy(h.Interfaces, func(i fabric.Interface) string { return i.Device + "\x00" + i.Provider })
	h.Providers = slices.Sorted(slices.Values(h.Providers))
	return h
}
