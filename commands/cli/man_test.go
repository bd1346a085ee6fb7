package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
	"github.com/spf13/cobra"
)

// tryTool runs args on a small tree with a global flag, a group and a verb.
func tryTool(t *testing.T, args ...string) (exit Exit, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &Env{Args: append([]string{"tool"}, args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		LookupEnv: func(string) (string, bool) { return "", false }, Dir: t.TempDir()}
	tool := NewTool(env, "tool")
	root := NewRoot(tool, "a tool for tests")
	group := Group("pool", "pools")
	verb := &cobra.Command{Use: "create LABEL", Short: "make a pool", Aliases: []string{"c"}, Args: ExactArgs("LABEL"),
		Long: ".Make a pool with a \\ in it.\n\nSecond paragraph:\n  as it stands",
		RunE: func(*cobra.Command, []string) error { return nil }}
	verb.Flags().StringP("size", "z", "1GB", "how large; \"quoted\"")
	verb.Flags().Bool("secret", false, "not shown")
	_ = verb.Flags().MarkHidden("secret")
	group.AddCommand(verb)
	root.AddCommand(group)
	exit = Execute(context.Background(), tool, root, tool.Globals("d"), args)
	return exit, out.String(), errs.String()
}

func TestManual(t *testing.T) {
	is := is.New(t)
	exit, page, _ := tryTool(t, "manpage")
	is.Equal(exit, OK)
	for _, want := range []string{
		`.TH "TOOL" "8" "" "daosbox ` + Version + `" "DAOS control plane"`,
		`tool \- a tool for tests`,
		`.SS "pool create LABEL"`,
		"\n" + `\&.Make a pool with a \e in it.` + "\n.PP\n",
		".br\n  as it stands\n",
		"Also: c.\n",
		`\fB\-z\fR, \fB\-\-size\fR \fIstring\fR`,
		`how large; "quoted" (default: 1GB)`,
		`\fB\-j\fR, \fB\-\-json\fR`,
		`\fB8\fR` + "\nrefused by a safety check\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, hidden := range []string{"secret", "manpage", "completion", `allow\-proxy`} {
		if strings.Contains(page, hidden) {
			t.Errorf("the page shows %q", hidden)
		}
	}
	is.Equal(strings.Count(page, `\-\-json\fR`), 1) // global flags are told once
	if t.Failed() {
		t.Log(page)
	}
}

func TestManualToFile(t *testing.T) {
	is := is.New(t)
	path := filepath.Join(t.TempDir(), "tool.8")
	exit, out, _ := tryTool(t, "manpage", "--as", "daosbox tool", "-o", path)
	is.Equal(exit, OK)
	is.Equal(out, "")
	page, err := os.ReadFile(path)
	is.NoErr(err)
	is.True(strings.Contains(string(page), `daosbox\-tool \- a tool for tests`)) // the name of the page
	is.True(strings.Contains(string(page), `\fBdaosbox tool\fR [`))              // what users type

	exit, _, errs := tryTool(t, "manpage", "-o", filepath.Join(path, "below"))
	is.Equal(exit, Permission)
	is.True(strings.Contains(errs, "cannot write the manual page"))
}

func TestCompletion(t *testing.T) {
	is := is.New(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		exit, script, _ := tryTool(t, "completion", shell)
		is.Equal(exit, OK)
		is.True(strings.Contains(script, cobra.ShellCompRequestCmd)) // the script asks the tool
	}
	exit, _, errs := tryTool(t, "completion", "tcsh")
	is.Equal(exit, Usage)
	is.True(strings.Contains(errs, "bash, fish, zsh")) // says what there is

	exit, words, _ := tryTool(t, "__complete", "pool", "")
	is.Equal(exit, OK)
	is.Equal(words, "create\tmake a pool\n:4\n")
	_, words, _ = tryTool(t, "__completeNoDesc", "pool", "create", "--s")
	is.True(strings.HasPrefix(words, "--size\n")) // flags, hidden ones not
	is.True(!strings.Contains(words, "secret"))
}

func TestOwnVerbsStayOutOfSight(t *testing.T) {
	is := is.New(t)
	exit, help, _ := tryTool(t, "--help")
	is.Equal(exit, OK)
	is.True(strings.Contains(help, "pool"))
	for _, word := range []string{"manpage", "completion", "__complete", "__completeNoDesc"} {
		is.True(IsOwnVerb(word))
		is.True(!strings.Contains(help, word))
	}
	is.True(!IsOwnVerb("pool"))

	_, out, _ := tryTool(t, "manpage", "--json")
	var envelope struct {
		Response string `json:"response"`
		Status   int    `json:"status"`
	}
	is.NoErr(json.Unmarshal([]byte(out), &envelope))
	is.True(strings.HasPrefix(envelope.Response, `.\" `))
}
