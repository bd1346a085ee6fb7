package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine/drpc/pb"
	"daosbox/storage"
)

// up starts what does not run and waits until the whole system does. It calls
// opened when all ports are.
func (b *box) up(ctx context.Context, opened func()) error {
	if err := b.connect(); err != nil {
		return err
	}
	running, err := find(b.layout)
	if err != nil {
		return err
	}
	former := b.formerLives(running)
	children, err := b.startServers(ctx, running)
	if err != nil {
		return err
	}
	for host := 1; host <= b.Hosts; host++ {
		b.line.show("waiting for %s", hostName(host))
		if err := b.awaitServer(ctx, host, children[host]); err != nil {
			return err
		}
	}
	if err := b.format(ctx); err != nil {
		return err
	}
	if err := b.restartRanks(ctx, running, children); err != nil {
		return err
	}
	b.awaitEngines(ctx)
	opened()
	if err := b.awaitJoined(ctx, former, children); err != nil {
		return err
	}
	if !b.Agent {
		return nil
	}
	return b.startAgent(ctx, running)
}

// lives has the incarnation of each rank that is over: a rank counts as joined
// with a later one only, since the system may not have noticed yet that its engine
// is gone.
type lives map[hostlist.Rank]uint64

// formerLives reads the superblocks. What an engine that runs wrote there is its
// present life.
func (b *box) formerLives(running []process) lives {
	former := make(lives)
	for host := 1; host <= b.Hosts; host++ {
		idle := b.idleEngines(host, running)
		for engine := range b.RanksPerHost {
			superblock, err := storage.ReadSuperblock(b.superblock(host, engine))
			if err != nil || superblock.Rank == nil || superblock.Incarnation == 0 {
				continue
			}
			former[hostlist.Rank(*superblock.Rank)] = superblock.Incarnation
			if !slices.Contains(idle, engine) {
				former[hostlist.Rank(*superblock.Rank)]--
			}
		}
	}
	return former
}

func (l lives) settled(m cluster.Member) bool {
	return m.State == cluster.StateAdminExcluded || m.State == cluster.StateJoined && m.Incarnation > l[m.Rank]
}

// idleEngines lists the engines of a host that do not run.
func (b *box) idleEngines(host int, running []process) []int {
	var idle []int
	for engine := range b.RanksPerHost {
		if !slices.ContainsFunc(only(running, engineProcess, host), func(p process) bool { return p.engine == engine }) {
			idle = append(idle, engine)
		}
	}
	return idle
}

// startServers starts the servers that do not run, all at once, and returns them
// by host. Nothing is started when an address of one is taken.
func (b *box) startServers(ctx context.Context, running []process) (map[int]*child, error) {
	var missing []int
	for host := 1; host <= b.Hosts; host++ {
		if len(only(running, serverProcess, host)) == 0 {
			missing = append(missing, host)
		}
	}
	for _, host := range missing {
		if err := b.awaitFree(ctx, host); err != nil {
			return nil, err
		}
	}
	children := make(map[int]*child)
	environ := daemonEnviron(b.Environ)
	for _, host := range missing {
		b.line.show("starting %s", hostName(host))
		c, err := launch(b.layout, hostName(host), b.host(host), environ,
			filepath.Join(b.bin(), "daos_server"), "start", "-o", b.serverConfig(host))
		if err != nil {
			return nil, err
		}
		children[host] = c
	}
	return children, nil
}

// freeTime is how long a killed server's engines may take to let their ports go.
const freeTime = 5 * time.Second

func (b *box) awaitFree(ctx context.Context, host int) error {
	deadline := time.Now().Add(freeTime)
	for {
		busy := busyControl(b.manifest, host, host)
		if busy == "" {
			busy = busyFabric(b.manifest, host, host)
		}
		if busy == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fault.New(fault.Exists, "cannot start %s: another process uses %s", hostName(host), busy).
				WithHint("`ss -lntup` shows which; stop it, or make another sandbox")
		}
		if wait(ctx, poll) != nil {
			return canceled(ctx)
		}
	}
}

