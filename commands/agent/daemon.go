package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/config"
	"daosbox/commands/control"
	"daosbox/engine/drpc"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Bounds of the stop: each is the most that its step may take.
const (
	stopLoop  = 15 * time.Second
	stopEvict = 10 * time.Second
)

// Bounds of the socket, which any user of the host may open.
const (
	maxSessions = 4096
	idleTime    = 30 * time.Second
)

// daemon is one running daos_agent. Its fields are set before run and do not
// change.
type daemon struct {
	env      *cli.Env
	cfg      *config.Agent
	log      *slog.Logger
	identity *pki.Identity // nil on an insecure system

	client  *control.Client
	chooser *chooser
	numa    *numa
	issuer  *issuer
	watcher *watcher
	book    *handleBook
	evictor *evictor
	cache   *attachCache
	drpc    *drpc.Server
}

// newDaemon prepares a daemon; nothing is started.
func newDaemon(env *cli.Env, cfg *config.Agent, identity *pki.Identity, log *slog.Logger) *daemon {
	d := &daemon{env: env, cfg: cfg, log: log, identity: identity, client: newClient(cfg, identity, log)}
	d.client.Keep = true
	var sign func([]byte) ([]byte, error)
	if identity != nil {
		sign = identity.Sign
	}
	host, err := os.Hostname()
	if err != nil {
		log.Warn("cannot read the host name, credentials will lack it", "error", err)
	}
	d.issuer = newIssuer(host, cfg.CredentialConfig, sign, log)
	d.chooser = newChooser(cfg)
	d.chooser.uncached = cfg.DisableCaching || d.switchedOn("DAOS_AGENT_DISABLE_OFI_CACHE")
	d.numa = newNUMA("/proc", "/sys")
	d.cache = newAttachCache(d.fetchMap, log)
	d.cache.disabled = cfg.DisableCaching || d.switchedOn("DAOS_AGENT_DISABLE_CACHE")
	d.cache.expiration = time.Duration(cfg.CacheExpiration) * time.Minute
	d.evictor = newEvictor(d.evictHandles, log)
	d.watcher = newWatcher("/proc")
	d.book = newHandleBook(d.watcher, d.evictor.add, log)
	d.drpc = drpc.NewServer(drpc.ServerConfig{
		Path:        filepath.Join(cfg.RuntimeDir, "daos_agent.sock"),
		Mode:        0o666, // every user may be a client; the kernel tells who it is
		Modules:     []drpc.Module{drpc.ModuleSecAgent, drpc.ModuleMgmt},
		Handler:     d.serve,
		MaxSessions: maxSessions,
		IdleTimeout: idleTime,
		Logger:      log,
	})
	return d
}

// switchedOn reads a switch of the environment.
func (d *daemon) switchedOn(name string) bool {
	on, err := strconv.ParseBool(d.env.Getenv(name))
	return err == nil && on
}

func (d *daemon) fetchMap(ctx context.Context, known uint64) (control.AttachInfoResp, error) {
	return control.Ask(ctx, d.client, control.AttachInfo, &control.AttachInfoReq{AllRanks: true, KnownVersion: known}, nil)
}

func (d *daemon) evictHandles(ctx context.Context, pool string, handles []string) error {
	_, err := control.Ask(ctx, d.client, control.PoolEvict, &control.PoolEvictReq{ID: pool, Handles: handles}, nil)
	return err
}

// step is one part of the daemon: start it, and later stop it. A stop comes in the
// reverse order of the starts and says why it comes when it does.
type step struct {
	name  string
	start func(context.Context) error
	stop  func(context.Context)
}

// run is the life of the daemon: the steps, then waiting, then the steps back.
func (d *daemon) run(ctx context.Context) error {
	// The parts live until their own stop, not until the signal: handles are
	// evicted after the last client.
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	failed := make(chan error, 1)
	var stops []func(context.Context)
	var err error
	for _, step := range d.steps(failed) {
		d.log.Debug("starting", "step", step.name)
		if err = step.start(base); err != nil {
			break
		}
		stops = append(stops, step.stop)
	}
	if err == nil {
		d.log.Info("daos_agent is up", "system", d.cfg.Name, "socket", filepath.Join(d.cfg.RuntimeDir, "daos_agent.sock"),
			"servers", d.cfg.AccessPoints, "secure", d.identity != nil)
		if d.cfg.TelemetryPort != 0 {
			d.log.Warn("client telemetry is not collected by this version, telemetry_port has no effect", "port", d.cfg.TelemetryPort)
		}
		d.tellSystemd(sd.SdNotifyReady)
		select {
		case <-ctx.Done():
			d.log.Info("told to stop")
		case err = <-failed:
			d.log.Error("cannot go on", "error", err)
		}
		d.tellSystemd(sd.SdNotifyStopping)
	}
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i](base)
	}
	d.log.Info("daos_agent is down")
	return err
}

