package dmg

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/dustin/go-humanize"
)

// planSizes finds the one way in which the sizes were given.
func (o *poolCreateOptions) planSizes(_ *app, plan *poolPlan) error {
	byTotal, byTier, byMeta := o.size != "", o.scmSize != "" || o.nvmeSize != "", o.metaSize != "" || o.dataSize != ""
	switch {
	case byTotal && byTier:
		return exclusive("--size", "--scm-size or --nvme-size")
	case byTotal && byMeta:
		return exclusive("--size", "--meta-size or --data-size")
	case byTier && byMeta:
		return exclusive("--scm-size or --nvme-size", "--meta-size or --data-size")
	case byTier && o.memRatio != "":
		return exclusive("--scm-size", "--mem-ratio")
	case (byTier || byMeta) && o.tierRatio != "":
		return exclusive("--tier-ratio", "sizes of tiers")
	case (byTier || byMeta) && o.nranks > 0:
		return exclusive("--nranks", "sizes of tiers")
	}
	if err := o.planMemory(plan); err != nil {
		return err
	}
	switch {
	case byTotal:
		return o.planTotal(plan)
	case byTier:
		return o.planTiers(plan)
	case byMeta:
		return o.planMetadata(plan)
	}
	return fault.New(fault.Usage, "cannot create a pool without a size").
		WithHint("give --size (a total or a share such as 50%%), or --scm-size and --nvme-size, or --meta-size and --data-size")
}

func (o *poolCreateOptions) planMemory(plan *poolPlan) error {
	if o.memRatio == "" {
		return nil
	}
	var err error
	plan.req.MemRatio, err = parseMemRatio(o.memRatio)
	return err
}

// parseMemRatio reads the share of metadata that is held in memory as a part of
// one; what of it is not may stand behind it.
func parseMemRatio(text string) (float64, error) {
	r, err := parseRatio(text)
	if err != nil {
		return 0, err
	}
	if len(r) > 2 || r[0] == 0 {
		return 0, fault.New(fault.Usage, "cannot use --mem-ratio=%q: want one percentage above 0", brief(text)).
			WithHint("write the share of metadata that is held in memory, such as 50%%")
	}
	return float64(r[0]) / whole, nil
}

const defaultTierRatio = "6,94"

func (o *poolCreateOptions) planTotal(plan *poolPlan) error {
	size, err := parsePoolSize(o.size)
	if err != nil {
		return err
	}
	if size.Percent > 0 {
		switch {
		case o.nranks > 0:
			return exclusive("--nranks", "a share as --size")
		case o.tierRatio != "":
			return exclusive("--tier-ratio", "a share as --size")
		}
		plan.share = size.Percent
		plan.mode = fmt.Sprintf("share of storage, %d%% of what is free on each rank", size.Percent)
		return nil
	}
	text := o.tierRatio
	if text == "" {
		text = defaultTierRatio
	}
	r, err := parseRatio(text)
	if err != nil {
		return err
	}
	if len(r) > 2 {
		return fault.New(fault.Usage, "cannot use tier ratio %s: there are two tiers", r)
	}
	if len(r) == 1 {
		r = append(r, 0)
	}
	plan.req.TotalBytes, plan.req.TierRatio = size.Bytes, r.fractions()
	plan.mode = fmt.Sprintf("automatic sizes, %s in total, tier ratio %s", humanize.Bytes(size.Bytes), r)
	plan.noticeTiers(uint64(r[0]), uint64(r[1]))
	return nil
}

func (o *poolCreateOptions) planTiers(plan *poolPlan) (err error) {
	if o.scmSize == "" {
		return fault.New(fault.Usage, "cannot create a pool with --nvme-size alone").WithHint("give --scm-size too")
	}
	if plan.req.TierBytes, err = sizes(o.scmSize, o.nvmeSize); err != nil {
		return err
	}
	scm, nvme := plan.req.TierBytes[0], plan.req.TierBytes[1]
	plan.mode = fmt.Sprintf("manual sizes, %s SCM and %s NVMe on each engine", humanize.Bytes(scm), humanize.Bytes(nvme))
	plan.noticeTiers(scm, nvme)
	return nil
}

func (o *poolCreateOptions) planMetadata(plan *poolPlan) (err error) {
	if o.metaSize == "" {
		return fault.New(fault.Usage, "cannot create a pool with --data-size alone").WithHint("give --meta-size too")
	}
	if plan.req.TierBytes, err = sizes(o.metaSize, o.dataSize); err != nil {
		return err
	}
	if plan.req.MemRatio == 0 {
		plan.req.MemRatio = 1
	}
	plan.mode = fmt.Sprintf("metadata on SSD, %s metadata and %s data on each engine, memory ratio %s",
		humanize.Bytes(plan.req.TierBytes[0]), humanize.Bytes(plan.req.TierBytes[1]), percent(int(plan.req.MemRatio*whole+0.5)))
	return nil
}