// awaitServer waits until a server answers; c is nil for one that ran before.
func (b *box) awaitServer(ctx context.Context, host int, c *child) error {
	for {
		err := b.answers(ctx, host)
		if err == nil {
			return nil
		}
		if c != nil && c.failure() != nil {
			return b.died(host, c)
		}
		if code := fault.Of(err); code == fault.Certificate || code == fault.Permission {
			return err
		}
		if wait(ctx, poll) != nil {
			if fault.Of(canceled(ctx)) == fault.Timeout {
				b.showTail(b.serverLog(host))
			}
			return fault.Wrap(fault.Of(canceled(ctx)), err, "cannot reach %s at %s", hostName(host), b.control(host))
		}
	}
}

// died is the error of a server that ended; what it said goes before it.
func (b *box) died(host int, c *child) error {
	b.showTail(b.serverLog(host))
	b.showTail(b.output(hostName(host)))
	return fault.New(fault.Unknown, "cannot start %s: its daos_server ended (%v)", hostName(host), c.failure()).
		WithHint("its last words are above, all are in %s and %s", b.serverLog(host), b.output(hostName(host)))
}

// format formats the hosts that have an engine without superblock, all at once.
func (b *box) format(ctx context.Context) error {
	var group sync.WaitGroup
	errs := make([]error, b.Hosts+1)
	for host := 1; host <= b.Hosts; host++ {
		if b.allFormatted(host) {
			continue
		}
		b.line.show("formatting %s", hostName(host))
		group.Go(func() { errs[host] = b.formatHost(ctx, host) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func (b *box) allFormatted(host int) bool {
	for engine := range b.RanksPerHost {
		if !b.formatted(host, engine) {
			return false
		}
	}
	return true
}

func (b *box) formatHost(ctx context.Context, host int) error {
	resp, err := control.Call(ctx, b.client, b.control(host), control.StorageFormat, &control.StorageFormatReq{}, nil)
	if err != nil {
		return fault.Wrap(fault.Of(err), err, "cannot format %s", hostName(host))
	}
	for engine := range b.RanksPerHost {
		if b.formatted(host, engine) {
			continue
		}
		var why []string
		for _, mount := range resp.Storage.SCMMountPoints {
			if mount.Path == b.scm(host, engine) {
				why = append(why, mount.Info)
			}
		}
		b.showTail(b.serverLog(host))
		return fault.New(fault.Unknown, "cannot format engine %d of %s: %s", engine, hostName(host), strings.Join(why, "; ")).
			WithHint("see %s", b.serverLog(host))
	}
	return nil
}

// openTime bounds the wait for the engines' ports.
const openTime = 5 * time.Second

// awaitEngines waits until the engines have opened their ports, which is before
// their sockets. Why one does not is told by who waits for its rank.
func (b *box) awaitEngines(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	for {
		open := 0
		running, err := find(b.layout)
		if err != nil {
			return
		}
		for _, p := range only(running, engineProcess, 0) {
			if _, err := os.Stat(filepath.Join(b.serverRun(p.host), fmt.Sprintf("daos_engine_%d.sock", p.pid))); err == nil {
				open++
			}
		}
		if open >= b.ranks() || wait(ctx, poll) != nil {
			return
		}
	}
}

// restartRanks starts the engines that ended, or were stopped, under servers that
// go on; those of a server that starts come by themselves.
func (b *box) restartRanks(ctx context.Context, running []process, children map[int]*child) error {
	ranks := hostlist.Ranks()
	for host := 1; host <= b.Hosts; host++ {
		if children[host] != nil {
			continue
		}
		for _, engine := range b.idleEngines(host, running) {
			if rank, ok := b.rankOf(host, engine); ok {
				ranks.Add(rank)
			}
		}
	}
	if ranks.Len() == 0 {
		return nil
	}
	b.line.show("starting ranks %s", ranks)
	req := &control.SystemStartReq{Selector: control.Selector{Ranks: ranks}}
	if _, err := control.Ask(ctx, b.client, control.SystemStart, req, nil); err != nil {
		return fault.Wrap(fault.Of(err), err, "cannot start ranks %s", ranks)
	}
	return nil
}

// awaitJoined waits until all ranks are members that serve.
func (b *box) awaitJoined(ctx context.Context, former lives, children map[int]*child) error {
	why := errors.New("the management service was not asked yet")
	for {
		joined := 0
		members, err := b.members(ctx, connectTime)
		for _, m := range members {
			if former.settled(m) {
				joined++
			}
		}
		if err == nil && joined >= b.ranks() {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%d of %d ranks have joined", joined, b.ranks())
		}
		if ctx.Err() == nil {
			why = err
		}
		b.line.show("waiting for ranks to join: %v", err)
		for host, c := range children {
			if c.failure() != nil {
				return b.died(host, c)
			}
		}
		if wait(ctx, poll) != nil {
			return b.notJoined(ctx, former, why)
		}
	}
}

// notJoined tells who is missing, with the log of the first.
func (b *box) notJoined(ctx context.Context, former lives, why error) error {
	over := canceled(ctx)
	if fault.Of(over) == fault.Canceled {
		return over
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTime)
	defer cancel()
	members, _ := b.members(ctx, connectTime)
	fine := make(map[hostlist.Rank]bool)
	for _, m := range members {
		fine[m.Rank] = former.settled(m)
	}
	var missing []string
	for host := 1; host <= b.Hosts; host++ {
		for engine := range b.RanksPerHost {
			if rank, ok := b.rankOf(host, engine); ok && fine[rank] {
				continue
			}
			if len(missing) == 0 {
				b.showTail(b.serverLog(host))
				b.showTail(b.engineLog(host, engine))
			}
			missing = append(missing, processName(host, engine))
		}
	}
	return fault.New(fault.Timeout, "%v in time; missing: %s", why, strings.Join(missing, ", "))
}

// startAgent starts the agent unless it runs, and waits until it tells clients of
// all ranks.
func (b *box) startAgent(ctx context.Context, running []process) error {
	var c *child
	if len(only(running, agentProcess, 0)) == 0 {
		b.line.show("starting the agent")
		var err error
		c, err = launch(b.layout, "agent", b.agentDir(), daemonEnviron(b.Environ),
			filepath.Join(b.bin(), "daos_agent"), "-o", b.agentConfig(), "start")
		if err != nil {
			return err
		}
	}
	pause := poll
	for {
		err := b.agentKnows(ctx)
		if err == nil {
			return nil
		}
		if c != nil && c.failure() != nil {
			b.showTail(b.agentLog())
			b.showTail(b.output("agent"))
			return fault.New(fault.Unknown, "cannot start the agent: it ended (%v)", c.failure()).
				WithHint("its last words are above, all are in %s and %s", b.agentLog(), b.output("agent"))
		}
		if wait(ctx, pause) != nil {
			if fault.Of(canceled(ctx)) == fault.Timeout {
				b.showTail(b.agentLog())
			}
			return fault.Wrap(fault.Of(canceled(ctx)), err, "cannot get the answer of the agent at %s", b.agentSocket())
		}
		if fault.Of(err) == fault.NotReady {
			// It asked a replica that had yet to hear of the last rank; without
			// this it would ask again in some seconds.
			if err := b.refreshAgent(); err != nil {
				return err
			}
			pause = min(2*pause, time.Second)
		}
	}
}

// agentKnows reports whether the agent tells clients of all ranks that serve;
// fault.NotReady means that it answers, but knows too few.
func (b *box) agentKnows(ctx context.Context) error {
	members, err := b.members(ctx, askTime)
	if err != nil {
		return err
	}
	resp, err := askAgent(ctx, b.layout, b.System)
	if err != nil {
		return err
	}
	for _, m := range members {
		known := slices.ContainsFunc(resp.GetRankUris(), func(u *pb.GetAttachInfoResp_RankUri) bool { return u.GetRank() == uint32(m.Rank) })
		if m.State == cluster.StateJoined && !known {
			return fault.New(fault.NotReady, "rank %d is missing in the agent's answer", m.Rank)
		}
	}
	return nil
}

// refreshAgent has the agent fetch the map anew.
func (b *box) refreshAgent() error {
	running, err := find(b.layout)
	if err != nil {
		return err
	}
	for _, p := range only(running, agentProcess, 0) {
		if err := p.signal(syscall.SIGUSR2); err != nil {
			return err
		}
	}
	return nil
}
