package storage

import "daosbox/cluster/fault"

// Action is what a starting server does about an engine's storage.
type Action int

const (
	// Proceed starts the engine.
	Proceed Action = iota + 1
	// MountFirst calls Host.Mount, then starts the engine.
	MountFirst
	// CreateSuperblock formats with FormatOptions.Adopt, which erases nothing,
	// then starts the engine.
	CreateSuperblock
	// AwaitFormat waits for a storage format request.
	AwaitFormat
	// Fail ends the start with the returned fault.
	Fail
)

var actionNames = [...]string{"", "proceed", "mount first", "create superblock", "await format", "fail"}

func (a Action) String() string {
	if a < 1 || int(a) >= len(actionNames) {
		return "unknown"
	}
	return actionNames[a]
}

// StartAction says what a server that runs as euid does about storage in
// condition c. Root can mount, so it waits until an administrator asks for a
// format. An ordinary user cannot: a tmpfs that somebody mounted for it is taken
// as it is and gets a superblock, and without one the start fails. A directory
// (class dir) can be made by anyone, so that its format is awaited as root's is.
//
// The error is set with Fail only and says why.
func StartAction(l Layout, c Condition, euid int) (Action, error) {
	mountable := l.SCM.Class == Dir || euid == 0
	switch c.State {
	case Ready:
		return Proceed, nil
	case NeedsMount:
		if mountable {
			return MountFirst, nil
		}
		return Fail, cannotMount(l, c)
	case NeedsFormat:
		if mountable {
			return AwaitFormat, nil
		}
		if c.Present {
			return CreateSuperblock, nil
		}
		return Fail, cannotMount(l, c)
	case Refused:
		return Fail, c.Err
	}
	return Fail, fault.New(fault.Internal, "cannot start engine %d: its storage has the unknown condition %d", l.Engine, c.State)
}

func cannotMount(l Layout, c Condition) error {
	return fault.New(fault.Permission, "cannot start engine %d: %s and only root can mount a tmpfs", l.Engine, c.Reason).
		WithHint("as root run 'mount -t tmpfs -o size=%dg,noatime tmpfs %s' and give it to the server's user, or start the server as root, or use class dir",
			l.SCM.SizeGiB, l.SCM.Mount)
}
