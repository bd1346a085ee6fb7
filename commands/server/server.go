package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/config"
	"daosbox/commands/control"
	"daosbox/commands/fabric"
	"daosbox/commands/layout"
	"daosbox/engine"
	"daosbox/engine/drpc"
	"daosbox/storage"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Bounds of the stop: each is the most that its step may take.
const (
	stopEngines = 20 * time.Second
	stopService = 5 * time.Second
	stopWire    = 3 * time.Second
)

// server is one running daos_server. Its fields are set before run and do not
// change, but for those below mu.
type server struct {
	tool     *cli.Tool
	cfg      *config.Server
	log      *slog.Logger
	hostname string
	domain   string   // the host's fault domain
	self     string   // control address that the system knows, ip:port
	replicas []string // of the management service, ip:port
	identity *pki.Identity
	host     storage.Host
	fabric   fabric.Host

	client  *control.Client // to the management service and to other servers
	mux     *control.Mux
	wire    *wire.Server
	drpc    *drpc.Server
	engines []*localEngine
	events  *forwarder
	restart restarter

	options *startOptions
	life    context.Context // ends with the daemon; for work that outlives a call
	failed  chan error      // what ends the daemon before it is told to
	lender  *lender         // of connections of other replicas

	tasks sync.WaitGroup // goroutines that outlive the call that began them

	erase       sync.Mutex // held by the coordinator of an erasure
	opening     sync.Mutex // held while the database is opened
	mu          sync.Mutex
	stopping    bool             // nothing new is begun
	service     *cluster.Service // nil before the database is open, and without a replica
	serviceDone chan struct{}
}

// spawn runs work that outlives its caller, until the daemon ends; once the daemon
// stops it is not begun any more.
func (s *server) spawn(work func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.tasks.Go(func() { work(s.life) })
	}
}

func (s *server) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// pause waits, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// newServer prepares a daemon; nothing is started and nothing on disk is touched.
func newServer(ctx context.Context, t *cli.Tool, cfg *config.Server, identity *pki.Identity, log *slog.Logger, o *startOptions) (*server, error) {
	s := &server{tool: t, cfg: cfg, log: log, identity: identity, hostname: hostname(), failed: make(chan error, 1), options: o}
	var err error
	if s.domain, err = faultDomain(ctx, cfg, s.hostname); err != nil {
		return nil, err
	}
	if s.replicas, err = resolveAll(ctx, cfg.MgmtSvcReplicas); err != nil {
		return nil, err
	}
	if s.self, err = controlAddress(cfg, s.replicas); err != nil {
		return nil, err
	}
	if s.fabric, err = fabric.Scan("", "all"); err != nil {
		return nil, err
	}
	dialer := &wire.Dialer{Logger: log, Timeout: 5 * time.Second}
	if identity != nil {
		dialer.TLS = identity.ClientTLS()
	}
	s.client = &control.Client{Dialer: dialer, System: cfg.Name, Servers: s.replicas, Keep: true, Log: log}
	s.events = newForwarder(s)
	s.restart.policy = engine.RestartPolicy{MinDelay: cfg.RestartDelay(), Disabled: cfg.DisableEngineAutoRestart}
	memory, err := s.host.Memory()
	if err == nil {
		err = layout.SizeRAMDisks(cfg, memory)
	}
	if err != nil {
		return nil, err
	}
	for i := range cfg.Engines {
		s.engines = append(s.engines, newLocalEngine(s, i))
	}
	s.mux = control.NewMux(cfg.Name, identity == nil, log)
	s.serveHost()
	s.serveSystem()
	s.servePools()
	s.serveAdminister()
	s.serveRelay()
	if missing := s.mux.Missing(); len(missing) > 0 {
		// Callers are told so; the rest of the API is no worse for it.
		log.Error("cannot serve the whole control API: methods have no handler", "methods", missing)
	}
	wc := wire.ServerConfig{Handler: s.mux.Serve, Admit: s.admit, Logger: log}
	if identity != nil {
		wc.TLS = identity.ServerTLS()
	}
	s.wire = wire.NewServer(wc)
	s.lender = &lender{inner: s.wire.Service(raftService)}
	return s, nil
}

// admit decides which services a peer may open at all: other servers talk raft,
// everybody with a certificate may call methods, each of which has its roles.
func (s *server) admit(service string, peer wire.Peer) error {
	if service != raftService || s.identity == nil {
		return nil
	}
	if peer.Cert == nil {
		return fault.New(fault.Permission, "cannot open service %q without a certificate", service)
	}
	role, err := pki.RoleOf(peer.Cert)
	if err == nil && role != pki.Server {
		err = fault.New(fault.Permission, "cannot open service %q with the certificate of role %q: it is for servers", service, role)
	}
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
func (s *server) run(ctx context.Context) error {
	// The parts live until their own stop, not until the signal: an engine that
	// is asked to end still talks to its server.
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s.life = base
	var stops []func(context.Context)
	var err error
	for _, step := range s.steps(end) {
		s.log.Debug("starting", "step", step.name)
		// What is asked to stop before it is up goes no further.
		if ctx.Err() != nil {
			break
		}
		if err = step.start(base); err != nil {
			break
		}
		if step.stop != nil {
			stops = append(stops, step.stop)
		}
	}
	if err == nil && ctx.Err() == nil {
		s.log.Info("daos_server is up", "system", s.cfg.Name, "address", s.self, "engines", len(s.engines), "replicas", s.replicas, "secure", s.identity != nil)
		tellSystemd(daemon.SdNotifyReady, s.log)
		select {
		case <-ctx.Done():
			s.log.Info("told to stop")
		case err = <-s.failed:
			s.log.Error("cannot go on", "error", err)
		}
		tellSystemd(daemon.SdNotifyStopping, s.log)
	}
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i](base)
	}
	s.log.Info("daos_server is down")
	return err
}

