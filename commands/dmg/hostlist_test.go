package dmg

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"daosbox/commands/cli"

	"github.com/matryer/is"
)

// withInput runs dmg hostlist with a standard input.
func withInput(t *testing.T, dir, input string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"hostlist"}, args...)
	env := &cli.Env{
		Args: append([]string{currentName}, args...), Stdin: strings.NewReader(input), Stdout: &out, Stderr: &errs,
		LookupEnv: func(name string) (string, bool) { return dir, name == "HOME" }, Dir: dir,
	}
	exit := Run(t.Context(), env, currentName, args)
	return ran{exit, out.String(), errs.String()}
}

func TestHostlist(t *testing.T) {
	dir := t.TempDir()
	is.New(t).NoErr(os.WriteFile(filepath.Join(dir, "site.cfg"), []byte("io: oss[1-4]\nmeta: mds[1-2] oss1\n"), 0o644))
	for _, c := range []struct{ line, input, want string }{
		{"fold n1 n3 n2", "", "n[1-3]\n"},
		{"fold", "n1\nn2 n3 # x\n\nr[1-2]n1!r1n1\n", "n[1-3],r2n1\n"},
		{"fold -", "", "\n"},
		{"fold n[1-9] -x n[2-3] --exclude n5,n6 -i n[1-6] -X n[4,20]", "", "n[1,20]\n"},
		{"fold n[1-9] -i - -x n4", "n[3-5]", "n[3,5]\n"},
		{"expand n[1-2]x[08-09]", "", "n1x08 n1x09 n2x08 n2x09\n"},
		{`expand n[1-2] -S \n`, "", "n1\nn2\n"},
		{"expand n[1-2] --separator=,", "", "n1,n2\n"},
		{"count rack[1-1000]node[1-1000] rack1node1", "", "1000000\n"},
		{"count", "", "0\n"},
		{"split n[1-10] -n 3", "", "n[1-3]\nn[4-6]\nn[7-10]\n"},
		{"split n[1-2] -n 9", "", "n1\nn2\n"},
		{"contains n[1-9] n[2-3]", "", ""},
		{"diff n[1-3] n[2-4]", "", "-n1\n+n4\n"},
		{"diff n1 n1", "", ""},
		{"hl", "", ""},
		{"fold @io&@meta,z --groups site.cfg", "", "oss1,z\n"},
		{"fold @* --groups=site.cfg", "", "mds[1-2],oss[1-4]\n"},
		{"groups --groups site.cfg", "", "@io\n@meta\n"},
		{"groups --groups site.cfg -s site --of mds2", "", "@meta\n"},
		{"fold -j n[1-2]", "", "{\n  \"response\": {\n    \"hosts\": \"n[1-2]\",\n    \"count\": 2\n  },\n  \"error\": null,\n  \"status\": 0\n}\n"},
	} {
		t.Run(c.line, func(t *testing.T) {
			is := is.New(t)
			if c.line == "hl" {
				is.Equal(Run(t.Context(), &cli.Env{Args: []string{currentName}, Stdin: strings.NewReader(""), Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer),
					LookupEnv: func(string) (string, bool) { return "", false }, Dir: dir}, currentName, []string{"hl", "count", "n1"}), cli.OK)
				return
			}
			r := withInput(t, dir, c.input, strings.Fields(c.line)...)
			is.Equal(r.stderr, "")
			is.Equal(r.exit, cli.OK)
			is.Equal(r.stdout, c.want)
		})
	}
}

func TestHostlistJSON(t *testing.T) {
	is := is.New(t)
	for line, want := range map[string]string{
		"expand -j n[1-2]":          `{"hosts":["n1","n2"],"count":2}`,
		"expand -j n1 -x n1":        `{"hosts":[],"count":0}`,
		"count -j n[1-2]":           `{"count":2}`,
		"split -j n[1-2]":           `{"parts":["n1","n2"]}`,
		"diff -j n[1-3] n[2-4]":     `{"only_first":"n1","only_second":"n4","both":"n[2-3]"}`,
		"contains -j n[1-3] n[2-3]": `{"contains":true,"missing":""}`,
	} {
		r := withInput(t, t.TempDir(), "", strings.Fields(line)...)
		is.Equal(r.exit, cli.OK)
		is.True(strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(r.stdout, "\": ", "\":")), ""), `"response":`+want+`,`))
	}
}

func TestHostlistRefuses(t *testing.T) {
	is := is.New(t)
	for line, want := range map[string]string{
		"":                           "it needs one of the commands",
		"fold n[1":                   `[ without ]: "n[1"`,
		"fold n1 -x n[3-1]":          "range that ends before it starts",
		"fold n1 -l n2":              "unknown",
		"split n1 -n 0":              "into 0 lists",
		"contains n1":                "missing argument: PART",
		"diff a b c":                 "unexpected arguments: c",
		"fold n1 --groups absent":    "no such file",
		"fold @x --groups /dev/null": `cannot find group "x" in source null`,
		"contains n[1-3] n[2-5]":     "2 of 4 host(s) are missing: n[4-5]",
	} {
		r := withInput(t, t.TempDir(), "", strings.Fields(line)...)
		is.True(r.exit != cli.OK)
		if !strings.Contains(r.stderr, want) || r.stdout != "" {
			t.Errorf("%q: %q %q, want %q", line, r.stdout, r.stderr, want)
		}
	}
	is.Equal(withInput(t, t.TempDir(), "", "contains", "n1", "n2").exit, cli.Failed)
}
