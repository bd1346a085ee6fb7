package helper

import (
	"errors"
	"io"
	"os"
	"os/user"
	"strconv"

	"daosbox/cluster/fault"
	"daosbox/commands/config"

	"golang.org/x/sys/unix"
)

// configLimit bounds the configuration file, which is 1 MiB at most.
const configLimit = 1<<20 + 1

// caller is who is at the other end of a connection, as the kernel says.
type caller struct {
	pid      int32
	uid, gid uint32
}

// policy is what the helper may do for whom.
type policy struct {
	// config is the path of the server's configuration.
	config string
	// uid may ask beside root; gid is that user's group.
	uid, gid uint32
}

// admit fails for everybody but root and the configured user.
func (p policy) admit(c caller) error {
	if c.uid == 0 || c.uid == p.uid {
		return nil
	}
	return fault.New(fault.Permission, "user %d may not ask daos_server_helper: user %d may", c.uid, p.uid).
		WithHint("run daos_server as that user, or start the helper with --user %d", c.uid)
}

// read reads and checks the configuration. It is read again for each request, so
// that it says what the file says now.
func (p policy) read() (*config.Server, error) {
	refused := func(err error) error {
		return fault.Wrap(fault.Permission, err, "cannot trust the configuration %s", p.config).
			WithHint("as root: chown root %s; chmod go-w %s; and the same for the directories above it", p.config, p.config)
	}
	if err := trustPath(p.config, false); err != nil {
		return nil, refused(err)
	}
	// O_NONBLOCK: a pipe under this name must not hold the helper.
	file, err := os.OpenFile(p.config, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot read the configuration").WithHint("name the file with --config")
	}
	defer file.Close()
	if err := trustFile(file); err != nil {
		return nil, refused(err)
	}
	data, err := io.ReadAll(io.LimitReader(file, configLimit))
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot read the configuration")
	}
	cfg, _, err := config.CheckServer(p.config, data, config.ServerOverrides{})
	return cfg, err
}

// lookUser finds a user by name or number.
func lookUser(name string) (uid, gid uint32, err error) {
	found, err := user.Lookup(name)
	if err != nil {
		if found, err = user.LookupId(name); err != nil {
			if n, e := strconv.ParseUint(name, 10, 31); e == nil {
				return uint32(n), uint32(n), nil // a number without a name, as in a container
			}
			return 0, 0, fault.New(fault.Config, "cannot allow user %q to ask: there is no such user", name).
				WithHint("make it (packaging/daosbox.sysusers.conf), or name another with --user")
		}
	}
	u, errU := strconv.ParseUint(found.Uid, 10, 32)
	g, errG := strconv.ParseUint(found.Gid, 10, 32)
	if err := errors.Join(errU, errG); err != nil {
		return 0, 0, fault.Wrap(fault.Config, err, "cannot allow user %q to ask", name)
	}
	return uint32(u), uint32(g), nil
}
