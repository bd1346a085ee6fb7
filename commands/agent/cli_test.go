package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"

	"github.com/matryer/is"
)

// runVerb runs a verb as a user would, in dir.
func runVerb(t *testing.T, dir string, args ...string) (exit cli.Exit, stdout, stderr string) {
	t.Helper()
	var out, errs buffer
	exit = Run(t.Context(), testEnv(&out, &errs, dir, nil), "daos_agent", args)
	return exit, out.String(), errs.String()
}

func TestVersion(t *testing.T) {
	is := is.New(t)
	exit, out, errs := runVerb(t, "/", "version")
	is.Equal(exit, cli.OK)
	is.Equal(errs, "")
	is.True(strings.HasPrefix(out, "daos_agent v"))
	_, out, _ = runVerb(t, "/", "-j", "version")
	var answer struct{ Response struct{ Name string } }
	is.NoErr(json.Unmarshal([]byte(out), &answer))
	is.Equal(answer.Response.Name, "daos_agent")
}

// The -o of the other verbs is a configuration; who gives one here means that.
func TestDumpKeepsConfigurations(t *testing.T) {
	is := is.New(t)
	s := startService(t, true)
	dir := t.TempDir()
	path := s.config(dir)
	before, err := os.ReadFile(path)
	is.NoErr(err)
	for _, name := range []string{"daos_agent.yml", "agent.conf", "other.yaml"} {
		is.NoErr(os.WriteFile(filepath.Join(dir, name), before, 0o644))
		exit, _, errs := runVerb(t, dir, "-o", path, "dump-attachinfo", "-o", name)
		is.Equal(exit, cli.Refused)
		is.True(strings.Contains(errs, "it is a configuration file"))
		is.True(strings.Contains(errs, "HINT: daos_agent: the -o of a configuration stands before the verb: daos_agent -o "+name))
		after, err := os.ReadFile(filepath.Join(dir, name))
		is.NoErr(err)
		is.Equal(after, before)
	}
	exit, _, errs := runVerb(t, dir, "-o", path, "dump-attachinfo", "--force", "-o", "other.yaml")
	is.Equal(exit, cli.OK)
	is.Equal(errs, "")
	exit, _, _ = runVerb(t, dir, "-o", path, "dump-attachinfo", "-o", "new.yml") // nothing is lost
	is.Equal(exit, cli.OK)
	for range 2 { // a list is replaced, whatever it is called
		exit, _, _ = runVerb(t, dir, "-o", path, "dump-attachinfo", "-o", "list")
		is.Equal(exit, cli.OK)
	}
	is.NoErr(os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644)) // as of mktemp
	exit, _, _ = runVerb(t, dir, "-o", path, "dump-attachinfo", "-o", "empty")
	is.Equal(exit, cli.OK)
}

func TestDumpAttachInfo(t *testing.T) {
	is := is.New(t)
	s := startService(t, true)
	dir := t.TempDir()
	path := s.config(dir)
	const list = "name daos_server\nsize 2\nall\n0 ofi+tcp://127.0.0.1:31500\n1 ofi+tcp://127.0.0.1:31600\n"

	exit, out, errs := runVerb(t, dir, "-o", path, "dump-attachinfo")
	is.Equal(exit, cli.OK)
	is.Equal(errs, "")
	is.Equal(out, list)

	exit, out, _ = runVerb(t, dir, "-o", path, "dump-attachinfo", "-o", "list") // its own -o
	is.Equal(exit, cli.OK)
	is.Equal(out, "")
	written, err := os.ReadFile(filepath.Join(dir, "list"))
	is.NoErr(err)
	is.Equal(string(written), list)

	exit, out, _ = runVerb(t, dir, "dump-attachinfo", "-j", "--config-path", path)
	is.Equal(exit, cli.OK)
	var answer struct {
		Response map[string]any
		Status   int
	}
	is.NoErr(json.Unmarshal([]byte(out), &answer))
	for _, key := range []string{"sys", "rank_uris", "secondary_rank_uris", "ms_ranks", "client_net_hint", "secondary_client_net_hints", "build_info"} {
		is.True(answer.Response[key] != nil) // key
	}
	is.Equal(answer.Response["rank_uris"].([]any)[1].(map[string]any)["num_ctxs"], 3.0)

	exit, _, errs = runVerb(t, dir, "-o", path, "dump-attachinfo", "-o", "missing/list")
	is.Equal(exit, cli.Failed)
	is.True(strings.Contains(errs, "cannot write"))
	is.True(strings.Contains(errs, "HINT"))
	left, err := os.ReadDir(dir)
	is.NoErr(err)
	is.Equal(len(left), 1) // nothing beside the list

	s.stop()
	exit, _, errs = runVerb(t, dir, "-o", path, "dump-attachinfo")
	is.Equal(exit, cli.Unreachable)
	is.True(strings.Contains(errs, s.addr))
}

