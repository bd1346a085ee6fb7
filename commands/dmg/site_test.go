package dmg

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

// site is servers on this machine that answer what a test wants, all on one port
// of addresses of their own, and a configuration that names them.
type site struct {
	t     *testing.T
	dir   string
	conf  string
	port  int
	certs string // empty when insecure
}

// addr is the address of server i; those that are not up refuse connections.
func (s *site) addr(i int) string { return fmt.Sprintf("127.0.7.%d:%d", i, s.port) }

// list is addresses for -l and for hostlist.
func (s *site) list(servers ...int) string {
	var all []string
	for _, i := range servers {
		all = append(all, s.addr(i))
	}
	return strings.Join(all, ",")
}

// newSite starts servers 1 to up; the configuration names 1 to all.
func newSite(t *testing.T, secure bool, up, all int, handle func(i int, m *control.Mux)) *site {
	t.Helper()
	is := is.New(t)
	running := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, running) })
	s := &site{t: t, dir: t.TempDir()}
	s.conf = filepath.Join(s.dir, "daos_control.yml")
	if secure {
		s.certs = filepath.Join(s.dir, "certs")
		is.NoErr(pki.Init(s.certs, pki.InitOptions{}))
	}
	for i, ln := range s.listen(up) {
		s.serve(i+1, ln, handle)
	}
	hosts := make([]int, all)
	for i := range hosts {
		hosts[i] = i + 1
	}
	s.configure(pki.Admin, hosts...)
	return s
}

// listen makes the listeners of servers 1 to up on one port that is free on all.
func (s *site) listen(up int) []net.Listener {
	if up == 0 {
		s.port = 64999
		return nil
	}
	for range 20 {
		s.port = 0 // the first one chooses
		var all []net.Listener
		for i := 1; i <= up; i++ {
			ln, err := net.Listen("tcp", s.addr(i))
			if err != nil {
				break
			}
			s.port = ln.Addr().(*net.TCPAddr).Port
			all = append(all, ln)
		}
		if len(all) == up {
			return all
		}
		for _, ln := range all {
			_ = ln.Close()
		}
	}
	s.t.Fatal("no port is free on all addresses")
	return nil
}

func (s *site) serve(i int, ln net.Listener, handle func(i int, m *control.Mux)) {
	cfg := wire.ServerConfig{}
	if s.certs != "" {
		id, err := pki.Load(s.files(pki.Server), pki.Server)
		is.New(s.t).NoErr(err)
		cfg.TLS = id.ServerTLS()
	}
	mux := control.NewMux("daos_server", s.certs == "", slog.New(slog.DiscardHandler))
	handle(i, mux)
	cfg.Handler = mux.Serve
	server := wire.NewServer(cfg)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Errorf("server %d: %v", i, err)
		}
	})
}

func (s *site) files(role pki.Role) pki.Files {
	file := func(name string) string { return filepath.Join(s.certs, name) }
	return pki.Files{CA: file("daosCA.crt"), Cert: file(string(role) + ".crt"), Key: file(string(role) + ".key")}
}

// configure writes the configuration for a holder of the role's certificate.
func (s *site) configure(role pki.Role, hosts ...int) {
	transport := "transport_config:\n  allow_insecure: true\n"
	if s.certs != "" {
		f := s.files(role)
		transport = fmt.Sprintf("transport_config:\n  ca_cert: %s\n  cert: %s\n  key: %s\n", f.CA, f.Cert, f.Key)
	}
	text := fmt.Sprintf("name: daos_server\nport: %d\nhostlist: [%s]\n%s", s.port, s.list(hosts...), transport)
	is.New(s.t).NoErr(os.WriteFile(s.conf, []byte(text), 0o600))
}

// ran is what a run of the tool gave; ports are replaced by PORT.
type ran struct {
	exit           cli.Exit
	stdout, stderr string
}

// run runs a command line with the site's configuration.
func (s *site) run(args ...string) ran { return s.runAs(currentName, false, args...) }

func (s *site) runAs(name string, tty bool, args ...string) ran {
	s.t.Helper()
	return runIn(s.t, s.dir, s.port, name, tty, append([]string{"-o", s.conf}, args...)...)
}

func runIn(t *testing.T, dir string, port int, name string, tty bool, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	env := &cli.Env{
		Args: append([]string{name}, args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		LookupEnv: func(name string) (string, bool) { return dir, name == "HOME" }, Dir: dir, StderrTTY: tty, Width: 60,
	}
	exit := Run(t.Context(), env, name, args)
	clean := func(b *bytes.Buffer) string {
		return strings.ReplaceAll(strings.ReplaceAll(b.String(), ":"+strconv.Itoa(port), ":PORT"), dir, "DIR")
	}
	r := ran{exit, clean(&out), clean(&errs)}
	if slices.Contains(args, "-j") && !slices.Contains(args, "--help") {
		is.New(t).True(json.Valid([]byte(r.stdout))) // one document, always
	}
	return r
}

// golden compares a run with its file in testdata.
func golden(t *testing.T, name string, r ran) {
	t.Helper()
	is := is.New(t)
	got := fmt.Sprintf("exit %d\n-- stdout --\n%s-- stderr --\n%s", r.exit, r.stdout, r.stderr)
	path := filepath.Join("testdata", name+".golden")
	if *update {
		is.NoErr(os.MkdirAll("testdata", 0o755))
		is.NoErr(os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	is.NoErr(err)
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// body decodes the envelope of a -j run and returns its parts.
func (r ran) body(t *testing.T) (response map[string]any, text string, status float64) {
	t.Helper()
	is := is.New(t)
	var e map[string]any
	is.NoErr(json.Unmarshal([]byte(r.stdout), &e))
	is.Equal(keys(e), "error response status")
	if e["error"] != nil {
		text = e["error"].(string)
	}
	response, _ = e["response"].(map[string]any)
	return response, text, e["status"].(float64)
}

// keys are the sorted keys of a JSON object.
func keys(v any) string {
	var names []string
	for name := range v.(map[string]any) {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// sole is the only value of a JSON object.
func sole(t *testing.T, v any) map[string]any {
	t.Helper()
	is.New(t).Equal(len(v.(map[string]any)), 1)
	for _, value := range v.(map[string]any) {
		return value.(map[string]any)
	}
	return nil
}

// nulls lists the paths of all null values.
func nulls(path string, v any) (found []string) {
	switch v := v.(type) {
	case nil:
		return []string{path}
	case map[string]any:
		for name, value := range v {
			found = append(found, nulls(path+"."+name, value)...)
		}
	case []any:
		for _, value := range v {
			found = append(found, nulls(path+"[]", value)...)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
