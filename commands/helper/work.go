package helper

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/config"
	"daosbox/commands/layout"
	"daosbox/storage"

	"golang.org/x/sys/unix"
)

// worker does what requests ask for, one at a time.
type worker struct {
	policy policy
	host   storage.Host
	mu     sync.Mutex // held while mounts change
}

// do answers one request of an admitted caller.
func (w *worker) do(ctx context.Context, c caller, r request) (Info, error) {
	info := Info{Version: cli.Version}
	cfg, err := w.policy.read()
	if err != nil {
		return info, err
	}
	memory, err := w.host.Memory()
	if err == nil {
		err = layout.SizeRAMDisks(cfg, memory)
	}
	if err != nil {
		return info, err
	}
	if r.Method == methodPing {
		info.Engines = enginesOf(cfg)
		return info, nil
	}
	work, ok := map[string]func(context.Context, caller, storage.Layout, requestOptions) error{
		methodFormat: w.format, methodMount: w.mount, methodUnmount: w.unmount,
	}[r.Method]
	if !ok {
		return info, fault.New(fault.Unimplemented, "cannot do %.40q: there is no such method", r.Method)
	}
	if r.Engine < 0 || r.Engine >= len(cfg.Engines) {
		return info, fault.New(fault.NotFound, "cannot do %s for engine %d: %s has %d engines", r.Method, r.Engine, cfg.Path(), len(cfg.Engines)).
			WithHint("let daos_server and daos_server_helper use the same configuration")
	}
	l := layout.Of(cfg, r.Engine, "")
	if err := mayTouch(l); err != nil {
		return info, err
	}
	info.Engines = []Engine{engineOf(l)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return info, fault.Wrap(fault.Canceled, err, "cannot do %s for engine %d", r.Method, r.Engine)
	}
	return info, work(ctx, c, l, r.Options)
}

func enginesOf(cfg *config.Server) []Engine {
	var all []Engine
	for i := range cfg.Engines {
		if l := layout.Of(cfg, i, ""); l.SCM.Class == storage.RAM {
			all = append(all, engineOf(l))
		}
	}
	return all
}

func engineOf(l storage.Layout) Engine {
	return Engine{Index: l.Engine, Mount: filepath.Clean(l.SCM.Mount), SizeGiB: l.SCM.SizeGiB}
}

// mayTouch refuses storage that needs no helper and mount points that somebody
// but root could exchange for a link to somewhere else.
func mayTouch(l storage.Layout) error {
	if err := l.Supported(); err != nil {
		return err
	}
	if l.SCM.Class != storage.RAM {
		return fault.New(fault.Refused, "cannot help engine %d: SCM of class %s needs no root", l.Engine, l.SCM.Class)
	}
	if err := trustPath(filepath.Clean(l.SCM.Mount), true); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot trust the mount point of engine %d", l.Engine).
			WithHint("set scm_mount to a path below directories that only root can write, such as /mnt")
	}
	return nil
}

// ramDisk is the part of an engine's storage that the helper changes: the RAM disk
// alone, and as a tmpfs of the caller.
func ramDisk(c caller, l storage.Layout) storage.Layout {
	return storage.Layout{Engine: l.Engine, SCM: l.SCM, Owner: &storage.Owner{UID: int(c.uid), GID: int(c.gid)}}
}

// look checks a RAM disk with the caller's rights: what is in it is the caller's,
// who could have left links there to files that only root can read.
func (w *worker) look(ctx context.Context, c caller, l storage.Layout) (condition storage.Condition, err error) {
	err = asCaller(c, func() (err error) {
		condition, err = w.host.Check(ctx, l)
		return err
	})
	return condition, err
}

// format puts an empty RAM disk in place of what is there. Without force it
// refuses to give up a disk with something on it.
func (w *worker) format(ctx context.Context, c caller, full storage.Layout, o requestOptions) error {
	l := ramDisk(c, full)
	condition, err := w.look(ctx, c, l)
	if err != nil {
		return err
	}
	return w.execute(ctx, l, condition, o.Force)
}

// mount makes an empty RAM disk where there is none.
func (w *worker) mount(ctx context.Context, c caller, full storage.Layout, _ requestOptions) error {
	l := ramDisk(c, full)
	condition, err := w.look(ctx, c, l)
	if err != nil {
		return err
	}
	if condition.Present {
		return nil
	}
	return w.execute(ctx, l, condition, false)
}

// execute plans a format as daos_server of root would and does the steps of it
// that need root; the others are the caller's.
func (w *worker) execute(ctx context.Context, l storage.Layout, condition storage.Condition, force bool) error {
	superblock, err := storage.NewSuperblock("", "") // a plan has one; it is not written here
	if err != nil {
		return err
	}
	plan, err := storage.PlanFormat(l, condition, storage.FormatOptions{Superblock: superblock, Force: force})
	if err != nil {
		return err
	}
	var steps []storage.Step
	for _, step := range plan.Steps {
		if needsRoot(step.Op) {
			steps = append(steps, step)
		}
	}
	plan.Steps = steps
	// Levels above the mount point stay root's, or the next request could not
	// trust them.
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(l.SCM.Mount)), 0o755); err != nil {
		return fault.Wrap(fault.Config, err, "cannot make the directory of the mount point of engine %d", l.Engine)
	}
	_, err = w.host.Execute(ctx, plan, nil)
	return err
}

// needsRoot reports whether a step of the plan for a RAM disk is the helper's. The
// directory that is made there is the mount point: a RAM disk alone has no other.
func needsRoot(op storage.Op) bool {
	return op == storage.OpUnmount || op == storage.OpMakeDir || op == storage.OpMount
}

// unmount takes a RAM disk away that the engine can rebuild from its SSDs.
func (w *worker) unmount(ctx context.Context, c caller, full storage.Layout, _ requestOptions) error {
	if !full.MetadataOnSSD() {
		return fault.New(fault.Refused, "cannot unmount %s: it holds the only copy of the data of engine %d", full.SCM.Mount, full.Engine)
	}
	condition, err := w.look(ctx, c, ramDisk(c, full))
	if err != nil {
		return err
	}
	if condition.Mounts > 0 && !condition.Present {
		return condition.Err // not a RAM disk of ours
	}
	return w.host.Unmount(full)
}

// asCaller runs do with the caller's rights to files. It does so on a thread of its
// own, which ends with it: whatever happens, no other work gets those rights.
func asCaller(c caller, do func() error) (err error) {
	if c.uid == 0 {
		return do()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if err = become(c); err == nil {
			err = do()
		}
	}()
	<-done
	return err
}

// become gives the calling thread the file rights of another user. The calls tell
// no error, hence the second ones, which change nothing and return what is set.
func become(c caller) error {
	_, _ = unix.SetfsgidRetGid(int(c.gid))
	_, _ = unix.SetfsuidRetUid(int(c.uid))
	gid, _ := unix.SetfsgidRetGid(-1)
	uid, _ := unix.SetfsuidRetUid(-1)
	if uint32(gid) != c.gid || uint32(uid) != c.uid {
		return fault.New(fault.Permission, "cannot look at files with the rights of user %d", c.uid).
			WithHint("allow the helper CAP_SETUID and CAP_SETGID")
	}
	return nil
}
