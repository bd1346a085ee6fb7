package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"daosbox/cluster/fault"

	"golang.org/x/sys/unix"
)

// lock keeps two runs from changing a sandbox at once. The kernel lets go when the
// run ends, however it ends.
func lock(l layout) (unlock func(), err error) {
	// Not inherited by the daemons: os.OpenFile sets close-on-exec.
	f, err := os.OpenFile(l.lock(), os.O_CREATE|os.O_RDWR, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.NotFound, err, "cannot use %s: it is no sandbox", l.dir)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Permission, err, "cannot lock the sandbox").WithHint("use it as the user who made it")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fault.New(fault.Busy, "cannot change the sandbox %s: another run does", l.dir).WithHint("wait until it is done")
		}
		return nil, fault.Wrap(fault.Internal, err, "cannot lock the sandbox")
	}
	return func() { _ = f.Close() }, nil
}
