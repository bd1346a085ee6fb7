package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

// FormatResult tells of each part of an engine's storage what became of it, in
// the records that 'storage format' answers with.
type FormatResult struct {
	// SCM has the mount point; Info is Success or the error.
	SCM MountPoint
	// Bdevs have one record for each device; Info is Success or the error.
	Bdevs []NVMeController
}

// Success is the info text of a part that was formatted.
const Success = "CTL_SUCCESS"

// Format checks, plans and executes in one. The result is filled in when it
// fails, too.
func (h Host) Format(ctx context.Context, l Layout, o FormatOptions, progress func(Step)) (FormatResult, error) {
	plan, err := h.plan(ctx, l, o)
	if err != nil {
		return formatResult(l, Step{}, err), err
	}
	return h.Execute(ctx, plan, progress)
}

func (h Host) plan(ctx context.Context, l Layout, o FormatOptions) (Plan, error) {
	c, err := h.Check(ctx, l)
	if err != nil {
		return Plan{}, err
	}
	return PlanFormat(l, c, o)
}

// Execute does the steps of p in order and stops at the first that fails; doing
// the same again goes on from there. The progress function, when not nil, hears
// of each step before it is done.
func (h Host) Execute(ctx context.Context, p Plan, progress func(Step)) (FormatResult, error) {
	for _, step := range p.Steps {
		if err := ctx.Err(); err != nil {
			err = fault.Wrap(fault.Canceled, err, "cannot %s", step)
			return formatResult(p.Layout, step, err), err
		}
		if progress != nil {
			progress(step)
		}
		if err := h.do(step, p.Layout.Owner); err != nil {
			return formatResult(p.Layout, step, err), err
		}
	}
	return formatResult(p.Layout, Step{}, nil), nil
}

// formatResult says per part what a format that failed with err at step, or did
// not, came to.
func formatResult(l Layout, step Step, err error) FormatResult {
	r := FormatResult{SCM: newMountPoint(l.SCM), Bdevs: bdevRecords(l)}
	r.SCM.Info = Success
	for i := range r.Bdevs {
		r.Bdevs[i].Info = Success
	}
	if err == nil {
		return r
	}
	text := fault.OneLine(err.Error())
	if hint := fault.HintOf(err); hint != "" {
		text += "; " + hint
	}
	if step.Op != OpCreateImage && step.Op != OpWriteNVMeConf {
		r.SCM.Info = text
		for i := range r.Bdevs {
			r.Bdevs[i].Info = "skipped: the SCM of the engine was not formatted"
		}
		return r
	}
	r.SCM.Info = "not finished: a block device of the engine failed"
	failed := step.Op == OpWriteNVMeConf
	for i := range r.Bdevs {
		switch {
		case r.Bdevs[i].PCIAddr == step.Path, step.Op == OpWriteNVMeConf:
			r.Bdevs[i].Info, failed = text, true
		case failed:
			r.Bdevs[i].Info = "skipped: a device before it failed"
		}
	}
	return r
}

func (h Host) do(s Step, owner *Owner) error {
	d := h.ops()
	switch s.Op {
	case OpMakeDir:
		return explain(makeDir(d, s.Path, s.parents, owner), s.Path, s.String())
	case OpClaim:
		return explain(claim(d, s.Path, owner), s.Path, s.String())
	case OpRemove:
		return explain(removeSynced(d, s.Path), s.Path, s.String())
	case OpErase:
		return explain(erase(d, s.Path), s.Path, s.String())
	case OpUnmount:
		err := d.Unmount(realPath(s.Path))
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			err = nil // not mounted (any more)
		}
		return explain(err, s.Path, s.String())
	case OpMount:
		return explain(h.mountTmpfs(s, owner), s.Path, s.String())
	case OpCreateImage:
		return explain(createImage(d, s, owner), s.Path, s.String())
	case OpWriteNVMeConf:
		return explain(writeAside(d, s.Path, s.content, nvmeConfMode, owner), s.Path, s.String())
	case OpSuperblock:
		return explain(writeAside(d, s.Path, s.content, superblockMode, owner), s.Path, s.String())
	}
	return fault.New(fault.Internal, "cannot %s: unknown step", s)
}

// makeDir makes path unless it is there; levels above it only when asked, so that
// a misspelt path is an error. What exists keeps its owner and mode.
func makeDir(d disk, path string, parents bool, owner *Owner) error {
	info, err := d.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if above := filepath.Dir(path); parents && above != path {
		if err := makeDir(d, above, true, owner); err != nil {
			return err
		}
	}
	if err := d.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := own(d, path, owner); err != nil {
		return err
	}
	return syncDir(d, filepath.Dir(path))
}

func own(d disk, path string, owner *Owner) error {
	if err := d.Chmod(path, dirMode); err != nil {
		return err
	}
	if owner == nil {
		return nil
	}
	return d.Chown(path, owner.UID, owner.GID)
}

