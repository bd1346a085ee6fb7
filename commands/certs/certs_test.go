package certs_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/pki"
	"daosbox/commands/certs"
	"daosbox/commands/cli"

	"github.com/matryer/is"
)

// run runs a verb in dir as a user would.
func run(t *testing.T, dir string, args ...string) (exit cli.Exit, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &cli.Env{
		Args: append([]string{"daosbox", "certs"}, args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		LookupEnv: func(string) (string, bool) { return "", false }, Dir: dir,
	}
	exit = certs.Run(t.Context(), env, "certs", args)
	return exit, out.String(), errs.String()
}

type envelope struct {
	Response struct {
		Dir          string
		Cert, Client string
		NotAfter     time.Time `json:"not_after"`
		Certificates []pki.CertStatus
	}
	Error  *string
	Status int
}

func decode(t *testing.T, text string) (e envelope) {
	t.Helper()
	is.New(t).NoErr(json.Unmarshal([]byte(text), &e))
	return e
}

func TestInitIssueStatus(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	exit, out, errs := run(t, dir, "init", "--dir", "d")
	is.Equal(exit, cli.OK)
	is.Equal(errs, "")
	is.True(strings.Contains(out, filepath.Join(dir, "d"))) // relative to the working directory
	info, err := os.Stat(filepath.Join(dir, "d", "server.key"))
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), os.FileMode(0o400))

	exit, out, errs = run(t, dir, "init", "--dir", "d")
	is.Equal(exit, cli.Failed)
	is.Equal(out, "")
	is.True(strings.Contains(errs, "ERROR: certs: cannot make a CA"))
	is.True(strings.Contains(errs, "HINT: certs: issue more"))

	exit, out, errs = run(t, dir, "status", "--dir", "d")
	is.Equal(exit, cli.OK)
	is.Equal(errs, "")
	is.True(strings.Contains(out, "daosCA.crt "))
	is.True(strings.Contains(out, "DAOS CA "))
	is.True(strings.Contains(out, "clients/agent.crt "))
	is.True(strings.Contains(out, "ECDSA P-256 "))

	exit, out, _ = run(t, dir, "issue", "--dir", "d", "--role", "agent", "--days", "7", "--out", "e", "-j")
	is.Equal(exit, cli.OK)
	e := decode(t, out)
	is.Equal(e.Response.Cert, filepath.Join(dir, "e", "agent.crt"))
	is.Equal(e.Response.Client, filepath.Join(dir, "e", "clients", "agent.crt"))
	is.True(time.Until(e.Response.NotAfter) > 6*24*time.Hour)

	exit, out, errs = run(t, dir, "status", "--dir", "e")
	is.Equal(exit, cli.OK) // it still works, with a warning
	is.True(strings.Contains(out, "warn"))
	is.True(strings.Contains(errs, "NOTICE: certs: "))
	is.True(strings.Contains(errs, "agent.crt: certificate of agent (CN agent, serial "))
	_, _, errs = run(t, dir, "status", "--dir", "e", "--warn-days", "3")
	is.Equal(errs, "")

	exit, _, errs = run(t, dir, "issue", "--dir", "d", "--role", "agent", "--days", "5000", "--force")
	is.Equal(exit, cli.OK)
	is.True(strings.Contains(errs, "ends with the authority's"))
}

func TestStatusOfExpired(t *testing.T) {
	is := is.New(t)
	dir := filepath.Join(t.TempDir(), "d")
	is.NoErr(pki.Init(dir, pki.InitOptions{}))
	_, err := pki.Issue(dir, pki.Server, pki.IssueOptions{Force: true, Days: 1, Start: time.Now().AddDate(0, 0, -5)})
	is.NoErr(err)
	exit, out, errs := run(t, dir, "--json", "status", "--dir", dir)
	is.Equal(exit, cli.Failed)
	e := decode(t, out)
	is.Equal(*e.Error, "1 of 6 certificates cannot be used")
	is.Equal(len(e.Response.Certificates), 6) // the answer comes with the error
	is.Equal(e.Response.Certificates[1].State, pki.StateExpired)
	is.Equal(e.Response.Certificates[1].DaysLeft, -5)
	is.True(strings.Contains(errs, "server.crt: certificate of server (CN server, serial "))
	is.True(strings.Contains(errs, "(4 days ago)"))
	exit, _, _ = run(t, dir, "status", "--dir", filepath.Join(dir, "agent.crt"))
	is.Equal(exit, cli.OK)
}

func TestWrongUse(t *testing.T) {
	for _, c := range []struct {
		args []string
		exit cli.Exit
		want string
	}{
		{nil, cli.Usage, "init, issue, status"},
		{[]string{"make"}, cli.Usage, `unknown command "make"`},
		{[]string{"init"}, cli.Usage, "missing flag: --dir"},
		{[]string{"init", "--dir", "x", "y"}, cli.Usage, "unexpected arguments: y"},
		{[]string{"init", "--dir", "x", "--days", "0"}, cli.Usage, "for 0 days"},
		{[]string{"init", "--dir", "x", "--days", "99999"}, cli.Usage, "1 to 36500"},
		{[]string{"issue", "--dir", "x", "--role", "root"}, cli.Usage, `role "root"`},
		{[]string{"issue", "--dir", "x"}, cli.Usage, "say which with --role"},
		{[]string{"issue", "--dir", "x", "--role", "agent"}, cli.Failed, "x does not exist"},
		{[]string{"status", "--dir", "x"}, cli.Failed, "x does not exist"},
		{[]string{"status", "--dir", "x", "--warn-days", "-1"}, cli.Usage, "-1 days"},
		{[]string{"status", "--dir", ""}, cli.Usage, "missing flag: --dir"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			is := is.New(t)
			exit, out, errs := run(t, t.TempDir(), c.args...)
			t.Log(errs)
			is.Equal(exit, c.exit)
			is.Equal(out, "")
			is.True(strings.Contains(errs, c.want))
		})
	}
}
