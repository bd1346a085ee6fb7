package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine"
	"daosbox/storage"
)

// erasedSuffix is added to the name of the superblock of an engine that lost its
// identity when its system was erased: the next format may erase its data, as if it
// were forced.
const erasedSuffix = ".erased"

// erased reports whether the engine's storage was given up with its system and not
// formatted since.
func (e *localEngine) erased() bool {
	path := e.layout.SuperblockPath()
	_, err := os.Lstat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Lstat(path + erasedSuffix)
	return err == nil
}

// mayFormat refuses the format of storage that holds the database of a system that
// is not wholly erased yet: a replica that begins anew must not meet one of old.
func (e *localEngine) mayFormat() error {
	if e.index != 0 || !e.srv.isReplica() || !e.erased() {
		return nil
	}
	note, err := e.srv.eraseMark()
	if err != nil || note.ID == "" {
		return err
	}
	return fault.New(fault.Refused, "cannot format engine %d: its system is being erased, and that is not finished", e.index).
		WithHint("repeat `dmg system erase`; if a server is gone for good, stop all of them and remove %s on each replica", e.srv.raftDir())
}

// serveErasing opens the database of engine 0 although its storage waits for a
// format: the erasure of the system is under way, and the database knows of whom.
func (e *localEngine) serveErasing(ctx context.Context) error {
	if e.index != 0 || !e.srv.isReplica() || !e.erased() {
		return nil
	}
	note, err := e.srv.eraseMark()
	if err != nil || note.ID == "" || note.Halted {
		return err
	}
	return e.srv.startService(ctx)
}

// resetFormat takes the identity of this host's engines, which must be down. They
// wait for a format then.
func (s *server) resetFormat(ctx context.Context, _ control.Caller, req *control.ResetFormatReq, _ control.Report) (control.Empty, error) {
	for _, e := range s.engines {
		if e.inst.Status().State == engine.Ready {
			return control.Empty{}, fault.New(codeEngineRuns, "cannot reset the format of engine %d (rank %d): it runs", e.index, e.rank()).
				WithHint("stop it with `dmg system stop`")
		}
	}
	if req.Check {
		return control.Empty{}, nil
	}
	for _, e := range s.engines {
		if err := e.resetFormat(ctx); err != nil {
			return control.Empty{}, err
		}
	}
	return control.Empty{}, nil
}

// codeEngineRuns is the inherited code of a reset of an engine that runs.
const codeEngineRuns fault.Code = 612

func (e *localEngine) resetFormat(ctx context.Context) error {
	e.srv.restart.forget(e.rank())
	if !e.inst.Status().State.Idle() { // it tries to join what is being erased
		if err := e.inst.Stop(ctx, engine.Force); err != nil {
			return err
		}
	}
	path := e.layout.SuperblockPath()
	err := os.Rename(path, path+erasedSuffix)
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Unknown, err, "cannot reset the format of engine %d", e.index)
	}
	e.mu.Lock()
	e.superblock, e.known, e.member = storage.Superblock{}, false, hostlist.NilRank
	e.mu.Unlock()
	e.srv.log.Warn("an engine lost its identity: its system is erased", "engine", e.index, "superblock", path+erasedSuffix)
	if err := e.inst.Start(ctx); err != nil && !errors.Is(err, engine.ErrAwaitFormat) {
		// Its storage may be damaged as well; a format is what it needs in any case.
		e.srv.log.Warn("an engine does not wait for a format", "engine", e.index, "error", err)
	}
	return nil
}

// eraseNote is what a replica writes into its database's directory about an
// erasure. It goes with the directory.
type eraseNote struct {
	ID string `json:"id"`
	// Halted says that the database is not to be opened any more.
	Halted bool `json:"halted"`
}

const (
	eraseNoteName = "erase.json"
	maxEraseNote  = 4096
)

func (s *server) raftDir() string { return s.engines[0].layout.RaftDir() }

