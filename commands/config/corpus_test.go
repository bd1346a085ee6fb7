package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// verdict is what must come out of a file: the codes of its problems in the order
// of their positions, and the keys of its hints.
type verdict struct {
	codes []fault.Code
	hints []string
}

var (
	flatRAM  = []string{"scm_mount", "scm_class", "scm_size", "bdev_class", "bdev_list"}
	flatDCPM = []string{"scm_mount", "scm_class", "scm_list", "bdev_class", "bdev_list"}
)

func hintsOf(lists ...[]string) []string { return slices.Concat(lists...) }

// shippedFiles are the files of the releases as they are. The files for unit
// tests ask for less memory than an engine needs, the older ones also have no
// fabric port.
func shippedFiles() map[string]verdict {
	servers, points := []string{"servers"}, []string{"access_points"}
	local := hintsOf(flatRAM, []string{"bdev_size"})
	ok := verdict{}
	files := map[string]verdict{
		"0.6/examples/daos_server_psm2.yml":      {hints: hintsOf(servers, flatRAM)},
		"0.6/examples/daos_server_sockets.yml":   {hints: hintsOf(servers, flatRAM)},
		"0.6/examples/daos_server_unittests.yml": {[]fault.Code{codeBadConfig, codeRamdiskTooSmall}, hintsOf(servers, flatRAM)},

		"2.0.3/examples/daos_server_local.yml":     {hints: hintsOf(points, local)},
		"2.0.3/examples/daos_server_sockets.yml":   {hints: points},
		"2.0.3/examples/daos_server_verbs.yml":     {hints: points},
		"2.0.3/examples/daos_server_unittests.yml": {[]fault.Code{codeRamdiskTooSmall}, hintsOf(points, flatRAM)},

		"2.4.2/examples/daos_server_local.yml":     {hints: points},
		"2.4.2/examples/daos_server_mdonssd.yml":   {hints: points},
		"2.4.2/examples/daos_server_tcp.yml":       {hints: points},
		"2.4.2/examples/daos_server_ucx.yml":       {hints: points},
		"2.4.2/examples/daos_server_verbs.yml":     {hints: points},
		"2.4.2/examples/daos_server_unittests.yml": {hints: hintsOf(points, flatRAM, []string{"bdev_busid_range"})},

		"2.8.0/examples/daos_server_local.yml":   ok,
		"2.8.0/examples/daos_server_mdonssd.yml": ok,
		"2.8.0/examples/daos_server_tcp.yml":     ok,
		"2.8.0/examples/daos_server_ucx.yml":     ok,
		"2.8.0/examples/daos_server_verbs.yml":   ok,
	}
	for _, release := range []string{"0.9.4", "1.0.1"} {
		dir := release + "/examples/daos_server_"
		files[dir+"local.yml"] = verdict{hints: hintsOf(servers, points, local)}
		files[dir+"psm2.yml"] = verdict{hints: hintsOf(servers, points, flatDCPM)}
		files[dir+"sockets.yml"] = verdict{hints: hintsOf(servers, points, flatDCPM)}
		files[dir+"unittests.yml"] = verdict{[]fault.Code{codeBadConfig, codeRamdiskTooSmall}, hintsOf(servers, points, flatRAM)}
	}
	// The main files have all keys commented out and mean the built-in values.
	for _, release := range []string{"0.6", "0.9.4", "1.0.1", "2.0.3", "2.4.2", "2.8.0"} {
		control := "daos_control.yml"
		if release < "2" {
			control = "daos.yml"
		}
		for _, name := range []string{"daos_server.yml", "daos_agent.yml", control} {
			files[release+"/"+name] = ok
		}
	}
	return files
}

func TestShippedFiles(t *testing.T) {
	is := is.New(t)
	dir, want := corpusDir(t), shippedFiles()
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		is.NoErr(err)
		expect, ok := want[rel]
		if !ok {
			t.Errorf("%s has no verdict", rel)
			return nil
		}
		seen++
		t.Run(rel, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			compareVerdict(t, rel, data, expect)
		})
		return nil
	})
	is.NoErr(err)
	is.Equal(seen, len(want)) // every verdict has its file
}

// TestUncommentedFiles takes the comment signs off the keys of the main files, so
// that every key which a release documents is met with its documented value. The
// values contradict one another in places.
func TestUncommentedFiles(t *testing.T) {
	dir := corpusDir(t)
	// Several alternatives of the second engine's devices stand in the files.
	const twice = fault.Config
	for rel, want := range uncommentedFiles(twice) {
		t.Run(rel, func(t *testing.T) {
			is := is.New(t)
			data, err := os.ReadFile(filepath.Join(dir, rel))
			is.NoErr(err)
			compareVerdict(t, rel, uncomment(string(data)), want)
		})
	}
}

