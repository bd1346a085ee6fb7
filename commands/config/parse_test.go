package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

func TestUnknownKeys(t *testing.T) {
	for _, c := range []struct{ doc, place, key, hint string }{
		{"nmae: x\n", "1:1", "nmae", `did you mean "name"?`},
		{"port: 1\nproviders: x\n", "2:1", "providers", `did you mean "provider"?`},
		{"engines:\n- target: 1\n", "2:3", "engines[0].target", `did you mean "targets"?`},
		{"engines:\n- {}\n- storage:\n  - clas: ram\n", "4:5", "engines[1].storage[0].clas", `did you mean "class"?`},
		{"targets: 1\n", "1:1", "targets", "it belongs in engines[]"},
		{"engines:\n- bdev_roles: [wal]\n", "2:3", "engines[0].bdev_roles", "it belongs in engines[].storage[]"},
		{"transport_config:\n    port: 1\n", "2:5", "transport_config.port", "it belongs at the top level"},
		{"scm_mont: /m\n", "1:1", "scm_mont", `did you mean "scm_mount", which belongs in engines[].storage[]?`},
		{"completely_else: 1\n", "1:1", "completely_else", ""},
	} {
		t.Run(c.doc, func(t *testing.T) {
			is := is.New(t)
			_, _, err := ParseServer("f.yml", []byte(c.doc))
			list := Problems(err)
			is.Equal(len(list), 1)
			is.Equal(list[0].Code, fault.Config)
			is.Equal(list[0].Data["line"]+":"+list[0].Data["column"], c.place)
			is.Equal(list[0].Data["key"], c.key)
			is.Equal(list[0].Hint, c.hint)
			is.True(strings.HasPrefix(list[0].What, "cannot use f.yml:"+c.place+": "+c.key+": unknown key"))
		})
	}
}

func TestWrongTypes(t *testing.T) {
	for _, c := range []struct{ doc, place, what string }{
		{"port: ten\n", "1:7", "expected a whole number"},
		{"port: \"10001\"\n", "1:7", "expected a whole number"},
		{"port: 1.5\n", "1:7", "expected a whole number"},
		{"port: 99999999999999999999\n", "1:7", "expected a whole number"},
		{"port: [1]\n", "1:7", "found a list"},
		{"core_dump_filter: 256\n", "1:19", "from 0 to 255"},
		{"crt_timeout: -1\n", "1:14", "from 0 to 4294967295"},
		{"disable_vfio: maybe\n", "1:15", "expected true or false"},
		{"disable_vfio: \"true\"\n", "1:15", "expected true or false"},
		{"name: {a: b}\n", "1:7", "expected text, found a mapping"},
		{"mgmt_svc_replicas: h1\n", "1:20", "expected a list, found text"},
		{"mgmt_svc_replicas: [a, ~]\n", "1:24", "empty item"},
		{"transport_config: yes\n", "1:19", "expected a mapping"},
		{"engines: {a: b}\n", "1:10", "expected a list, found a mapping"},
		{"engines: [1]\n", "1:11", "expected a mapping"},
		{"control_log_mask: LOUD\n", "1:19", "not a known value"},
		{"engines: [{storage: [{class: rm}]}]\n", "1:30", "not a known value"},
		{"engines: [{storage: [{bdev_roles: [wall]}]}]\n", "1:36", "not a known value"},
		{"engines: [{storage: [{bdev_busid_range: 0x90-0x80}]}]\n", "1:41", "above its end"},
		{"engines: [{storage: [{bdev_busid_range: 0x90}]}]\n", "1:41", "no range"},
		{"? [a]\n: b\n", "1:3", "a key is a list"},
		{"- a\n", "1:1", "is a list"},
	} {
		t.Run(c.doc, func(t *testing.T) {
			is := is.New(t)
			_, _, err := ParseServer("f", []byte(c.doc))
			list := Problems(err)
			is.Equal(len(list), 1)
			is.Equal(list[0].Data["line"]+":"+list[0].Data["column"], c.place)
			is.True(strings.Contains(list[0].What, c.what)) // says what is wrong
		})
	}
	t.Run("acceleration", func(t *testing.T) {
		is := is.New(t)
		_, _, err := ParseServer("f", []byte("engines: [{acceleration: {engine: gpu, options: [mve]}}]"))
		is.Equal(codesOf(err), []fault.Code{codeAccelEngine, codeAccelOption})
	})
}