func (s *server) steps(end func()) []step {
	var background sync.WaitGroup
	loop := func(ctx context.Context, what string, run func(context.Context) error) {
		background.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				s.fail(fmt.Errorf("%s ended: %w", what, err))
			}
		})
	}
	var listener net.Listener
	var supervised sync.WaitGroup // the engines' own loops
	var endEngines context.CancelFunc
	return []step{
		{
			name:  "what runs in the background", // ends last, when all it serves is down
			start: func(context.Context) error { return nil },
			stop:  func(context.Context) { end(); background.Wait(); s.tasks.Wait() },
		},
		{
			name: "control port",
			start: func(ctx context.Context) (err error) {
				listener, err = listen(ctx, listenAddress(s.cfg))
				return err
			},
			stop: func(context.Context) { _ = listener.Close() },
		},
		{
			name:  "dRPC socket",
			start: func(ctx context.Context) error { return s.startDRPC(ctx, loop) },
			// After the engines, which talk to it to the end.
			stop: func(context.Context) { _ = s.drpc.Close(); s.removeSockets() },
		},
		{
			name: "control API",
			start: func(ctx context.Context) error {
				loop(ctx, "control API", func(ctx context.Context) error { return s.wire.Serve(ctx, listener) })
				return nil
			},
			// Drains after the management service, whose last messages it carries.
			stop: bounded(stopWire, func(ctx context.Context) { _ = s.wire.Shutdown(ctx); s.client.Close() }),
		},
		{
			name:  "event forwarding",
			start: func(ctx context.Context) error { loop(ctx, "event forwarding", s.events.run); return nil },
			stop:  func(context.Context) { s.events.stop() },
		},
		{
			name:  "management service", // is opened by engine 0, once its storage is ready
			start: func(context.Context) error { return nil },
			// Before the wire: the lead is handed over.
			stop: bounded(stopService, s.stopServiceStep),
		},
		{
			name: "engines",
			start: func(ctx context.Context) error {
				ctx, endEngines = context.WithCancel(ctx)
				return s.startEngines(ctx, &supervised)
			},
			stop: bounded(stopEngines, func(ctx context.Context) { s.stopEngines(ctx, endEngines, &supervised) }),
		},
		{
			name: "active configuration",
			start: func(context.Context) error {
				if err := config.WriteActive(s.cfg.SocketDir, s.cfg); err != nil {
					s.log.Debug("cannot write the active configuration", "error", err)
				}
				return nil
			},
		},
	}
}

func bounded(limit time.Duration, stop func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		stop(ctx)
	}
}

type looper func(ctx context.Context, what string, run func(context.Context) error)

// startEngines runs the instances and asks each for its first start. What can
// never work, and what would only be noticed after a start (damaged files, storage
// of another system), ends the daemon with its reason. A start that fails or waits
// for a format does not: the administrator reads why and acts.
func (s *server) startEngines(ctx context.Context, supervised *sync.WaitGroup) error {
	for _, e := range s.engines {
		if err := e.checkStart(ctx); err != nil {
			return err
		}
	}
	for _, e := range s.engines {
		supervised.Go(func() {
			if err := e.inst.Run(ctx); err != nil {
				s.fail(fmt.Errorf("engine %d ended: %w", e.index, err))
			}
		})
		supervised.Go(func() {
			err := e.inst.Start(ctx)
			if err != nil && !errors.Is(err, engine.ErrAwaitFormat) && ctx.Err() == nil {
				s.log.Error("engine did not start", "engine", e.index, "error", err, "hint", fault.HintOf(err))
			}
		})
	}
	return nil
}

// stopEngines ends the supervision of all engines, which asks them to end, and
// kills what has not ended when ctx does. No engine can be started any more.
func (s *server) stopEngines(ctx context.Context, end context.CancelFunc, supervised *sync.WaitGroup) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.restart.stop()
	end()
	done := make(chan struct{})
	go func() { supervised.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	for _, e := range s.engines {
		if status := e.inst.Status(); !status.State.Idle() {
			s.log.Warn("engine did not end when asked, killing it", "engine", e.index, "pid", status.PID)
			s.tasks.Go(func() { _ = e.inst.Stop(s.life, engine.Force) })
		}
	}
	<-done // the supervision gives up by itself on what not even SIGKILL ends
}

func (s *server) startDRPC(ctx context.Context, loop looper) error {
	if err := checkSocketDir(s.cfg.SocketDir); err != nil {
		return err
	}
	s.drpc = drpc.NewServer(drpc.ServerConfig{
		Path:    filepath.Join(s.cfg.SocketDir, "daos_server.sock"),
		Mode:    0o600,
		Modules: []drpc.Module{drpc.ModuleMgmt, drpc.ModuleSrv, drpc.ModuleSec},
		Handler: s.upcall,
		Logger:  s.log,
	})
	if err := s.drpc.Listen(); err != nil {
		return err
	}
	s.removeSockets()
	loop(ctx, "dRPC socket", s.drpc.Serve)
	return nil
}

// fail ends the daemon because of err, once; later ones are only logged.
func (s *server) fail(err error) {
	select {
	case s.failed <- err:
	default:
		s.log.Error("another failure while going down", "error", err)
	}
}
