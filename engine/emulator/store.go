package emulator

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
)

// Names below the SCM mount.
const (
	dirNewborns = "NEWBORNS" // pools under construction
	dirZombies  = "ZOMBIES"  // pools being removed
	dirSystem   = "daos_sys"
	fileEngine  = "emulator.json" // in dirSystem
	fileShard   = "shard.json"
	fileReplica = "rdb-pool"
)

// shard is what this rank holds of a pool.
type shard struct {
	UUID    string     `json:"uuid"`
	Targets int        `json:"targets"`
	SCM     uint64     `json:"scm_bytes"`  // tier 0, as asked
	NVMe    uint64     `json:"nvme_bytes"` // tier 1, as asked
	MemFile uint64     `json:"mem_file_bytes"`
	Takes   allocation `json:"takes"`
}

// engineState is what an emulator remembers of itself.
type engineState struct {
	Incarnation uint64    `json:"incarnation"`
	Devices     []*device `json:"devices"`
}

// store is everything that this rank keeps on its SCM mount. Its methods may be
// called from any goroutine.
type store struct {
	root     string
	capacity uint64 // of SCM in bytes, 0 = ask the file system
	log      *slog.Logger

	mu       sync.Mutex
	ledger   ledger
	state    engineState
	shards   map[string]*shard
	replicas map[string]*service
	damaged  uint64 // bytes of SCM held by pools that cannot be read
}

// openStore opens the state below root, finishing or undoing what a kill left
// half done. Bad pool files are logged, left alone and still take their space.
func openStore(root string, capacity uint64, bdevs []bdev, clusterMiB uint64, log *slog.Logger) (*store, error) {
	s := &store{root: root, capacity: capacity, log: log, shards: make(map[string]*shard), replicas: make(map[string]*service)}
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, fault.Wrap(fault.Engine, err, "cannot use SCM mount %s", root).WithHint("format the storage of this host first")
	}
	for _, name := range []string{dirNewborns, dirZombies} {
		if err := errors.Join(os.RemoveAll(s.path(name)), os.Mkdir(s.path(name), 0o770)); err != nil {
			return nil, fault.Wrap(fault.Engine, err, "cannot prepare SCM mount %s", root)
		}
	}
	if err := os.MkdirAll(s.path(dirSystem), 0o770); err != nil {
		return nil, fault.Wrap(fault.Engine, err, "cannot prepare SCM mount %s", root)
	}
	if err := s.openDevices(bdevs, clusterMiB<<20); err != nil {
		return nil, err
	}
	return s, s.openPools()
}

func (s *store) path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

// openDevices gives each device of the configuration the UUID it had before.
func (s *store) openDevices(bdevs []bdev, cluster uint64) error {
	path := s.path(dirSystem, fileEngine)
	if err := readState(path, &s.state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Corrupt, err, "cannot read engine state %s", path).
			WithHint("the file belongs to the emulator: remove it to give the devices new identities")
	}
	known := make(map[string]*device)
	for _, d := range s.state.Devices {
		if d != nil {
			known[d.Name+"\x00"+d.Path] = d
		}
	}
	s.state.Devices = nil
	for _, b := range bdevs {
		d := known[b.name+"\x00"+b.path]
		if d == nil {
			d = &device{UUID: uuid.NewString(), Name: b.name, Path: b.path}
		}
		d.size, d.roles, d.cluster = b.size, b.roles(), clusterOf(b.size, cluster)
		s.state.Devices = append(s.state.Devices, d)
	}
	s.ledger.devices = s.state.Devices
	return nil
}

func (s *store) openPools() error {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return fault.Wrap(fault.Engine, err, "cannot list SCM mount %s", s.root)
	}
	for _, entry := range entries {
		id := entry.Name()
		if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id || !entry.IsDir() {
			continue
		}
		if err := s.openPool(id); err != nil {
			s.log.Error("cannot open pool, leaving it alone", "pool", id, "err", err)
			s.damaged += dirSize(s.path(id))
		}
	}
	return nil
}

func (s *store) openPool(id string) error {
	held := new(shard)
	if err := readState(s.path(id, fileShard), held); err != nil {
		return err
	}
	if held.UUID != id || held.Targets < 1 || held.Targets > maxTargets {
		return fmt.Errorf("%s does not describe this pool", fileShard)
	}
	svc := new(service)
	switch err := readState(s.path(id, fileReplica), svc); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case svc.UUID != id || len(svc.Ranks) == 0:
		return fmt.Errorf("%s does not describe this pool", fileReplica)
	default:
		s.replicas[id] = svc
	}
	s.shards[id] = held
	return nil
}

func dirSize(path string) (bytes uint64) {
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			bytes += uint64(info.Size())
		}
	}
	return bytes
}