func TestAcceptedForms(t *testing.T) {
	is := is.New(t)
	s, _, err := ParseServer("f", []byte(`
control_log_mask: debug
core_dump_filter: 0x1F
disable_vfio: On
name: 4711
provider:
transport_config: &t
  allow_insecure: yes
engines:
-
- storage:
  -
  - {class: nvme, bdev_list: ["0000:da:00.0", "0000:81:00.0", "5d0505:01:00.0"], bdev_roles: [WAL, data, data, na]}
- &e {targets: 3, env_vars: [A=b]}
- {<<: *e, targets: 4}
`))
	is.NoErr(err)
	is.Equal(s.ControlLogMask, LevelDebug)
	is.Equal(s.CoreDumpFilter, uint8(0x1f))
	is.Equal(s.DisableVFIO, true)
	is.Equal(s.Name, "4711")
	is.Equal(s.Provider, "")
	is.Equal(s.Transport.AllowInsecure, true)
	is.Equal(len(s.Engines), 4)            // the empty engine counts
	is.Equal(len(s.Engines[1].Storage), 1) // the empty tier does not
	is.Equal(s.Engines[1].Storage[0].BdevList, []string{"0000:81:00.0", "0000:da:00.0", "5d0505:01:00.0"})
	is.Equal(s.Engines[1].Storage[0].BdevRoles, []Role{RoleData, RoleWAL})
	is.Equal(s.Engines[3].Targets, 4)
	is.Equal(s.Engines[3].EnvVars, []string{"A=b"})
}

func TestDuplicates(t *testing.T) {
	is := is.New(t)
	_, _, err := ParseServer("f", []byte("port: 1\nname: a\nport: 2\ntransport_config:\n  key: a\n  key: b\n"))
	list := Problems(err)
	is.Equal(len(list), 2)
	is.Equal(list[0].What, "cannot use f:3:1: port: the key is given twice (first in line 1)")
	is.Equal(list[1].What, "cannot use f:6:3: transport_config.key: the key is given twice (first in line 5)")
}

func TestTabs(t *testing.T) {
	for _, doc := range []string{
		"name: a\t# c\nport: 7\n", "name: a \t \t# c\nport: 7\n", "name: \"a\"\t# c\nport: 7\n", "\t# c\nname: a\nport: 7\n",
		"name: a\n\t# c\nport: 7\n", "engines:\n-\t# c\n  targets: 1\nname: a\nport: 7\n", "mgmt_svc_replicas: [a,\t# c\n  b]\nname: a\nport: 7\n",
		"name:\ta\nport: 7\t\n",
	} {
		t.Run(doc, func(t *testing.T) {
			is := is.New(t)
			s, _, err := ParseServer("f", []byte(doc))
			is.NoErr(err)
			is.Equal(s.Name, "a")
			is.Equal(s.Port, 7)
		})
	}
	t.Run("column", func(t *testing.T) {
		is := is.New(t)
		_, _, err := ParseServer("f", []byte("transport_config:\n  ca_cert: a\t# c\n  keyy:\tb\t# c\n"))
		is.Equal(Problems(err)[0].Data["line"]+":"+Problems(err)[0].Data["column"], "3:3")
	})
	t.Run("value keeps its tab", func(t *testing.T) {
		is := is.New(t)
		s, _, err := ParseServer("f", []byte("name: \"a\t# b\"\n"))
		is.NoErr(err)
		is.Equal(s.Name, "a\t# b")
	})
	t.Run("indentation", func(t *testing.T) {
		is := is.New(t)
		_, _, err := ParseServer("f", []byte("engines:\n- targets: 1\n\tfabric_iface: a\n"))
		is.Equal(Problems(err)[0].What, "cannot use f:3:1: a tab in the indentation")
	})
}

func TestDocumentLimits(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'h'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	for name, c := range map[string]struct{ doc, want string }{
		"large":     {strings.Repeat("# comment\n", 1<<17), "larger than"},
		"bomb":      {bomb, "too large when its aliases"},
		"self":      {"a: &a [*a]\n", "too deeply"},
		"deep":      {strings.Repeat("[", 200) + strings.Repeat("]", 200), "too deeply"},
		"documents": {"name: a\n---\nname: b\n", "more than one document"},
		"syntax":    {"name: [a\n", "did not find"},
		"first":     {"name: 'a\n", "found unexpected end of stream"},
		"alias":     {"name: *nobody\n", "unknown anchor"},
		"control":   {"name: a\x01\n", "control characters"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			_, _, err := CheckServer("f.yml", []byte(c.doc), ServerOverrides{})
			list := Problems(err)
			is.Equal(len(list), 1) // nothing is guessed about a document that cannot be read
			if !strings.Contains(list[0].What, c.want) {
				t.Error(list[0].What)
			}
		})
	}
}

func TestEmptyDocuments(t *testing.T) {
	is := is.New(t)
	for _, doc := range []string{"", "# nothing\n", "---\n", "~\n", "{}\n"} {
		_, _, err := CheckServer("f", []byte(doc), ServerOverrides{})
		is.NoErr(err)
		_, _, err = CheckAgent("f", []byte(doc), AgentOverrides{})
		is.NoErr(err)
		_, _, err = CheckControl("f", []byte(doc), ControlOverrides{})
		is.Equal(err != nil, doc == "") // only a control file must not be empty
	}
}

