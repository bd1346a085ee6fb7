package cluster

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

var errDisk = errors.New("no space left on device")

// sickStable and sickLog fail while they are told to.
type sickStable struct {
	raft.StableStore
	full *atomic.Bool
}

func (s sickStable) SetUint64(key []byte, value uint64) error {
	if s.full.Load() {
		return errDisk
	}
	return s.StableStore.SetUint64(key, value)
}

type sickLog struct {
	raft.LogStore
	unreadable *atomic.Bool
}

func (s sickLog) GetLog(index uint64, entry *raft.Log) error {
	if s.unreadable.Load() {
		return errDisk
	}
	return s.LogStore.GetLog(index, entry)
}

func sick(t *testing.T) (r *replica, full, unreadable *atomic.Bool) {
	full, unreadable = new(atomic.Bool), new(atomic.Bool)
	store := raft.NewInmemStore()
	all := newReplicas(t, 1, func(c *Config) {
		c.Stores = &Stores{Log: sickLog{store, unreadable}, Stable: sickStable{store, full}, Snapshots: raft.NewInmemSnapshotStore()}
	})
	return all[0], full, unreadable
}

// A full disk stops neither the process nor the replica for good; the replica can
// be stopped meanwhile.
func TestFullDisk(t *testing.T) {
	is := is.New(t)
	r, full, _ := sick(t)
	r.start()
	leaderOf(t, []*replica{r})
	r.kill()
	full.Store(true)
	r.start() // cannot note its term
	_, err := r.s.Read(shortly(t, 2*quick.Election))
	is.Equal(fault.Of(err), fault.NotReady)
	r.kill()
	r.start()
	full.Store(false)
	leaderOf(t, []*replica{r})
}

// An entry that cannot be read ends the replica with a fault, not the process.
func TestUnreadableEntry(t *testing.T) {
	is := is.New(t)
	r, _, unreadable := sick(t)
	r.start()
	leaderOf(t, []*replica{r})
	r.kill()
	ln, err := net.Listen("tcp", r.cfg.Self)
	is.NoErr(err)
	r.cfg.Listener = ln
	s, err := Open(r.cfg)
	is.NoErr(err)
	unreadable.Store(true)
	is.Equal(fault.Of(s.Run(t.Context())), fault.Corrupt)
	r.cfg.Listener = nil
}
