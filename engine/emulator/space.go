package emulator

import (
	"slices"

	"daosbox/engine/drpc"
)

// Sizes in bytes. What a real engine keeps for itself was measured on captured
// pools: 41 MiB of a target's SCM and 40 MiB of its NVMe are never free.
const (
	scmReserved      = 16 << 20 // of the mount: superblock, raft database, system database
	minTargetSCM     = 16 << 20
	targetOwnSCM     = 41<<20 + 256<<10
	targetOwnNVMe    = 40<<20 + 4<<10
	defaultCluster   = 1 << 30
	smallCluster     = 32 << 20 // of devices too small for the default
	smallDevice      = 3 << 30
	superblockOnNVMe = 8 << 20 // what the blobstore keeps of a device
	minWAL           = 256 << 20
	maxWAL           = 6 << 30
)

// device is a block device with what is fixed about it.
type device struct {
	UUID    string `json:"uuid"`
	Name    string `json:"name"`
	Path    string `json:"path,omitempty"`
	Faulty  bool   `json:"faulty,omitempty"`
	size    uint64
	cluster uint64
	roles   int
}

// total is the space for blobs: whole clusters beside the blobstore's own.
func (d *device) total() uint64 {
	if d.size < superblockOnNVMe {
		return 0
	}
	return (d.size - superblockOnNVMe) / d.cluster * d.cluster
}

func clusterOf(size, configured uint64) uint64 {
	switch {
	case configured != 0:
		return configured
	case size < smallDevice:
		return smallCluster
	}
	return defaultCluster
}

// allocation is what one pool takes of a rank.
type allocation struct {
	SCM  uint64            `json:"scm"`
	NVMe map[string]uint64 `json:"nvme,omitempty"` // by device UUID
}

// ledger knows a rank's capacity. It is pure: who allocates tells it what is
// allocated.
type ledger struct {
	devices []*device
}

// mdOnSSD reports whether metadata lives on the block devices, the SCM being
// memory that is filled from them.
func (l *ledger) mdOnSSD() bool {
	return slices.ContainsFunc(l.devices, func(d *device) bool { return d.roles&roleMeta != 0 })
}

func (l *ledger) role(bit int) []*device {
	var found []*device
	for _, d := range l.devices {
		if d.roles == 0 && bit == roleData || d.roles&bit != 0 {
			found = append(found, d)
		}
	}
	return found
}

// demand computes what a pool of the given tier sizes takes: tier 0 from SCM (or,
// with metadata on SSD, from the metadata devices, and its memory files from
// SCM), tier 1 from the data devices, each target's share in whole clusters.
func (l *ledger) demand(targets int, tier0, tier1, memFile uint64) (allocation, error) {
	n := uint64(targets)
	a := allocation{SCM: tier0 / n * n, NVMe: make(map[string]uint64)}
	if tier0/n < minTargetSCM {
		return a, drpc.StatusInval
	}
	if l.mdOnSSD() {
		a.SCM = memFile / n * n
		if err := spread(a.NVMe, l.role(roleMeta), targets, tier0); err != nil {
			return a, err
		}
		if err := spread(a.NVMe, l.role(roleWAL), targets, n*walSize(tier0/n)); err != nil {
			return a, err
		}
	}
	return a, spread(a.NVMe, l.role(roleData), targets, tier1)
}

// spread gives each target its device in turn.
func spread(into map[string]uint64, devices []*device, targets int, bytes uint64) error {
	if bytes == 0 {
		return nil
	}
	if len(devices) == 0 {
		return drpc.StatusNoSpace
	}
	for t := range targets {
		d := devices[t%len(devices)]
		into[d.UUID] += roundUp(bytes/uint64(targets), d.cluster)
	}
	return nil
}

func roundUp(n, unit uint64) uint64 {
	if n > 1<<62 {
		return n // no device has that much; avoids the overflow below
	}
	return (n + unit - 1) / unit * unit
}

// fits checks a demand against what is free.
func (l *ledger) fits(a allocation, freeSCM uint64, used map[string]uint64) error {
	if a.SCM > freeSCM {
		return drpc.StatusNoSpace
	}
	for _, d := range l.devices {
		if want := a.NVMe[d.UUID]; want != 0 && (d.Faulty || want > d.total() || used[d.UUID] > d.total()-want) {
			return drpc.StatusNoSpace
		}
	}
	return nil
}

// walSize is the write-ahead log that metadata of the given size gets.
func walSize(meta uint64) uint64 {
	return min(max(2*min(meta, maxWAL), minWAL), maxWAL)
}

// usable is what is free of a target's share that holds no data.
func usable(share, own uint64) uint64 { return share - min(own, share/3) }
