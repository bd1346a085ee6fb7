package helper_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"daosbox/commands/helper"
	"daosbox/storage"

	"github.com/matryer/is"
	"golang.org/x/sys/unix"
)

// nobody is the ordinary user of these tests, stranger another one.
const (
	nobody   = 65534
	stranger = 65533
)

const insideMountNamespace = "HELPER_TEST_MOUNTS"

// TestRealMounts has a helper of root and callers of other users make real RAM
// disks: in a mount namespace of its own, so that nothing of it is left on this
// machine whatever happens.
func TestRealMounts(t *testing.T) {
	if os.Getenv(insideMountNamespace) != "" {
		t.Run("requests", realRequests)
		t.Run("activation", activation)
		t.Run("server", realServer)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can run the helper and mount")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestRealMounts$", "-test.v")
	cmd.Env = append(os.Environ(), insideMountNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if os.IsPermission(err) {
		t.Skip("no mount namespace of our own here: ", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// world is a directory tree that is root's alone, with a configuration, a program
// that everybody can run and a helper.
type world struct {
	t                           *testing.T
	dir, config, socket, binary string
	log                         *output
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex
	text strings.Builder
	grew chan struct{}
}

func newOutput() *output { return &output{grew: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.grew <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits until the text has count times what is said.
func (o *output) await(t *testing.T, what string, count int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for strings.Count(o.String(), what) < count {
		select {
		case <-o.grew:
		case <-limit:
			t.Fatalf("no %q in:\n%s", what, o)
		}
	}
}

// The configurations of these tests; the RAM disk of the second engine
// would be in a directory of the caller.
const (
	common = `
name: test
port: 10001
control_addr: 127.0.0.1
mgmt_svc_replicas: [127.0.0.1]
socket_dir: /mnt/user/run
provider: ofi+tcp
engine_binary: emulator
fault_path: /host1
transport_config: {allow_insecure: true}
`
	twoEngines = common + `
engines:
- {targets: 1, fabric_iface: lo, fabric_iface_port: 31416, log_file: /mnt/user/0.log,
   storage: [{class: ram, scm_mount: /mnt/scm/0, scm_size: 4, scm_hugepages_disabled: true}]}
- {targets: 1, fabric_iface: lo, fabric_iface_port: 32416, log_file: /mnt/user/1.log,
   storage: [{class: ram, scm_mount: /mnt/user/1, scm_size: 4, scm_hugepages_disabled: true}]}
`
	oneEngine = common + `
engines:
- {targets: 1, fabric_iface: lo, fabric_iface_port: 31416, log_file: /mnt/user/0.log,
   storage: [{class: ram, scm_mount: /mnt/scm/0, scm_size: 4, scm_hugepages_disabled: true}]}
`
	directory = common + `
engines:
- {targets: 1, fabric_iface: lo, fabric_iface_port: 31416, log_file: /mnt/user/0.log,
   storage: [{class: dir, scm_mount: /mnt/user/scm, scm_size: 4}]}
`
	metadataOnSSD = common + `
control_metadata: {path: /mnt/user/meta}
engines:
- {targets: 1, fabric_iface: lo, fabric_iface_port: 31416, log_file: /mnt/user/0.log,
   storage: [{class: ram, scm_mount: /mnt/scm/0, scm_size: 4, scm_hugepages_disabled: true},
             {class: file, bdev_list: [/mnt/user/image], bdev_size: 4, bdev_roles: [data, meta, wal]}]}
`
)

func newWorld(t *testing.T) *world {
	is := is.New(t)
	is.NoErr(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	is.NoErr(unix.Mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755,size=1g"))
	t.Cleanup(func() { is.NoErr(unix.Unmount("/mnt", unix.MNT_DETACH)) })
	w := &world{t: t, dir: "/mnt", config: "/mnt/daos_server.yml", socket: "/mnt/helper/helper.sock", binary: "/mnt/daosbox", log: newOutput()}
	self, err := os.Open("/proc/self/exe")
	is.NoErr(err)
	defer self.Close()
	program, err := os.OpenFile(w.binary, os.O_CREATE|os.O_WRONLY, 0o755)
	is.NoErr(err)
	_, err = io.Copy(program, self)
	is.NoErr(err)
	is.NoErr(program.Close())
	is.NoErr(os.Mkdir("/mnt/user", 0o755))
	is.NoErr(os.Chown("/mnt/user", nobody, nobody))
	w.configure(twoEngines)
	return w
}

func (w *world) configure(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.config, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// spawn starts the test's program as a process of a user.
func (w *world) spawn(role string, uid uint32, out io.Writer, args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(w.binary, args...) // no context of the test: its end comes before the clean-up
	w.t.Cleanup(func() { _ = cmd.Process.Kill() })
	cmd.Env = []string{roleEnv + "=" + role, "PATH=/usr/bin:/bin", "DAOS_HELPER_SOCKET=" + w.socket,
		"GORACE=atexit_sleep_ms=0"} // the race detector makes each of the many processes linger else
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

// helper runs the helper until the test's end.
func (w *world) helper() {
	w.t.Helper()
	cmd := w.spawn("helper", 0, w.log, "-o", w.config, "--socket", w.socket, "--user", fmt.Sprint(nobody))
	w.t.Cleanup(func() {
		if err := w.end(cmd); err != nil {
			w.t.Errorf("helper: %v\n%s", err, w.log)
		}
		if _, err := os.Lstat(w.socket); !os.IsNotExist(err) {
			w.t.Error("the socket is left behind")
		}
	})
	w.log.await(w.t, "daos_server_helper is up", 1)
}

func (w *world) end(cmd *exec.Cmd) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	return cmd.Wait()
}

// ask lets a process of a user call the helper and returns what it prints.
func (w *world) ask(uid uint32, method string, engine int) string {
	w.t.Helper()
	var out strings.Builder
	cmd := w.spawn("client", uid, &out, w.socket, method, fmt.Sprint(engine))
	if err := cmd.Wait(); err != nil {
		w.t.Fatalf("%v: %s", err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func (w *world) mounts(path string) int {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Count(string(table), " "+path+" ")
}

const done = "0 <nil>"

func realRequests(t *testing.T) {
	is := is.New(t)
	w := newWorld(t)
	w.helper()
	answer := func(uid uint32, method string, engine int, want ...string) {
		t.Helper()
		got := w.ask(uid, method, engine)
		for _, text := range want {
			if !strings.Contains(got, text) {
				t.Errorf("%s of engine %d by %d: %q, not %q", method, engine, uid, got, text)
			}
		}
	}
	answer(nobody, "ping", 0, "Index:0 Mount:/mnt/scm/0 SizeGiB:4", "Index:1")

	// An empty RAM disk appears and is the caller's.
	answer(nobody, "format", 0, done)
	is.Equal(w.mounts("/mnt/scm/0"), 1)
	var st unix.Statfs_t
	is.NoErr(unix.Statfs("/mnt/scm/0", &st))
	is.Equal(int64(st.Type), int64(unix.TMPFS_MAGIC))
	is.Equal(int64(st.Blocks)*st.Bsize, int64(4<<30))
	is.Equal(owner(t, "/mnt/scm/0"), uint32(nobody))
	is.Equal(owner(t, "/mnt/scm"), uint32(0))

	// What is on it is given up by force only, and not while it is used.
	file := "/mnt/scm/0/data"
	is.NoErr(os.WriteFile(file, nil, 0o600))
	answer(nobody, "mount", 0, done)
	_, err := os.Stat(file)
	is.NoErr(err)
	answer(nobody, "format", 0, "101 ")
	held, err := os.Open(file)
	is.NoErr(err)
	answer(nobody, "force", 0, "10016 ")
	is.NoErr(held.Close())
	answer(nobody, "force", 0, done)
	_, err = os.Stat(file)
	is.True(os.IsNotExist(err))
	is.Equal(w.mounts("/mnt/scm/0"), 1)
	answer(nobody, "unmount", 0, "10006 ", "only copy")

	// A link of the caller to what only root may read tells the caller nothing.
	is.NoErr(os.WriteFile("/mnt/secret", []byte("uuid: hunter2\n"), 0o600))
	is.NoErr(os.Symlink("/mnt/secret", "/mnt/scm/0/superblock"))
	got := w.ask(nobody, "format", 0)
	is.True(!strings.Contains(got, "hunter2"))
	is.True(!strings.HasPrefix(got, "0 "))
	is.NoErr(os.Remove("/mnt/scm/0/superblock"))
	is.NoErr(unix.Unmount("/mnt/scm/0", 0))
	answer(nobody, "mount", 0, done)

	// What is not the policy's.
	answer(nobody, "format", 1, "10005 ", "belongs to user 65534")
	answer(nobody, "format", 2, "10014 ", "2 engines")
	answer(nobody, "format", -1, "10014 ")
	answer(stranger, "format", 0, "10005 ", "permission denied")
	is.NoErr(os.Chmod(w.socket, 0o666))
	answer(stranger, "force", 0, "10005 ", "user 65533 may not ask")
	is.Equal(w.mounts("/mnt/scm/0"), 1)

	// Something else is mounted there.
	is.NoErr(unix.Unmount("/mnt/scm/0", 0))
	is.NoErr(unix.Mount("proc", "/mnt/scm/0", "proc", 0, ""))
	answer(nobody, "force", 0, "104 ")
	answer(nobody, "mount", 0, "104 ")
	is.NoErr(unix.Unmount("/mnt/scm/0", 0))

	// A configuration that others can write is no policy any more.
	is.NoErr(os.Chmod(w.config, 0o666))
	answer(nobody, "mount", 0, "10005 ", "cannot trust the configuration")
	answer(nobody, "ping", 0, "10005 ")
	is.NoErr(os.Chmod(w.config, 0o644))
	answer(nobody, "mount", 0, done)

	// An edited one holds at once.
	w.configure(directory)
	answer(nobody, "format", 0, "10006 ", "needs no root")
	w.configure(metadataOnSSD)
	answer(nobody, "unmount", 0, done)
	is.Equal(w.mounts("/mnt/scm/0"), 0)
	answer(nobody, "unmount", 0, done)
	answer(nobody, "mount", 0, done)
	is.Equal(w.mounts("/mnt/scm/0"), 1)

	for _, line := range []string{`uid=65534 gid=65534 method=scm.format engine=0 force=true`, `msg="refused a caller"`, `uid=65533`} {
		is.True(strings.Contains(w.log.String(), line))
	}

	// A second helper on the same socket, and one whose policy anybody can write.
	out := newOutput()
	cmd := w.spawn("helper", 0, out, "-o", w.config, "--socket", w.socket, "--user", fmt.Sprint(nobody))
	is.True(cmd.Wait() != nil)
	is.True(strings.Contains(out.String(), "another daos_server_helper"))
	is.NoErr(os.Chown(w.config, nobody, nobody))
	cmd = w.spawn("helper", 0, out, "-o", w.config, "--socket", "/mnt/other.sock", "--user", fmt.Sprint(nobody))
	is.True(cmd.Wait() != nil)
	is.Equal(cmd.ProcessState.ExitCode(), 7)
	is.True(strings.Contains(out.String(), "belongs to user 65534"))
}

func owner(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// activation has the helper take a socket that somebody else made, as systemd does,
// with no more power than its unit leaves it.
func activation(t *testing.T) {
	is := is.New(t)
	w := newWorld(t)
	w.socket = "/mnt/passed.sock"
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: w.socket, Net: "unix"})
	is.NoErr(err)
	defer ln.Close()
	is.NoErr(os.Chmod(w.socket, 0o666))
	file, err := ln.File()
	is.NoErr(err)
	defer file.Close()
	// Who is meant by LISTEN_PID is known only once the process is there.
	script := `export LISTEN_PID=$$; exec "$0" "$@"`
	args := []string{"-c", script, w.binary, "-o", w.config, "--user", fmt.Sprint(nobody)}
	if tool, err := exec.LookPath("setpriv"); err == nil {
		args = append([]string{"-c", `export LISTEN_PID=$$; exec "$0" --no-new-privs --bounding-set "$1" "$2" "$3" "$4" "$5" "$6"`, tool,
			"-all,+sys_admin,+chown,+fowner,+dac_override,+setuid,+setgid", w.binary}, args[3:]...)
	}
	cmd := exec.Command("/bin/sh", args...)
	cmd.Env = []string{roleEnv + "=helper", "LISTEN_FDS=1", "PATH=/usr/bin:/bin", "GORACE=atexit_sleep_ms=0"}
	cmd.Stdout, cmd.Stderr = w.log, w.log
	cmd.ExtraFiles = []*os.File{file}
	is.NoErr(cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	w.log.await(t, "daos_server_helper is up", 1)
	is.True(strings.HasSuffix(w.ask(nobody, "ping", 0), done))
	is.Equal(w.ask(nobody, "format", 0), done)
	is.Equal(w.ask(nobody, "force", 0), done)
	is.Equal(w.mounts("/mnt/scm/0"), 1)
	is.True(strings.Contains(w.ask(stranger, "ping", 0), "may not ask"))
	is.NoErr(w.end(cmd))
	_, err = os.Lstat(w.socket) // it is not the helper's to remove
	is.NoErr(err)
	is.NoErr(unix.Unmount("/mnt/scm/0", 0))
}

// TestUnitsAgree holds the example units to what the program does.
func TestUnitsAgree(t *testing.T) {
	is := is.New(t)
	text, err := os.ReadFile("../../packaging/daos_server_helper.socket")
	is.NoErr(err)
	is.True(strings.Contains(string(text), "ListenStream="+helper.DefaultSocket+"\n"))
	text, err = os.ReadFile("../../packaging/daos_server_helper.service")
	is.NoErr(err)
	for _, setting := range []string{"Private", "Protect", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths", "RootDirectory", "MountFlags"} {
		is.True(!strings.Contains(string(text), "\n"+setting)) // would hide its mounts from the host
	}
}

// realServer brings a daos_server of an ordinary user up with the helper's help.
func realServer(t *testing.T) {
	is := is.New(t)
	w := newWorld(t)
	free := strings.NewReplacer("10001", freePort(t), "31416", freePort(t))
	w.configure(free.Replace(oneEngine))
	is.NoErr(os.Mkdir("/mnt/user/run", 0o755))
	is.NoErr(os.Chown("/mnt/user/run", nobody, nobody))

	// Without the helper there is no way.
	out := newOutput()
	cmd := w.spawn("server", nobody, out, "start", "-o", w.config)
	is.True(cmd.Wait() != nil)
	is.True(strings.Contains(out.String(), "only root can mount a tmpfs"))

	w.helper()
	out = newOutput()
	cmd = w.spawn("server", nobody, out, "start", "-o", w.config)
	out.await(t, "waiting for `dmg storage format`", 1)
	is.NoErr(w.end(cmd))

	out = newOutput()
	cmd = w.spawn("server", nobody, out, "start", "-o", w.config, "--auto-format")
	out.await(t, "joined the system", 1)
	is.Equal(w.mounts("/mnt/scm/0"), 1)
	is.Equal(owner(t, "/mnt/scm/0/superblock"), uint32(nobody))
	first, err := storage.ReadSuperblock("/mnt/scm/0/superblock")
	is.NoErr(err)
	is.NoErr(w.end(cmd))

	// The next start finds its storage and needs nobody's help.
	requests := strings.Count(w.log.String(), "method=scm.")
	out = newOutput()
	cmd = w.spawn("server", nobody, out, "start", "-o", w.config)
	out.await(t, "joined the system", 1)
	second, err := storage.ReadSuperblock("/mnt/scm/0/superblock")
	is.NoErr(err)
	is.Equal(second.UUID, first.UUID)
	is.NoErr(w.end(cmd))
	is.Equal(strings.Count(w.log.String(), "method=scm."), requests)
	is.NoErr(unix.Unmount("/mnt/scm/0", 0))

	// With metadata on SSD the RAM disk comes back after a reboot without a format.
	w.configure(free.Replace(metadataOnSSD))
	out = newOutput()
	cmd = w.spawn("server", nobody, out, "start", "-o", w.config, "--auto-format")
	out.await(t, "joined the system", 1)
	first, err = storage.ReadSuperblock("/mnt/user/meta/daos_control/engine0/superblock")
	is.NoErr(err)
	is.NoErr(w.end(cmd))
	is.NoErr(unix.Unmount("/mnt/scm/0", 0))
	out = newOutput()
	cmd = w.spawn("server", nobody, out, "start", "-o", w.config)
	out.await(t, "joined the system", 1)
	is.Equal(w.mounts("/mnt/scm/0"), 1)
	second, err = storage.ReadSuperblock("/mnt/user/meta/daos_control/engine0/superblock")
	is.NoErr(err)
	is.Equal(second.UUID, first.UUID)
	is.NoErr(w.end(cmd))
	is.True(strings.Contains(w.log.String(), "method=scm.mount"))

	// A helper that would mount something else is none.
	is.NoErr(unix.Unmount("/mnt/scm/0", 0))
	is.NoErr(os.WriteFile("/mnt/other.yml", []byte(strings.ReplaceAll(free.Replace(metadataOnSSD), "scm_size: 4", "scm_size: 5")), 0o644))
	out = newOutput()
	cmd = w.spawn("server", nobody, out, "start", "-o", "/mnt/other.yml")
	is.True(cmd.Wait() != nil)
	is.True(strings.Contains(out.String(), "use the same configuration"))
}

// freePort is a port that nobody uses now.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
}
