package dmg

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func storageQueryCommand(a *app) *cobra.Command {
	group := cli.Group("query", "what the engines' devices are, who uses them and what is free")
	group.Long = `Ask the running engines of the servers about their block devices: which there are
and how they do, which pools lie on them, and how much is used.`
	group.AddCommand(listDevicesCommand(a), listDevicePoolsCommand(a), storageUsageCommand(a))
	return group
}

// smdOptions are what list-devices and list-pools have in common.
type smdOptions struct {
	rank  uint32
	uuid  string
	hosts string
}

func (o *smdOptions) addFlags(a *app, cmd *cobra.Command, subject string) {
	cmd.Flags().Uint32VarP(&o.rank, "rank", "r", uint32(hostlist.NilRank), "only this `rank`")
	cmd.Flags().Lookup("rank").DefValue = "0" // help shows no default: it is all
	cmd.Flags().StringVarP(&o.uuid, "uuid", "u", "", "only the "+subject+" with this `UUID`")
	hostsFlag(a, cmd, &o.hosts)
	relayFlag(a, cmd)
}

// request is the part of the request that both have.
func (o *smdOptions) request(cmd *cobra.Command) (req control.SmdQueryReq, err error) {
	if o.uuid != "" {
		id, err := uuid.Parse(o.uuid)
		if err != nil {
			return req, fault.New(fault.Usage, "cannot use --uuid=%q: it is no UUID", brief(o.uuid)).
				WithHint("leave the flag out to see all with their UUIDs")
		}
		req.UUID = id.String()
	}
	if rank := hostlist.Rank(o.rank); cmd.Flags().Changed("rank") {
		if rank == hostlist.NilRank {
			return req, fault.New(fault.Usage, "cannot use --rank=%d: it is never a rank", rank).WithHint("see the ranks with `dmg system query`")
		}
		req.Rank = &rank
	}
	return req, nil
}

type listDevicesOptions struct {
	smdOptions
	health  bool
	evicted bool
}

func listDevicesCommand(a *app) *cobra.Command {
	o := &listDevicesOptions{}
	cmd := &cobra.Command{
		Use:   "list-devices",
		Short: "list the block devices of the engines, their states and who uses them",
		Long: `List the block devices that the running engines of the servers use: UUID, address
where they have one, what they hold, which targets use them, rank and state. A device
that is EVICTED was found faulty, or declared so.`,
		Example: examples("dmg storage query list-devices", "dmg storage query list-devices --rank 3 --health",
			"dmg storage query list-devices -l node[1-8] --show-evicted"),
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := o.request(cmd)
			if err != nil {
				return err
			}
			return runListDevices(cmd.Context(), a, o, req)
		},
	}
	o.addFlags(a, cmd, "device")
	cmd.Flags().BoolVarP(&o.health, "health", "b", false, "show what each device says about its own state")
	cmd.Flags().BoolVarP(&o.evicted, "show-evicted", "e", false, "only devices that are evicted")
	return cmd
}

func runListDevices(ctx context.Context, a *app, o *listDevicesOptions, req control.SmdQueryReq) error {
	req.OmitPools, req.Health = true, o.health
	return runSmdQuery(ctx, a, "storage query list-devices", o.hosts, req, func(info *storage.SMDInfo) {
		if o.evicted {
			info.Devices = slices.DeleteFunc(info.Devices, func(d storage.SMDDevice) bool { return stateOf(d) != evicted })
		}
	}, printSmdDevices)
}

// evicted is the state of a device that its engine uses no more.
const evicted = "EVICTED"

func stateOf(d storage.SMDDevice) string {
	if d.Controller == nil {
		return "UNKNOWN"
	}
	return d.Controller.DevState
}

type listDevicePoolsOptions struct {
	smdOptions
	verbose bool
}

func listDevicePoolsCommand(a *app) *cobra.Command {
	o := &listDevicePoolsOptions{}
	cmd := &cobra.Command{
		Use:   "list-pools",
		Short: "list the pools that lie on the block devices of the engines",
		Long: `List the pools that have a part on the block devices of the running engines, with
their ranks and targets there. "dmg pool list" tells more of pools.`,
		Example: examples("dmg storage query list-pools", "dmg storage query list-pools --rank 3 --verbose",
			"dmg storage query list-pools --uuid 6f450a68-8c7d-4da9-8900-02691650f6a2 -l node1"),
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := o.request(cmd)
			if err != nil {
				return err
			}
			return runListDevicePools(cmd.Context(), a, o, req)
		},
	}
	o.addFlags(a, cmd, "pool")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show the blobs of each pool too")
	return cmd
}

