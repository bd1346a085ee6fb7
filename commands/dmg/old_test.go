package dmg

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
	"github.com/spf13/cobra"
)

// words makes the tree of a run that nobody sees.
func words(testing.TB) (*app, *cobra.Command) {
	env := &cli.Env{LookupEnv: func(string) (string, bool) { return "", false }, Dir: "/"}
	a := newApp(cli.NewTool(env, currentName))
	return a, tree(a)
}

func TestOldSpellings(t *testing.T) {
	for _, c := range []struct{ old, now string }{
		// Today's spellings are left alone, aliases and clusters too.
		{"storage scan -v", ""},
		{"sto scan -vl node[1-2]", ""},
		{"-ij sys query -r 0-3", ""},
		{"srv slm -m ERR,RPC=DEBUG -d MD -s ALL", ""},
		{"pool ls -v", ""},
		{"pool set-prop blue a:b", ""},
		{"-l node1 version", ""},
		{"-l node1", ""},
		{"nonsense -l x", ""},
		{"storage nonsense", ""},
		{"", ""},
		{"--help", ""},

		// Hosts before the verb (0.4-2.2).
		{"-i -l node1:10001 storage scan", "-i storage scan -l node1:10001"},
		{"-il node1 storage -j scan -v", "-i -j storage scan -v -l node1"},
		{"--host-list=node1 storage scan", "storage scan -l node1"},
		{"--hostlist node1 storage scan", "storage scan -l node1"},
		{"-l=node1 -o f system query", "-o f -l node1 system query"},
		{"-lnode1 network scan", "network scan -l node1"},
		{"system query -l node1", "-l node1 system query"},

		// Commands and groups.
		{"-l localhost:10001 storage format -f", "storage format --force -l localhost:10001"},
		{"st s", "storage scan"},
		{"st list", "storage scan"},
		{"storage l", "storage scan"},
		{"st f --reformat -v", "storage format --force -v"},
		{"st f -vf", "storage format -v --force"},
		{"storage query nvme-health", "storage scan --nvme-health"},
		{"st query n", "storage scan --nvme-health"},
		{"storage query list-devices -b -r 3", ""},
		{"st query blobstore-health --devuuid=1234", "storage query list-devices --health --uuid=1234"},
		{"st query b -t 3", "storage query list-devices --health"},
		{"storage query device-health -u 1234", "storage query list-devices --health -u 1234"},
		{"storage query target-health -r 1 -t 0", "storage query list-devices --health -r 1"},
		{"storage query device-state --devuuid 1234", "storage query list-devices --uuid=1234"},
		{"storage query d", "storage query list-devices"},
		{"storage query p -v", "storage query list-pools -v"},
		{"storage query u", "storage query usage"},
		{"storage scan -m", "storage scan --verbose"},
		{"storage scan --nvme-meta", "storage scan --verbose"},
		{"storage scan --summary", "storage scan"},
		{"sy q -v", "system query -v"},
		{"system member-query", "system query"},
		{"system query --rank 3", "system query --ranks=3"},
		{"sy s --force", "system stop --force"},
		{"sy r", "system start"},
		{"sy l", "system leader-query"},
		{"sy p", "system list-pools"},
		{"service kill-rank -r 3 -p 1234", "system stop --ranks=3"},
		{"sv kr --rank=3", "system stop --ranks=3"},
		{"n scan -a", "network scan --provider=all"},
		{"network list", "network scan --provider=all"},
		{"server set-logmasks ERR", "server set-logmasks --masks=ERR"},
		{"co check", "config check"},

		// Pools.
		{"p c -s 1G --label=blue", "pool create blue -s 1G"},
		{"pool create -p blue -s 1G -n 8G", "pool create blue -s 1G -n 8G"},
		{"pool create blue --scm-ratio 6 -z 1T", "pool create blue --tier-ratio=6 -z 1T"},
		{"pool destroy -f --pool=1234", "pool destroy 1234 -f"},
		{"pool destroy -u 1234", "pool destroy 1234"},
		{"p d --pool 1234 -j", "-j pool destroy 1234"},
		{"p q --pool=1234", "pool query 1234"},
		{"pool query blue -b", "pool query blue"},
		{"p l", "pool list"},
		{"p ga --pool=1234", "pool get-acl 1234"},
		{"p ua --pool=1234 -e A::x@:r", "pool update-acl 1234 -e A::x@:r"},
		{"p oa --pool=1234 -a f", "pool overwrite-acl 1234 -a f"},
		{"p da --pool=1234 -p u:x@", "pool delete-acl 1234 -p u:x@"},
		{"p sp --pool=1234 -n reclaim -v time", "pool set-prop 1234 reclaim:time"},
		{"pool set-prop 1234 --name=reclaim --value=time", "pool set-prop 1234 reclaim:time"},
		{"pool sp --value=time --name=reclaim --pool=1234", "pool set-prop 1234 reclaim:time"},
		{"pool set-prop blue -n reclaim -v time", "pool set-prop blue reclaim:time"},
		{"pool set-prop -n reclaim -v time blue", "pool set-prop blue reclaim:time"},
		{"pool set-prop blue --name reclaim --value=time -j", "-j pool set-prop blue reclaim:time"},
		{"pool set-prop blue -nlabel -vred,dark:1", `pool set-prop blue label:red\,dark:1`},
		{"pool set-prop blue -n reclaim", "pool set-prop blue reclaim:"}, // is told that its value is empty
		{"pool gp --pool=1234", "pool get-prop 1234"},

		// The dmg in C.
		{"query --pool=1234 --svc=0:1", "pool query 1234"},
		{"destroy -p 1234 --force --group=daos_server", "pool destroy 1234 --force --sys=daos_server"},
		{"evict --pool=1234 --svc 1", "pool evict 1234"},
		{"kill --rank=3 --force", "system stop --ranks=3 --force"},
		{"list-pools", "pool list"},
	} {
		t.Run(c.old, func(t *testing.T) {
			is := is.New(t)
			a, root := words(t)
			m, err := rewrite(root, a.globals(), strings.Fields(c.old))
			is.NoErr(err)
			is.Equal(m.old, c.now != "")
			if c.now != "" {
				is.Equal(strings.Join(m.args, " "), c.now)
				again, err := rewrite(root, a.globals(), m.args)
				is.NoErr(err)
				is.Equal(again.old, m.note != "") // what it is now is not old itself, where that can be said
			}
		})
	}
}

