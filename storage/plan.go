package storage

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// Op is what a step of a plan does; its text is for people.
type Op string

// The steps there are. Each may be repeated: done twice is done once.
const (
	OpMakeDir       Op = "make directory"
	OpClaim         Op = "claim directory"
	OpRemove        Op = "remove"
	OpErase         Op = "erase contents of"
	OpUnmount       Op = "unmount"
	OpMount         Op = "mount tmpfs on"
	OpCreateImage   Op = "create image"
	OpWriteNVMeConf Op = "write"
	OpSuperblock    Op = "write superblock"
)

// Step is one step of a plan.
type Step struct {
	// Number counts from 1 to Total.
	Number, Total int
	Op            Op
	Path          string
	// Detail are mount options, or the size of an image in words.
	Detail string

	parents bool  // make missing levels above too
	size    int64 // of an image or tmpfs, bytes
	force   bool  // replace an image that does not look like ours
	keep    bool  // keep an image that exists
	content []byte
}

// String is the line that --dry-run and the log show.
func (s Step) String() string {
	text := string(s.Op) + " " + s.Path
	if s.Detail != "" {
		text += " (" + s.Detail + ")"
	}
	return text
}

// FormatOptions are the wishes of whoever asks for a format.
type FormatOptions struct {
	// Superblock that the engine gets, from NewSuperblock.
	Superblock Superblock
	// Force gives up what is there.
	Force bool
	// Adopt takes the SCM and the images as they are, erases nothing and only adds
	// what is missing (StartAction CreateSuperblock). Excludes Force.
	Adopt bool
}

// Plan is the list of steps that formats one engine's storage. It is made
// without touching anything, so that it can be shown first.
type Plan struct {
	Layout  Layout
	Options FormatOptions
	Steps   []Step
}

// PlanFormat lists what a format of l in condition c does, the superblock last.
// It refuses with AlreadyFormatted what would lose data without Force, and never
// erases a directory that no format has claimed.
func PlanFormat(l Layout, c Condition, o FormatOptions) (Plan, error) {
	if err := mayFormat(l, c, o); err != nil {
		return Plan{}, err
	}
	p := &Plan{Layout: l, Options: o}
	if l.SCM.Class == Dir {
		p.planDir(c)
	} else if err := p.planRAM(c); err != nil {
		return Plan{}, err
	}
	p.planMetadata()
	p.planBdevs()
	if err := p.planFiles(); err != nil {
		return Plan{}, err
	}
	for i := range p.Steps {
		p.Steps[i].Number, p.Steps[i].Total = i+1, len(p.Steps)
	}
	return *p, nil
}

func mayFormat(l Layout, c Condition, o FormatOptions) error {
	if err := l.Supported(); err != nil {
		return err
	}
	dir := filepath.Clean(l.SCM.Mount)
	if c.State == Refused && !(c.HasSuperblock && o.Force) {
		return c.Err
	}
	if o.Adopt && (o.Force || !c.Present) {
		return fault.New(fault.Internal, "cannot adopt the storage of engine %d: it is not there or force was asked for", l.Engine)
	}
	if c.HasSuperblock && !o.Force {
		return fault.New(fault.AlreadyFormatted, "cannot format engine %d: %s exists", l.Engine, l.SuperblockPath()).
			WithHint("repeat with --force to erase the engine's data and give it a new identity")
	}
	owned := c.Ours || (c.HasSuperblock && !l.MetadataOnSSD())
	if l.SCM.Class == Dir && len(c.Contents) > 0 && !owned {
		return fault.New(fault.Refused, "cannot format engine %d: directory %s is not empty and holds no engine (it has %s)",
			l.Engine, dir, strings.Join(c.Contents, ", ")).
			WithHint("name an empty or new directory in scm_mount")
	}
	if len(c.Contents) > 0 && !o.Force && !o.Adopt {
		return fault.New(fault.AlreadyFormatted, "cannot format engine %d: %s has no superblock but is not empty (it has %s)",
			l.Engine, dir, strings.Join(c.Contents, ", ")).
			WithHint("repeat with --force to erase it, or restore %s", l.SuperblockPath())
	}
	if l.SCM.Class == RAM && !c.Present && !c.CanMount {
		return fault.New(fault.Permission, "cannot format engine %d: only root can mount a tmpfs on %s", l.Engine, dir).
			WithHint("run the server as root, mount the tmpfs beforehand, or use class dir")
	}
	return nil
}

