package dmg

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/matryer/is"
)

// TestHostErrors: hosts with the same trouble stand together, and so does the
// advice for them.
func TestHostErrors(t *testing.T) {
	is := is.New(t)
	e := newHostErrors()
	dead := func(host, bare string) {
		e.add(host, fault.New(fault.Unreachable, "cannot reach host %s: connection refused", host).WithHint("is daos_server running on %s?", bare))
	}
	dead("d1:10001", "d1")
	dead("d2:10001", "d2")
	e.add("os:10001", fault.New(fault.Certificate, "host os:10001: cannot trust the peer: daos-os and os of hosts").WithHint("see os. daos stays"))
	e.add("d3:99999", fault.New(fault.Usage, `cannot use address "d3:99999": invalid port`))
	is.Equal(len(e.hosts), 3)
	is.Equal(e.hosts["cannot reach host: connection refused"].String(), "d[1-2]:10001")
	is.Equal(e.hosts["cannot trust the peer: daos-os and os of hosts"].String(), "os:10001")
	is.True(e.hosts[`cannot use address "d3:99999": invalid port`] != nil) // whose name is wrong
	err := e.err(5)
	is.Equal(fault.Of(err), fault.Partial)
	is.Equal(fault.HintOf(err), "is daos_server running on d[1-2]? see os. daos stays")
	is.Equal(fault.Of(e.err(4)), fault.Unknown) // no reason in common
	is.Equal(fault.HintOf(newHostErrors().err(1)), "")
	is.Equal(replaceName("a ab a. b-a a", "a", "X"), "X ab X. b-a X")
	is.Equal(replaceName("a.b a", "", "X"), "a.b a")
}

// TestCause: refusals of different kinds are refusals.
func TestCause(t *testing.T) {
	is := is.New(t)
	for _, c := range []struct {
		codes []fault.Code
		exit  cli.Exit
	}{
		{[]fault.Code{fault.AlreadyFormatted, fault.Refused}, cli.Refused},
		{[]fault.Code{fault.Unreachable, fault.Timeout}, cli.Unreachable},
		{[]fault.Code{fault.Permission, fault.Certificate}, cli.Permission},
		{[]fault.Code{fault.Permission, fault.Unreachable}, cli.Failed},
		{[]fault.Code{fault.Engine}, cli.Failed},
	} {
		e := newHostErrors()
		for i, code := range c.codes {
			e.add(string(rune('a'+i)), fault.New(code, "no"))
		}
		is.Equal(cli.ExitOf(e.err(len(c.codes))), c.exit)
		is.Equal(cli.ExitOf(e.err(len(c.codes)+1)), cli.Partial)
	}
}

// TestFormatOfFormatted: what is formatted already is refused, which has an exit
// status of its own; a host that formatted some of it failed partly.
func TestFormatOfFormatted(t *testing.T) {
	is := is.New(t)
	s := newSite(t, false, 3, 3, func(i int, m *control.Mux) {
		control.Handle(m, control.StorageFormat, func(context.Context, control.Caller, *control.StorageFormatReq, control.Report) (control.StorageFormatResp, error) {
			refused := fault.New(fault.AlreadyFormatted, "cannot format engine 0: /mnt/daos/superblock exists").WithHint("repeat with --force")
			info := refused.Error() + "; " + refused.Hint
			resp := control.StorageFormatResp{Failed: 1, Faults: []*fault.Error{refused}, Storage: storage.HostStorage{SCMMountPoints: []storage.MountPoint{{Path: "/mnt/daos", Info: info}}}}
			if i == 3 {
				resp.Storage.SCMMountPoints = append(resp.Storage.SCMMountPoints, storage.MountPoint{Path: "/mnt/daos1", Info: success})
			}
			return resp, nil
		})
	})
	r := s.run("storage", "format", "-l", s.list(1, 2))
	is.Equal(r.exit, cli.Refused)
	is.True(strings.Contains(r.stdout, "127.0.7.[1-2] cannot format engine 0: /mnt/daos/superblock exists \n"))
	is.True(strings.Contains(r.stderr, "HINT: dmg: repeat with --force\n"))
	is.Equal(s.run("storage", "format", "-l", s.list(3)).exit, cli.Partial)
	response, text, _ := s.run("storage", "format", "-l", s.list(1), "-j").body(t)
	is.Equal(text, "1 host(s) had errors")
	is.Equal(len(response["HostStorage"].(map[string]any)), 1) // what each device says stays
}

