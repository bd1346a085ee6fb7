package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// breakage is one thing that keeps a server from starting.
type breakage struct {
	name   string
	damage func(t *testing.T, sys *testSystem) (repair func())
	exit   cli.Exit
	child  bool     // in a process of its own, since the library that finds the damage keeps its lock
	says   []string // the ERROR line
	hint   string   // the HINT line
}

// rewrite damages a file by changing its content.
func rewrite(path string, change func(string) string) func(*testing.T, *testSystem) func() {
	return func(t *testing.T, sys *testSystem) func() {
		path := strings.ReplaceAll(path, "HOST", sys.hosts[0].dir)
		found, err := filepath.Glob(path)
		if err != nil || len(found) == 0 {
			t.Fatalf("no file %s", path)
		}
		info, err := os.Stat(found[0])
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		write := func(data []byte) {
			if err := os.WriteFile(found[0], data, info.Mode()); err != nil {
				t.Fatal(err)
			}
		}
		write([]byte(change(string(before))))
		return func() { write(before) }
	}
}

// takenAway moves a directory away; the repair brings it back over what was made since.
func takenAway(path string) func(*testing.T, *testSystem) func() {
	return func(t *testing.T, sys *testSystem) func() {
		path := strings.ReplaceAll(path, "HOST", sys.hosts[0].dir)
		aside := filepath.Join(sys.dir, "aside")
		if err := os.Rename(path, aside); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(aside, path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func inConfig(change func(string) string) func(*testing.T, *testSystem) func() {
	return rewrite("HOST/daos_server.yml", change)
}

func replaced(old, with string) func(string) string {
	return func(text string) string { return strings.Replace(text, old, with, 1) }
}

// garble overwrites the middle of a file.
func garble(text string) string {
	data := []byte(text)
	for i := len(data) / 4; i < len(data)*3/4; i++ {
		data[i] ^= 0xa5
	}
	return string(data)
}

var breakages = []breakage{
	{name: "bad YAML", damage: inConfig(func(s string) string { return s + "  broken: [\n" }),
		exit: cli.Failed, says: []string{"daos_server.yml:", "did not find expected node"}, hint: "this line"},
	{name: "unknown key", damage: inConfig(replaced("fabric_iface_port", "fabric_iface_prt")),
		exit: cli.Failed, says: []string{"daos_server.yml:20:3", "fabric_iface_prt", "unknown key"}, hint: "fabric_iface_port"},
	{name: "duplicate fabric port", damage: inConfig(func(s string) string {
		engine := s[strings.Index(s, "- targets"):]
		return s + strings.NewReplacer("/scm\n", "/scm2\n", "nvme.img", "nvme2.img", "engine.log", "engine2.log").Replace(engine)
	}), exit: cli.Failed, says: []string{"fabric_iface_port"}},
	{name: "even number of replicas", damage: inConfig(replaced("mgmt_svc_replicas: [", "mgmt_svc_replicas: [127.0.0.9:1, ")),
		exit: cli.Failed, says: []string{"mgmt_svc_replicas", "2"}},
	{name: "no socket directory", damage: inConfig(replaced("/run\n", "/nosuchdir\n")),
		exit: cli.Failed, says: []string{"socket_dir", "nosuchdir", "does not exist"}, hint: "mkdir"},
	{name: "port in use", damage: func(t *testing.T, sys *testSystem) func() {
		ln, err := net.Listen("tcp4", sys.hosts[0].addr)
		if err != nil {
			t.Fatal(err)
		}
		return func() { ln.Close() }
	}, exit: cli.Failed, says: []string{"control port", "address already in use"}, hint: "port"},
	{name: "address of another host", damage: inConfig(replaced("control_addr: 127.0.0.1", "control_addr: 192.0.2.1")),
		exit: cli.Failed, says: []string{"192.0.2.1"}},
	{name: "other system's superblock", damage: inConfig(replaced("name: test", "name: other")),
		exit: cli.Failed, says: []string{"superblock", `"test"`, `"other"`}, hint: "name: test"},
	{name: "corrupt superblock", damage: rewrite("HOST/scm/superblock", func(string) string { return "\x00\x01 this is none" }),
		exit: cli.Failed, says: []string{"superblock"}, hint: "HOST/scm/superblock"},
	{name: "empty superblock", damage: rewrite("HOST/scm/superblock", func(string) string { return "" }),
		exit: cli.Failed, says: []string{"superblock"}, hint: "HOST/scm/superblock"},
	{name: "corrupt index of the database", damage: rewrite("HOST/scm/control_raft/wal-meta.db", garble), child: true,
		exit: cli.Failed, says: []string{"control_raft"}, hint: "HOST/scm/control_raft"},
	{name: "lost database", damage: takenAway("HOST/scm/control_raft"),
		exit: cli.Failed, says: []string{"control_raft", "it is empty"}, hint: "put a copy back"},
	{name: "corrupt log of the database", damage: rewrite("HOST/scm/control_raft/*.wal", replaced("127.0.0.1", "127.0.0.9")),
		exit: cli.Failed, says: []string{"control_raft"}, hint: "HOST/scm/control_raft"},
	{name: "no certificate", damage: moved("server.crt"), exit: cli.Failed, says: []string{"server.crt", "does not exist"}, hint: "certs"},
	{name: "no key", damage: moved("server.key"), exit: cli.Failed, says: []string{"server.key", "does not exist"}, hint: "certs"},
	{name: "no authority", damage: moved("daosCA.crt"), exit: cli.Failed, says: []string{"daosCA.crt", "does not exist"}, hint: "certs"},
	{name: "key that others may read", damage: func(t *testing.T, sys *testSystem) func() {
		key := filepath.Join(sys.certs, "server.key")
		mode := func(m fs.FileMode) {
			if err := os.Chmod(key, m); err != nil {
				t.Fatal(err)
			}
		}
		mode(0o644)
		return func() { mode(0o400) }
	}, exit: cli.Permission, says: []string{"server.key", "0644"}, hint: "chmod"},
	{name: "expired certificate", damage: func(t *testing.T, sys *testSystem) func() {
		out := filepath.Join(sys.dir, "old")
		if _, err := pki.Issue(sys.certs, pki.Server, pki.IssueOptions{Out: out, Start: time.Now().AddDate(0, 0, -9), Days: 2, Force: true}); err != nil {
			t.Fatal(err)
		}
		return inConfig(func(s string) string {
			return strings.NewReplacer(sys.certs+"/server.crt", out+"/server.crt", sys.certs+"/server.key", out+"/server.key").Replace(s)
		})(t, sys)
	}, exit: cli.Permission, says: []string{"server.crt", "expired", time.Now().AddDate(0, 0, -7).UTC().Format("2006-01-02")}, hint: "certs"},
}

// moved takes a file of the certificates away.
func moved(name string) func(*testing.T, *testSystem) func() {
	return func(t *testing.T, sys *testSystem) func() {
		path := filepath.Join(sys.certs, name)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// state is the content and mode of everything that a host keeps.
func (h *testHost) state(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".img" || filepath.Ext(path) == ".log" {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > 64<<20 { // sparse data of the emulator
			all[path] = fmt.Sprintf("%v %d %v", info.Mode(), info.Size(), info.ModTime())
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = fmt.Sprintf("%v %x", info.Mode(), sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// failedStart starts a server that must fail and returns how it ended.
func (s *testSystem) failedStart(i int, args ...string) (cli.Exit, string) {
	s.t.Helper()
	h := s.hosts[i]
	h.log = new(syncBuffer)
	s.start(i, args...)
	defer func() { h.cancel(); h.cancel = nil }()
	select {
	case exit := <-h.done:
		return exit, h.log.String()
	case <-time.After(20 * time.Second):
		h.cancel()
		<-h.done
		return cli.OK, h.log.String()
	}
}

// failedChild is failedStart of a server in a process of its own.
func (s *testSystem) failedChild(i int, args ...string) (cli.Exit, string) {
	s.t.Helper()
	c := s.child(i, nil, args...)
	select {
	case <-c.done:
	case <-time.After(20 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
	return cli.Exit(c.cmd.ProcessState.ExitCode()), c.log.String()
}

// lines are the lines of a log that begin with a word.
func lines(log, word string) (found []string) {
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, word) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func TestBrokenStarts(t *testing.T) {
	sys := newTestSystem(t, 1, 1)
	sys.up()
	is := is.New(t)
	admin := sys.client(pki.Admin)
	created, err := control.Ask(context.Background(), admin, control.PoolCreate, createReq("kept", 8<<30), nil)
	is.NoErr(err)
	before := sys.waitJoined(1).Members[0]
	is.Equal(sys.stop(0), cli.OK)

	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) {
			is := is.New(t)
			repair := b.damage(t, sys)
			defer repair()
			kept := sys.hosts[0].state(t)
			run := sys.failedStart
			if b.child {
				run = sys.failedChild
			}
			exit, log := run(0)
			told, hints := lines(log, "ERROR: "), lines(log, "HINT: ")
			ok := exit == b.exit && len(told) == 1 && maps.Equal(kept, sys.hosts[0].state(t))
			for _, text := range b.says {
				ok = ok && strings.Contains(strings.Join(told, "\n"), strings.ReplaceAll(text, "HOST", sys.hosts[0].dir))
			}
			if b.hint != "" {
				ok = ok && len(hints) == 1 && strings.Contains(hints[0], strings.ReplaceAll(b.hint, "HOST", sys.hosts[0].dir))
			}
			if !ok {
				t.Errorf("exit %d, want %d with %q and hint %q; files kept: %v", exit, b.exit, b.says, b.hint, maps.Equal(kept, sys.hosts[0].state(t)))
			}
			t.Logf("exit %d:\n%s", exit, log)
			is.True(!strings.Contains(log, "panic"))
		})
	}

	// With everything repaired the system is what it was.
	sys.start(0)
	after := sys.rejoined(before)
	is.Equal(after.UUID, before.UUID)
	is.Equal(after.Rank, before.Rank)
	info, err := control.Ask(context.Background(), admin, control.PoolQuery, &control.PoolQueryReq{ID: "kept"}, nil)
	is.NoErr(err)
	is.Equal(info.UUID, created.UUID)

	// A second server beside it: on its port, and on its socket directory.
	first := sys.hosts[0]
	sys.hosts = append(sys.hosts, &testHost{dir: first.dir, addr: first.addr, log: new(syncBuffer)})
	exit, log := sys.failedStart(1)
	is.Equal(exit, cli.Failed)
	is.True(strings.Contains(log, "control port"))
	exit, log = sys.failedStart(1, "-p", fmt.Sprint(freePort(t, "127.0.0.1")))
	is.Equal(exit, cli.Failed)
	is.True(strings.Contains(log, "daos_server.sock"))
	sys.waitJoined(1) // the first has not noticed
	sys.hosts = sys.hosts[:1]
}