// Everything that is wrong is told at once, in the order of the file, and each
// mistake once.
func TestAllProblemsAtOnce(t *testing.T) {
	is := is.New(t)
	doc := `name: much_too_long_a_name
mgmt_svc_replicas: [a, b]
provder: ofi+tcp
port: x
engines:
- targets: 4
  fabric_iface: eth0
  fabric_iface_port: 31416
  storage:
  - {class: ram, scm_mount: /m, scm_size: 2}
- targets: 8
  fabric_iface: eth0
  fabric_iface_port: 31416
  log_mask: LOUD
  storage:
  - {class: rm, scm_mount: /m}
telemetry_port: -1
`
	s, _, err := CheckServer("f.yml", []byte(doc), ServerOverrides{})
	is.True(s == nil)
	want := `cannot use f.yml: 11 problems
  f.yml:1:7: name: the system name "much_too_long_a_name" has 20 bytes
    choose a name of 1 to 15 bytes
  f.yml:2:20: mgmt_svc_replicas: the number of replicas (2) is even
    an odd number survives as many failures with one replica less: add or remove one
  f.yml:3:1: provder: unknown key
    did you mean "provider"?
  f.yml:4:7: port: expected a whole number, found "x"
  f.yml:10:43: engines[0].storage[0].scm_size: 2 GiB are less than the 4 GiB an engine needs
    give 4 or more, or leave the key out for the automatic size
  f.yml:11:12: engines[1].targets: 8 targets, but engines[0] has 4
    give all engines the same number of targets
  f.yml:13:22: engines[1].fabric_iface_port: the fabric endpoint eth0 port 31416 is used by engines[0] already
    give each engine its own port
  f.yml:14:13: engines[1].log_mask: "LOUD" is no known log level
    known are DEBUG, DBUG, INFO, NOTE, WARN, ERROR, ERR, CRIT, ALRT, FATAL, EMRG, EMIT
  f.yml:16:13: engines[1].storage[0].class: "rm" is not a known value
    did you mean "ram"? Known are dcpm, ram, dir, nvme, file, kdev, malloc
  f.yml:16:28: engines[1].storage[0].scm_mount: the mount point /m is used by engines[0] already
    give each engine its own mount point
  f.yml:17:17: telemetry_port: -1 is no port
    use a port from 1 to 65535, or 0 for no telemetry`
	if err.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", err, want)
	}
	is.True(fault.Of(err) != fault.Unknown) // programs find a code in it
}

func FuzzParseServer(f *testing.F) {
	for _, doc := range []string{"", "engines:" + goodEngine + flatStorage, "a: &a [*a]", "servers: [{cpus: [0-3]}]", "<<: [{port: 1}]",
		"engines: [~, {storage: [~]}]", "name: |\n a\t# b\n", "? a\n: b", "transport_config: 1\ncert: x", "engines: {}\nscm_mount_path: 1"} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := CheckServer("f", data, ServerOverrides{})
		if (s == nil) != (err != nil) {
			t.Fatal("neither a configuration nor an error, or both")
		}
		if s == nil {
			return
		}
		text, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ParseServer("active", text); err != nil {
			t.Fatalf("the active configuration cannot be read: %v\n%s", err, text)
		}
		_ = s.Summary()
	})
}

func FuzzParseAgent(f *testing.F) {
	for _, doc := range []string{"", "access_points: [a-[1-3]]", "credential_config: {client_user_map: {default: {user: a}, 1: ~}}",
		"fabric_ifaces: [{devices: [~, {iface: a}]}]", "telemetry_retain: 1m", "systems: [{access_pts: [a]}]"} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, _, err := CheckAgent("f", data, AgentOverrides{}); err == nil {
			_ = a.Summary()
		}
	})
}

func FuzzParseControl(f *testing.F) {
	for _, doc := range []string{"", "hostlist: [a-[1-3]:1]", "systems: [{}]", "port: 0x10\nname: yes"} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, _, err := CheckControl("f", data, ControlOverrides{}); err == nil {
			_ = c.Summary()
		}
	})
}

// The largest documents that the limits let through are read in bounded time.
func TestLargeDocuments(t *testing.T) {
	many := func(line string) string {
		var b strings.Builder
		for i := range maxNodes/2 - 10 {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	for name, doc := range map[string]string{
		"keys":    many("key%d: x\n"),
		"engines": "servers:\n" + strings.Repeat("- {rank: 1}\n", maxNodes/4),
		"exclude": "engines: [~]\nbdev_exclude:\n" + many("- 0000:%06x\n"),
		"hosts":   "mgmt_svc_replicas:\n" + many("- h%d\n"),
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			start := time.Now()
			_, _, err := CheckServer("f", []byte(doc), ServerOverrides{})
			is.True(err != nil)
			is.True(len(Problems(err)) <= maxProblems)
			is.True(time.Since(start) < 10*time.Second) // takes well below a second alone
		})
	}
	is := is.New(t)
	_, _, err := CheckAgent("f", []byte("access_points:\n"+strings.Repeat("- a[1-16000],b[1-16000]\n- c[1-16000],d[1-16000]\n", 5)+
		"- e[1-16000],f[1-16000],g[1-16000],h[1-16000],i[1-16000]\n"), AgentOverrides{})
	is.Equal(len(Problems(err)), 1)
}
