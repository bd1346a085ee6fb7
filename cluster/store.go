package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

const (
	// RaftDir is the name of the replica's directory, below the control metadata
	// or the first engine's SCM mount.
	RaftDir = "control_raft"

	dirMode     = 0o770
	lockFile    = "lock"
	segmentSize = 4 << 20
	// snapshotsKept is how many snapshots stay: the newest and one to fall back to.
	snapshotsKept = 2
)

// Stores is where a replica keeps its log, its vote and its snapshots.
type Stores struct {
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	// Close releases them, may be nil.
	Close func() error
}

func (s *Stores) close() error {
	if s.Close == nil {
		return nil
	}
	return s.Close()
}

// openStores opens the stores of a directory, making them when there are none.
// Damage is fault.Corrupt; nothing is deleted or overwritten then.
func openStores(dir string, logger hclog.Logger) (*Stores, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, storeFault(dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	if err := checkFiles(dir); err != nil {
		lock.Close()
		return nil, err
	}
	log, err := openWAL(dir, logger)
	if err != nil {
		lock.Close()
		return nil, err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, logger)
	if err != nil {
		log.Close()
		lock.Close()
		return nil, storeFault(filepath.Join(dir, "snapshots"), err)
	}
	return &Stores{Log: log, Stable: log, Snapshots: snapshots, Close: func() error {
		return errors.Join(log.Close(), lock.Close())
	}}, nil
}

// lockDir keeps a second process out; the kernel lets go of the lock when the
// process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o660)
	if err != nil {
		return nil, storeFault(path, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, fault.New(fault.Busy, "cannot open the system database in %s: another process has it open", dir).
			WithHint("stop the other daos_server of this host first")
	}
	return file, nil
}

// checkFiles refuses a directory in which opening would make good what cannot be
// made good: segments without the file that lists them would be deleted.
func checkFiles(dir string) error {
	meta := filepath.Join(dir, metadb.FileName)
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		return storeFault(dir, err)
	}
	info, err := os.Stat(meta)
	switch {
	case errors.Is(err, os.ErrNotExist):
		snapshots, _ := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
		if len(segments)+len(snapshots) > 0 {
			return storeFault(meta, errors.New("it is missing, but the log or snapshots are there"))
		}
		return nil
	case err != nil:
		return storeFault(meta, err)
	case info.Size() == 0:
		return storeFault(meta, errors.New("it is empty"))
	}
	for _, path := range append(segments, meta) {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return storeFault(path, err)
		}
		file.Close()
	}
	return nil
}

// storeFault names the damaged file and the way on.
func storeFault(path string, err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return fault.Wrap(fault.NoSpace, err, "cannot open the system database: %s", path).
			WithHint("make room on the file system of %s", filepath.Dir(path))
	}
	f := fault.Wrap(fault.Corrupt, err, "cannot open the system database: %s", path).WithData("file", path)
	if errors.Is(err, os.ErrPermission) {
		return f.WithHint("give the server's user read and write access to %s and everything in it", filepath.Dir(path))
	}
	return f.WithHint("nothing was changed; move the directory %s aside and start again: this replica then gets a copy from the others (with a single replica, put back a backup)", dirOf(path))
}

// dirOf returns the replica's directory that path is in.
func dirOf(path string) string {
	for dir := path; ; {
		if filepath.Base(dir) == RaftDir {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return filepath.Dir(path)
		}
		dir = up
	}
}

// openWAL opens the log. The list of segments is a memory-mapped tree: reading a
// damaged one may fault, which is caught and told like any other damage.
func openWAL(dir string, logger hclog.Logger) (log *fileLog, err error) {
	meta := filepath.Join(dir, metadb.FileName)
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			log, err = nil, storeFault(meta, fmt.Errorf("it is damaged (%v)", p))
		}
	}()
	named := &namingMeta{path: meta}
	opened, err := wal.Open(dir, wal.WithLogger(logger), wal.WithSegmentSize(segmentSize),
		wal.WithCodec(sumCodec{}), wal.WithMetaStore(named),
		wal.WithSegmentFiler(&namingFiler{Filer: segment.NewFiler(dir, fs.New()), dir: dir}))
	if err != nil {
		if named.open {
			named.Close()
		}
		if _, ok := fault.As(err); ok {
			return nil, err
		}
		return nil, storeFault(dir, err)
	}
	return &fileLog{WAL: opened, meta: named}, nil
}

// fileLog is a log that also closes its list of segments, which the log itself
// leaves open and locked.
type fileLog struct {
	*wal.WAL
	meta *namingMeta
}