// born takes the incarnation of this process life and remembers it, so that the
// next one is larger even when the clock goes back.
func (s *store) born(next func(last uint64) uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Incarnation = next(s.state.Incarnation)
	return s.state.Incarnation, s.saveStateLocked()
}

func (s *store) saveStateLocked() error {
	path := s.path(dirSystem, fileEngine)
	if err := writeState(path, &s.state); err != nil {
		return fault.Wrap(fault.Engine, err, "cannot write engine state %s", path)
	}
	return nil
}

// scmFreeLocked is the SCM that no pool holds. The file system's own idea counts
// the sparse files as nothing, hence the pools are subtracted from it.
func (s *store) scmFreeLocked() uint64 {
	capacity := s.capacity
	if capacity == 0 {
		var stat unix.Statfs_t
		if err := unix.Statfs(s.root, &stat); err != nil {
			s.log.Error("cannot ask the SCM mount for its size", "err", err)
			return 0
		}
		capacity = stat.Bavail * uint64(stat.Bsize)
	}
	taken := scmReserved + s.damaged
	for _, held := range s.shards {
		taken += held.Takes.SCM
	}
	return capacity - min(taken, capacity)
}

func (s *store) nvmeUsedLocked() map[string]uint64 {
	used := make(map[string]uint64)
	for _, held := range s.shards {
		for id, bytes := range held.Takes.NVMe {
			used[id] += bytes
		}
	}
	return used
}

// create makes this rank's shard of a pool; -1004 when it is there already,
// -1007 when it does not fit.
func (s *store) create(held shard) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.shards[held.UUID]; ok {
		return drpc.StatusExist
	}
	takes, err := s.ledger.demand(held.Targets, held.SCM, held.NVMe, held.MemFile)
	if err != nil {
		return err
	}
	if err := s.ledger.fits(takes, s.scmFreeLocked(), s.nvmeUsedLocked()); err != nil {
		return err
	}
	held.Takes = takes
	newborn := s.path(dirNewborns, held.UUID)
	if err := s.buildLocked(newborn, &held); err != nil {
		_ = os.RemoveAll(newborn)
		return storeError(err)
	}
	s.shards[held.UUID] = &held
	return nil
}

func (s *store) buildLocked(newborn string, held *shard) error {
	if err := os.Mkdir(newborn, 0o770); err != nil {
		return err
	}
	for t := range held.Targets {
		path := filepath.Join(newborn, "vos-"+strconv.Itoa(t))
		if err := makeSparse(path, held.Takes.SCM/uint64(held.Targets)); err != nil {
			return err
		}
	}
	if err := writeState(filepath.Join(newborn, fileShard), held); err != nil {
		return err
	}
	if err := os.Rename(newborn, s.path(held.UUID)); err != nil {
		return err
	}
	return syncDir(s.root)
}

// destroy removes this rank's shard and replica; a pool that is not here is no
// error.
func (s *store) destroy(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.shards[id]; !ok {
		return nil
	}
	zombie := s.path(dirZombies, id)
	if err := os.Rename(s.path(id), zombie); err != nil {
		return storeError(err)
	}
	delete(s.shards, id)
	delete(s.replicas, id)
	return storeError(errors.Join(syncDir(s.root), os.RemoveAll(zombie)))
}

// storeError gives an error of the file system the status an engine would give.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", drpc.StatusNoSpace, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", drpc.StatusNoPerm, err)
	}
	return fmt.Errorf("%w: %w", drpc.StatusIO, err)
}

// shard returns what this rank holds of a pool.
func (s *store) shard(id string) (shard, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.shards[id]
	if !ok {
		return shard{}, false
	}
	return *held, true
}

// replica returns a copy of this rank's copy of a pool service.
func (s *store) replica(id string) (*service, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc, ok := s.replicas[id]
	if !ok {
		return nil, false
	}
	return svc.clone(), true
}

// replicaIDs lists the pools whose service has a replica here.
func (s *store) replicaIDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.replicas))
	for id := range s.replicas {
		ids = append(ids, id)
	}
	return ids
}

// saveReplica takes a newer copy of a pool service: one of a later term, or of
// the same term and a later version. -2007 otherwise.
func (s *store) saveReplica(svc *service) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.shards[svc.UUID]; !ok {
		return drpc.StatusNonexist
	}
	if have, ok := s.replicas[svc.UUID]; ok && !svc.newer(have) {
		return drpc.StatusStale
	}
	if err := writeState(s.path(svc.UUID, fileReplica), svc); err != nil {
		return storeError(err)
	}
	s.replicas[svc.UUID] = svc.clone()
	return nil
}

// dropReplica gives up this rank's replica of a pool service.
func (s *store) dropReplica(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.replicas[id]; !ok {
		return nil
	}
	delete(s.replicas, id)
	return storeError(errors.Join(os.Remove(s.path(id, fileReplica)), syncDir(s.path(id))))
}
