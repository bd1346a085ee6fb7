package sandbox

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster/fault"

	"github.com/matryer/is"
)

const box1 = "/tmp/box"

func TestRecognize(t *testing.T) {
	l := layout{box1}
	for _, c := range []struct {
		command string
		dir     string
		want    process
		ok      bool
	}{
		{"/tmp/box/bin/daos_server start -o /tmp/box/host2/daos_server.yml", "/", process{kind: serverProcess, host: 2}, true},
		{"daosbox daos_server start -o /tmp/box/host1/daos_server.yml", "/", process{kind: serverProcess, host: 1}, true},
		{"daos_server -o host12/daos_server.yml start", box1, process{kind: serverProcess, host: 12}, true},
		{"daos_engine_emulator -t 1 -d /tmp/box/host3/run -T 2 -I 1 -s /x", "/", process{kind: engineProcess, host: 3, engine: 1}, true},
		{"daos_engine -t 1 -d /tmp/box/host3/run -I 0", "/", process{kind: engineProcess, host: 3}, true},
		{"daos_agent -o /tmp/box/agent/daos_agent.yml start", "/", process{kind: agentProcess}, true},

		{"daos_server config check -o /tmp/box/host2/daos_server.yml", "/", process{}, false},
		{"daos_agent -o /tmp/box/agent/daos_agent.yml dump-attachinfo", "/", process{}, false},
		{"daos_server start -o /tmp/box2/host2/daos_server.yml", "/", process{}, false},
		{"daos_server start -o /tmp/box/host2x/daos_server.yml", "/", process{}, false},
		{"daos_server start -o /tmp/box/host0/daos_server.yml", "/", process{}, false},
		{"daos_server start -o /tmp/box/host01/daos_server.yml", "/", process{}, false},
		{"daos_server start -o /tmp/box/deep/host1/daos_server.yml", "/", process{}, false},
		{"daos_server start", box1, process{}, false},
		{"vi /tmp/box/host2/daos_server.yml", "/", process{}, false},
		{"vi start -o /tmp/box/host2/daos_server.yml", "/", process{}, false},
		{"daos_engine -d /tmp/box/host3/run", "/", process{}, false},
		{"daos_engine -d /tmp/other/run -I 0", "/", process{}, false},
		{"daos_engine -I 0 -d", "/", process{}, false},
		{"", "/", process{}, false},
	} {
		got, ok := recognize(l, strings.Fields(c.command), c.dir)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v %v", c.command, got, ok)
		}
	}
}

// server is a process with the command line of a server; it ends with its script.
func server(l layout, host int, script *os.File) *exec.Cmd {
	cmd := exec.Command("/bin/sh")
	cmd.Args, cmd.Stdin = []string{"daos_server", "-s", "start", "-o", l.serverConfig(host)}, script
	return cmd
}

// A process is found by its words, signalled through its handle, and gone once it
// ended, also while its parent has not looked yet.
func TestFindSignalGone(t *testing.T) {
	is := is.New(t)
	l := layout{t.TempDir()}
	// The kernel shows what exec was given; a shell that reads its script from
	// standard input keeps words of no meaning to it.
	script, feed, err := os.Pipe()
	is.NoErr(err)
	defer feed.Close()
	cmd := server(l, 4, script)
	is.NoErr(cmd.Start())
	defer cmd.Process.Kill()
	await(t, func() bool { found, err := find(l); return err == nil && len(found) == 1 })
	found, err := find(l)
	is.NoErr(err)
	p := found[0]
	is.Equal(p.name(), "host4")
	is.Equal(p.pid, cmd.Process.Pid)
	is.Equal(len(only(found, engineProcess, 0)), 0)
	is.Equal(len(only(found, serverProcess, 3)), 0)
	is.NoErr(p.signal(syscall.SIGKILL))
	await(t, func() bool { left, err := find(l); return err == nil && len(left) == 0 }) // a zombie is no process
	_ = cmd.Wait()
	is.NoErr(p.signal(syscall.SIGKILL)) // nobody is hit
	other, err := find(layout{l.dir + "x"})
	is.NoErr(err)
	is.Equal(len(other), 0)
}