// Every row leads to a command and flags that exist, or says where to go.
func TestOldTable(t *testing.T) {
	is := is.New(t)
	a, root := words(t)
	seen := make(map[string]bool)
	for _, row := range oldVerbs() {
		t.Log(row.old)
		is.True(!seen[row.old]) // twice in the table
		seen[row.old] = true
		is.True((row.now == "") != (row.gone == ""))
		r := &rewriter{root: root, globals: a.globals(), verbs: oldVerbs(), flags: oldFlags(), cmd: root, lead: map[int]string{}}
		var err error
		for _, word := range strings.Fields(row.old) {
			is.NoErr(err) // only the last word may be refused
			var known bool
			known, err = r.word(word)
			is.True(known)
		}
		is.Equal(err != nil, row.gone != "")
		if err != nil {
			is.Equal(cli.ExitOf(err), cli.Usage)
			is.Equal(fault.HintOf(err), row.gone)
		}
		if row.gone == "" && row.old != "sv" { // a group of old commands only
			is.True(r.cmd != root)
			flags := slices.DeleteFunc(slices.Clone(r.after), func(word string) bool { return word[0] != '-' })
			is.NoErr(r.cmd.ParseFlags(flags))
		}
	}
	for _, row := range oldFlags() {
		t.Log(row)
		cmd := lookup(root, row.verb)
		if cmd == nil || row.verb == "list-pools" {
			continue // rows of old commands are in TestOldSpellings
		}
		if strings.HasPrefix(row.now, "--") && row.verb != "" {
			_, root := words(t)
			is.NoErr(lookup(root, row.verb).ParseFlags([]string{strings.ReplaceAll(row.now, "%s", "1")}))
		}
	}
}