// sizes reads the sizes of both tiers; the second may be left out, the first not.
func sizes(first, second string) ([]uint64, error) {
	one, err := parseSize(first)
	if err != nil {
		return nil, err
	}
	if one == 0 {
		return nil, fault.New(fault.Usage, "cannot create a pool with 0 bytes in the first tier")
	}
	if second == "" {
		return []uint64{one, 0}, nil
	}
	two, err := parseSize(second)
	return []uint64{one, two}, err
}

// noticeTiers tells what sizes that work may cost.
func (p *poolPlan) noticeTiers(scm, nvme uint64) {
	switch {
	case nvme == 0:
		p.notices = append(p.notices, "no NVMe is asked for: the pool lives in SCM alone")
	case float64(scm) < float64(nvme)/100:
		p.notices = append(p.notices, "SCM is less than 1 % of NVMe: the pool may be slow and short of room for metadata")
	}
}

// resolve turns the share into sizes: each tier gets it of what the rank with the
// least has free, so that all ranks can give the same.
func (p *poolPlan) resolve(ctx context.Context, a *app) error {
	members, err := p.members(ctx, a)
	if err != nil {
		return err
	}
	client, err := a.client("")
	if err != nil {
		return err
	}
	hosts := hostlist.Of()
	for _, m := range members {
		hosts.Add(m.Addr)
	}
	scan := askHosts(ctx, a, client, "pool create: storage scan", hosts.Hosts(), control.StorageScan, control.StorageScanReq{Usage: true, MemRatio: p.req.MemRatio})
	if err := scan.err(); err != nil {
		scan.failed.print(a.Stderr)
		return failed(creating, fault.Wrap(fault.Of(err), err, "cannot tell what is free on %s", scan.failed.all))
	}
	var found []control.StorageScanResp
	for _, answer := range scan.answers {
		found = append(found, answer.value)
	}
	ranks := hostlist.Ranks()
	for _, m := range members {
		ranks.Add(m.Rank)
	}
	p.req.TierBytes, err = shareOf(p.share, p.req.MemRatio, freeOf(found), ranks)
	if err != nil {
		return failed(creating, err)
	}
	p.noticesOfShare(a)
	return nil
}

func (p *poolPlan) noticesOfShare(a *app) {
	p.notices = nil
	p.noticeTiers(p.req.TierBytes[0], p.req.TierBytes[1])
	for _, notice := range p.notices {
		a.Notice("%s", notice)
	}
}

// members are the ranks that the pool will use, with the hosts they live on.
func (p *poolPlan) members(ctx context.Context, a *app) ([]cluster.Member, error) {
	req := &control.SystemQueryReq{Target: p.req.Target, States: cluster.StatesAvailable}
	resp, err := ask(ctx, a, creating, control.SystemQuery, req)
	if err != nil {
		return nil, err
	}
	missing := hostlist.Ranks(p.req.Ranks.Slice()...)
	members := slices.DeleteFunc(resp.Members, func(m cluster.Member) bool {
		if m.State&cluster.StatesAvailable == 0 || p.req.Ranks != nil && !p.req.Ranks.Contains(m.Rank) {
			return true
		}
		missing.Remove(m.Rank)
		return false
	})
	if missing.Len() > 0 || len(members) == 0 {
		return nil, failed(creating, fault.New(fault.NotFound, "cannot use rank(s) %s: not joined", missing).WithHint("see the ranks with `dmg system query`"))
	}
	return members, nil
}

// rankFree is what pools can use on a rank.
type rankFree struct {
	scm     uint64
	hasSCM  bool
	unsized bool // what is free is not known for all of it
	unfit   bool // a device is out of order
	devices []deviceFree
	fault   *fault.Error // why it is not known
}

type deviceFree struct {
	bytes, cluster uint64
	meta, data     bool
}

