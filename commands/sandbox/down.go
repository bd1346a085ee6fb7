package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

type downOptions struct {
	dir   string
	purge bool
	force bool
}

func newDown(t *cli.Tool) *cobra.Command {
	var o downOptions
	cmd := &cobra.Command{
		Use:   "down --dir DIR",
		Short: "stop the system; its data stays for the next up",
		Long: `Stop the system in order: first its ranks, then agent and servers. What does not
end in time is killed. Data and configuration stay, and the next up goes on with
them; --purge removes them. Also processes of a sandbox whose sandbox.json is damaged
or lost are found and stopped; --purge --force removes one that is damaged.`,
		Args: cli.NoArgs,
	}
	dirFlag(t, cmd, &o.dir)
	cmd.Flags().BoolVar(&o.purge, "purge", false, "remove the sandbox with all its data")
	cmd.Flags().BoolVar(&o.force, "force", false, "with --purge: also when its sandbox.json is damaged")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runDown(cmd.Context(), t, o) }
	return cmd
}

// downResult is the answer of down.
type downResult struct {
	Dir string `json:"dir"`
	// Stopped and Killed list processes by name.
	Stopped []string `json:"stopped"`
	Killed  []string `json:"killed"`
	Purged  bool     `json:"purged"`
	Seconds float64  `json:"seconds"`
}

func runDown(ctx context.Context, t *cli.Tool, o downOptions) error {
	l, err := resolve(t, o.dir)
	if err != nil {
		return err
	}
	if o.force && !o.purge {
		return fault.New(fault.Usage, "cannot use --force alone").WithHint("it is for --purge; down stops all processes without it")
	}
	b, damage, err := openToStop(t, l)
	if err != nil {
		return err
	}
	unlock, err := lock(l)
	switch {
	case err == nil:
		defer unlock()
	case damage == nil || fault.Of(err) != fault.NotFound: // the directory may be gone
		return err
	}
	began := time.Now()
	result := downResult{Dir: l.dir, Stopped: []string{}, Killed: []string{}}
	err = b.stop(ctx, &result)
	b.line.clear()
	if err == nil {
		err = unmountBelow(l.dir)
	}
	if err == nil && o.purge {
		err = b.mayPurge(damage, o.force)
	}
	if err == nil && o.purge {
		err = b.purge()
		result.Purged = err == nil
	}
	result.Seconds = time.Since(began).Seconds()
	t.Show(result, result.print)
	return err
}

// openToStop is openBox for a sandbox to take down. The processes are known by their
// command lines, so one that has lost its manifest can be stopped, too: damage says
// then what is wrong with it, and the box has an empty one.
func openToStop(t *cli.Tool, l layout) (b *box, damage, err error) {
	b, err = openBox(t, l)
	if err == nil {
		return b, nil, nil
	}
	switch fault.Of(err) {
	case fault.NotFound:
		if running, _ := find(l); len(running) == 0 {
			return nil, nil, err
		}
		err = fault.Wrap(fault.NotFound, err, "the manifest is lost").
			WithHint("nothing tells what in %s is the sandbox's: remove it yourself", l.dir)
	case fault.Corrupt:
	default:
		return nil, nil, err
	}
	t.Notice("%v", err)
	return &box{Tool: t, layout: l, line: newProgressLine(t.Env)}, err, nil
}

// mayPurge refuses to remove a sandbox whose manifest does not say what it is. With
// force a damaged one is the mark of a sandbox, and the hosts are those found.
func (b *box) mayPurge(damage error, force bool) error {
	if damage == nil {
		return nil
	}
	if fault.Of(damage) != fault.Corrupt || !force {
		return fault.Wrap(fault.Of(damage), damage, "cannot remove the sandbox")
	}
	for host := 1; host <= maxHosts; host++ {
		if _, err := os.Lstat(b.host(host)); err == nil {
			b.Hosts = host
		}
	}
	return nil
}

func (r downResult) print(w io.Writer) {
	switch {
	case len(r.Stopped)+len(r.Killed) == 0:
		fmt.Fprintf(w, "nothing of the sandbox %s was running\n", r.Dir)
	default:
		fmt.Fprintf(w, "stopped %s in %.1f s\n", strings.Join(append(slices.Clone(r.Stopped), r.Killed...), ", "), r.Seconds)
	}
	if len(r.Killed) > 0 {
		fmt.Fprintf(w, "had to be killed: %s\n", strings.Join(r.Killed, ", "))
	}
	if r.Purged {
		fmt.Fprintf(w, "removed %s\n", r.Dir)
	}
}

