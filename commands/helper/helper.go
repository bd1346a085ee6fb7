// Package helper is daos_server_helper, the only part of the control plane that
// has root's power, and the client by which a daos_server without it asks for
// what only root may do: making the RAM disk of an engine, and taking it away.
//
// The helper is a process of its own, started by systemd's socket or by hand as
// root. There is no set-user-id bit anywhere. What it does is small on purpose:
//
//   - It listens on a Unix socket and asks the kernel who is at the other end.
//     Root and one configured user may talk to it, nobody else.
//   - A connection carries one request of at most 64 KiB: a method out of five and
//     the index of an engine. No path, size or option of a mount ever comes from
//     the caller; they come from the helper's own reading of daos_server.yml, which
//     it uses only while root owns it and nobody else can write it.
//   - It mounts and unmounts only where no directory on the way can be exchanged by
//     anybody but root, looks at what is there with the rights of the caller, and
//     gives the caller the empty RAM disk. All that follows (superblock, files of
//     the metadata directory, images) the caller does with its own rights, through
//     the same steps of package storage that a daos_server of root executes itself.
//   - Every request is logged: who, what, what came of it.
//
// Since mounts must be seen by the server, the helper shares the mount namespace of
// the host; its unit must not have one of its own (packaging/ has an example).
package helper

import (
	"context"
	"io"
	"log/slog"
	"os"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/config"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// What is used unless a flag says otherwise.
const (
	// DefaultSocket is where the helper listens and daos_server looks for it.
	DefaultSocket = "/run/daos_server_helper/helper.sock"
	defaultUser   = "daos_server"
)

// options are the flags of the helper.
type options struct {
	socket, config, user, logFile string
}

// Run is the personality daos_server_helper.
func Run(ctx context.Context, env *cli.Env, name string, args []string) cli.Exit {
	t := cli.NewTool(env, name)
	o := &options{}
	root := cli.NewRoot(t, "privileged helper of daos_server")
	root.Long = `Do for a daos_server that runs as an ordinary user what only root may do: mount
and unmount the RAM disks of the engines in its configuration. Runs as root, until
SIGTERM; is started by systemd's socket or by hand.

The helper does only what its own copy of the configuration says. That file must
belong to root, and neither it nor a directory above it may be writable by others.`
	root.Args = cli.NoArgs
	root.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), t, o) }
	fs := root.Flags()
	fs.StringVar(&o.socket, "socket", DefaultSocket, "socket to listen on, unless systemd passes one")
	fs.StringVarP(&o.config, "config", "o", "", "server configuration (default: daos_server.yml in the usual places)")
	fs.StringVar(&o.user, "user", defaultUser, "user, by name or number, who may ask; root may always")
	fs.StringVar(&o.logFile, "log-file", "", "log file (default: $DAOS_HELPER_LOG_FILE, then helper_log_file, then standard error)")
	root.AddCommand(&cobra.Command{Use: "version", Short: "print the version", Args: cli.NoArgs, RunE: cli.VersionVerb(t)})
	return cli.Execute(ctx, t, root, t.Globals("d"), args)
}

// run is the life of the helper.
func run(ctx context.Context, t *cli.Tool, o *options) error {
	if t.EUID != 0 {
		return fault.New(fault.Permission, "cannot run %s as user %d: its work needs root", t.Name, t.EUID).
			WithHint("start it as root, best by `systemctl enable --now daos_server_helper.socket`")
	}
	path, err := config.FindServer(t.Path(o.config), config.EtcDir)
	if err != nil {
		return err
	}
	p := policy{config: path}
	if p.uid, p.gid, err = lookUser(o.user); err != nil {
		return err
	}
	cfg, err := p.read()
	if err != nil {
		return err
	}
	log, closeLog, err := openLog(t, o, cfg)
	if err != nil {
		return err
	}
	defer closeLog()
	if err := shed(); err != nil {
		return err
	}
	ln, err := listen(t.Path(o.socket), p.gid)
	if err != nil {
		return err
	}
	defer ln.Close()
	tellSystemd(log)
	os.Clearenv() // systemd's sockets are taken; nothing of the rest is wanted
	log.Info("daos_server_helper is up", "socket", ln.Addr().String(), "config", path, "user", o.user, "uid", p.uid, "engines", len(cfg.Engines))
	w := &worker{policy: p}
	err = (&service{admit: p.admit, do: w.do, log: log}).serve(ctx, ln)
	log.Info("daos_server_helper is down")
	return err
}

// shed drops what root's shell or service manager handed down and the helper does
// not need: other groups, a loose umask.
func shed() error {
	unix.Umask(0o022)
	if err := unix.Setgroups(nil); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot give up supplementary groups").
			WithHint("allow the helper CAP_SETGID")
	}
	return nil
}

// openLog makes the logger: the file of the flag, of the environment (also under
// its name up to 2.2) or of the configuration, else standard error.
func openLog(t *cli.Tool, o *options, cfg *config.Server) (*slog.Logger, func(), error) {
	level := slog.LevelInfo
	if t.Debug {
		level = slog.LevelDebug
	}
	path := t.Path(o.logFile)
	for _, other := range []string{t.Getenv("DAOS_HELPER_LOG_FILE"), t.Getenv("DAOS_ADMIN_LOG_FILE"), cfg.HelperLogFile} {
		if path == "" {
			path = other
		}
	}
	out, closeLog := io.Writer(t.Stderr), func() {}
	if path != "" {
		file, err := openLogFile(path)
		if err != nil {
			return nil, nil, err
		}
		out, closeLog = file, func() { _ = file.Close() }
	}
	return cli.DaemonLog(out, level, t.JSONLog), closeLog, nil
}

// openLogFile opens a log for appending. As root writes it, nobody else may have
// put it, or a link in its place, there.
func openLogFile(path string) (*os.File, error) {
	if err := trustPath(path, false); err != nil {
		return nil, fault.Wrap(fault.Permission, err, "cannot log to %s", path).
			WithHint("name a file in a directory that only root can write, or none: the log then goes to standard error")
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot open the log file").WithHint("make its directory, as root")
	}
	if err := trustFile(file); err != nil {
		_ = file.Close()
		return nil, fault.Wrap(fault.Permission, err, "cannot log to %s", path).WithHint("move that file away")
	}
	return file, nil
}