// One notice on standard error tells the whole command in today's spelling; data
// stays alone on standard output.
func TestOldNotice(t *testing.T) {
	s := scanSite(t, false)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"dmg", []string{"-l", "HOST", "storage", "scan"}, `"dmg -o DIR/daos_control.yml -l HOST storage scan" is the old spelling of "dmg -o DIR/daos_control.yml storage scan -l HOST"`},
		{"daos_shell", []string{"-i", "-l", "HOST", "st", "list"}, `"daos_shell -o DIR/daos_control.yml -i -l HOST st list" is the old spelling of "dmg -o DIR/daos_control.yml -i storage scan -l HOST"`},
		{"daos_shell", []string{"storage", "scan", "-l", "HOST"}, `"daos_shell -o DIR/daos_control.yml storage scan -l HOST" is the old spelling of "dmg -o DIR/daos_control.yml storage scan -l HOST"`},
	} {
		is := is.New(t)
		for i := range c.args {
			c.args[i] = strings.ReplaceAll(c.args[i], "HOST", s.addr(1))
		}
		r := s.runAs(c.name, false, c.args...)
		is.Equal(r.exit, cli.OK)
		want := strings.ReplaceAll(c.want, "HOST", "127.0.7.1:PORT")
		is.Equal(r.stderr, fmt.Sprintf("NOTICE: %s: %s\n", c.name, want))
		is.True(strings.HasPrefix(r.stdout, "Hosts "))
	}
}

func TestOldHostsOfLeaderRequests(t *testing.T) {
	is := is.New(t)
	s, req := querySite(t, "")
	s.configure("admin", 9) // nobody there
	r := s.run("-l", s.addr(1), "sy", "q", "--rank=0")
	is.Equal(r.exit, cli.OK)
	is.Equal(req().Ranks.String(), hostlist.Ranks(0).String())
	is.Equal(strings.Count(r.stderr, "NOTICE"), 1)
	is.True(strings.Contains(r.stderr, `of "dmg -o DIR/daos_control.yml system query --ranks=0 with 127.0.7.1:PORT as hostlist in daos_control.yml"`))

	for _, verb := range [][]string{{"version"}, {"config", "check"}} {
		r = s.run(append([]string{"-l", "node1"}, verb...)...)
		is.Equal(r.exit, cli.Usage)
		is.True(strings.Contains(r.stderr, "unknown flag: --host-list"))
		is.True(!strings.Contains(r.stderr, "NOTICE"))
	}
}

func TestGone(t *testing.T) {
	is := is.New(t)
	s := newSite(t, false, 0, 1, func(int, *control.Mux) {})
	r := s.run("-l", "node1", "storage", "prepare", "--force", "-j")
	is.Equal(r.exit, cli.Usage)
	_, text, _ := r.body(t)
	is.Equal(text, `cannot run "dmg storage prepare": this command is no more`)
	is.True(strings.Contains(r.stderr, "HINT: dmg: devices are prepared on each host: `daos_server nvme prepare`"))
	is.Equal(s.run("create", "--size=1G").exit, cli.Usage)
	is.Equal(s.runAs("daos_shell", false).exit, cli.Usage)
}

// Any command line is rewritten without harm.
func FuzzRewrite(f *testing.F) {
	for _, line := range []string{"-il node1 st s -m", "p sp --pool=1 -n a -v b", "-é=x sv kr", "kill --rank", "-- -l x", "storage\x00scan", "-l\x00x\x00sy\x00q"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		a, root := words(t)
		m, err := rewrite(root, a.globals(), strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == 0 }))
		if err != nil {
			return
		}
		if len(m.args) > len(line)+20 {
			t.Errorf("%q became %q", line, m.args)
		}
	})
}