// Also a sandbox that lost its mind is stopped, and removed by who insists.
func TestDownWithoutManifest(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(l layout) error
		code   fault.Code // of down --purge
		forced fault.Code // of down --purge --force
	}{
		"damaged":       {func(l layout) error { return os.WriteFile(l.manifest(), []byte(`{"version":1,`), 0o644) }, fault.Corrupt, 0},
		"another":       {func(l layout) error { return os.WriteFile(l.manifest(), []byte(`{"version":9}`), 0o644) }, fault.Corrupt, 0},
		"lost":          {func(l layout) error { return os.Remove(l.manifest()) }, fault.NotFound, fault.NotFound},
		"lost with all": {func(l layout) error { return os.RemoveAll(l.dir) }, fault.NotFound, fault.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			b := testBox(t, plain(2, 1))
			script, feed, err := os.Pipe()
			is.NoErr(err)
			defer feed.Close()
			start := func() *exec.Cmd {
				cmd := server(b.layout, 2, script)
				is.NoErr(cmd.Start())
				await(t, func() bool { found, err := find(b.layout); return err == nil && len(found) == 1 })
				return cmd
			}
			cmd := start()
			is.NoErr(c.damage(b.layout))
			ended := make(chan error)
			go func() { ended <- cmd.Wait() }()
			is.NoErr(runDown(t.Context(), b.Tool, downOptions{dir: b.dir}))
			is.True(<-ended != nil) // by the signal
			is.True(strings.Contains(b.Stderr.(*strings.Builder).String(), "NOTICE: sandbox: "))

			cmd = start()
			go func() { ended <- cmd.Wait() }()
			err = runDown(t.Context(), b.Tool, downOptions{dir: b.dir, purge: true})
			is.True(<-ended != nil)
			is.Equal(fault.Of(err), c.code)
			is.True(fault.HintOf(err) != "")
			err = runDown(t.Context(), b.Tool, downOptions{dir: b.dir, purge: true, force: true})
			if c.forced != 0 {
				is.Equal(fault.Of(err), c.forced)
				return
			}
			is.NoErr(err)
			_, err = os.Stat(b.dir)
			is.True(os.IsNotExist(err))
		})
	}
	is := is.New(t)
	is.Equal(fault.Of(runDown(t.Context(), testTool("/"), downOptions{dir: "/tmp", force: true})), fault.Usage)
}

// patience is longer than anything here takes, also on a loaded machine.
const patience = time.Minute

// await polls for a condition of the outside world.
func await(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		if wait(t.Context(), 10*time.Millisecond) != nil {
			t.Fatal("canceled")
		}
	}
}

func TestLaunchTellsOfTheEnd(t *testing.T) {
	is := is.New(t)
	l := layout{t.TempDir()}
	is.NoErr(os.MkdirAll(l.logs(), 0o755))
	c, err := launch(l, "host1", l.dir, nil, "/bin/sh", "-c", "echo last words; exit 7")
	is.NoErr(err)
	<-c.ended
	is.Equal(c.failure().Error(), "exit status 7")
	data, err := os.ReadFile(l.output("host1"))
	is.NoErr(err)
	is.Equal(string(data), "last words\n")
	_, err = launch(l, "host1", l.dir, nil, filepath.Join(l.dir, "none"))
	is.True(err != nil)
}

func TestDaemonEnviron(t *testing.T) {
	is := is.New(t)
	is.Equal(daemonEnviron([]string{"A=1", "NOTIFY_SOCKET=/x", "LISTEN_FDS=1", "B=2"}), []string{"A=1", "B=2"})
}

func TestPortsThatAreTaken(t *testing.T) {
	is := is.New(t)
	unlock, err := lockPorts(t.Context())
	is.NoErr(err)
	defer unlock()
	m := manifest{Hosts: 3, RanksPerHost: 2}
	is.NoErr(choosePorts(&m))
	ln, err := net.Listen("tcp4", m.control(3))
	is.NoErr(err)
	defer ln.Close()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: m.fabricPort(2, 1)})
	is.NoErr(err)
	defer udp.Close()
	is.Equal(busyControl(m, 1, 3), m.control(3))
	is.Equal(busyControl(m, 1, 2), "")
	is.True(busyFabric(m, 2, 2) != "")
	is.Equal(busyFabric(m, 1, 1), "")
	next := manifest{Hosts: 3, RanksPerHost: 2}
	is.NoErr(choosePorts(&next))
	is.True(next.Port > m.Port)
	is.True(next.fabricPort(3, 1) < m.FabricPort) // no port of one is in the other's range
	fixed := manifest{Hosts: 1, RanksPerHost: 1, Port: 4321}
	is.NoErr(choosePorts(&fixed))
	is.Equal(fixed.Port, 4321)
}

func TestVictims(t *testing.T) {
	is := is.New(t)
	b := testBox(t, plain(2, 1))
	_, err := b.victim(faultOptions{host: 3, rank: -1})
	is.Equal(fault.Of(err), fault.Usage)
	_, err = b.victim(faultOptions{host: 1, rank: -1})
	is.Equal(fault.Of(err), fault.NotFound) // does not run
	_, err = b.victim(faultOptions{rank: 7})
	is.Equal(fault.Of(err), fault.NotFound) // never joined
}

func TestMountsBelow(t *testing.T) {
	is := is.New(t)
	found, err := mountsBelow("/no/such/place")
	is.NoErr(err)
	is.Equal(len(found), 0)
	found, err = mountsBelow("")
	is.NoErr(err)
	is.True(len(found) > 0) // all of them
}
