package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
)

type upOptions struct {
	dir      string
	hosts    int
	ranks    int
	replicas int
	port     int
	scm      int
	insecure bool
	noAgent  bool
	timeout  time.Duration

	// links are the names in bin.
	links []string
	// changed tells which flags were given.
	changed func(name string) bool
}

// The system that up makes when nothing else is asked for.
const (
	defaultHosts   = 3
	defaultSCM     = 2
	defaultTimeout = 2 * time.Minute
)

func (o *upOptions) addFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.IntVar(&o.hosts, "hosts", defaultHosts, "servers, each on an address of its own")
	fs.IntVar(&o.ranks, "ranks-per-host", 1, "engines of each server")
	fs.IntVar(&o.replicas, "replicas", 0, "replicas of the management service (default: 3, or 1 below 3 hosts)")
	fs.IntVar(&o.port, "port", 0, "control port (default: a free one, 10001 first)")
	fs.IntVar(&o.scm, "scm-size", defaultSCM, "GiB of storage-class memory that an engine accounts")
	fs.BoolVar(&o.insecure, "insecure", false, "use no certificates")
	fs.BoolVar(&o.noAgent, "no-agent", false, "start no agent")
	fs.DurationVar(&o.timeout, "timeout", defaultTimeout, "how long all of it may take")
}

func newUp(t *cli.Tool, links []string) *cobra.Command {
	o := upOptions{links: links}
	cmd := &cobra.Command{
		Use:   "up --dir DIR",
		Short: "bring the system up: make it, or go on with the data it has",
		Long: `Bring a system up in DIR. The first time this makes certificates, configurations
and directories; then it starts the servers, formats what is not formatted, waits
until all ranks have joined, and starts an agent. Run again it starts what does not
run and keeps what does, with all ranks and pools.`,
		Args: cli.NoArgs,
	}
	dirFlag(t, cmd, &o.dir)
	o.addFlags(cmd)
	o.changed = cmd.Flags().Changed
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runUp(cmd.Context(), t, o) }
	return cmd
}

func runUp(ctx context.Context, t *cli.Tool, o upOptions) error {
	if o.timeout <= 0 {
		return fault.New(fault.Usage, "cannot bring a system up in %v", o.timeout).WithHint("--timeout takes a time such as 2m")
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	l, err := resolve(t, o.dir)
	if err != nil {
		return err
	}
	began := time.Now()
	// Ports are chosen, checked and opened under one lock.
	unlockPorts, err := lockPorts(ctx)
	if err != nil {
		return err
	}
	unlockPorts = sync.OnceFunc(unlockPorts)
	defer unlockPorts()
	b, unlock, err := prepare(t, l, o)
	if err != nil {
		return err
	}
	defer unlock()
	err = b.up(ctx, unlockPorts)
	b.line.clear()
	if err != nil {
		return b.upFailed(ctx, err)
	}
	s := b.status(ctx)
	s.Seconds = time.Since(began).Seconds()
	t.Show(s, func(w io.Writer) {
		s.print(w)
		fmt.Fprintf(w, "\nup in %.1f s. Use it:\n  . %s\n  dmg system query\n  dmg pool create demo --size %s\n", s.Seconds, l.envScript(), poolSize(b.ranks()))
		fmt.Fprintf(w, "and when done:\n  daosbox sandbox down --dir %s\n", l.dir)
	})
	return nil
}

// upFailed adds the next step to what stopped an up.
func (b *box) upFailed(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	over := canceled(ctx)
	if fault.Of(over) == fault.Canceled {
		err = over // whatever it waited for matters no more
	}
	return fault.Wrap(fault.Of(over), err, "cannot bring the sandbox up").
		WithHint("what was started goes on: `daosbox sandbox up --dir %s` continues, `down` stops it; logs are in %s", b.dir, b.logs())
}

// prepare locks the sandbox, making it or letting it grow as the options say.
func prepare(t *cli.Tool, l layout, o upOptions) (*box, func(), error) {
	m, err := readManifest(l)
	if err == nil {
		err = o.agree(&m, l)
	} else if fault.Of(err) == fault.NotFound {
		m, err = o.create(l)
	}
	if err == nil {
		err = l.checkSockets(m.Hosts)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return nil, nil, fault.Wrap(fault.Permission, err, "cannot make the sandbox").WithHint("use a directory that this user may write")
	}
	unlock, err := lock(l)
	if err != nil {
		return nil, nil, err
	}
	b := &box{Tool: t, layout: l, manifest: m, line: newProgressLine(t.Env)}
	if err := b.make(o.links); err != nil {
		unlock()
		return nil, nil, err
	}
	return b, unlock, nil
}

// create is the manifest of a new sandbox; its ports are chosen later.
func (o upOptions) create(l layout) (manifest, error) {
	if err := emptyOrNew(l.dir); err != nil {
		return manifest{}, err
	}
	replicas := o.replicas
	if replicas == 0 && !o.given("replicas") {
		replicas = 1
		if o.hosts >= 3 {
			replicas = 3
		}
	}
	m := manifest{
		Version: manifestVersion, Dir: l.dir, System: systemName,
		Hosts: o.hosts, RanksPerHost: o.ranks, Replicas: replicas, Insecure: o.insecure, Agent: !o.noAgent,
		Port: o.port, SCMGiB: o.scm, NVMeGiB: nvmeGiB, Targets: targetsOfRank,
	}
	return m, m.check()
}

func (o upOptions) given(name string) bool { return o.changed != nil && o.changed(name) }

// agree takes over what may change in an existing sandbox: it can grow. All else
// was decided with the first up and stays.
func (o upOptions) agree(m *manifest, l layout) error {
	fixed := []struct {
		flag      string
		asked, is any
	}{
		{"ranks-per-host", o.ranks, m.RanksPerHost},
		{"replicas", o.replicas, m.Replicas},
		{"port", o.port, m.Port},
		{"scm-size", o.scm, m.SCMGiB},
		{"insecure", o.insecure, m.Insecure},
	}
	for _, f := range fixed {
		if o.given(f.flag) && f.asked != f.is {
			return fault.New(fault.Refused, "cannot change --%s of the sandbox %s from %v to %v: its system is made with it", f.flag, l.dir, f.is, f.asked).
				WithHint("leave the flag out, or make another sandbox")
		}
	}
	if o.given("hosts") && o.hosts < m.Hosts {
		return fault.New(fault.Refused, "cannot shrink the sandbox %s from %d to %d hosts: their ranks hold data", l.dir, m.Hosts, o.hosts).
			WithHint("leave --hosts out, or make another sandbox")
	}
	if o.given("hosts") {
		m.Hosts = o.hosts
	}
	m.Agent = !o.noAgent
	return m.check()
}

// make writes what is missing of the sandbox's files. The manifest is first, so
// that down finds whatever this run leaves.
func (b *box) make(links []string) error {
	before, err := readManifest(b.layout)
	switch {
	case fault.Of(err) == fault.NotFound:
		if err := choosePorts(&b.manifest); err != nil {
			return err
		}
	case err != nil:
		return err
	case before.Hosts < b.Hosts:
		// The list of servers follows; edits of the user are lost in this file.
		if err := os.Remove(b.controlConfig()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return unwritten(b.controlConfig(), err)
		}
	}
	if before != b.manifest {
		if err := writeManifest(b.layout, b.manifest); err != nil {
			return err
		}
	}
	return write(b.layout, b.manifest, b.Executable, links)
}