// Close releases all files.
func (l *fileLog) Close() error { return errors.Join(l.WAL.Close(), l.meta.Close()) }

// namingMeta adds the file's name to what goes wrong with the list of segments.
type namingMeta struct {
	metadb.BoltMetaDB
	path string
	open bool
}

// Load implements types.MetaStore.
func (m *namingMeta) Load(dir string) (types.PersistentState, error) {
	state, err := m.BoltMetaDB.Load(dir)
	if err != nil {
		return state, storeFault(m.path, err)
	}
	m.open = true
	// The log notes its own codec for every segment, whatever codec it was given,
	// and refuses to open what another codec wrote. All segments here are ours.
	for i := range state.Segments {
		state.Segments[i].Codec = sumCodec{}.ID()
	}
	return state, nil
}

// namingFiler adds the segment's name to what goes wrong with it, and refuses a
// tail that recovery would write over although it holds data.
type namingFiler struct {
	*segment.Filer
	dir string
}

// asWritten returns what a segment's header says: see namingMeta.Load.
func asWritten(info types.SegmentInfo) types.SegmentInfo {
	info.Codec = wal.CodecBinaryV1
	return info
}

// Create implements types.SegmentFiler.
func (f *namingFiler) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	return f.Filer.Create(asWritten(info))
}

func (f *namingFiler) path(info types.SegmentInfo) string {
	return filepath.Join(f.dir, segment.FileName(info))
}

// Open implements types.SegmentFiler.
func (f *namingFiler) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	r, err := f.Filer.Open(asWritten(info))
	if err != nil {
		return nil, storeFault(f.path(info), err)
	}
	return r, nil
}

// RecoverTail implements types.SegmentFiler.
func (f *namingFiler) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	if err := checkTail(f.path(info), asWritten(info)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, err // expected after a crash; the caller makes the file
		}
		return nil, storeFault(f.path(info), err)
	}
	w, err := f.Filer.RecoverTail(asWritten(info))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, storeFault(f.path(info), err)
	}
	return w, err
}

// The layout of a segment (raft-wal, version 0): a header of 32 bytes, then
// frames of 8 bytes header and padded payload; a commit frame's checksum covers
// all since the commit before.
const (
	segHeader   = 32
	frameHeader = 8
	segMagic    = 0x58eb6b0d
	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkTail reads the unsealed segment before recovery does. Recovery takes any
// damage for a torn last write and goes on before it, which is right only if
// nothing whole comes after the damage: then acknowledged entries would be lost.
func checkTail(path string, info types.SegmentInfo) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	used := len(data)
	for used > 0 && data[used-1] == 0 {
		used--
	}
	if used == 0 {
		return nil // made, never written
	}
	if len(data) < segHeader {
		return errors.New("it is cut off within its header")
	}
	le := binary.LittleEndian
	if le.Uint64(data) != segMagic || le.Uint64(data[8:]) != info.BaseIndex ||
		le.Uint64(data[16:]) != info.ID || le.Uint64(data[24:]) != info.Codec {
		return errors.New("its header is damaged")
	}
	return checkFrames(data)
}

func checkFrames(data []byte) error {
	le := binary.LittleEndian
	start, damaged := 0, -1
	for at := segHeader; at+frameHeader <= len(data); {
		kind, word := data[at], le.Uint32(data[at+4:])
		switch kind {
		case frameEntry, frameIndex:
			if int64(word) > int64(len(data)-at-frameHeader) {
				return nil // torn, or the end of what can be followed
			}
			at += frameHeader + (int(word)+frameHeader-1)/frameHeader*frameHeader
			continue
		case frameCommit:
			if damaged >= 0 {
				return fmt.Errorf("the entries that end at byte %d are damaged, with whole ones after them", damaged)
			}
			if crc32.Checksum(data[start:at], castagnoli) != word {
				damaged = at
			}
			at += frameHeader
			start = at
			continue
		}
		return nil
	}
	return nil
}

// sumCodec adds a checksum to every entry, for the log checks its own only while
// it recovers the tail.
type sumCodec struct{ plain wal.BinaryCodec }

// ID implements wal.Codec.
func (sumCodec) ID() uint64 { return wal.FirstExternalCodecID + 1 }

type sumWriter struct {
	w   io.Writer
	sum uint32
}

func (s *sumWriter) Write(p []byte) (int, error) {
	s.sum = crc32.Update(s.sum, castagnoli, p)
	return s.w.Write(p)
}

