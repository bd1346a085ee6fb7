package dmg

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

type storageUsageOptions struct {
	usable   bool
	memRatio string
	hosts    string
}

func storageUsageCommand(a *app) *cobra.Command {
	o := &storageUsageOptions{}
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "show how much of the storage of the servers is used",
		Long: `Show the size of the storage of the servers and how much of it is free. Where metadata
lives on SSDs there is a row for each rank and a column for each tier; --show-usable
then tells what is left for pools when their metadata has taken its part, which depends
on the share of it that is held in memory (--mem-ratio).

"dmg pool create LABEL --size=N%" takes its share of what is shown here.`,
		Example: examples("dmg storage query usage", "dmg storage query usage -l node[1-8]", "dmg storage query usage --show-usable --mem-ratio 50%"),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runStorageUsage(cmd.Context(), a, o) },
	}
	cmd.Flags().BoolVarP(&o.usable, "show-usable", "u", false, "where metadata lives on SSDs: show what pools can use instead of what is free")
	cmd.Flags().StringVar(&o.memRatio, "mem-ratio", "", "with --show-usable: `share` of metadata that is held in memory (default 100%)")
	hostsFlag(a, cmd, &o.hosts)
	relayFlag(a, cmd)
	return cmd
}

func runStorageUsage(ctx context.Context, a *app, o *storageUsageOptions) error {
	req := control.StorageScanReq{Usage: true}
	if o.memRatio != "" {
		if !o.usable {
			return fault.New(fault.Usage, "cannot use --mem-ratio without --show-usable").WithHint("add --show-usable")
		}
		var err error
		if req.MemRatio, err = parseMemRatio(o.memRatio); err != nil {
			return err
		}
	}
	got, err := fanOut(ctx, a, "storage query usage", o.hosts, control.StorageScan, req)
	if err != nil {
		return err
	}
	for _, one := range got.answers {
		got.failPartly(one.host, one.value.Faults, len(one.value.Storage.SCMMountPoints) > 0)
	}
	same := sameInOrder // free space is told
	if !a.JSON {
		same = sameUsage
	}
	return got.showStorage(a, storages(got.answers), same, func(w io.Writer, groups []group[storage.HostStorage]) {
		printUsage(a, w, o.usable, groups)
	})
}

// metaOnSSD reports whether a host keeps metadata on SSDs.
func metaOnSSD(s storage.HostStorage) bool {
	return slices.ContainsFunc(smdDevices(s), func(d storage.SMDDevice) bool { return d.RoleBits != 0 })
}

func smdDevices(s storage.HostStorage) (devices []storage.SMDDevice) {
	for _, c := range s.NVMeDevices {
		devices = append(devices, c.SMDDevices...)
	}
	return devices
}

// sameUsage reduces storage to what the table shows of it.
func sameUsage(s storage.HostStorage) any {
	if metaOnSSD(s) {
		return sameInOrder(s)
	}
	return usageRow(s)
}

// printUsage has a row for hosts with the same usage, and one for each rank where
// metadata lives on SSDs. Hosts without any storage are rows too.
func printUsage(a *app, w io.Writer, usable bool, groups []group[storage.HostStorage]) {
	var rows [][]string
	ranks := make(map[uint32]*rankUsage)
	for _, g := range groups {
		if metaOnSSD(g.value) {
			addRanks(ranks, g.value)
			continue
		}
		rows = append(rows, append([]string{g.title()}, usageRow(g.value)...))
	}
	if len(rows) > 0 {
		if usable {
			a.Notice("--show-usable is for systems whose metadata lives on SSDs; ignored for %d host(s)", hostsOf(groups))
		}
		cli.Table(w, "", []string{"Hosts", "SCM-Total", "SCM-Free", "SCM-Used", "NVMe-Total", "NVMe-Free", "NVMe-Used"}, rows)
	}
	if len(ranks) > 0 {
		if len(rows) > 0 {
			fmt.Fprintln(w)
		}
		printTiers(w, usable, ranks)
	}
}

// hostsOf counts the hosts whose metadata does not live on SSDs.
func hostsOf(groups []group[storage.HostStorage]) (count int) {
	for _, g := range groups {
		if !metaOnSSD(g.value) {
			count += g.hosts.Len()
		}
	}
	return count
}

// usageRow is the cells of a host beside its name.
func usageRow(s storage.HostStorage) []string {
	var scm, nvme space
	for _, m := range s.SCMMountPoints {
		scm.add(m.TotalBytes, m.AvailBytes)
	}
	for _, d := range smdDevices(s) {
		nvme.add(d.TotalBytes, d.AvailBytes)
	}
	return append(scm.cells(), nvme.cells()...)
}

// space is a size and what of it is free, in bytes.
type space struct {
	there       bool
	total, free uint64
}

func (s *space) add(total, free uint64) {
	s.there = true
	s.total += total
	s.free += min(free, total)
}

func (s space) cells() []string {
	used := uint64(0)
	if s.total > 0 {
		used = uint64(float64(s.total-s.free) / float64(s.total) * 100)
	}
	return []string{humanize.Bytes(s.total), humanize.Bytes(s.free), fmt.Sprintf("%d %%", used)}
}

// rankUsage is what a rank has in the tier of its metadata and, when that is
// another, of its data.
type rankUsage struct {
	tiers [2]space // as free
	left  [2]space // as usable
	roles [2]storage.Roles
}

func addRanks(ranks map[uint32]*rankUsage, s storage.HostStorage) {
	for _, d := range smdDevices(s) {
		roles := storage.Roles(d.RoleBits)
		tier := 0
		if roles&storage.RoleMeta == 0 {
			if roles&storage.RoleData == 0 {
				continue // a log only
			}
			tier = 1
		}
		r := ranks[d.Rank]
		if r == nil {
			r = new(rankUsage)
			ranks[d.Rank] = r
		}
		r.roles[tier] |= roles
		r.tiers[tier].add(d.TotalBytes, d.AvailBytes)
		r.left[tier].add(d.TotalBytes, d.UsableBytes)
	}
}

func printTiers(w io.Writer, usable bool, ranks map[uint32]*rankUsage) {
	var roles [2]storage.Roles
	for _, r := range ranks {
		roles[0] |= r.roles[0]
		roles[1] |= r.roles[1]
	}
	free := "Free"
	if usable {
		free = "Usable"
	}
	titles := []string{"Rank"}
	var tiers [][]string
	var shown []int // indices of tiers, which are numbered as they are shown
	for tier := range roles {
		if roles[tier] == 0 {
			continue
		}
		shown = append(shown, tier)
		name := fmt.Sprintf("T%d", len(shown))
		tiers = append(tiers, []string{name, roles[tier].String()})
		titles = append(titles, name+"-Total", name+"-"+free, name+"-Usage")
	}
	cli.Table(w, "", []string{"Tier", "Roles"}, tiers)
	fmt.Fprintln(w)
	var rows [][]string
	for _, rank := range slices.Sorted(maps.Keys(ranks)) {
		row := []string{strconv.FormatUint(uint64(rank), 10)}
		for _, tier := range shown {
			s := ranks[rank].tiers[tier]
			if usable {
				s = ranks[rank].left[tier]
			}
			if !s.there {
				row = append(row, "-", "-", "-")
				continue
			}
			row = append(row, s.cells()...)
		}
		rows = append(rows, row)
	}
	cli.Table(w, "", titles, rows)
}
