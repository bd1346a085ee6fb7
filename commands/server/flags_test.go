package server

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"daosbox/commands/cli"

	"github.com/matryer/is"
)

// TestVerbs parses the command lines of every era. What starts a server gets a
// configuration that is not there, so that it ends behind the flags.
func TestVerbs(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.yml")
	for _, test := range []struct {
		args string
		exit cli.Exit
		says string // on either stream
	}{
		{"start -o NONE", cli.Failed, "none.yml"},
		{"start -o NONE -p 1 -s /a -m b -t 3 -x 0 -f 1 -g name -d /run -i --auto-format", cli.Failed, "none.yml"},
		{"start --config NONE --port 1 --storage /a --modules b --targets 3 --xshelpernr 0 --firstcore 1 --group n --socket_dir /r --insecure", cli.Failed, "none.yml"},
		{"start -o NONE --recreate-superblocks", cli.Failed, "none.yml"},
		{"start -l /helper.log -o NONE", cli.Failed, "none.yml"},
		{"-o NONE start", cli.Failed, "none.yml"},
		{"-b -J --syslog --allow-proxy start -o NONE", cli.Failed, "none.yml"},
		{"start --debug --json-logging -o NONE", cli.Failed, "none.yml"},
		{"-o NONE", cli.Failed, `"daos_server start FLAGS"`},
		{"--config_path=NONE -c 4 -t 4 -i", cli.Failed, "none.yml"},
		{"-p 10001 -o NONE", cli.Failed, "none.yml"},
		{"start -o NONE extra", cli.Usage, "unexpected arguments: extra"},
		{"start -t many", cli.Usage, "many"},
		{"start -t -1", cli.Usage, "-1"},
		{"start --nosuch", cli.Usage, "--nosuch"},
		{"config check -o NONE", cli.Failed, "none.yml"},
		{"cfg check -o NONE", cli.Failed, "none.yml"},
		{"config", cli.Usage, "check"},
		{"network scan", cli.OK, ""},
		{"network scan -p all", cli.OK, ""},
		{"net scan --provider ofi+tcp -o NONE", cli.OK, ""},
		{"network scan -a", cli.OK, "-p all"},
		{"network list", cli.OK, "network scan -p all"},
		{"-o NONE -j network scan", cli.OK, "-o FILE network"},
		{"-oNONE version", cli.OK, cli.DAOSVersion},
		{"start -a /tmp -o NONE", cli.Usage, "daos_agent"},
		{"--rank 3 --map x -o NONE", cli.Usage, "ranks are given"},
		{"version", cli.OK, cli.DAOSVersion},
		{"nosuch", cli.Usage, `unknown command "nosuch"`},
		{"--help", cli.OK, "start"},
		{"start --help", cli.OK, "--xshelpernr"},
	} {
		t.Run(test.args, func(t *testing.T) {
			out := new(syncBuffer)
			words := strings.Fields(strings.ReplaceAll(test.args, "NONE", none))
			exit := Run(context.Background(), testEnv(t, t.TempDir(), out), "daos_server", words)
			if exit != test.exit || !strings.Contains(out.String(), test.says) {
				t.Errorf("exit %d, want %d and %q:\n%s", exit, test.exit, test.says, out)
			}
		})
	}
}

// TestAnswers has the verbs that end by themselves answer programs.
func TestAnswers(t *testing.T) {
	sys := newTestSystem(t, 1, 1)
	for _, args := range [][]string{{"-j", "version"}, {"version", "--json"}, {"network", "scan", "-j"}, {"config", "check", "-j", "-o", sys.hosts[0].config()}} {
		t.Run(strings.Join(args[:2], " "), func(t *testing.T) {
			is := is.New(t)
			out := new(syncBuffer)
			is.Equal(Run(context.Background(), testEnv(t, sys.dir, out), "daos_server", args), cli.OK)
			var answer struct {
				Response any
				Error    *string
				Status   int
			}
			is.NoErr(json.Unmarshal([]byte(out.String()), &answer))
			is.True(answer.Response != nil)
			is.True(answer.Error == nil)
			is.Equal(answer.Status, 0)
		})
	}
}
