package dmg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// The flags of the verbs, as they are known from outside, before and after them.
func TestFlags(t *testing.T) {
	for verb, flags := range map[string][]string{
		"":                           {"--allow-proxy", "--host-list=a", "-la", "-l=a", "--insecure", "-i", "--debug", "-d", "--log-file=f", "--json", "-j", "--json-logging", "-J", "--config-path=f", "-of", "-ijdl a"},
		"server set-logmasks":        {"-m ERR", "--masks=ERR", "-d MD", "--streams=", "-s RPC", "--subsystems ALL", "-l a", "--host-list=a", "--debug", "-ij", "--json"},
		"storage scan":               {"-v", "--verbose", "-n", "--nvme-health", "-l a", "-l=a", "-la", "--host-list a", "-jid", "-vjl a"},
		"storage format":             {"-v", "--verbose", "--force", "--replace", "-l a", "--host-list=a", "-d", "-o f"},
		"storage query list-devices": {"-r 3", "--rank=3", "-b", "--health", "-u x", "--uuid=x", "-e", "--show-evicted", "-l a", "-jbe"},
		"storage query list-pools":   {"-r 3", "--rank=3", "-u x", "--uuid=x", "-v", "--verbose", "-l a"},
		"storage query usage":        {"-u", "--show-usable", "--mem-ratio=50", "-l a", "--host-list=a"},
		"network scan":               {"-p all", "--provider=ofi+tcp", "-l a", "--host-list=a"},
		"system leader-query":        {"-N", "--down-replicas", "-j"},
		"system query":               {"-r 0-3", "--ranks=[0-3,9]", "--rank-hosts=a", "-v", "--verbose", "--not-ok", "--with-states=joined,stopped", "-vj"},
		"system stop":                {"-r 0", "--ranks=0", "--rank-hosts=a", "--force", "--full", "--ignore-admin-excluded"},
		"system start":               {"-r 0", "--ranks=0", "--rank-hosts=a", "--ignore-admin-excluded"},
		"system list-pools":          {"-v", "--verbose", "-n", "--no-query", "-r", "--rebuild-only"},
		"version":                    {"-j", "extra", "--json"},
		"config check":               {"-o f", "--config-path=f", "-j"},
	} {
		for _, line := range flags {
			t.Run(verb+" "+line, func(t *testing.T) {
				is := is.New(t)
				r := runIn(t, t.TempDir(), 0, currentName, false, append(append(strings.Fields(verb), strings.Fields(line)...), "--help")...)
				is.Equal(r.exit, cli.OK)
				is.True(strings.Contains(r.stdout, "Usage:"))
				is.Equal(strings.ReplaceAll(r.stderr, "NOTICE", ""), r.stderr) // none of these is old
			})
		}
	}
}

func TestWrongUse(t *testing.T) {
	is := is.New(t)
	for _, line := range []string{"", "storage", "sys", "nonsense", "storage scan extra", "system query --bogus", "-z", "storage scan -l", "network scan -x", "system stop -r", "config", "storage scan -l [", "-l [ system query", "storage format -l ["} {
		r := runIn(t, t.TempDir(), 0, currentName, false, strings.Fields(line)...)
		is.Equal(r.exit, cli.Usage)
		is.Equal(r.stdout, "")
		is.True(strings.Contains(r.stderr, "ERROR: dmg: "))
	}
	r := runIn(t, t.TempDir(), 0, currentName, false, "storage", "scan", "-j", "--bogus")
	_, text, status := r.body(t) // an envelope, also now
	is.True(strings.Contains(text, "unknown flag"))
	is.Equal(status, -1025.0)
}

func TestVersion(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	is.NoErr(os.WriteFile(filepath.Join(dir, ".daos_control.yml"), []byte("bogus: ["), 0o600)) // is not read
	r := runIn(t, dir, 0, currentName, false, "version")
	is.Equal(r.exit, cli.OK)
	is.True(strings.HasPrefix(r.stdout, "DAOS Admin Tool version "+cli.Version+"\n"))
	response, _, _ := runIn(t, dir, 0, currentName, false, "version", "-j").body(t)
	is.Equal(response["name"], "DAOS Admin Tool")
	is.Equal(response["version"], cli.Version)
	_, has := response["build_time"]
	is.True(has)
}