func TestNetScan(t *testing.T) {
	is := is.New(t)
	exit, out, errs := runVerb(t, "/", "net-scan", "-p", "ofi+nothing")
	is.Equal(exit, cli.OK) // nothing is no error
	is.Equal(out, "")
	is.Equal(errs, "")
	exit, out, _ = runVerb(t, "/", "net-scan", "-j")
	is.Equal(exit, cli.OK)
	var answer struct{ Response map[string]hostFabric }
	is.NoErr(json.Unmarshal([]byte(out), &answer))
	for _, group := range answer.Response {
		is.Equal(group.HostSet, "localhost")
		_, human, _ := runVerb(t, "/", "net-scan")
		is.True(strings.HasPrefix(human, "---------\nlocalhost\n---------\n"))
		is.True(strings.Contains(human, group.HostFabric.Interfaces[0].Device))
	}
}

func TestConfigCheck(t *testing.T) {
	is := is.New(t)
	s := startService(t, true)
	dir := t.TempDir()
	exit, out, errs := runVerb(t, dir, "config", "check", "-o", s.config(dir))
	is.Equal(exit, cli.OK)
	is.Equal(errs, "")
	is.True(strings.Contains(out, s.addr))

	tests := []struct {
		name, lines string
		want        []string
	}{
		{"every problem at once", "telemetry_enabled: true\nprot: 1", []string{"prot", "telemetry_port"}},
		{"a key that does nothing here", "enable_evict_on_start: true", []string{"enable_evict_on_start is not supported"}},
		{"a provider that is not there", "provideridx: 1", []string{"provideridx 1 is not supported"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			is := is.New(t)
			path := s.config(dir, test.lines)
			for _, verb := range [][]string{{"config", "check"}, {"start"}} {
				exit, out, errs := runVerb(t, dir, append(verb, "-o", path)...)
				is.Equal(exit, cli.Failed)
				is.Equal(out, "")
				for _, part := range test.want {
					is.True(strings.Contains(errs, part))
				}
			}
		})
	}
}

func TestStartRefuses(t *testing.T) {
	s := startService(t, true)
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	loose := s.files("agent").Key
	tests := []struct {
		name   string
		args   func() []string
		change func(*testing.T)
		exit   cli.Exit
		want   string
	}{
		{"a missing directory", func() []string { return []string{"-o", s.config(missing)} }, nil, cli.Failed, missing},
		{"a missing directory of a flag", func() []string { return []string{"-s", "missing", "-o", s.config(dir)} }, nil, cli.Failed, missing},
		{"the spelling of 0.4", func() []string { return []string{"-runtime_dir", "missing", "-o", s.config(dir)} }, nil, cli.Failed, missing},
		{"a missing configuration", func() []string { return []string{"-o", "missing.yml"} }, nil, cli.Failed, "missing.yml"},
		{"an unknown command", func() []string { return []string{"strat"} }, nil, cli.Usage, `"strat"`},
		{"an unknown flag", func() []string { return []string{"--nonsense"} }, nil, cli.Usage, "nonsense"},
		{"left-over words", func() []string { return []string{"start", "now"} }, nil, cli.Usage, "now"},
		{"a log that cannot be made", func() []string { return []string{"-l", "missing/log", "-o", s.config(dir)} }, nil, cli.Failed, "log"},
		{"a loose key", func() []string { return []string{"-o", s.config(dir)} }, func(t *testing.T) {
			is.New(t).NoErr(os.Chmod(loose, 0o644))
		}, cli.Permission, "agent.key"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			is := is.New(t)
			if test.change != nil {
				test.change(t)
			}
			exit, _, errs := runVerb(t, dir, test.args()...)
			is.Equal(exit, test.exit)
			is.True(strings.Contains(errs, test.want))
			is.True(strings.Contains(errs, "HINT"))
		})
	}
}

func TestLogFile(t *testing.T) {
	is := is.New(t)
	s := startService(t, false)
	dir := shortDir(t)
	path := s.config(dir, "log_file: "+filepath.Join(dir, "agent.log"), "enable_evict_on_start: false", "telemetry_port: 9192")
	d := &options{config: path}
	tool := cli.NewTool(testEnv(new(buffer), new(buffer), dir, nil), "daos_agent")
	cfg, err := d.load(tool)
	is.NoErr(err)
	log, closeLog, err := openLog(tool, cfg)
	is.NoErr(err)
	log.Info("something happened", "hint", fault.HintOf(down()))
	closeLog()
	text, err := os.ReadFile(filepath.Join(dir, "agent.log"))
	is.NoErr(err)
	is.True(strings.Contains(string(text), "something happened"))
}