// The bounds of the stop. A server bounds its own end at 28 s.
const (
	systemStopTime = 20 * time.Second
	endTime        = 35 * time.Second
	killTime       = 5 * time.Second
)

// stop ends all processes of the sandbox: first the ranks through the system, then
// agent and servers, and what is left by force.
func (b *box) stop(ctx context.Context, result *downResult) error {
	running, err := find(b.layout)
	if err != nil || len(running) == 0 {
		return err
	}
	for _, p := range running {
		if err := p.signal(syscall.SIGCONT); err != nil { // a paused one could not end
			return err
		}
	}
	b.stopRanks(ctx, running)
	for _, p := range running {
		if p.kind == engineProcess {
			continue // its server stops it
		}
		if err := p.signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	b.line.show("waiting for the processes to end")
	left, err := b.awaitEnd(ctx, endTime)
	if err != nil {
		return err
	}
	for _, p := range left {
		if err := p.signal(syscall.SIGKILL); err != nil {
			return err
		}
		result.Killed = append(result.Killed, p.name())
	}
	if len(left) > 0 {
		if left, err = b.awaitEnd(ctx, killTime); err != nil {
			return err
		}
	}
	for _, p := range running {
		if !slices.Contains(result.Killed, p.name()) {
			result.Stopped = append(result.Stopped, p.name())
		}
	}
	if len(left) > 0 {
		return fault.New(fault.Timeout, "cannot stop %s (process %d): it survives SIGKILL", left[0].name(), left[0].pid).
			WithHint("it hangs in the kernel; `cat /proc/%d/stack` shows where", left[0].pid)
	}
	return nil
}

// stopRanks asks the system to stop its ranks, when a majority is there to agree.
// What goes wrong is no reason to stop stopping.
func (b *box) stopRanks(ctx context.Context, running []process) {
	voters := 0
	for host := 1; host <= b.manifest.Replicas; host++ {
		voters += len(only(running, serverProcess, host))
	}
	if voters <= b.manifest.Replicas/2 || len(only(running, engineProcess, 0)) == 0 {
		return
	}
	b.line.show("stopping the ranks")
	err := b.connect()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, systemStopTime)
		defer cancel()
		_, err = control.Ask(ctx, b.client, control.SystemStop, &control.SystemStopReq{}, nil)
	}
	if err != nil {
		b.Log.Info("cannot stop the ranks through the system, stopping the servers", "error", err)
	}
}

// awaitEnd waits until no process of the sandbox is left, and returns those that are.
func (b *box) awaitEnd(ctx context.Context, limit time.Duration) ([]process, error) {
	deadline := time.Now().Add(limit)
	for {
		left, err := find(b.layout)
		if err != nil || len(left) == 0 || time.Now().After(deadline) {
			return left, err
		}
		if wait(ctx, poll) != nil {
			return nil, fault.Wrap(fault.Of(canceled(ctx)), canceled(ctx), "cannot wait for the processes to end").
				WithHint("they were told to; `daosbox sandbox down --dir %s` again waits and kills", b.dir)
		}
	}
}

// unmountBelow takes away what a server mounted below dir, innermost first; only a
// server that root let mount has anything there.
func unmountBelow(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(mounts) {
		if err := unix.Unmount(path, 0); err != nil {
			return fault.Wrap(fault.Busy, err, "cannot unmount %s", path).WithHint("see what uses it: `fuser -vm %s`", path)
		}
	}
	return nil
}

// mountsBelow lists mount points below dir in the order they were mounted.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot list mounts")
	}
	defer f.Close()
	var found []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		// The kernel writes blanks in paths as octal escapes.
		path := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if strings.HasPrefix(path, dir+string(os.PathSeparator)) {
			found = append(found, path)
		}
	}
	return found, nil
}

// purge removes what the sandbox made, and its directory if nothing else is in it.
func (b *box) purge() error {
	for _, path := range b.entries(b.Hosts) {
		if err := os.RemoveAll(path); err != nil {
			return fault.Wrap(fault.Permission, err, "cannot remove the sandbox").WithHint("remove it as the user who ran it")
		}
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Permission, err, "cannot remove the sandbox")
	}
	if len(entries) > 0 {
		b.Notice("%s stays: it holds %s and perhaps more that is not the sandbox's", b.dir, filepath.Join(b.dir, entries[0].Name()))
		return nil
	}
	if err := os.Remove(b.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Permission, err, "cannot remove the sandbox")
	}
	return nil
}
