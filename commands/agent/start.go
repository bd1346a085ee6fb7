package agent

import (
	"context"
	"fmt"
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

	"github.com/spf13/cobra"
)

func startCommand(t *cli.Tool, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "start",
		Short: "run the daemon until it is told to end",
		Long: `Run the daemon of a client node, also without a command. It listens on
RUNTIME_DIR/daos_agent.sock and serves client processes until SIGTERM.
SIGUSR1 evicts the pool handles of all local clients, SIGUSR2 reads the
certificates and fabric interfaces again and fetches the address map anew.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return start(cmd.Context(), t, o) },
	}
}

// start loads what the daemon needs and runs it. What it returns is printed by
// the tool; what happens while it runs goes to the log.
func start(ctx context.Context, t *cli.Tool, o *options) error {
	cfg, err := o.load(t)
	if err != nil {
		return err
	}
	if err := cfg.CheckHost(); err != nil {
		return err
	}
	log, closeLog, err := openLog(t, cfg)
	if err != nil {
		return err
	}
	defer closeLog()
	identity, err := loadIdentity(cfg)
	if err != nil {
		return err
	}
	return newDaemon(t.Env, cfg, identity, log).run(ctx)
}

// loadIdentity returns the agent's certificate, nil on an insecure system.
func loadIdentity(cfg *config.Agent) (*pki.Identity, error) {
	if cfg.Transport.AllowInsecure {
		return nil, nil
	}
	tc := cfg.Transport
	return pki.Load(pki.Files{CA: tc.CACert, Cert: tc.Cert, Key: tc.Key}, pki.Agent)
}

// connectTime bounds making one connection to a server.
const connectTime = 5 * time.Second

// newClient makes the way to the management service.
func newClient(cfg *config.Agent, identity *pki.Identity, log *slog.Logger) *control.Client {
	dialer := &wire.Dialer{Timeout: connectTime, Logger: log}
	if identity != nil {
		dialer.TLS = identity.ClientTLS()
	}
	return &control.Client{Dialer: dialer, System: cfg.Name, Servers: cfg.AccessPoints, Log: log}
}

// openLog makes the daemon's logger: the configured file, else standard error.
func openLog(t *cli.Tool, cfg *config.Agent) (*slog.Logger, func(), error) {
	level, err := cli.ParseLevel(string(cfg.ControlLogMask))
	if err != nil {
		return nil, nil, fault.Wrap(fault.Config, err, "cannot use control_log_mask")
	}
	out, closeLog := io.Writer(t.Stderr), func() {}
	if cfg.LogFile != "" {
		file, err := os.OpenFile(cfg.LogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Config, err, "cannot open log_file").
				WithHint("make the directory %s and let this user write it", filepath.Dir(cfg.LogFile))
		}
		out, closeLog = file, func() { _ = file.Close() }
		fmt.Fprintf(t.Stderr, "%s: logging to %s\n", t.Name, cfg.LogFile)
	}
	return cli.DaemonLog(out, level, cfg.ControlLogJSON || t.JSONLog), closeLog, nil
}
