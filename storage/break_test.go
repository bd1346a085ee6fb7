package storage

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// breaker is a disk whose at-th call, counted from 1, fails with err and does
// nothing; with dead set all later ones fail, too, as after a crash.
type breaker struct {
	disk
	at   int
	err  error
	dead bool

	calls int
}

var (
	errNoSpace error = syscall.ENOSPC
	errIO      error = syscall.EIO
)

func (b *breaker) broken() error {
	b.calls++
	if b.calls == b.at || (b.dead && b.at > 0 && b.calls > b.at) {
		return b.err
	}
	return nil
}

func (b *breaker) Mount(source, target, fstype string, flags uintptr, data string) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.disk.Mount(source, target, fstype, flags, data)
}

func (b *breaker) Unmount(target string) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.disk.Unmount(target)
}

func (b *breaker) Statfs(path string) (unix.Statfs_t, error) {
	if err := b.broken(); err != nil {
		return unix.Statfs_t{}, err
	}
	return b.disk.Statfs(path)
}

func (b *breaker) Stat(path string) (fs.FileInfo, error) {
	if err := b.broken(); err != nil {
		return nil, err
	}
	return b.disk.Stat(path)
}

func (b *breaker) Lstat(path string) (fs.FileInfo, error) {
	if err := b.broken(); err != nil {
		return nil, err
	}
	return b.disk.Lstat(path)
}

func (b *breaker) ReadDir(path string, limit int) ([]fs.DirEntry, error) {
	if err := b.broken(); err != nil {
		return nil, err
	}
	return b.disk.ReadDir(path, limit)
}

func (b *breaker) Mkdir(path string, mode fs.FileMode) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.disk.Mkdir(path, mode)
}

func (b *breaker) Chmod(path string, mode fs.FileMode) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.disk.Chmod(path, mode)
}

func (b *breaker) Chown(path string, uid, gid int) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.disk.Chown(path, uid, gid)
}

func (b *breaker) Remove(path string) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.disk.Remove(path)
}

func (b *breaker) RemoveAll(path string) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.disk.RemoveAll(path)
}

func (b *breaker) Rename(from, to string) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.disk.Rename(from, to)
}

func (b *breaker) Open(path string, flags int, mode fs.FileMode) (file, error) {
	if err := b.broken(); err != nil {
		return nil, err
	}
	f, err := b.disk.Open(path, flags, mode)
	if err != nil {
		return nil, err
	}
	return &brokenFile{f, b}, nil
}

// brokenFile counts with its disk. Close always closes.
type brokenFile struct {
	file
	b *breaker
}

func (f *brokenFile) Write(p []byte) (int, error) {
	if err := f.b.broken(); err != nil {
		n, _ := f.file.Write(p[:len(p)/2]) // as a disk that fills up
		return n, err
	}
	return f.file.Write(p)
}

func (f *brokenFile) Truncate(size int64) error {
	if err := f.b.broken(); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *brokenFile) Sync() error {
	if err := f.b.broken(); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *brokenFile) Chmod(mode fs.FileMode) error {
	if err := f.b.broken(); err != nil {
		return err
	}
	return f.file.Chmod(mode)
}

func (f *brokenFile) Close() error {
	err := f.b.broken()
	if closeErr := f.file.Close(); err == nil {
		err = closeErr
	}
	return err
}
