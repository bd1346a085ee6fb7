package helper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"daosbox/cluster/fault"
)

// maxLinks bounds how many symbolic links a path may go through.
const maxLinks = 40

// othersWrite are the mode bits by which somebody but the owner can write.
const othersWrite fs.FileMode = 0o022

// trustPath walks an absolute path and fails unless root alone decides what is at
// each of its levels, so that what was checked is what is used later. The last
// level may be missing and may have any owner; so may levels before it be missing
// if only root can make them.
//
// A directory that everybody can write is accepted when it is sticky and its next
// level exists and is root's, which nobody else can then move (as /tmp/x of root).
// With alone set the directory of the last level must be root's alone: needed for
// what will be given to somebody else.
func trustPath(path string, alone bool) error {
	if !filepath.IsAbs(path) {
		return fault.New(fault.Config, "path %q is not absolute", path)
	}
	dir, rest, links := "/", split(path), 0
	for {
		info, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fault.New(fault.Config, "%s is no directory", dir)
		}
		if uid := ownerOf(info); uid != 0 {
			return fault.New(fault.Permission, "directory %s belongs to user %d, not to root", dir, uid)
		}
		if len(rest) == 0 {
			return nil
		}
		loose := info.Mode()&othersWrite != 0
		next := filepath.Join(dir, rest[0])
		entry, err := os.Lstat(next)
		missing := errors.Is(err, fs.ErrNotExist)
		if err != nil && !missing {
			return err
		}
		if loose && (alone && len(rest) == 1 || missing || info.Mode()&fs.ModeSticky == 0 || ownerOf(entry) != 0) {
			return fault.New(fault.Permission, "others can exchange %s: directory %s has mode %04o", next, dir, info.Mode().Perm())
		}
		if missing {
			return nil
		}
		rest = rest[1:]
		if entry.Mode()&fs.ModeSymlink == 0 {
			if len(rest) == 0 {
				return nil
			}
			dir = next
			continue
		}
		if links++; links > maxLinks {
			return fault.New(fault.Config, "%s: too many symbolic links", path)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return err
		}
		rest = append(splitLink(dir, target), rest...)
		dir = "/"
	}
}

// split returns the levels of an absolute path.
func split(path string) []string {
	return strings.FieldsFunc(filepath.Clean(path), func(r rune) bool { return r == filepath.Separator })
}

// splitLink returns the levels, from the root, of what a link in dir points to. As
// dir went through no link, ".." in the target means what it says.
func splitLink(dir, target string) []string {
	if filepath.IsAbs(target) {
		return split(target)
	}
	return split(filepath.Join(dir, target))
}

// trustFile fails unless an open file is a regular one of root that nobody else
// can write and that has one name.
func trustFile(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	switch {
	case !info.Mode().IsRegular():
		return fault.New(fault.Permission, "%s is no regular file", file.Name())
	case ownerOf(info) != 0:
		return fault.New(fault.Permission, "%s belongs to user %d, not to root", file.Name(), ownerOf(info))
	case info.Mode()&othersWrite != 0:
		return fault.New(fault.Permission, "%s has mode %04o: others can write it", file.Name(), info.Mode().Perm())
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
		return fault.New(fault.Permission, "%s has %d names (hard links)", file.Name(), stat.Nlink)
	}
	return nil
}

// ownerOf is the user a file belongs to; the overflow user, who is not root, when
// the system does not say.
func ownerOf(info fs.FileInfo) uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid
	}
	return 65534
}
