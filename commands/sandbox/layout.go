package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
)

// layout names the files of a sandbox. Hosts count from 1, engines from 0.
type layout struct{ dir string }

func (l layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

func (l layout) manifest() string      { return l.path("sandbox.json") }
func (l layout) lock() string          { return l.path("sandbox.lock") }
func (l layout) certs() string         { return l.path("certs") }
func (l layout) bin() string           { return l.path("bin") }
func (l layout) logs() string          { return l.path("logs") }
func (l layout) controlConfig() string { return l.path("daos_control.yml") }
func (l layout) envScript() string     { return l.path("env.sh") }
func (l layout) cache() string         { return l.path("cache") } // of its dmg
func (l layout) agentDir() string      { return l.path("agent") }
func (l layout) agentConfig() string   { return l.path("agent", "daos_agent.yml") }
func (l layout) agentRun() string      { return l.path("agent", "run") }
func (l layout) agentSocket() string   { return l.path("agent", "run", "daos_agent.sock") }
func (l layout) agentLog() string      { return l.path("logs", "agent.log") }

// agentLink lets the agent's tools find their configuration beside dmg's.
func (l layout) agentLink() string { return l.path("daos_agent.yml") }

func (l layout) host(host int) string         { return l.path(hostName(host)) }
func (l layout) serverConfig(host int) string { return l.path(hostName(host), "daos_server.yml") }
func (l layout) serverRun(host int) string    { return l.path(hostName(host), "run") }
func (l layout) serverLog(host int) string    { return l.path("logs", hostName(host)+".log") }
func (l layout) scm(host, engine int) string {
	return l.path(hostName(host), fmt.Sprintf("scm%d", engine))
}
func (l layout) nvme(host, engine int) string {
	return l.path(hostName(host), fmt.Sprintf("nvme%d.img", engine))
}
func (l layout) superblock(h, e int) string { return filepath.Join(l.scm(h, e), "superblock") }
func (l layout) engineLog(host, e int) string {
	return l.path("logs", fmt.Sprintf("%s.engine%d.log", hostName(host), e))
}
func (l layout) output(process string) string { return l.path("logs", process+".out") }
func hostName(host int) string                { return fmt.Sprintf("host%d", host) }
func hostAddress(host int) string             { return fmt.Sprintf("127.0.0.%d", host) }
func processName(host, engine int) string {
	return fmt.Sprintf("engine %d of %s", engine, hostName(host))
}

// entries are the names below dir that a sandbox makes, for its removal.
func (l layout) entries(hosts int) []string {
	names := []string{l.certs(), l.bin(), l.logs(), l.agentDir(), l.agentLink(), l.controlConfig(), l.envScript(), l.cache()}
	for host := 1; host <= hosts; host++ {
		names = append(names, l.host(host))
	}
	return append(names, l.lock(), l.manifest()) // the mark of a sandbox goes last
}

// maxSocketPath is the longest path of a Unix socket in bytes, without its end.
const maxSocketPath = 107

// checkSockets refuses a directory that is too deep for the sockets in it. The
// kernel would tell so only when the first engine starts.
func (l layout) checkSockets(hosts int) error {
	longest := filepath.Join(l.serverRun(hosts), "daos_engine_4194304.sock") // the greatest process id
	if over := len(longest) - maxSocketPath; over > 0 {
		return fault.New(fault.Usage, "cannot use %s as a sandbox: the paths of its sockets would be %d bytes too long", l.dir, over).
			WithHint("use a directory of at most %d bytes, for example below /tmp", len(l.dir)-over)
	}
	return nil
}

// resolve makes --dir absolute and free of links, so that every run names the
// same files alike. The directory need not exist, its parent must.
func resolve(t *cli.Tool, dir string) (layout, error) {
	if dir == "" {
		return layout{}, fault.New(fault.Usage, "missing flag: --dir").WithHint("for example --dir /tmp/box")
	}
	abs := filepath.Clean(t.Path(dir))
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		if real, err = filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
			real = filepath.Join(real, filepath.Base(abs))
		}
	}
	if err != nil {
		return layout{}, fault.Wrap(fault.Usage, err, "cannot use %s as a sandbox", abs).WithHint("make its parent directory first")
	}
	if strings.ContainsAny(real, "\n\r") {
		return layout{}, fault.New(fault.Usage, "cannot use %q as a sandbox: its name has a line break", real)
	}
	return layout{real}, nil
}

// mkdirs makes the directories of a sandbox.
func (l layout) mkdirs(m manifest) error {
	dirs := []string{l.bin(), l.logs(), l.agentRun()}
	for host := 1; host <= m.Hosts; host++ {
		dirs = append(dirs, l.serverRun(host))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fault.Wrap(fault.Permission, err, "cannot make the sandbox").WithHint("use a directory that this user may write")
		}
	}
	return nil
}