func TestConfigCheck(t *testing.T) {
	is := is.New(t)
	s := newSite(t, false, 0, 2, nil)
	r := s.run("config", "check")
	is.Equal(r.exit, cli.OK)
	is.True(strings.HasPrefix(r.stdout, "DIR/daos_control.yml is good\nsystem"))
	is.True(strings.Contains(r.stdout, "127.0.7.1:PORT, 127.0.7.2:PORT"))

	is.NoErr(os.WriteFile(s.conf, []byte("name: a-name-that-is-too-long\nhostlst: [a]\nport: 99999\n"), 0o600))
	r = s.run("config", "check")
	is.Equal(r.exit, cli.Failed)
	is.Equal(r.stdout, "")
	for _, want := range []string{"name: the system name", "hostlst: unknown key", "port: 99999"} {
		is.True(strings.Contains(r.stderr, want)) // every problem at once
	}
	r = s.run("cfg", "check", "-j")
	is.Equal(r.exit, cli.Failed)
	response, _, _ := r.body(t)
	is.Equal(keys(response), "file hints problems summary")
	is.Equal(len(response["problems"].([]any)), 3)
	is.Equal(s.run("storage", "scan").exit, cli.Failed) // and no verb runs with it

	r = runIn(t, t.TempDir(), 0, currentName, false, "config", "check")
	if _, err := os.Stat("/etc/daos"); os.IsNotExist(err) {
		is.Equal(r.exit, cli.OK)
		is.True(strings.HasPrefix(r.stdout, "no file found: the built-in values hold\n"))
	}
	is.True(runIn(t, t.TempDir(), 0, currentName, false, "-o", "missing.yml", "config", "check").exit != cli.OK)
	if _, err := os.Stat("/etc/daos"); os.IsNotExist(err) {
		r = runIn(t, t.TempDir(), 0, currentName, false, "system", "query")
		is.Equal(r.exit, cli.Failed)
		is.True(strings.Contains(r.stderr, "no configuration file is there: cannot use certificates: /etc/daos/certs/"))
		is.True(strings.Contains(r.stderr, "HINT: dmg: name it with -o"))
	}
}

// Who has the wrong certificate, or none, is told so.
func TestCertificates(t *testing.T) {
	is := is.New(t)
	s := scanSite(t, true)
	r := s.run("-i", "storage", "scan", "-l", s.list(1))
	is.Equal(r.exit, cli.Failed)
	is.True(strings.Contains(r.stdout, "server requires TLS"))
	is.Equal(s.run("-i", "system", "query").exit, r.exit) // the same cause
	is.True(strings.Contains(r.stderr, "HINT: dmg: use certificates at the client"))

	s.configure(pki.Agent, 1)
	r = s.run("storage", "scan")
	is.Equal(r.exit, cli.Permission)
	is.True(strings.Contains(r.stderr, "agent"))
	is.NoErr(os.Remove(s.files(pki.Agent).Key))
	is.Equal(s.run("storage", "scan").exit, cli.Failed)

	plain := scanSite(t, false)
	plain.certs = s.certs
	plain.configure(pki.Admin, 1)
	r = plain.run("storage", "scan")
	is.True(strings.Contains(r.stdout, "speaks plain text"))
}

// A terminal shows how far a command is, in one line that is gone at the end.
func TestProgress(t *testing.T) {
	is := is.New(t)
	s := scanSite(t, false)
	r := s.runAs(currentName, true, "storage", "scan")
	steps := strings.Split(r.stderr, "\r\x1b[K")
	is.Equal(steps[1], "storage scan: 0/6 done, pending 127.0.7.[1-6]")
	is.True(strings.Contains(r.stderr, "failed, pending 127.0.7."))
	is.Equal(steps[len(steps)-2], "storage scan: 6/6 done, 2 failed")
	is.Equal(steps[len(steps)-1], "ERROR: dmg: 2 host(s) had errors\nHINT: dmg: is daos_server running on 127.0.7.6?\n")

	f := formatSite(t, false, func(int, control.StorageFormatReq) {})
	r = f.runAs(currentName, true, "storage", "format", "-l", f.list(3))
	is.True(strings.HasSuffix(r.stderr, "storage format: 1/1 done\r\x1b[K"))
	is.True(strings.Contains(r.stderr, "pending 127.0.7.3; 127.0.7.3: 1/…"))
	ranks, _ := ranksSite(t, rankResults())
	is.True(strings.Contains(ranks.runAs(currentName, true, "system", "stop").stderr, "\r\x1b[Ksystem stop: 1/2 stopping ranks (10.0.0.1:10001)\r\x1b[K"))
	is.Equal(cut("a\x1b[31mb\nc", 20), "a [31mb c") // what servers say cannot move the cursor
}

func TestLogFile(t *testing.T) {
	is := is.New(t)
	s := scanSite(t, false)
	r := s.run("--log-file", "dmg.log", "storage", "scan", "-l", s.list(1))
	is.Equal(r.exit, cli.OK)
	is.Equal(r.stderr, "") // the file gets it
	data, err := os.ReadFile(filepath.Join(s.dir, "dmg.log"))
	is.NoErr(err)
	is.True(strings.Contains(string(data), "level=DEBUG msg=configuration"))
	is.Equal(s.run("--log-file", "no/such/dir", "storage", "scan").exit, cli.Usage)
}
