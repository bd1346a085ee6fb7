package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/config"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
)

// startOptions are the flags of start, of every era.
type startOptions struct {
	config    string
	overrides config.ServerOverrides
	syslog    *bool

	targets, helpers    uint16
	firstCore, cores    uint16
	helperLog           string
	recreateSuperblocks bool
	autoFormat          bool
	gone                struct{ attachInfo, rankMap, rank string }

	startTimeout time.Duration // of an engine, 0 for the default; no flag
}

func startCommand(t *cli.Tool, toSyslog *bool) *cobra.Command {
	o := &startOptions{syslog: toSyslog}
	cmd := &cobra.Command{
		Use:   "start",
		Short: "run the daemon until it is told to end",
		Long: `Run the daemon of a storage node. It validates its configuration, listens on the
control port, waits until its storage is formatted (dmg storage format), starts
the engines, joins their ranks to the system and keeps them running until SIGTERM.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return start(cmd.Context(), t, cmd, o) },
	}
	configFlag(cmd, &o.config)
	o.flags(cmd)
	return cmd
}

func (o *startOptions) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	over := &o.overrides
	fs.IntVarP(&over.Port, "port", "p", 0, "control port")
	fs.StringVarP(&over.ScmMount, "storage", "s", "", "mount point of the first engine's SCM (deprecated: scm_mount)")
	fs.StringVarP(&over.Modules, "modules", "m", "", "engine modules")
	fs.Uint16VarP(&o.targets, "targets", "t", 0, "targets of every engine")
	fs.Uint16VarP(&o.helpers, "xshelpernr", "x", 0, "helper streams of every engine")
	fs.Uint16VarP(&o.firstCore, "firstcore", "f", 0, "first core of every engine")
	fs.StringVarP(&over.Name, "group", "g", "", "system name")
	fs.StringVarP(&over.SocketDir, "socket_dir", "d", "", "directory of the dRPC sockets")
	fs.BoolVarP(&over.Insecure, "insecure", "i", false, "no certificates: anybody may call anything")
	fs.BoolVar(&o.autoFormat, "auto-format", false, "format unformatted storage without waiting for dmg")
	fs.Uint16VarP(&o.cores, "cores", "c", 0, "old spelling of --targets")
	fs.StringVarP(&o.helperLog, "helper-log-file", "l", "", "log file of the privileged helper")
	fs.BoolVar(&o.recreateSuperblocks, "recreate-superblocks", false, "old flag: make missing superblocks on mounted SCM")
	// Of the time when servers were started by an MPI launcher.
	fs.StringVarP(&o.gone.attachInfo, "attach_info", "a", "", "gone: clients ask daos_agent")
	fs.StringVarP(&o.gone.rankMap, "map", "y", "", "gone: ranks are given when engines join")
	fs.StringVarP(&o.gone.rank, "rank", "r", "", "gone: ranks are given when engines join")
	for _, name := range []string{"cores", "recreate-superblocks", "modules", "attach_info", "map", "rank"} {
		_ = fs.MarkHidden(name)
	}
}

// complete makes overrides of the flags that were given; flags win over the file.
func (o *startOptions) complete(t *cli.Tool, cmd *cobra.Command) config.ServerOverrides {
	given := func(name string, value uint16) *int {
		if !cmd.Flags().Changed(name) {
			return nil
		}
		n := int(value)
		return &n
	}
	over := o.overrides
	over.Targets = given("targets", o.targets)
	if cmd.Flags().Changed("cores") {
		t.Old("--cores", "--targets")
		if over.Targets == nil {
			over.Targets = given("cores", o.cores)
		}
	}
	if cmd.Flags().Changed("storage") {
		t.Old("--storage", "scm_mount in the configuration")
	}
	over.Helpers, over.FirstCore = given("xshelpernr", o.helpers), given("firstcore", o.firstCore)
	over.ScmMount, over.SocketDir = t.Path(over.ScmMount), t.Path(over.SocketDir)
	over.Debug, over.JSONLog = t.Debug, t.JSONLog
	return over
}

// start loads what the daemon needs and runs it. What it returns is printed by
// the tool; what happens while it runs goes to the log.
func start(ctx context.Context, t *cli.Tool, cmd *cobra.Command, o *startOptions) error {
	for name, why := range map[string]string{
		"attach_info": "clients get it from daos_agent",
		"map":         "ranks are given when engines join, and kept in their superblocks",
		"rank":        "ranks are given when engines join, and kept in their superblocks",
	} {
		if cmd.Flags().Changed(name) {
			return fault.New(fault.Usage, "cannot use --%s any more: %s", name, why).WithHint("leave the flag out")
		}
	}
	cfg, err := load(t, o.config, o.complete(t, cmd))
	if err != nil {
		return err
	}
	if o.helperLog != "" {
		cfg.HelperLogFile = t.Path(o.helperLog)
	}
	log, closeLog, err := openLog(t, cfg, *o.syslog)
	if err != nil {
		return err
	}
	defer closeLog()
	var identity *pki.Identity
	if !cfg.Transport.AllowInsecure {
		if identity, err = loadIdentity(cfg); err != nil {
			return err
		}
	}
	s, err := newServer(ctx, t, cfg, identity, log, o)
	if err != nil {
		return err
	}
	return s.run(ctx)
}

func loadIdentity(cfg *config.Server) (*pki.Identity, error) {
	tc := cfg.Transport
	identity, err := pki.Load(pki.Files{CA: tc.CACert, Cert: tc.Cert, Key: tc.Key, ClientDir: tc.ClientCertDir}, pki.Server)
	if err != nil {
		return nil, err
	}
	return identity, nil
}

// openLog makes the daemon's logger: the configured file, else standard output's
// side, standard error; and syslog on top when asked.
func openLog(t *cli.Tool, cfg *config.Server, toSyslog bool) (*slog.Logger, func(), error) {
	level, err := cli.ParseLevel(string(cfg.ControlLogMask))
	if err != nil {
		return nil, nil, fault.Wrap(fault.Config, err, "cannot use control_log_mask")
	}
	if t.Debug {
		level = cli.LevelTrace
	}
	out, closers := io.Writer(t.Stderr), []io.Closer{}
	if cfg.ControlLogFile != "" {
		file, err := os.OpenFile(cfg.ControlLogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Config, err, "cannot open control_log_file").
				WithHint("make the directory %s and let this user write it", filepath.Dir(cfg.ControlLogFile))
		}
		out, closers = file, append(closers, file)
		fmt.Fprintf(t.Stderr, "%s: logging to %s\n", t.Name, cfg.ControlLogFile)
	}
	if toSyslog {
		w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, t.Name)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Config, err, "cannot log to syslog").WithHint("is /dev/log there? start without --syslog otherwise")
		}
		out, closers = io.MultiWriter(out, w), append(closers, w)
	}
	log := cli.DaemonLog(out, level, cfg.ControlLogJSON || t.JSONLog)
	return log, func() {
		for _, c := range closers {
			_ = c.Close()
		}
	}, nil
}

// listen opens the control port.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp4", addr)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.Wrap(fault.Exists, err, "cannot open control port %s", addr).
			WithHint("another daos_server or program uses it (see `ss -ltnp`); stop that, or set another `port`")
	case errors.Is(err, syscall.EACCES):
		return nil, fault.Wrap(fault.Permission, err, "cannot open control port %s", addr).
			WithHint("an ordinary user gets ports from 1024 on; set another `port`")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fault.Wrap(fault.Config, err, "cannot open control port %s", addr).
			WithHint("this host has no such address (see `ip address`); correct control_addr")
	}
	return nil, fault.Wrap(fault.Unknown, err, "cannot open control port %s", addr)
}

// tellSystemd reports the state to the service manager, where there is one.
func tellSystemd(state string, log *slog.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Debug("cannot notify systemd", "error", err)
	}
}