// tellSystemd reports the state to the service manager, where there is one.
func (d *daemon) tellSystemd(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		d.log.Debug("cannot notify systemd", "error", err)
	}
}

func (d *daemon) steps(failed chan<- error) []step {
	socket := background("socket", failed, d.drpc.Serve)
	listenAndServe := socket.start
	socket.start = func(ctx context.Context) error {
		if err := d.drpc.Listen(); err != nil {
			return err
		}
		return listenAndServe(ctx)
	}
	evictions := background("eviction of pool handles", failed, d.evictor.run)
	endRun := evictions.stop
	// After the socket is closed: no client opens a pool any more.
	evictions.stop = func(ctx context.Context) { endRun(ctx); d.stopEvictions(ctx) }
	return []step{
		d.signals(failed), // stopped last: until then a signal must not kill
		{
			name:  "way to the management service",
			start: func(context.Context) error { return nil },
			stop:  func(context.Context) { d.client.Close() }, // after all that use it
		},
		evictions,
		background("address map", failed, d.cache.run), // after the clients that wait for it
		socket,
	}
}

// background is a step that runs until it is stopped.
func background(name string, failed chan<- error, run func(context.Context) error) step {
	var cancel context.CancelFunc
	done := make(chan struct{})
	return step{
		name: name,
		start: func(ctx context.Context) error {
			ctx, cancel = context.WithCancel(ctx)
			go func() {
				defer close(done)
				if err := run(ctx); err != nil && ctx.Err() == nil {
					failed <- fmt.Errorf("%s ended: %w", name, err)
				}
			}()
			return nil
		},
		stop: func(context.Context) {
			cancel()
			timer := time.NewTimer(stopLoop)
			defer timer.Stop()
			select {
			case <-done:
			case <-timer.C: // whatever holds it ends with the process
			}
		},
	}
}

// stopEvictions has the handles of clients that are left evicted, unless they are
// to survive the agent, and what else is pending.
func (d *daemon) stopEvictions(ctx context.Context) {
	if d.cfg.DisableAutoEvict {
		d.book.forgetAll()
	} else if n := d.book.evictAll(); n > 0 {
		d.log.Info("evicting the pool handles of all clients", "handles", n)
	}
	d.watcher.close()
	if d.evictor.left() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stopEvict)
	defer cancel()
	d.evictor.drain(ctx)
	if n := d.evictor.left(); n > 0 {
		d.log.Warn("cannot evict all pool handles before the end", "left", n)
	}
}

// signals reacts to the signals that do not end the agent.
func (d *daemon) signals(failed chan<- error) step {
	received := make(chan os.Signal, 4)
	s := background("signals", failed, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case sig := <-received:
				d.signal(sig)
			}
		}
	})
	start, stop := s.start, s.stop
	s.start = func(ctx context.Context) error {
		signal.Notify(received, syscall.SIGUSR1, syscall.SIGUSR2)
		return start(ctx)
	}
	s.stop = func(ctx context.Context) { stop(ctx); signal.Stop(received) }
	return s
}

func (d *daemon) signal(sig os.Signal) {
	switch sig {
	case syscall.SIGUSR1:
		d.log.Info("evicting the pool handles of all clients, as asked by SIGUSR1", "handles", d.book.evictAll())
	case syscall.SIGUSR2:
		d.log.Info("refreshing, as asked by SIGUSR2")
		if d.identity != nil {
			if err := d.identity.Reload(); err != nil {
				d.log.Error("cannot reload the certificates, keeping those at hand", "error", err)
			}
		}
		d.issuer.forget()
		d.chooser.forget()
		d.cache.again()
	}
}