func (p *Plan) add(s Step) { p.Steps = append(p.Steps, s) }

func (p *Plan) planDir(c Condition) {
	dir := filepath.Clean(p.Layout.SCM.Mount)
	p.add(Step{Op: OpMakeDir, Path: dir})
	// The claim comes before the superblock goes: from then on it alone says that
	// the directory may be erased, should this format be cut off.
	p.add(Step{Op: OpClaim, Path: dir})
	if p.Options.Force {
		p.add(Step{Op: OpRemove, Path: p.Layout.SuperblockPath()})
		p.add(Step{Op: OpErase, Path: dir})
	}
}

func (p *Plan) planRAM(c Condition) error {
	dir := filepath.Clean(p.Layout.SCM.Mount)
	if p.Options.Adopt {
		return nil
	}
	if p.Options.Force {
		p.add(Step{Op: OpRemove, Path: p.Layout.SuperblockPath()})
	}
	if !c.CanMount {
		if p.Options.Force {
			p.add(Step{Op: OpErase, Path: dir})
		}
		return nil
	}
	for range c.Mounts {
		p.add(Step{Op: OpUnmount, Path: dir})
	}
	options, err := tmpfsOptions(p.Layout.SCM, c)
	if err != nil {
		return err
	}
	p.add(Step{Op: OpMakeDir, Path: dir, parents: true})
	p.add(Step{Op: OpMount, Path: dir, Detail: options, size: gib(p.Layout.SCM.SizeGiB)})
	return nil
}

// tmpfsOptions are the data options of the mount, in the order that the current
// releases use.
func tmpfsOptions(t Tier, c Condition) (string, error) {
	var options []string
	if c.NUMA {
		options = append(options, "mpol=prefer:"+strconv.Itoa(t.NUMANode))
	}
	options = append(options, fmt.Sprintf("size=%dg", t.SizeGiB))
	if t.Hugepages {
		if !c.HugepagesOK {
			return "", fault.New(codeNoHugepages, "cannot mount a tmpfs with huge pages on %s: the kernel has no transparent huge pages", t.Mount).
				WithHint("set scm_hugepages_disabled: true, or boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE")
		}
		options = append(options, "huge=always")
	}
	return strings.Join(options, ","), nil
}

func (p *Plan) planMetadata() {
	if !p.Layout.MetadataOnSSD() {
		return
	}
	if p.Options.Force {
		p.add(Step{Op: OpErase, Path: p.Layout.Dir()})
		if p.Layout.Engine == 0 {
			p.add(Step{Op: OpRemove, Path: p.Layout.RaftDir()})
		}
	}
	p.add(Step{Op: OpMakeDir, Path: p.Layout.MetadataDir(), parents: true})
	p.add(Step{Op: OpMakeDir, Path: p.Layout.Dir()})
}

func (p *Plan) planBdevs() {
	for _, tier := range p.Layout.Bdevs {
		if tier.Class != File {
			continue
		}
		for _, path := range tier.Devices {
			p.add(Step{Op: OpCreateImage, Path: filepath.Clean(path), size: gib(tier.SizeGiB), force: p.Options.Force,
				keep: p.Options.Adopt, Detail: fmt.Sprintf("%d GiB, sparse", tier.SizeGiB)})
		}
	}
}

func (p *Plan) planFiles() error {
	conf, err := NVMeConf(p.Layout)
	if err != nil {
		return err
	}
	if conf != nil {
		p.add(Step{Op: OpWriteNVMeConf, Path: p.Layout.NVMeConfPath(), content: conf})
	}
	content, err := encodeSuperblock(p.Options.Superblock)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "cannot make the superblock of engine %d", p.Layout.Engine)
	}
	p.add(Step{Op: OpSuperblock, Path: p.Layout.SuperblockPath(), content: content})
	return nil
}

const dirMode fs.FileMode = 0o775
