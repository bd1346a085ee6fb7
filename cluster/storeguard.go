package cluster

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Raft ends the process when it cannot note its term or read its log. This process
// also carries the engines of its host, which a full disk of the management
// service must not kill. So a term that cannot be written is tried again until
// there is room, the replica standing still meanwhile; and an entry that cannot be
// read ends the replica only. The same goes for entries that cannot be written in
// place of others that were just removed: raft believes that the removed ones are
// still there, and panics when it reads them.

// storeRetry is the pause between two tries to write.
const storeRetry = 200 * time.Millisecond

// guardedStable keeps a failed write of the term from raft, and one that would take
// the term back: raft handles heartbeats beside its own goroutine, and both may
// write it. A term that goes back is a second vote.
type guardedStable struct {
	raft.StableStore
	logger *slog.Logger
	quit   <-chan struct{} // closed when the replica stops
	turn   chan struct{}   // room for one: who writes the term
	term   uint64          // the last one written; of whose turn it is
}

// SetUint64 implements raft.StableStore. When the replica stops before the term
// could be written, the calling goroutine of raft ends: raft would go on as if it
// were written, or panic.
func (g *guardedStable) SetUint64(key []byte, value uint64) error {
	if !bytes.Equal(key, termKey) {
		return g.StableStore.SetUint64(key, value)
	}
	select {
	case g.turn <- struct{}{}:
	case <-g.quit:
		runtime.Goexit()
	}
	defer func() { <-g.turn }()
	if value < g.term {
		runtime.Goexit() // a heartbeat that the replica's own election has overtaken
	}
	if err := g.StableStore.SetUint64(key, value); err != nil {
		insist(g.logger, g.quit, err, func() error { return g.StableStore.SetUint64(key, value) })
	}
	g.term = value
	return nil
}

// insist repeats a write that failed until it succeeds. When the replica stops
// before, it ends the goroutine.
func insist(logger *slog.Logger, quit <-chan struct{}, err error, write func() error) {
	logger.Error("cannot write to the system database; this replica stands still until it can", "error", err)
	tick := time.NewTicker(storeRetry)
	defer tick.Stop()
	for err != nil {
		select {
		case <-tick.C:
			err = write()
		case <-quit:
			runtime.Goexit()
		}
	}
	logger.Info("can write to the system database again")
}

// guardedLog keeps an unreadable entry from raft, and a gap.
type guardedLog struct {
	raft.LogStore
	logger *slog.Logger
	quit   <-chan struct{} // closed when the replica stops
	broken func(error)
	cut    atomic.Bool // the end of the log was removed and not written anew
}

// DeleteRange implements raft.LogStore.
func (g *guardedLog) DeleteRange(from, to uint64) error {
	last, err := g.LogStore.LastIndex()
	if err != nil {
		return err
	}
	if err := g.LogStore.DeleteRange(from, to); err != nil {
		return err
	}
	if to >= last {
		g.cut.Store(true)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (g *guardedLog) StoreLog(entry *raft.Log) error { return g.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore.
func (g *guardedLog) StoreLogs(entries []*raft.Log) error {
	err := g.LogStore.StoreLogs(entries)
	if err != nil && !g.cut.Load() {
		return err
	}
	if err != nil {
		insist(g.logger, g.quit, err, func() error { return g.LogStore.StoreLogs(entries) })
	}
	g.cut.Store(false)
	return nil
}

// GetLog implements raft.LogStore. An entry that cannot be read ends the calling
// goroutine of raft and the replica.
func (g *guardedLog) GetLog(index uint64, entry *raft.Log) error {
	err := g.LogStore.GetLog(index, entry)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	g.broken(err)
	runtime.Goexit()
	return err
}

// IsMonotonic implements raft.MonotonicLogStore as the log itself does.
func (g *guardedLog) IsMonotonic() bool {
	m, ok := g.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// startRaft starts raft in a goroutine that the guards may end; it returns nil when
// that happened.
func startRaft(rc *raft.Config, fsm raft.FSM, log raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore, trans raft.Transport) (r *raft.Raft, err error) {
	started := make(chan struct{})
	go func() {
		defer close(started)
		r, err = raft.NewRaft(rc, fsm, log, stable, snaps, trans)
	}()
	<-started
	return r, err
}