func uncommentedFiles(twice fault.Code) map[string]verdict {
	// The documented fault_path is deeper than allowed, and stands beside fault_cb.
	fault2 := []fault.Code{codeFaultBoth, codeFaultLayers}
	seed := []string{"access_points", "fabric_ifaces", "scm_mount_path", "bdev_include", "servers", "rank",
		"scm_mount", "scm_class", "scm_size", "scm_list", "bdev_class", "bdev_list", "bdev_number", "bdev_size"}
	pins := []string{"pinned_numa_node", "pinned_numa_node"}
	v1 := verdict{
		slices.Concat(fault2, []fault.Code{codeHelperMismatch, codeScmClassMismatch, twice, twice, twice, twice}),
		hintsOf(seed, pins),
	}
	shared := []string{"hostlist", "server_name"}
	return map[string]verdict{
		"0.6/daos_server.yml": {
			slices.Concat([]fault.Code{twice}, fault2, []fault.Code{codeHelperMismatch, fault.DuplicateFabricEndpoint,
				codeScmClassMismatch, twice, twice, twice, twice}),
			hintsOf(seed, []string{"user_name", "group_name"}),
		},
		"0.6/daos_agent.yml":     {[]fault.Code{twice}, shared},
		"0.6/daos.yml":           {[]fault.Code{twice}, []string{"access_points", "server_name", "runtime_dir", "log_file"}},
		"0.9.4/daos_server.yml":  v1,
		"0.9.4/daos_agent.yml":   {},
		"0.9.4/daos.yml":         {},
		"1.0.1/daos_server.yml":  v1,
		"1.0.1/daos_agent.yml":   {},
		"1.0.1/daos.yml":         {},
		"2.0.3/daos_agent.yml":   {},
		"2.0.3/daos_control.yml": {},
		"2.0.3/daos_server.yml": {
			slices.Concat(fault2, []fault.Code{codeScmClassMismatch, twice, twice, twice, twice}),
			hintsOf([]string{"access_points", "crt_ctx_share_addr", "bdev_include", "enable_vmd", "enable_hotplug",
				"firmware_helper_log_file", "rank"}, pins),
		},
		"2.4.2/daos_agent.yml":   {},
		"2.4.2/daos_control.yml": {},
		"2.4.2/daos_server.yml": {
			slices.Concat(fault2, []fault.Code{codeScmHugepageMismatch, twice, twice}),
			[]string{"access_points", "crt_ctx_share_addr", "enable_hotplug", "firmware_helper_log_file", "pinned_numa_node"},
		},
		// Two pairs of keys that exclude each other.
		"2.8.0/daos_agent.yml":   {codes: []fault.Code{codeBadConfig, codeBadConfig}},
		"2.8.0/daos_control.yml": {},
		"2.8.0/daos_server.yml": {
			slices.Concat(fault2, []fault.Code{twice, twice}),
			[]string{"firmware_helper_log_file", "pinned_numa_node"},
		},
	}
}

var commentedKey = regexp.MustCompile(`^#(  +)?(-( |$)|[a-z_0-9]+:( |$)|$)`)

func uncomment(text string) []byte {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if commentedKey.MatchString(line) {
			lines[i] = line[1:]
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

func compareVerdict(t *testing.T, rel string, data []byte, want verdict) {
	t.Helper()
	is := is.New(t)
	hints, err := check(rel, data)
	if got := codesOf(err); !slices.Equal(got, want.codes) {
		t.Errorf("codes are %v, want %v: %v", got, want.codes, err)
	}
	var keys []string
	for _, h := range hints {
		keys = append(keys, h.Key[strings.LastIndexByte(h.Key, '.')+1:])
		is.Equal(h.File, rel)
		is.True(h.Line > 0) // the hint has a place
	}
	slices.Sort(keys)
	expect := slices.Clone(want.hints)
	slices.Sort(expect)
	if !slices.Equal(keys, expect) {
		t.Errorf("hints are for %v, want %v", keys, expect)
	}
}

// check runs a text through the reader that its name asks for.
func check(name string, data []byte) ([]Hint, error) {
	switch base := filepath.Base(name); {
	case strings.HasPrefix(base, "daos_server"):
		_, hints, err := CheckServer(name, data, ServerOverrides{})
		return hints, err
	case strings.HasPrefix(base, "daos_agent"):
		_, hints, err := CheckAgent(name, data, AgentOverrides{})
		return hints, err
	default:
		_, hints, err := CheckControl(name, data, ControlOverrides{})
		return hints, err
	}
}

func codesOf(err error) []fault.Code {
	var codes []fault.Code
	for _, p := range Problems(err) {
		codes = append(codes, p.Code)
	}
	return codes
}

// corpusDir finds the configuration files of the releases beside the project.
func corpusDir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("the project's root is not found")
		}
		dir = filepath.Dir(dir)
	}
	dir = filepath.Join(filepath.Dir(dir), "shared", "corpus", "configs")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the files of the releases are not here: %v", err)
	}
	return dir
}