// TestWaitIsTold: who waits long for the management service is told so once.
func TestWaitIsTold(t *testing.T) {
	is := is.New(t)
	var errs bytes.Buffer
	a := newApp(cli.NewTool(&cli.Env{Stderr: &errs}, currentName))
	a.wait(time.Second, errors.New("nobody leads"))
	is.Equal(errs.String(), "")
	a.wait(patience, errors.New("nobody leads"))
	a.wait(time.Hour, errors.New("nobody leads"))
	is.Equal(errs.String(), "NOTICE: dmg: no answer yet, asking on (--timeout sets for how long): nobody leads\n")
}

// TestErrorsGuide: each error names what is wrong, and the next step.
func TestErrorsGuide(t *testing.T) {
	s := startPools(t, newFakePools(), false)
	if err := os.WriteFile(filepath.Join(s.dir, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"sytem query":                        `unknown command "sytem" for "dmg"|did you mean ` + "`dmg system`?",
		"storage scn":                        `unknown command "scn" for "dmg storage"|did you mean ` + "`dmg storage scan`?",
		"pool creat x":                       `unknown command "creat"|did you mean ` + "`dmg pool create`?",
		"pool create x -z 120%":              `"120%"|such as 50%`,
		"pool create x -z 1G -a missing":     "cannot read access control list|missing: no such file or directory|pool get-acl POOL -O FILE",
		"pool set-prop blue reclaim:batch":   `reclaim: "batch" is not allowed|use one of disabled, lazy, time`,
		"pool set-prop blue reclaim:never":   `reclaim: "never" is not allowed|use one of disabled, lazy, time`,
		"pool set-prop blue svc_list:1":      "svc_list: it is read-only|get-prop",
		"pool set-prop blue label:a,label:b": "label twice|one value",
		"pool get-prop blue label,label":     "label twice|once",
		"pool get-acl blue -O no/file":       "/no/file: no such file or directory|the directory",
		"pool get-acl blue -O there":         "there: it exists|--force",
		"pool update-acl blue":               "either --acl-file or --entry|--entry A::zoe@:rw",
		"pool delete-acl blue -p u:@":        `"u:@"|u:zoe@`,
		"storage query usage --mem-ratio 5":  "without --show-usable|add --show-usable",
		"storage query list-devices -u x":    `--uuid="x"|leave the flag out`,
		"storage scan -l 127.0.0.1:99999":    `"127.0.0.1:99999": invalid port|host:port`,
	} {
		t.Run(line, func(t *testing.T) {
			is := is.New(t)
			exit, out, errs := s.run(t, strings.Fields(line)...)
			is.True(exit != cli.OK)
			for _, part := range strings.Split(want, "|") {
				if !strings.Contains(out+errs, part) {
					t.Errorf("no %q in\n%s%s", part, out, errs)
				}
			}
			is.True(strings.Contains(errs, "HINT: dmg: "))
		})
	}
}

// TestDeleteOfNoEntry names whose entry is not there.
func TestDeleteOfNoEntry(t *testing.T) {
	is := is.New(t)
	f := newFakePools()
	f.fail["pool.delete-acl"] = fault.New(fault.Engine, "cannot change the access control list: DER_NONEXIST(-1005): not there").WithStatus(-1005)
	s := startPools(t, f, false)
	exit, _, errs := s.run(t, "pool", "delete-acl", "blue", "-p", "u:zoe")
	is.Equal(exit, cli.Failed)
	is.Equal(errs, "ERROR: dmg: pool delete-acl failed: pool \"blue\" has no entry for u:zoe@\nHINT: dmg: see the entries with `dmg pool get-acl blue`\n")
}
