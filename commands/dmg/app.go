package dmg

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/config"
	"daosbox/commands/control"
)

// app is one run of dmg: its switches, and what a verb asks to be made of them.
type app struct {
	*cli.Tool
	insecure   bool
	configPath string
	logFile    string
	hostList   string        // -l before the verb
	fanout     int           // hosts asked at a time, 0 for the standard
	timeout    time.Duration // that a host has to answer, 0 for the method's
	relay      control.RelayMode

	cfg      *config.Control // nil until it was read
	conn     *control.Client
	waits    bool // and has said so
	identity *pki.Identity
	tickets  *wire.Tickets
	log      io.Closer
}

func newApp(t *cli.Tool) *app { return &app{Tool: t} }

func (a *app) close() {
	if a.tickets != nil {
		if err := a.tickets.Save(); err != nil {
			a.Log.Debug("the next run connects without tickets", "error", err)
		}
	}
	if a.log != nil {
		_ = a.log.Close()
	}
}

// openLog sends what is logged to --log-file as well, in full.
func (a *app) openLog() error {
	if a.logFile == "" {
		return nil
	}
	f, err := os.OpenFile(a.Path(a.logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fault.Wrap(fault.Usage, reasonOf(err), "cannot open log file %s", a.Path(a.logFile)).
			WithHint("its directory must exist, and you must be allowed to write there")
	}
	a.log = f
	file := cli.DaemonLog(f, cli.LevelTrace, a.JSONLog)
	a.Log = slog.New(slog.NewMultiHandler(a.Log.Handler(), file.Handler()))
	return nil
}

// findConfig is the configuration file to read, "" when there is none. A dmg that
// is called through the bin of a sandbox belongs to it, whatever is at home.
func (a *app) findConfig() (string, error) {
	home, dir := a.Getenv("HOME"), a.ConfDir()
	if dir != "" {
		home = ""
	}
	return config.FindControl(a.Path(a.configPath), home, dir)
}

// config reads the configuration; hosts (-l) replace its host list. Advice about
// old keys goes to standard error.
func (a *app) config(hosts string) (*config.Control, error) {
	path, err := a.findConfig()
	if err != nil {
		return nil, err
	}
	cfg, hints, err := config.OpenControl(path, config.ControlOverrides{Insecure: a.insecure, HostList: hosts})
	for _, hint := range hints {
		a.Notice("%s", hint)
	}
	if err != nil {
		return nil, err
	}
	a.cfg = cfg
	a.Log.Debug("configuration", "file", path, "hosts", cfg.HostList)
	return cfg, nil
}

// client is how servers are called: with our certificate unless insecure, asking
// those named by hosts (-l) or else the configured ones. It connects nothing yet.
// A run has one client: the first call makes it.
func (a *app) client(hosts string) (*control.Client, error) {
	if a.conn != nil {
		return a.conn, nil
	}
	if hosts == "" {
		hosts = a.hostList
	}
	cfg, err := a.config(hosts)
	if err != nil {
		return nil, err
	}
	dialer := &wire.Dialer{Logger: a.Log}
	if !cfg.Transport.AllowInsecure {
		files := pki.Files{CA: cfg.Transport.CACert, Cert: cfg.Transport.Cert, Key: cfg.Transport.Key}
		if a.identity, err = pki.Load(files, pki.Admin); err != nil {
			return nil, a.builtIn(err)
		}
		dialer.TLS = a.identity.ClientTLS()
		if dir := a.ticketDir(); dir != "" {
			a.tickets = wire.OpenTickets(dir, a.identity.Fingerprint())
			dialer.Tickets = a.tickets
		}
	}
	a.conn = &control.Client{Dialer: dialer, System: cfg.Name, Servers: cfg.HostList, Log: a.Log, Waiting: a.wait}
	return a.conn, nil
}

// builtIn says, of an error about certificates, that no configuration named them.
func (a *app) builtIn(err error) error {
	if path, _ := a.findConfig(); path != "" {
		return err
	}
	return fault.Wrap(fault.Of(err), err, "no configuration file is there").
		WithHint("name it with -o, or write daos_control.yml with the servers and certificates of the system; `dmg config check` shows what holds")
}

// patience is how long the management service may be without an answer before the
// user is told what is waited for. A new leader is elected in less.
const patience = 3 * time.Second

// wait tells once that, and why, an answer is still awaited.
func (a *app) wait(since time.Duration, why error) {
	if since >= patience && !a.waits {
		a.waits = true
		a.Notice("no answer yet, asking on (--timeout sets for how long): %v", why)
	}
}

// noTickets in the environment keeps TLS sessions from being kept between runs.
const noTickets = "DAOSBOX_NO_TICKETS"

// ticketDir is where this user's TLS sessions are kept, "" for nowhere.
func (a *app) ticketDir() string {
	if a.Getenv(noTickets) != "" {
		return ""
	}
	if dir := a.ConfDir(); dir != "" {
		return filepath.Join(dir, "cache") // goes with its sandbox
	}
	if dir := a.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "daosbox")
	}
	if home := a.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "daosbox")
	}
	return ""
}

// checkFan refuses bounds that cannot be meant.
func (a *app) checkFan() error {
	switch {
	case a.fanout < 0 || a.fanout > maxFanout:
		return fault.New(fault.Usage, "cannot ask %d hosts at a time", a.fanout).WithHint("--fanout is 1 to %d", maxFanout)
	case a.timeout < 0:
		return fault.New(fault.Usage, "cannot wait %s for an answer", a.timeout).WithHint("write --timeout as 30s or 2m")
	}
	return nil
}

// maxFanout is as many connections as a process may have by usual limits.
const maxFanout = 16384

// explain says which of our certificates a server refused, where TLS did not.
func (a *app) explain(err error) error {
	if err == nil || a.identity == nil {
		return err
	}
	return a.identity.Explain(err)
}

// ask sends a request to the management service, showing on a terminal how far it
// is. what names the command in the error: "system stop".
func ask[Req, Resp any](ctx context.Context, a *app, what string, method control.Method[Req, Resp], req *Req) (Resp, error) {
	client, err := a.client("")
	if err != nil {
		var none Resp
		return none, err
	}
	if a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	p := newProgress(a.Env)
	defer p.clear()
	resp, err := control.Ask(ctx, client, method, req, func(at control.Progress) { p.show(what + ": " + stepText(at)) })
	if err != nil {
		return resp, failed(what, a.explain(err))
	}
	return resp, nil
}

// failed names the command that an error belongs to and keeps the error's code.
func failed(what string, err error) error {
	return fault.Wrap(fault.Of(err), err, "%s failed", what)
}
