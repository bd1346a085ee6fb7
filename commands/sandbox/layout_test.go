package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/config"

	"github.com/matryer/is"
)

// testTool is a tool of a test: nothing of the real process.
func testTool(dir string) *cli.Tool {
	executable, _ := os.Executable()
	return cli.NewTool(&cli.Env{Dir: dir, Executable: executable, Args: []string{"daosbox"},
		Stdout: new(strings.Builder), Stderr: new(strings.Builder),
		LookupEnv: func(string) (string, bool) { return "", false }}, "sandbox")
}

// shortDir is a temporary directory with room for the paths of sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// testBox makes the files of a sandbox without starting anything.
func testBox(t *testing.T, o upOptions) *box {
	t.Helper()
	tool := testTool(shortDir(t))
	l, err := resolve(tool, "box")
	if err != nil {
		t.Fatal(err)
	}
	b, unlock, err := prepare(tool, l, o)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	return b
}

// all makes a flag count as given.
func all(string) bool { return true }

func plain(hosts, ranks int) upOptions {
	return upOptions{hosts: hosts, ranks: ranks, scm: 1, changed: func(string) bool { return false }}
}

// The files are those of an administrator: the programs read them without a word.
func TestFilesAreGoodConfigurations(t *testing.T) {
	for _, o := range []upOptions{plain(1, 1), plain(3, 2), {hosts: 2, ranks: 1, scm: 4, insecure: true}} {
		is := is.New(t)
		o.links = []string{"daosbox", "dmg", "daos_shell"}
		b := testBox(t, o)
		mounts := map[string]bool{}
		ports := map[int]bool{}
		for host := 1; host <= o.hosts; host++ {
			cfg, hints, err := config.OpenServer(b.serverConfig(host), config.ServerOverrides{})
			is.NoErr(err)
			is.Equal(len(hints), 0)
			is.NoErr(cfg.CheckHost())
			is.Equal(cfg.ControlAddr, hostAddress(host))
			is.Equal(cfg.Transport.AllowInsecure, o.insecure)
			is.Equal(len(cfg.Engines), o.ranks)
			for _, e := range cfg.Engines {
				is.True(e.Emulated())
				cluster, _ := e.Env("DAOS_BS_CLUSTER_MB")
				is.Equal(cluster, "32")
				mounts[e.SCM().ScmMount] = true
				ports[e.FabricIfacePort] = true
			}
			if !o.insecure {
				_, err = pki.Load(pki.Files{CA: cfg.Transport.CACert, Cert: cfg.Transport.Cert, Key: cfg.Transport.Key, ClientDir: cfg.Transport.ClientCertDir}, pki.Server)
				is.NoErr(err)
			}
		}
		is.Equal(len(mounts), o.hosts*o.ranks) // each engine has its own
		is.Equal(len(ports), o.hosts*o.ranks)
		agent, hints, err := config.OpenAgent(b.agentLink(), config.AgentOverrides{}) // through the link
		is.NoErr(err)
		is.Equal(len(hints), 0)
		is.NoErr(agent.CheckHost())
		control, _, err := config.OpenControl(b.controlConfig(), config.ControlOverrides{})
		is.NoErr(err)
		is.Equal(control.HostList, b.controls(o.hosts))
		for _, name := range o.links {
			target, err := os.Readlink(filepath.Join(b.bin(), name))
			is.NoErr(err)
			is.Equal(target, b.Executable)
		}
		entries, err := os.ReadDir(b.bin())
		is.NoErr(err)
		is.Equal(len(entries), len(o.links))
	}
}

func TestReplicasByDefault(t *testing.T) {
	for hosts, want := range map[int]int{1: 1, 2: 1, 3: 3, 7: 3} {
		is := is.New(t)
		m, err := plain(hosts, 1).create(layout{t.TempDir()})
		is.NoErr(err)
		is.Equal(m.Replicas, want)
	}
}

func TestRefusedRequests(t *testing.T) {
	for name, c := range map[string]struct {
		o    upOptions
		code fault.Code
	}{
		"no hosts":         {plain(0, 1), fault.Usage},
		"too many hosts":   {plain(251, 1), fault.Usage},
		"no ranks":         {plain(1, 0), fault.Usage},
		"no memory":        {upOptions{hosts: 1, ranks: 1}, fault.Usage},
		"even replicas":    {upOptions{hosts: 3, ranks: 1, scm: 1, replicas: 2}, fault.Usage},
		"replicas > hosts": {upOptions{hosts: 1, ranks: 1, scm: 1, replicas: 3}, fault.Usage},
		"0 replicas":       {upOptions{hosts: 1, ranks: 1, scm: 1, changed: all}, fault.Usage},
		"bad port":         {upOptions{hosts: 1, ranks: 1, scm: 1, port: 70000}, fault.Usage},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			l := layout{filepath.Join(shortDir(t), "box")}
			_, _, err := prepare(testTool("/"), l, c.o)
			is.Equal(fault.Of(err), c.code)
			is.True(fault.HintOf(err) != "")
			_, err = os.Stat(l.dir)
			is.True(errors.Is(err, os.ErrNotExist)) // nothing is left
		})
	}
}

func TestDirectoriesThatAreNoSandbox(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	is.NoErr(os.WriteFile(filepath.Join(dir, "mine"), nil, 0o644))
	_, _, err := prepare(testTool("/"), layout{dir}, plain(1, 1))
	is.Equal(fault.Of(err), fault.Refused) // never between other files

	err = runDown(t.Context(), testTool("/"), downOptions{dir: dir, purge: true})
	is.Equal(fault.Of(err), fault.NotFound)
	_, err = os.Stat(filepath.Join(dir, "mine"))
	is.NoErr(err)

	deep := filepath.Join(dir, strings.Repeat("d", 90))
	_, _, err = prepare(testTool("/"), layout{deep}, plain(1, 1))
	is.Equal(fault.Of(err), fault.Usage) // sockets would not fit
	is.True(strings.Contains(err.Error(), "bytes too long"))
}

