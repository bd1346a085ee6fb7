package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

// disk is every call that changes or reads a disk. The tests break its n-th call
// for every n; nothing in this package goes around it to change something.
type disk interface {
	Mount(source, target, fstype string, flags uintptr, data string) error
	Unmount(target string) error
	Statfs(path string) (unix.Statfs_t, error)
	Stat(path string) (fs.FileInfo, error)
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string, limit int) ([]fs.DirEntry, error)
	Mkdir(path string, mode fs.FileMode) error
	Chmod(path string, mode fs.FileMode) error
	Chown(path string, uid, gid int) error
	Remove(path string) error
	RemoveAll(path string) error
	Rename(from, to string) error
	Open(path string, flags int, mode fs.FileMode) (file, error)
}

// file is what disk.Open gives.
type file interface {
	io.ReadWriteCloser
	Truncate(size int64) error
	Sync() error
	Chmod(mode fs.FileMode) error
	Chown(uid, gid int) error
	Stat() (fs.FileInfo, error)
}

type osDisk struct{}

func (osDisk) Mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return &fs.PathError{Op: "mount", Path: target, Err: err}
	}
	return nil
}

func (osDisk) Unmount(target string) error {
	if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "unmount", Path: target, Err: err}
	}
	return nil
}

func (osDisk) Statfs(path string) (st unix.Statfs_t, err error) {
	for {
		err = unix.Statfs(path, &st)
		if err == nil {
			return st, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return st, &fs.PathError{Op: "statfs", Path: path, Err: err}
		}
	}
}

// ReadDir returns at most limit entries, in no order.
func (osDisk) ReadDir(path string, limit int) ([]fs.DirEntry, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(limit)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return entries, err
}

func (osDisk) Stat(path string) (fs.FileInfo, error)     { return os.Stat(path) }
func (osDisk) Lstat(path string) (fs.FileInfo, error)    { return os.Lstat(path) }
func (osDisk) Mkdir(path string, mode fs.FileMode) error { return os.Mkdir(path, mode) }
func (osDisk) Chmod(path string, mode fs.FileMode) error { return os.Chmod(path, mode) }
func (osDisk) Chown(path string, uid, gid int) error     { return os.Lchown(path, uid, gid) }
func (osDisk) Remove(path string) error                  { return os.Remove(path) }
func (osDisk) RemoveAll(path string) error               { return os.RemoveAll(path) }
func (osDisk) Rename(from, to string) error              { return os.Rename(from, to) }
func (osDisk) Open(path string, flags int, mode fs.FileMode) (file, error) {
	f, err := os.OpenFile(path, flags, mode)
	if err != nil {
		return nil, err // not f: a nil *os.File would be a file that is not nil
	}
	return f, nil
}

// writeAside replaces path by data so that a reader, or a machine that lost its
// power, finds the old content or the new, never a part. A stale staging file is
// replaced; O_EXCL keeps a planted link from being followed.
func writeAside(d disk, path string, data []byte, mode fs.FileMode, owner *Owner) (err error) {
	staging := path + stagingSuffix
	if err := d.Remove(staging); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Open(staging, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.Remove(staging)
		}
	}()
	if err := fill(f, data, mode, owner); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := d.Rename(staging, path); err != nil {
		return err
	}
	return syncDir(d, filepath.Dir(path))
}

const stagingSuffix = ".staging"

func fill(f file, data []byte, mode fs.FileMode, owner *Owner) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	// The mode of open passes through the umask, this one does not.
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if owner != nil {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	return f.Sync()
}

func syncDir(d disk, dir string) error {
	f, err := d.Open(dir, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// readLimited reads a regular file that has at most limit bytes.
func readLimited(d disk, path string, limit int64) ([]byte, error) {
	// O_NONBLOCK: a pipe under this name must not hold the caller.
	f, err := d.Open(path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Corrupt, "cannot read %s: not a regular file", path).
			WithHint("move it away")
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fault.New(fault.TooLarge, "cannot read %s: larger than %d bytes", path, limit)
	}
	return data, nil
}

// explain makes a fault of an error of the operating system: "cannot <doing>: why"
// with the next step for the causes that an administrator can remove. A fault
// stays what it is.
func explain(err error, path, doing string) error {
	if err == nil {
		return nil
	}
	if _, ok := fault.As(err); ok {
		return err
	}
	short := err
	var at *fs.PathError
	if errors.As(err, &at) {
		short = at.Err // the path is in doing
	}
	code, hint := fault.Unknown, ""
	switch dir := filepath.Dir(path); {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code, hint = fault.NoSpace, "free space on the filesystem of "+dir+" and try again"
	case errors.Is(err, fs.ErrPermission):
		code, hint = fault.Permission, "give the server's user access to "+path+", or run as root"
	case errors.Is(err, syscall.EROFS):
		code, hint = fault.Permission, "the filesystem of "+dir+" is read-only; mount it writable or name another directory"
	case errors.Is(err, syscall.ENOTDIR):
		code, hint = fault.Config, "a part of "+path+" is a file; name another path"
	case errors.Is(err, fs.ErrNotExist):
		code, hint = fault.NotFound, "create the directory "+dir+" first"
	case errors.Is(err, syscall.EBUSY):
		code, hint = fault.Busy, "stop the engine and every program that uses "+path+", then try again"
	}
	return fault.Wrap(code, short, "cannot %s", doing).WithHint("%s", hint)
}