func runListDevicePools(ctx context.Context, a *app, o *listDevicePoolsOptions, req control.SmdQueryReq) error {
	req.OmitDevices = true
	return runSmdQuery(ctx, a, "storage query list-pools", o.hosts, req, func(*storage.SMDInfo) {},
		func(w io.Writer, info storage.SMDInfo) { printSmdPools(w, info, o.verbose) })
}

// smdAnswer is the body of both; its keys are those that scripts know.
type smdAnswer struct {
	HostErrors hostErrors              `json:"host_errors"`
	HostMap    map[string]storageGroup `json:"host_storage_map"`
	Via        ways                    `json:"via,omitempty"`
}

// runSmdQuery asks the hosts and prints what is left of each after filter.
func runSmdQuery(ctx context.Context, a *app, what, hosts string, req control.SmdQueryReq, filter func(*storage.SMDInfo), body func(io.Writer, storage.SMDInfo)) error {
	got, err := fanOut(ctx, a, what, hosts, control.SmdQuery, req)
	if err != nil {
		return err
	}
	answers := make([]answer[storage.HostStorage], len(got.answers))
	for i, one := range got.answers {
		info := smdCopy(one.value.Info)
		got.failPartly(one.host, one.value.Faults, len(info.Devices)+len(info.Pools) > 0)
		filter(info)
		answers[i].host = one.host
		answers[i].value = storage.HostStorage{SMDInfo: info}
		answers[i].value.Normalize()
	}
	groups, err := gather(answers, sameInOrder)
	if err != nil {
		return err
	}
	response := smdAnswer{got.failed, make(map[string]storageGroup), got.via}
	for _, g := range groups {
		response.HostMap[g.hash] = storageGroup{g.value, g.hosts}
	}
	a.Show(response, func(w io.Writer) {
		got.failed.print(w)
		printEach(w, groups, func(w io.Writer, s storage.HostStorage) { body(w, *s.SMDInfo) })
	})
	return got.err()
}

// smdCopy is a copy whose devices are for changing and whose lists are not nil;
// answers of different hosts may share theirs.
func smdCopy(info storage.SMDInfo) *storage.SMDInfo {
	info.Devices = append([]storage.SMDDevice{}, info.Devices...)
	for i := range info.Devices {
		d := &info.Devices[i]
		d.TargetIDs = append([]int32{}, d.TargetIDs...)
		if d.Controller != nil {
			c := *d.Controller
			c.Namespaces = append([]storage.NVMeNamespace{}, c.Namespaces...)
			c.SMDDevices = append([]storage.SMDDevice{}, c.SMDDevices...)
			d.Controller = &c
		}
	}
	if info.Pools == nil {
		info.Pools = make(map[string][]storage.SMDPool)
	}
	return &info
}

func printSmdDevices(w io.Writer, info storage.SMDInfo) {
	if len(info.Devices) == 0 {
		fmt.Fprintf(w, "  No devices found\n\n")
		return
	}
	fmt.Fprintln(w, "  Devices")
	for _, d := range info.Devices {
		place, led := "", "NA"
		if c := d.Controller; c != nil {
			if led = c.LEDState; c.PCIAddr != "" {
				place = " [TrAddr:" + c.PCIAddr
				if d.NamespaceID > 0 {
					place += fmt.Sprintf(" NSID:%d", d.NamespaceID)
				}
				place += "]"
			}
		}
		system := ""
		if d.HasSysXS {
			system = "SysXS "
		}
		fmt.Fprintf(w, "    UUID:%s%s\n", d.UUID, place)
		fmt.Fprintf(w, "      Roles:%s %sTargets:%v Rank:%d State:%s LED:%s\n", orElse(d.Roles, "NA"), system, d.TargetIDs, d.Rank, stateOf(d), orElse(led, "NA"))
		if d.Controller != nil && d.Controller.HealthStats != nil {
			printHealthStats(&indenter{w: w, indent: "      "}, d.Controller.HealthStats)
		}
	}
	fmt.Fprintln(w)
}

func printSmdPools(w io.Writer, info storage.SMDInfo, verbose bool) {
	if len(info.Pools) == 0 {
		fmt.Fprintf(w, "  No pools with NVMe found\n\n")
		return
	}
	fmt.Fprintln(w, "  Pools")
	for _, id := range slices.Sorted(maps.Keys(info.Pools)) {
		fmt.Fprintf(w, "    UUID:%s\n", id)
		for _, part := range info.Pools[id] {
			fmt.Fprintf(w, "      Rank:%d Targets:%v", part.Rank, part.TargetIDs)
			if verbose {
				fmt.Fprintf(w, " Blobs:%v", part.Blobs)
			}
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintln(w)
}

// indenter indents every line that is written.
type indenter struct {
	w      io.Writer
	indent string
}

func (i *indenter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if _, err := io.WriteString(i.w, i.indent+line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
