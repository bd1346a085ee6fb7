package hostlist_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"

	"github.com/matryer/is"
)

// write makes a file in dir and returns its path.
func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	is := is.New(t)
	is.NoErr(os.MkdirAll(filepath.Dir(path), 0o755))
	is.NoErr(os.WriteFile(path, []byte(text), mode))
	is.NoErr(os.Chmod(path, mode))
	return path
}

const confText = `# sources
[Main]
default: racks
confdir: conf.d $CFGDIR/conf.d
autodir: $CFGDIR/groups.d

[calls]
map = ./map $SOURCE '$GROUP'
list: ./map -l
reverse: ./map -r $NODE
[slow]
map: sleep 60
`

const callText = `#!/bin/sh
case "$1,$2" in
-l,) echo big small; echo 7 ;;
-r,*) echo "of-$2" ;;
calls,big) echo 'b[1-4] b7' ;;
calls,small) echo @big!b[2-9] ;;
calls,7) echo c7 ;;
*) echo "no group $2" >&2; exit 3 ;;
esac
`

const yamlText = `
racks:
  rack1: node[1-4]
  rack2: [node5, 'node[6-8]']
  7: seven
  old: '@rack[1-2]!node3'
  loop: '@loop2'
  loop2: '@loop'
  all: '@old'
nodes:
  io: '@racks:rack1&node[2-9],@old'
  old: x1
`

func groupSite(t *testing.T) *hostlist.Groups {
	dir := t.TempDir()
	conf := write(t, dir, "groups.conf", confText, 0o644)
	write(t, dir, "map", callText, 0o755)
	write(t, dir, "groups.d/site.yaml", yamlText, 0o644)
	write(t, dir, "conf.d/more.conf", "[echo]\nmap: echo more$GROUP\n  more9\nall: printf %s,n2 n1\n", 0o644)
	return hostlist.FindGroups("", filepath.Join(dir, "absent.conf"), conf)
}

func TestGroups(t *testing.T) {
	is := is.New(t)
	ctx := context.Background()
	g := groupSite(t)
	for text, want := range map[string]string{
		"@rack1":               "node[1-4]",
		"@racks:rack2":         "node[5-8]",
		"@racks:7":             "seven",
		"@rack[1-2]":           "node[1-8]",
		"@old":                 "node[1-2,4-8]",
		"@old!@rack2,z":        "node[1-2,4],z",
		"@nodes:io":            "node[2-4],x1",
		"@*":                   "node[1-2,4-8]",
		"@nodes:*":             "node[2-4],x1",
		"@calls:big":           "b[1-4,7]",
		"@calls:small":         "b1",
		"@calls:[7]":           "c7",
		"@calls:*":             "b[1-4,7],c7",
		"@echo:5":              "more[5,9]",
		"@echo:*":              "n[1-2]",
		"@@nodes":              "io,old",
		"@echo:$(id)!more$(id": "",
	} {
		n, err := hostlist.Eval(ctx, text, g)
		if want == "" {
			is.True(err != nil) // no shell: the text reaches no command as syntax
			continue
		}
		is.NoErr(err)
		is.Equal(n.String(), want)
	}
	is.Equal(g.Sources(), []string{"racks", "calls", "echo", "nodes", "slow"})
	names, err := g.Names(ctx, "calls")
	is.NoErr(err)
	is.Equal(names, []string{"7", "big", "small"})
	holding, err := g.Holding(ctx, "calls", "b1")
	is.NoErr(err)
	is.Equal(holding, []string{"of-b1"})
	holding, err = g.Holding(ctx, "nodes", "node2")
	is.NoErr(err)
	is.Equal(holding, []string{"io"})
}

func TestGroupsRefuse(t *testing.T) {
	is := is.New(t)
	g := groupSite(t)
	for _, c := range []struct {
		text, want string
		code       fault.Code
	}{
		{"@loop", "it refers to itself: racks:loop -> racks:loop2 -> racks:loop", fault.Config},
		{"@none", `cannot find group "none" in source racks`, fault.NotFound},
		{"@nosource:x", `no source "nosource"`, fault.NotFound},
		{"@calls:absent", "cannot ask the map command of source calls: exit status 3", fault.Unknown},
		{"@calls:-l", "starts with a hyphen", fault.Usage},
		{"@", "missing name of a group", fault.Usage},
		{"@a:b:c", "", fault.NotFound},
		{"@x[1", "[ without ]", fault.Usage},
		{"@@slow", "it has no list command", fault.Config},
	} {
		_, err := hostlist.Eval(context.Background(), c.text, g)
		is.True(err != nil)
		is.True(strings.Contains(err.Error(), c.want))
		is.Equal(fault.Of(err), c.code)
	}
	_, err := hostlist.Eval(context.Background(), "@calls:absent", g)
	is.Equal(fault.HintOf(err), "it says: no group absent")
	_, err = hostlist.Eval(context.Background(), "@x", nil)
	is.Equal(fault.Of(err), fault.NotFound)
	// A command that hangs ends with its caller's patience.
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	_, err = hostlist.Eval(ctx, "@slow:x", g)
	is.Equal(fault.Of(err), fault.Timeout)
}

func TestLoadGroups(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	g, err := hostlist.LoadGroups(write(t, dir, "site.cfg", "# groups\nio: n[1-2]\n io : n9\nall: @io,m1\n", 0o644))
	is.NoErr(err)
	is.Equal(g.Sources(), []string{"site"})
	n, err := hostlist.Eval(context.Background(), "@site:io ^ @*", g)
	is.NoErr(err)
	is.Equal(n.String(), "m1")
	for i, c := range []struct {
		name, text, want string
		mode             os.FileMode
	}{
		{"a.cfg", "ok: n1\nno colon\n", "line 2", 0o644},
		{"a.cfg", "a b: n1\n", "line 1", 0o644},
		{"a.yaml", "a: [", "yaml", 0o644},
		{"a.yaml", "a:\n  b:\n    c: d\n", "cannot unmarshal", 0o644},
		{"a.yaml", "a:\n  'b,c': d\n", "character that no group name has", 0o644},
		{"a.conf", "key: value\n", "line 1", 0o644},
		{"a.conf", "[a]\nall: x\n", "has no map command", 0o644},
		{"a.conf", "[a]\nmap: x\n[a]\nmap: y\n", "there twice", 0o644},
		{"a.conf", "[Main]\ndefault: b\n[a]\nmap: x\n", `default source "b"`, 0o644},
		{"a.conf", "[a]\nmap: x\n", "others than you and root", 0o666},
	} {
		_, err := hostlist.LoadGroups(write(t, dir, fmt.Sprint(i, c.name), c.text, c.mode))
		is.True(err != nil)
		is.True(strings.Contains(err.Error(), c.want))
	}
	_, err = hostlist.LoadGroups(filepath.Join(dir, "absent"))
	is.True(err != nil)
	shell := write(t, dir, "shell.conf", "[s]\nmap: [ -f x ] && cat x\nlist: \"unended\nall: nonesuch-program\n", 0o644)
	g, err = hostlist.LoadGroups(shell)
	is.NoErr(err)
	for text, want := range map[string]string{"@a": "shell syntax &", "@@": "quote without an end", "@*": "no executable nonesuch-program"} {
		_, err = hostlist.Eval(context.Background(), text, g)
		is.Equal(fault.Of(err), fault.Config)
		is.True(strings.Contains(err.Error(), want))
	}
}