func TestSecondUpKeepsFirstDecisions(t *testing.T) {
	is := is.New(t)
	b := testBox(t, plain(3, 1))
	again := func(flag string, o upOptions) error {
		o.changed = func(name string) bool { return name == flag }
		_, unlock, err := prepare(b.Tool, b.layout, o)
		if err == nil {
			unlock()
		}
		return err
	}
	is.NoErr(again("", plain(9, 9))) // defaults that were not given do not count
	is.NoErr(again("hosts", plain(3, 1)))
	is.Equal(fault.Of(again("hosts", plain(2, 1))), fault.Refused)
	is.Equal(fault.Of(again("ranks-per-host", plain(3, 2))), fault.Refused)
	is.Equal(fault.Of(again("replicas", upOptions{replicas: 1})), fault.Refused)
	is.Equal(fault.Of(again("insecure", upOptions{insecure: true})), fault.Refused)
	after, err := readManifest(b.layout)
	is.NoErr(err)
	is.Equal(after, b.manifest)
}

func TestEditsStayAndHostsGrow(t *testing.T) {
	is := is.New(t)
	b := testBox(t, plain(1, 1))
	edited := "# mine\n" + serverConfig(b.layout, b.manifest, 1)
	is.NoErr(os.WriteFile(b.serverConfig(1), []byte(edited), 0o644))
	o := plain(2, 1)
	o.changed = func(name string) bool { return name == "hosts" }
	grown, unlock, err := prepare(b.Tool, b.layout, o)
	is.NoErr(err)
	unlock()
	data, err := os.ReadFile(b.serverConfig(1))
	is.NoErr(err)
	is.Equal(string(data), edited)
	cfg, _, err := config.OpenServer(b.serverConfig(2), config.ServerOverrides{})
	is.NoErr(err)
	is.Equal(cfg.MgmtSvcReplicas, b.replicas()) // the replicas stay
	control, _, err := config.OpenControl(b.controlConfig(), config.ControlOverrides{})
	is.NoErr(err)
	is.Equal(control.HostList, grown.controls(2))
}

func TestManifestOfAnotherPlaceOrBroken(t *testing.T) {
	is := is.New(t)
	b := testBox(t, plain(1, 1))
	moved := layout{b.dir + "2"}
	is.NoErr(os.Rename(b.dir, moved.dir))
	_, err := readManifest(moved)
	is.Equal(fault.Of(err), fault.Refused)
	is.NoErr(os.WriteFile(moved.manifest(), []byte(`{"version":1,`), 0o644))
	_, err = readManifest(moved)
	is.Equal(fault.Of(err), fault.Corrupt)
	is.True(strings.Contains(fault.HintOf(err), "sandbox down --dir "+moved.dir)) // there is a next step
	is.NoErr(os.WriteFile(moved.manifest(), []byte(`{"version":2}`), 0o644))
	_, err = readManifest(moved)
	is.Equal(fault.Of(err), fault.Corrupt)
}

func TestOneRunAtATime(t *testing.T) {
	is := is.New(t)
	b := testBox(t, plain(1, 1))
	unlock, err := lock(b.layout)
	is.NoErr(err)
	_, err = lock(b.layout)
	is.Equal(fault.Of(err), fault.Busy)
	unlock()
	unlock, err = lock(b.layout)
	is.NoErr(err)
	unlock()
}

func TestPurgeTakesOnlyItsOwn(t *testing.T) {
	is := is.New(t)
	b := testBox(t, plain(2, 1))
	is.NoErr(os.WriteFile(b.path("mine"), nil, 0o644))
	is.NoErr(runDown(t.Context(), b.Tool, downOptions{dir: b.dir, purge: true}))
	entries, err := os.ReadDir(b.dir)
	is.NoErr(err)
	is.Equal(len(entries), 1)
	is.Equal(entries[0].Name(), "mine")

	b = testBox(t, plain(2, 1))
	is.NoErr(os.Mkdir(b.cache(), 0o700)) // as dmg makes it
	is.NoErr(runDown(t.Context(), b.Tool, downOptions{dir: b.dir, purge: true}))
	_, err = os.Stat(b.dir)
	is.True(errors.Is(err, os.ErrNotExist))
}

func TestTail(t *testing.T) {
	is := is.New(t)
	path := filepath.Join(t.TempDir(), "log")
	is.NoErr(os.WriteFile(path, []byte(strings.Repeat("0123456789abcdef\n", 1000)+"last"), 0o644))
	text, err := tail(path)
	is.NoErr(err)
	is.True(len(text) <= tailBytes+1)
	is.True(strings.HasPrefix(text, "0123456789abcdef\n")) // whole lines
	is.True(strings.HasSuffix(text, "\nlast\n"))
	is.NoErr(os.WriteFile(path, nil, 0o644))
	text, err = tail(path)
	is.NoErr(err)
	is.Equal(text, "")
}

func TestFaultOfTheContext(t *testing.T) {
	is := is.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	is.Equal(fault.Of(canceled(ctx)), fault.Canceled)
	ctx, cancel = context.WithTimeout(t.Context(), 0)
	defer cancel()
	<-ctx.Done()
	is.Equal(fault.Of(canceled(ctx)), fault.Timeout)
}
