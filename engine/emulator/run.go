package emulator

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
)

// defaultExcludeDelay is how long a rank must be missing from the group map before
// the pools exclude it.
const defaultExcludeDelay = 5 * time.Second

// Run is an emulated engine with the command line args (without the program's
// name) and environment env of a daos_engine. It returns nil after a graceful
// shutdown, asked for by SIGINT, SIGTERM or the end of ctx; before SetUp such a
// request stays pending, as it does in a real engine. Any failure is an error, on
// which the caller exits with status 1. Where a real engine aborts or kills
// itself, Run ends the process by that signal and does not return.
func Run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	return run(ctx, args, env, stdout, stderr, os.Getpid(), dieBy)
}

// run is Run for a given process id and way to die, so that tests can run several
// emulators in one process.
func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer, pid int, die func(syscall.Signal)) error {
	opts, err := parseOptions(args)
	if err != nil {
		usage(stderr)
		return err
	}
	if opts.help {
		usage(stdout)
		return nil
	}
	e := &engine{
		opts: opts, pid: pid, socket: socketPath(opts.socketDir, pid), failed: make(chan error, 1), ready: make(chan struct{}),
		kick: make(chan struct{}, 1), maps: make(chan outgoing, 1), leads: make(map[string]*leadership),
		methods: make(map[drpc.Method]row),
	}
	for _, r := range methodTable() {
		e.methods[r.method] = r
	}
	if e.cfg, err = readConfig(env); err != nil {
		return err
	}
	e.cfg.die = die
	closeLog, err := e.openLog(env)
	if err != nil {
		return err
	}
	defer closeLog()
	fmt.Fprintf(stdout, "daos_engine_emulator[%d]: this is the EMULATOR of a storage engine (release %s); it serves no data\n", pid, e.cfg.release)
	e.log.Log(ctx, levelEmit, "this is the EMULATOR of a storage engine; it serves no data", "release", e.cfg.release.String())
	err = e.main(ctx, env)
	if err != nil {
		e.log.Log(ctx, levelEmit, "engine ends", "err", err)
	}
	return err
}

// readConfig reads what the emulator takes from the environment beside the fabric.
func readConfig(env func(string) string) (config, error) {
	cfg := config{release: drpc.V28, swimPeriod: defaultSwimPeriod, excludeDelay: defaultExcludeDelay}
	switch release := env("DAOS_EMULATOR_RELEASE"); release {
	case "", "2.8":
	case "2.6":
		cfg.release = drpc.V26
	default:
		return cfg, fault.New(fault.Usage, "cannot emulate release %q: it is neither 2.8 nor 2.6", release)
	}
	if ms, err := envNumber(env, "DAOS_EMULATOR_SWIM_PERIOD_MS", 3600_000); err != nil {
		return cfg, err
	} else if ms != 0 {
		cfg.swimPeriod = time.Duration(ms) * time.Millisecond
	}
	if env("CRT_EVENT_DELAY") != "" {
		seconds, err := envNumber(env, "CRT_EVENT_DELAY", 86400)
		if err != nil {
			return cfg, err
		}
		cfg.excludeDelay = time.Duration(seconds) * time.Second
	}
	return cfg, nil
}

// envNumber reads a number of the environment, 0 when it is not set.
func envNumber(env func(string) string, name string, limit uint64) (uint64, error) {
	text := env(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > limit {
		return 0, fault.New(fault.Usage, "cannot use %s=%s: not a number from 0 to %d", name, text, limit)
	}
	return n, nil
}

// openLog opens D_LOG_FILE with D_LOG_MASK. Without a file nothing is logged but
// what the process prints.
func (e *engine) openLog(env func(string) string) (closeLog func(), err error) {
	e.host, _ = os.Hostname()
	m, err := parseMasks(env("D_LOG_MASK"))
	if err != nil {
		return nil, err
	}
	e.sink = &logSink{out: io.Discard, host: e.host, pid: e.pid}
	e.sink.masks.Store(m)
	e.log = slog.New(logHandler{sink: e.sink, subsystem: "mgmt"})
	path := env("D_LOG_FILE")
	if path == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot open the engine log").
			WithHint("make the directory of log_file exist and be writable")
	}
	e.sink.out = f
	return func() { _ = f.Close() }, nil
}