// claim marks a directory of class dir as one that format may erase, if it is
// empty or holds an engine. It looks again: the plan may be old.
func claim(d disk, dir string, owner *Owner) error {
	marker := filepath.Join(dir, claimName)
	if _, err := d.Lstat(marker); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := d.Lstat(filepath.Join(dir, superblockName)); errors.Is(err, fs.ErrNotExist) {
		entries, err := d.ReadDir(dir, 2)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if entry.Name() != claimName+stagingSuffix {
				return fault.New(fault.Refused, "cannot claim directory %s: it is not empty (it has %s)", dir, entry.Name()).
					WithHint("name an empty or new directory in scm_mount")
			}
		}
	} else if err != nil {
		return err
	}
	text := []byte("This directory stands for the SCM of a DAOS engine. A format erases it.\n")
	return writeAside(d, marker, text, 0o664, owner)
}

func removeSynced(d disk, path string) error {
	if _, err := d.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.RemoveAll(path); err != nil {
		return err
	}
	return syncDir(d, filepath.Dir(path))
}

// erase removes what is in dir but the claim.
func erase(d disk, dir string) error {
	entries, err := d.ReadDir(dir, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == claimName {
			continue
		}
		if err := d.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return syncDir(d, dir)
}

// mountTmpfs mounts unless something is there; it looks again, since two mounts
// on one directory hide each other's data.
func (h Host) mountTmpfs(s Step, owner *Owner) error {
	all, err := h.mounts()
	if err != nil {
		return err
	}
	if len(mountedAt(all, realPath(s.Path))) > 0 {
		return fault.New(codeTargetMounted, "cannot %s: something is mounted there", s).
			WithHint("unmount %s and try again", s.Path)
	}
	if err := h.memoryFits(s); err != nil {
		return err
	}
	if err := h.ops().Mount("tmpfs", s.Path, "tmpfs", unix.MS_NOATIME, s.Detail); err != nil {
		return err
	}
	return own(h.ops(), s.Path, owner)
}

// createImage makes a sparse file of the wanted size in place of what is there;
// when it fails, the file is removed again. A file of another size may be
// anybody's and is replaced by force only.
func createImage(d disk, s Step, owner *Owner) (err error) {
	switch info, err := d.Lstat(s.Path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fault.New(fault.Refused, "cannot %s: it exists and is no regular file", s).
			WithHint("name another path in bdev_list, or remove it")
	case s.keep:
		return nil
	case info.Size() != 0 && info.Size() != s.size && !s.force:
		return fault.New(fault.AlreadyFormatted, "cannot %s: a file of %d bytes exists", s, info.Size()).
			WithHint("repeat with --force to replace it, or name another path in bdev_list")
	}
	f, err := d.Open(s.Path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, imageMode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.Remove(s.Path)
		}
	}()
	err = shape(f, s.size, owner)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return syncDir(d, filepath.Dir(s.Path))
}

const imageMode fs.FileMode = 0o660

func shape(f file, size int64, owner *Owner) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Chmod(imageMode); err != nil {
		return err
	}
	if owner != nil {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Mount makes the SCM of an engine again whose superblock is in the metadata
// directory (NeedsMount): a tmpfs, or the directory of class dir. The engine
// rebuilds what was in it.
func (h Host) Mount(ctx context.Context, l Layout) error {
	c, err := h.Check(ctx, l)
	if err != nil {
		return err
	}
	switch c.State {
	case Ready:
		return nil
	case NeedsMount:
	case Refused:
		return c.Err
	default:
		return fault.New(fault.NotReady, "cannot mount %s: %s", l.SCM.Mount, c.Reason).
			WithHint("format the storage first")
	}
	dir := filepath.Clean(l.SCM.Mount)
	p := Plan{Layout: l, Steps: []Step{{Op: OpMakeDir, Path: dir}, {Op: OpClaim, Path: dir}}}
	if l.SCM.Class == RAM {
		options, err := tmpfsOptions(l.SCM, c)
		if err != nil {
			return err
		}
		p.Steps = []Step{{Op: OpMakeDir, Path: dir, parents: true}, {Op: OpMount, Path: dir, Detail: options, size: gib(l.SCM.SizeGiB)}}
	}
	_, err = h.Execute(ctx, p, nil)
	return err
}

// Unmount takes the tmpfs of an engine away once its process is gone, as is done
// when its data is safe on SSD. Other classes and an absent mount are left alone.
func (h Host) Unmount(l Layout) error {
	if l.SCM.Class != RAM || !l.MetadataOnSSD() {
		return nil
	}
	dir := filepath.Clean(l.SCM.Mount)
	return h.do(Step{Op: OpUnmount, Path: dir}, nil)
}

// RemoveSuperblock takes an engine's identity, after a refused join with replace
// or an erase of the system. Its data stays; a format needs force.
func (h Host) RemoveSuperblock(l Layout) error {
	return h.do(Step{Op: OpRemove, Path: l.SuperblockPath()}, nil)
}