// freeOf gathers what hosts report by rank.
func freeOf(hosts []control.StorageScanResp) map[hostlist.Rank]*rankFree {
	free := make(map[hostlist.Rank]*rankFree)
	of := func(rank hostlist.Rank) *rankFree {
		if free[rank] == nil {
			free[rank] = new(rankFree)
		}
		return free[rank]
	}
	for _, host := range hosts {
		for _, m := range host.Storage.SCMMountPoints {
			f := of(hostlist.Rank(m.Rank))
			f.scm, f.hasSCM = m.UsableBytes, true
		}
		for _, controller := range host.Storage.NVMeDevices {
			for _, d := range controller.SMDDevices {
				of(hostlist.Rank(d.Rank)).addDevice(controller.DevState, d)
			}
		}
		for _, e := range host.Faults {
			if rank, err := strconv.ParseUint(e.Data[control.DataRank], 10, 32); err == nil {
				f := of(hostlist.Rank(rank))
				f.unsized, f.fault = true, e
			}
		}
	}
	return free
}

// addDevice adds a device of the rank; one that no target uses does not count.
func (f *rankFree) addDevice(state string, d storage.SMDDevice) {
	if len(d.TargetIDs) == 0 && d.RoleBits == 0 {
		return
	}
	roles := storage.Roles(d.RoleBits)
	f.unfit = f.unfit || state != deviceNormal
	f.unsized = f.unsized || state == deviceNormal && d.TotalBytes == 0
	f.devices = append(f.devices, deviceFree{bytes: d.UsableBytes, cluster: d.ClusterSize,
		meta: roles&storage.RoleMeta != 0, data: roles == 0 || roles&storage.RoleData != 0})
}

// deviceNormal is the state of a device that works.
const deviceNormal = "NORMAL"

const mebibyte = 1 << 20

// tiers are the parts of both tiers that a share of percent asks of the rank.
// Where metadata lives on SSDs the first tier is bounded by the memory that
// mirrors it and by its own SSDs; where they hold data too, servers have left its
// room out of what is usable for that.
func (f *rankFree) tiers(percent uint64, memRatio float64) (first, second uint64) {
	first = part(f.scm, percent, mebibyte)
	if slices.ContainsFunc(f.devices, func(d deviceFree) bool { return d.meta }) && memRatio > 0 {
		first = part(uint64(float64(first)/memRatio), whole/100, mebibyte)
	}
	var meta uint64 // on SSDs of its own
	for _, d := range f.devices {
		switch {
		case d.data:
			second += part(d.bytes, percent, max(d.cluster, mebibyte))
		case d.meta:
			meta += part(d.bytes, percent, mebibyte)
		}
	}
	if meta > 0 {
		first = min(first, meta)
	}
	return first, second
}

// holdsData reports whether the rank has devices for data at all.
func (f *rankFree) holdsData() bool {
	return slices.ContainsFunc(f.devices, func(d deviceFree) bool { return d.data })
}

// part is a percentage of size, cut to whole units; it cannot overflow.
func part(size, percent, unit uint64) uint64 {
	bytes := size/100*percent + size%100*percent/100
	return bytes / unit * unit
}

// shareOf is what every one of the ranks can give of both tiers.
func shareOf(percent uint64, memRatio float64, free map[hostlist.Rank]*rankFree, ranks *hostlist.RankSet) ([]uint64, error) {
	var least []uint64
	unknown, unfit, full := hostlist.Ranks(), hostlist.Ranks(), hostlist.Ranks()
	var reason *fault.Error
	for _, rank := range ranks.Slice() {
		f := free[rank]
		if f == nil || !f.hasSCM || f.unsized {
			unknown.Add(rank)
			if f != nil && f.fault != nil {
				reason = f.fault
			}
			continue
		}
		first, second := f.tiers(percent, memRatio)
		switch {
		case f.unfit:
			unfit.Add(rank)
		case first == 0 || second == 0 && f.holdsData():
			full.Add(rank)
		}
		if least == nil {
			least = []uint64{first, second}
		}
		least[0], least[1] = min(least[0], first), min(least[1], second)
	}
	switch {
	case unknown.Len() > 0:
		err := fault.New(fault.NotReady, "cannot tell what is free on rank(s) %s", unknown)
		if reason != nil {
			err.What += ": " + reason.What
		}
		return nil, err.WithHint("see `dmg storage query usage`, or leave these ranks out with --ranks")
	case unfit.Len() > 0:
		return nil, fault.New(fault.NotReady, "cannot use %d%% of the storage: a device of rank(s) %s is out of order", percent, unfit).
			WithHint("see `dmg storage query list-devices`, and leave these ranks out with --ranks")
	case full.Len() > 0:
		return nil, fault.New(fault.NoSpace, "cannot use %d%% of the storage: that is nothing on rank(s) %s", percent, full).
			WithHint("see `dmg storage query usage`; leave full ranks out with --ranks, or destroy a pool that nobody needs")
	}
	return least, nil
}