// main starts what an engine starts, in its order, and runs until the end is asked
// for or something fails.
func (e *engine) main(ctx context.Context, env func(string) string) error {
	points, err := parseFaults(env("DAOS_EMULATOR_FAULTS"), knownPoint)
	if err != nil {
		return err
	}
	e.faults = &faults{points: points, die: e.cfg.die}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	e.life = life
	defer e.tasks.Wait()
	defer end()

	signals := make(chan os.Signal, 8)
	// Everything that a real engine blocks or handles, so that nothing else of it
	// ends this process.
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGBUS,
		syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)

	if m := e.faults.pass(ctx, "start"); m != nil {
		return askedExit("start")
	}
	if err := e.open(env); err != nil {
		return err
	}
	e.background(e.report)
	return e.await(ctx, signals)
}

// open opens storage, socket and fabric, and starts to serve them.
func (e *engine) open(env func(string) string) error {
	capacity, err := envNumber(env, "DAOS_EMULATOR_SCM_BYTES", 1<<62)
	if err != nil {
		return err
	}
	cluster, err := envNumber(env, "DAOS_BS_CLUSTER_MB", 1<<20)
	if err != nil {
		return err
	}
	var bdevs []bdev
	if e.opts.nvme != "" {
		if bdevs, err = readBdevs(e.opts.nvme); err != nil {
			return err
		}
	}
	if e.store, err = openStore(e.opts.scm, capacity, bdevs, cluster, e.log.With("subsystem", "pool")); err != nil {
		return err
	}
	if e.incarnation, err = e.store.born(func(last uint64) uint64 { return hlc(time.Now(), last) }); err != nil {
		return err
	}
	port, err := envNumber(env, "D_PORT", 65535)
	if err != nil {
		return err
	}
	fabric, err := openFabric(env("D_PROVIDER"), env("D_INTERFACE"), int(port), e.opts.group, e.log.With("subsystem", "crt"))
	if err != nil {
		return err
	}
	fabric.ops, fabric.self = e.operations(), e.group.self
	e.fabric = fabric
	e.beats = &heartbeats{e: e, period: e.cfg.swimPeriod}

	framing := e.cfg.framing()
	server := drpc.NewServer(drpc.ServerConfig{
		Path: e.socket, Modules: []drpc.Module{drpc.ModuleMgmt}, Handler: e.handle,
		Only: &framing, CloseOnBadCall: true, Logger: e.log.With("subsystem", "drpc"),
	})
	if err := server.Listen(); err != nil {
		fabric.close()
		return err
	}
	e.background(func(ctx context.Context) {
		if err := server.Serve(ctx); err != nil {
			e.fail(err)
		}
	})
	e.background(fabric.serve)
	e.background(e.beats.listen)
	e.background(e.beats.beat)
	e.background(e.broadcastMaps)
	return nil
}

// report tells the server that this engine is ready, then waits for SetUp and
// begins to look after the pools.
func (e *engine) report(ctx context.Context) {
	if m := e.pass(ctx, "notify_ready"); m != nil {
		return
	}
	if err := e.notifyReady(ctx); err != nil {
		if ctx.Err() == nil {
			e.fail(err)
		}
		return
	}
	e.log.Info("reported ready", "uri", e.fabric.uri, "incarnation", e.incarnation)
	select {
	case <-e.ready:
		e.tendPools(ctx)
	case <-ctx.Done():
	}
}

// await runs until the end. A request to stop counts only after SetUp.
func (e *engine) await(ctx context.Context, signals <-chan os.Signal) error {
	asked := ctx.Done()
	var ready <-chan struct{}
	var result error
	for {
		select {
		case err := <-e.failed:
			return err
		case <-asked:
			asked, ready = nil, e.ready
		case <-ready:
			e.log.Info("shutting down")
			return result
		case sig := <-signals:
			switch sig {
			case syscall.SIGINT, syscall.SIGTERM:
				ready = e.ready
			case syscall.SIGBUS:
				ready, result = e.ready, fault.New(fault.Engine, "cannot go on: SIGBUS received")
			case syscall.SIGUSR1, syscall.SIGUSR2:
				e.dump()
			}
		}
	}
}

// dump writes the state where an engine writes the dump of its tasks.
func (e *engine) dump() {
	path := fmt.Sprintf("%s/daos_dump_%d_%s.txt", os.TempDir(), e.pid, time.Now().Format("20060102_15_04"))
	rank, ranked := e.group.self()
	state := map[string]any{
		"rank": rank, "ranked": ranked, "group": e.group.current(), "dead": e.beats.dead(), "services": e.store.replicaIDs(),
	}
	if err := writeState(path, state); err != nil {
		e.log.Error("cannot write dump", "err", err)
	}
}