// eraseMark reads the note; without one it is zero.
func (s *server) eraseMark() (eraseNote, error) {
	var note eraseNote
	if len(s.engines) == 0 {
		return note, nil
	}
	path := filepath.Join(s.raftDir(), eraseNoteName)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return note, nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxEraseNote) {
		err = errors.New("it is no note of an erasure")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err == nil {
		err = json.Unmarshal(data, &note)
	}
	if err == nil && note.ID == "" {
		err = errors.New("it names no erasure")
	}
	if err != nil {
		return eraseNote{}, fault.Wrap(fault.Corrupt, err, "cannot read %s", path).
			WithHint("it is written when the system is erased; if nobody has asked for that, remove it")
	}
	return note, nil
}

// writeEraseNote writes the note aside and gives it its name when it is on disk.
func (s *server) writeEraseNote(note eraseNote) error {
	data, err := json.Marshal(note)
	if err != nil {
		return err
	}
	path := filepath.Join(s.raftDir(), eraseNoteName)
	f, err := os.OpenFile(path+".staging", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o660)
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "cannot note the erasure of the system")
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".staging", path)
	}
	if err == nil {
		err = syncDir(s.raftDir())
	}
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "cannot note the erasure of the system")
	}
	return nil
}

// syncDir makes a change of names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (s *server) replicaErase(ctx context.Context, _ control.Caller, req *control.ReplicaEraseReq, _ control.Report) (control.Empty, error) {
	return control.Empty{}, s.eraseReplica(ctx, req.ID, req.Phase)
}

// eraseReplica takes one step of an erasure on this replica. A step that was taken
// before is no error.
func (s *server) eraseReplica(ctx context.Context, id string, phase control.ErasePhase) error {
	if !s.isReplica() {
		return cluster.NotReplica(s.replicas)
	}
	if id == "" {
		return fault.New(fault.Usage, "cannot erase the replica of %s: the erasure has no id", s.self)
	}
	if phase == control.ErasePrepare {
		return s.prepareReplica(ctx, id)
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if _, err := os.Lstat(s.raftDir()); errors.Is(err, fs.ErrNotExist) && s.replica() == nil {
		return nil // removed before
	}
	note, err := s.eraseMark()
	if err != nil {
		return err
	}
	if note.ID != id || phase == control.EraseRemove && !note.Halted {
		return fault.New(fault.Refused, "cannot erase the replica of %s: it takes no part in this erasure", s.self).
			WithHint("was its storage formatted since? then format that of the other replicas with `dmg storage format --force`")
	}
	switch phase {
	case control.EraseHalt:
		return s.haltReplica(note)
	case control.EraseRemove:
		return s.removeReplica()
	}
	return fault.New(fault.Usage, "cannot erase the replica of %s: there is no step %q", s.self, phase)
}

// prepareReplica notes an erasure that this replica's own database knows of.
func (s *server) prepareReplica(ctx context.Context, id string) error {
	service, err := s.leader()
	if err != nil {
		return err
	}
	for view := service.Local(); view.Attribute(erasingAttr) != id; {
		if view, err = service.Watch(ctx, view.Version()); err != nil {
			return err
		}
	}
	note, err := s.eraseMark()
	if err != nil || note.ID == id {
		return err
	}
	return s.writeEraseNote(eraseNote{ID: id})
}

// haltReplica closes the database for good; s.opening is held.
func (s *server) haltReplica(note eraseNote) error {
	if !note.Halted {
		note.Halted = true
		if err := s.writeEraseNote(note); err != nil {
			return err
		}
	}
	s.mu.Lock()
	service, done := s.service, s.serviceDone
	s.mu.Unlock()
	if service == nil {
		return nil
	}
	s.log.Warn("management service: closing the replica for good, the system is erased", "id", note.ID)
	if err := service.Close(); err != nil {
		return err
	}
	<-done
	s.mu.Lock()
	s.service, s.serviceDone = nil, nil
	s.mu.Unlock()
	return nil
}

// removeReplica removes the database, which is halted. The directory gets another
// name first, so that what is left of it is never taken for a database.
func (s *server) removeReplica() error {
	dir := s.raftDir()
	gone := dir + erasedSuffix
	err := os.RemoveAll(gone)
	if err == nil {
		err = os.Rename(dir, gone)
	}
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "cannot remove the system database %s", dir)
	}
	s.log.Warn("management service: removed the replica", "dir", dir)
	return nil
}
