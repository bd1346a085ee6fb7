package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

var errCrashed = errors.New("the machine has lost power")

// simDisk is what a node's disk holds over its lives, and its faults.
type simDisk struct {
	mu    sync.Mutex
	rand  *rand.Rand
	life  int // grows with every crash: writes of an earlier life are lost
	logs  map[uint64]raft.Log
	kv    map[string][]byte
	nums  map[string]uint64
	snaps []*simSnapshot // newest first

	slow     time.Duration // greatest time of a write
	full     bool          // nothing can be added
	readOnly bool          // nor removed
}

type simSnapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

func newSimDisk(seed, n uint64) *simDisk {
	d := &simDisk{rand: rand.New(rand.NewPCG(seed, n))}
	d.heal()
	d.wipe()
	return d
}

func (d *simDisk) heal() {
	d.set(func() { d.slow, d.full, d.readOnly = 2*time.Millisecond, false, false })
}

// wipe is a new disk in place of the old one.
func (d *simDisk) wipe() {
	d.set(func() {
		d.logs, d.kv, d.nums, d.snaps = map[uint64]raft.Log{}, map[string][]byte{}, map[string]uint64{}, nil
	})
}

func (d *simDisk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *simDisk) crash() { d.set(func() { d.life++ }) }

// open returns the stores of a new life.
func (d *simDisk) open() *Stores {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &simStore{disk: d, life: d.life}
	return &Stores{Log: s, Stable: s, Snapshots: s}
}

// simStore is a disk as one life of its node sees it.
type simStore struct {
	disk *simDisk
	life int
}

// write takes the time of a write and does it, if the disk can. torn is done in
// its place when the machine crashes meanwhile.
func (s *simStore) write(remove bool, do func(), torn func()) error {
	d := s.disk
	d.mu.Lock()
	took := time.Duration(d.rand.Int64N(int64(d.slow)))
	d.mu.Unlock()
	time.Sleep(took)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case s.life != d.life:
		if torn != nil && d.life == s.life+1 {
			torn()
		}
		return errCrashed
	case d.readOnly:
		return unix.EROFS
	case d.full && !remove:
		return unix.ENOSPC
	}
	do()
	return nil
}

func (d *simDisk) bounds() (first, last uint64) {
	for index := range d.logs {
		if first == 0 || index < first {
			first = index
		}
		last = max(last, index)
	}
	return first, last
}

func (s *simStore) FirstIndex() (uint64, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	first, _ := s.disk.bounds()
	return first, nil
}

func (s *simStore) LastIndex() (uint64, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	_, last := s.disk.bounds()
	return last, nil
}

func (s *simStore) GetLog(index uint64, entry *raft.Log) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	found, ok := s.disk.logs[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*entry = found
	return nil
}

func (s *simStore) IsMonotonic() bool { return true }

func (s *simStore) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs writes a batch. A crash meanwhile leaves any part of its beginning.
func (s *simStore) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	var gap error
	put := func(entries []*raft.Log) {
		_, last := s.disk.bounds()
		if last != 0 && entries[0].Index != last+1 {
			gap = fmt.Errorf("entry %d after %d", entries[0].Index, last)
			return
		}
		for _, e := range entries {
			kept := *e
			kept.Data, kept.Extensions = bytes.Clone(e.Data), bytes.Clone(e.Extensions)
			s.disk.logs[e.Index] = kept
		}
	}
	err := s.write(false, func() { put(entries) }, func() {
		if n := s.disk.rand.IntN(len(entries) + 1); n > 0 {
			put(entries[:n])
		}
	})
	return errors.Join(err, gap)
}

func (s *simStore) DeleteRange(from, to uint64) error {
	return s.write(true, func() {
		for index := from; index <= to; index++ {
			delete(s.disk.logs, index)
		}
	}, nil)
}

func (s *simStore) Set(key, value []byte) error {
	return s.write(false, func() { s.disk.kv[string(key)] = bytes.Clone(value) }, nil)
}

func (s *simStore) SetUint64(key []byte, value uint64) error {
	return s.write(false, func() { s.disk.nums[string(key)] = value }, nil)
}

var errNotFound = errors.New("not found")

func (s *simStore) Get(key []byte) ([]byte, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if value, ok := s.disk.kv[string(key)]; ok {
		return value, nil
	}
	return nil, errNotFound
}

func (s *simStore) GetUint64(key []byte) (uint64, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if value, ok := s.disk.nums[string(key)]; ok {
		return value, nil
	}
	return 0, errNotFound
}

// Create implements raft.SnapshotStore.
func (s *simStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &simSink{store: s, meta: raft.SnapshotMeta{Version: version, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term,
		Configuration: conf, ConfigurationIndex: confIndex}}, nil
}

func (s *simStore) List() ([]*raft.SnapshotMeta, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	var all []*raft.SnapshotMeta
	for _, snap := range s.disk.snaps {
		meta := snap.meta
		all = append(all, &meta)
	}
	return all, nil
}

func (s *simStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	for _, snap := range s.disk.snaps {
		if snap.meta.ID == id {
			meta := snap.meta
			return &meta, io.NopCloser(bytes.NewReader(snap.data)), nil
		}
	}
	return nil, nil, fmt.Errorf("no snapshot %s", id)
}

// simSink is a snapshot that is being written; only Close makes it durable.
type simSink struct {
	bytes.Buffer
	store *simStore
	meta  raft.SnapshotMeta
	ended bool
}

func (k *simSink) ID() string    { return k.meta.ID }
func (k *simSink) Cancel() error { k.ended = true; return nil }

func (k *simSink) Close() error {
	if k.ended {
		return nil
	}
	k.ended = true
	k.meta.Size = int64(k.Len())
	return k.store.write(false, func() {
		d := k.store.disk
		d.snaps = append([]*simSnapshot{{meta: k.meta, data: k.Bytes()}}, d.snaps...)
		slices.SortStableFunc(d.snaps, func(a, b *simSnapshot) int { return int(b.meta.Index) - int(a.meta.Index) })
		d.snaps = d.snaps[:min(len(d.snaps), snapshotsKept)]
	}, nil)
}

// filled reports whether there is more than the first entry.
func (d *simDisk) filled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, last := d.bounds()
	return last > firstIndex
}

// numbers returns what is noted, for a test's messages.
func (d *simDisk) numbers() map[string]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.nums)
}
