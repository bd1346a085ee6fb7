package fabric

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"daosbox/commands/cli"
)

// Print shows the interfaces of a host: per NUMA node a header and a table of the
// providers with their interfaces.
func Print(w io.Writer, h Host) {
	var nodes []uint32
	for _, i := range h.Interfaces {
		if !slices.Contains(nodes, i.NumaNode) {
			nodes = append(nodes, i.NumaNode)
		}
	}
	slices.Sort(nodes)
	for _, node := range nodes {
		title := fmt.Sprintf("NUMA Socket %d", node)
		dashes := strings.Repeat("-", len(title))
		fmt.Fprintf(w, "    %s\n    %s\n    %s\n\n", dashes, title, dashes)
		cli.Table(w, "        ", []string{"Provider", "Interfaces"}, tableRows(h, node))
		fmt.Fprintln(w)
	}
}

// tableRows lists the providers of a node in the order of their first interface.
func tableRows(h Host, node uint32) [][]string {
	var providers []string
	devices := make(map[string][]string)
	for _, i := range h.Interfaces {
		if i.NumaNode != node {
			continue
		}
		if devices[i.Provider] == nil {
			providers = append(providers, i.Provider)
		}
		if !slices.Contains(devices[i.Provider], i.Device) {
			devices[i.Provider] = append(devices[i.Provider], i.Device)
		}
	}
	var all [][]string
	for _, provider := range providers {
		all = append(all, []string{provider, strings.Join(devices[provider], ", ")})
	}
	return all
}
