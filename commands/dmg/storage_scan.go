package dmg

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

type storageScanOptions struct {
	verbose bool
	health  bool
	hosts   string
}

func storageScanCommand(a *app) *cobra.Command {
	o := &storageScanOptions{}
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "list the persistent memory and the NVMe SSDs of the servers",
		Long: `List the persistent memory and the NVMe SSDs of the servers. Hosts that have the same
storage are one row. "dmg storage query usage" tells what of it is used.`,
		Example: examples("dmg storage scan", "dmg storage scan --verbose -l node[1-8]", "dmg storage scan --nvme-health -l node3"),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runStorageScan(cmd.Context(), a, o) },
	}
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "list each device")
	cmd.Flags().BoolVarP(&o.health, "nvme-health", "n", false, "show the health of each SSD")
	hostsFlag(a, cmd, &o.hosts)
	relayFlag(a, cmd)
	return cmd
}

func runStorageScan(ctx context.Context, a *app, o *storageScanOptions) error {
	if o.verbose && o.health {
		return fault.New(fault.Usage, "cannot use --verbose and --nvme-health together").WithHint("leave one of them out")
	}
	got, err := fanOut(ctx, a, "storage scan", o.hosts, control.StorageScan, control.StorageScanReq{Health: o.health})
	if err != nil {
		return err
	}
	same, body := sameInSummary, printScanSummary
	switch {
	case o.health:
		same, body = sameInOrder, each(printHealth) // each SSD's health is its own
	case o.verbose:
		same, body = sameStorage, each(printStorage) // ranks are told
	case a.JSON:
		same = sameStorage
	}
	return got.showStorage(a, storages(got.answers), same, body)
}

func storages(answers []answer[control.StorageScanResp]) []answer[storage.HostStorage] {
	all := make([]answer[storage.HostStorage], len(answers))
	for i, one := range answers {
		one.value.Storage.Normalize()
		all[i] = answer[storage.HostStorage]{one.host, one.value.Storage}
	}
	return all
}

// printEach prints every group below its hosts.
func printEach[T any](w io.Writer, groups []group[T], body func(io.Writer, T)) {
	for _, g := range groups {
		header(w, g.title())
		body(w, g.value)
	}
}

func printScanSummary(w io.Writer, groups []group[storage.HostStorage]) {
	rows := make([][]string, len(groups))
	for i, g := range groups {
		rows[i] = []string{g.title(), scmTotal(g.value), nvmeTotal(g.value)}
	}
	cli.Table(w, "", []string{"Hosts", "SCM Total", "NVMe Total"}, rows)
}

// scmTotal is "1.0 TB (2 namespaces)"; raw modules count where none were made.
func scmTotal(s storage.HostStorage) string {
	var bytes uint64
	if len(s.SCMNamespaces) > 0 {
		for _, n := range s.SCMNamespaces {
			bytes += n.Size
		}
		return totalOf(bytes, len(s.SCMNamespaces), "namespace")
	}
	for _, m := range s.SCMModules {
		bytes += m.Capacity
	}
	return totalOf(bytes, len(s.SCMModules), "module")
}

func nvmeTotal(s storage.HostStorage) string {
	var bytes uint64
	for _, c := range s.NVMeDevices {
		bytes += capacity(c)
	}
	return totalOf(bytes, len(s.NVMeDevices), "controller")
}

func totalOf(bytes uint64, count int, what string) string {
	if count != 1 {
		what += "s"
	}
	return fmt.Sprintf("%s (%d %s)", humanize.Bytes(bytes), count, what)
}

// capacity is what the namespaces of an SSD hold, or what an engine uses of it
// when it keeps the SSD to itself.
func capacity(c storage.NVMeController) (bytes uint64) {
	for _, n := range c.Namespaces {
		bytes += n.Size
	}
	if bytes == 0 {
		for _, d := range c.SMDDevices {
			bytes += d.TotalBytes
		}
	}
	return bytes
}

func printStorage(w io.Writer, s storage.HostStorage) {
	if s.MemInfo != nil {
		fmt.Fprintf(w, "HugePage Size: %d KB\n", s.MemInfo.HugepageSizeKiB)
	}
	fmt.Fprintln(w)
	s = inOrder(s)
	switch {
	case len(s.SCMNamespaces) > 0:
		rows := make([][]string, len(s.SCMNamespaces))
		for i, n := range s.SCMNamespaces {
			rows[i] = []string{n.BlockDevice, number(n.NumaNode), humanize.Bytes(n.Size)}
		}
		cli.Table(w, "", []string{"SCM Namespace", "Socket", "Capacity"}, rows)
	case len(s.SCMModules) > 0:
		printModules(w, s.SCMModules)
	default:
		fmt.Fprintln(w, "No SCM modules found")
	}
	fmt.Fprintln(w)
	if len(s.NVMeDevices) == 0 {
		fmt.Fprintln(w, "No NVMe controllers found")
	} else {
		printControllers(w, s.NVMeDevices)
	}
	fmt.Fprintln(w)
}

func printModules(w io.Writer, modules []storage.SCMModule) {
	rows := make([][]string, len(modules))
	for i, m := range modules {
		rows[i] = []string{number(m.PhysicalID), number(m.SocketID), number(m.ControllerID), number(m.ChannelID),
			number(m.ChannelPosition), humanize.IBytes(m.Capacity), m.UID, m.PartNumber, m.HealthState}
	}
	cli.Table(w, "", []string{"SCM Module", "Socket", "Memory Ctrlr", "Channel", "Channel Slot", "Capacity", "UID", "Part Number", "Health"}, rows)
}

func printControllers(w io.Writer, controllers []storage.NVMeController) {
	rows := make([][]string, len(controllers))
	for i, c := range controllers {
		rows[i] = []string{c.PCIAddr, c.Model, c.FWRev, strconv.Itoa(int(c.SocketID)), humanize.Bytes(capacity(c)), rolesOf(c), ranksOf(c)}
	}
	cli.Table(w, "", []string{"NVMe PCI", "Model", "FW Revision", "Socket", "Capacity", "Role(s)", "Rank"}, rows)
}

// rolesOf joins what an engine uses the SSD for; "NA" when it has no roles.
func rolesOf(c storage.NVMeController) string {
	var roles []string
	for _, d := range c.SMDDevices {
		for _, role := range strings.Split(d.Roles, ",") {
			if role != "" && role != "NA" && !slices.Contains(roles, role) {
				roles = append(roles, role)
			}
		}
	}
	return cmp.Or(strings.Join(roles, ","), "NA")
}

// ranksOf names the rank that uses the SSD, empty when none does.
func ranksOf(c storage.NVMeController) string {
	ranks := hostlist.Ranks()
	for _, d := range c.SMDDevices {
		ranks.Add(hostlist.Rank(d.Rank))
	}
	return ranks.String()
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func moduleKey(m storage.SCMModule) string {
	return fmt.Sprintf("%04d/%04d/%04d/%04d", m.SocketID, m.ControllerID, m.ChannelID, m.ChannelPosition)
}

// sortedBy returns a sorted copy that is not nil.
func sortedBy[T any](list []T, key func(T) string) []T {
	list = append([]T{}, list...)
	slices.SortStableFunc(list, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	return list
}
