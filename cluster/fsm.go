package cluster

import (
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"daosbox/cluster/fault"
)

// machine is the thin shell that raft drives: entries in, the database changes,
// readers are told.
type machine struct {
	// broken is told once when an entry cannot be applied. From then on the state
	// stays as it is: going on would make it differ from the other replicas'.
	broken func(error)

	mu      sync.Mutex
	db      *DB
	view    *View
	changed chan struct{} // closed and replaced with each change
	checks  stateChecks
	err     error
}

func newMachine(broken func(error)) *machine {
	return &machine{broken: broken, db: NewDB(), changed: make(chan struct{})}
}

// Apply implements raft.FSM. It returns a Result, or an error when the replica
// cannot go on.
func (m *machine) Apply(entry *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	cmd, err := DecodeCommand(entry.Data)
	if err != nil {
		m.fail(err)
		return err
	}
	res := m.db.Apply(cmd)
	if c, ok := cmd.Body.(CheckState); ok {
		m.checkState(c)
	}
	m.touch()
	return res
}

func (m *machine) fail(err error) {
	m.err = err
	m.broken(err)
}

// touch lets readers see the new state.
func (m *machine) touch() {
	m.view = nil
	close(m.changed)
	m.changed = make(chan struct{})
}

// Snapshot implements raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err // the log must keep what could not be applied
	}
	return keeper{m.db.Snapshot()}, nil
}

// Restore implements raft.FSM.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	db, err := Restore(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if err != nil {
		m.fail(err)
		return err
	}
	m.db = db
	m.checks.mark, m.checks.quiet = nil, db.c.version
	m.touch()
	return nil
}

// read returns the present view and a channel that is closed at the next change.
func (m *machine) read() (*View, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.view == nil {
		m.view = m.db.View()
	}
	return m.view, m.changed
}

func (m *machine) hash() (version uint64, sum string) {
	m.mu.Lock()
	snap := m.db.Snapshot()
	m.mu.Unlock()
	return snap.c.version, snap.Hash()
}

// keeper writes a snapshot for raft.
type keeper struct{ *Snapshot }

// Persist implements raft.FSMSnapshot.
func (k keeper) Persist(sink raft.SnapshotSink) error {
	if _, err := k.WriteTo(sink); err != nil {
		sink.Cancel()
		return fault.Wrap(fault.Unknown, err, "cannot write a snapshot of the system database")
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (keeper) Release() {}