// Encode implements wal.Codec.
func (c sumCodec) Encode(l *raft.Log, w io.Writer) error {
	s := &sumWriter{w: w}
	if err := c.plain.Encode(l, s); err != nil {
		return err
	}
	_, err := w.Write(binary.LittleEndian.AppendUint32(nil, s.sum))
	return err
}

// Decode implements wal.Codec.
func (c sumCodec) Decode(data []byte, l *raft.Log) error {
	n := len(data) - 4
	if n < 0 || crc32.Checksum(data[:n], castagnoli) != binary.LittleEndian.Uint32(data[n:]) {
		return errors.New("the checksum of a log entry is wrong")
	}
	return c.plain.Decode(data[:n], l)
}

// verify reads all that is stored before raft does, for raft panics on an entry
// that it cannot read. It reports whether the stores hold nothing.
func (s *Stores) verify(dir string) (empty bool, err error) {
	first, err := s.Log.FirstIndex()
	if err != nil {
		return false, storeFault(dir, err)
	}
	last, err := s.Log.LastIndex()
	if err != nil {
		return false, storeFault(dir, err)
	}
	restored, found, err := s.verifySnapshots(dir)
	if err != nil {
		return false, err
	}
	if last == 0 && !found {
		return true, s.verifyEmpty(dir)
	}
	if first > restored+1 {
		return false, storeFault(filepath.Join(dir, "snapshots"),
			fmt.Errorf("the log starts at entry %d and no readable snapshot reaches it", first))
	}
	if err := s.verifyLog(first, last); err != nil {
		return false, storeFault(dir, err)
	}
	return false, nil
}

// termKey is where raft keeps its term.
var termKey = []byte("CurrentTerm")

// bootstrapTerm is the term of an empty replica; the first election raises it.
const bootstrapTerm = 1

// verifyEmpty refuses a log that is empty although the replica has taken part in
// elections: its files were lost.
func (s *Stores) verifyEmpty(dir string) error {
	term, err := s.Stable.GetUint64(termKey)
	if err != nil && !unset(err) {
		return storeFault(dir, err)
	}
	if term > bootstrapTerm {
		return storeFault(dir, errors.New("the log is empty, but the replica had taken part in elections: *.wal files are missing"))
	}
	return nil
}

// termAt returns the term of an entry, 0 when it is not known.
func (s *Stores) termAt(index uint64) uint64 {
	var entry raft.Log
	if s.Log.GetLog(index, &entry) == nil {
		return entry.Term
	}
	snapshots, err := s.Snapshots.List()
	if err == nil && len(snapshots) > 0 && snapshots[0].Index == index {
		return snapshots[0].Term
	}
	return 0
}

// hasEntry reports whether the log has an entry of a term.
func (s *Stores) hasEntry(index, term uint64) bool {
	var entry raft.Log
	return s.Log.GetLog(index, &entry) == nil && entry.Term == term
}

// resetTerm lets a bootstrap begin again that was interrupted after raft had set
// the term.
func (s *Stores) resetTerm() error {
	term, err := s.Stable.GetUint64(termKey)
	if err != nil && !unset(err) {
		return err
	}
	if term == 0 {
		return nil
	}
	return s.Stable.SetUint64(termKey, 0)
}

func (s *Stores) verifyLog(first, last uint64) error {
	for index := first; index <= last && index > 0; index++ {
		var entry raft.Log
		if err := s.Log.GetLog(index, &entry); err != nil {
			return fmt.Errorf("log entry %d: %w", index, err)
		}
		if entry.Index != index {
			return fmt.Errorf("log entry %d says it is entry %d", index, entry.Index)
		}
	}
	return nil
}

// verifySnapshots returns the last entry of the newest snapshot, which must be
// readable: an older one would silently bring back an older state when the log
// does not reach as far.
func (s *Stores) verifySnapshots(dir string) (last uint64, found bool, err error) {
	snapshots, err := s.Snapshots.List()
	if err != nil {
		return 0, false, storeFault(filepath.Join(dir, "snapshots"), err)
	}
	if len(snapshots) == 0 {
		return 0, false, nil
	}
	meta := snapshots[0]
	path := filepath.Join(dir, "snapshots", meta.ID, "state.bin")
	_, r, err := s.Snapshots.Open(meta.ID)
	if err != nil {
		return 0, false, storeFault(path, err)
	}
	defer r.Close()
	if _, err := Restore(r); err != nil {
		if fault.Of(err) == fault.Unimplemented {
			return 0, false, err
		}
		return 0, false, storeFault(path, err)
	}
	return meta.Index, true, nil
}
