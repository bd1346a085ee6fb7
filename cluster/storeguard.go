package cluster

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/hashicorp/raft"
)

// Raft ends the process when it cannot note its term or read its log. This process
// also carries the engines of its host, which a full disk of the management
// service must not kill. So a term that cannot be written is tried again until
// there is room, the replica standing still meanwhile; and an entry that cannot be
// read ends the replica only.

// storeRetry is the pause between two tries to write the term.
const storeRetry = 200 * time.Millisecond

// guardedStable keeps a failed write of the term from raft.
type guardedStable struct {
	raft.StableStore
	logger *slog.Logger
	quit   <-chan struct{} // closed when the replica stops
}

// SetUint64 implements raft.StableStore. When the replica stops before the term
// could be written, the calling goroutine of raft ends: raft would go on as if it
// were written, or panic.
func (g *guardedStable) SetUint64(key []byte, value uint64) error {
	err := g.StableStore.SetUint64(key, value)
	if err == nil || !bytes.Equal(key, termKey) {
		return err
	}
	g.logger.Error("cannot write to the system database; this replica stands still until it can", "error", err)
	tick := time.NewTicker(storeRetry)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-g.quit:
			runtime.Goexit()
		}
		if err = g.StableStore.SetUint64(key, value); err == nil {
			g.logger.Info("can write to the system database again")
			return nil
		}
	}
}

// guardedLog keeps an unreadable entry from raft.
type guardedLog struct {
	raft.LogStore
	broken func(error)
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
