package commands

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// module is the path that our own imports begin with.
const module = "daosbox"

// layer says which of our packages a package may import. "x/..." is x and all
// below it.
type layer struct {
	pkg string
	may []string
	why string
}

// layers has a row for every package; a new package is a decision to be made here.
func layers() []layer {
	floor := []string{"cluster/fault", "cluster/hostlist"}
	on := func(more ...string) []string { return append(slices.Clone(floor), more...) }
	return []layer{
		{"", []string{"commands", "commands/cli"}, "main only hands the process over"},

		{"cluster", on(), "the database knows ranks and pools, not how bytes, engines or disks carry them"},
		{"cluster/fault", nil, "everything may use it, so it can use nothing"},
		{"cluster/hostlist", []string{"cluster/fault"}, "the floor, with fault"},
		{"cluster/pki", on(), "certificates do not depend on what is said through them"},
		{"cluster/wire", on(), "knows bytes and names: cluster, storage and engines travel over it"},

		{"engine", on("engine/drpc"), "supervises a process; how its storage and its rank came about is the owner's"},
		{"engine/drpc", on("engine/drpc/pb"), "the only place that knows what engines and clients speak"},
		{"engine/drpc/drpctest", nil, "an independent peer shares no code with what it checks"},
		{"engine/drpc/pb", nil, "generated messages"},
		{"engine/emulator", on("engine/drpc/..."), "behaves as a foreign process: it must not share the supervisor's ideas"},

		{"nativebind/...", nil, "thin bindings without policy"},
		{"storage/...", on("storage/...", "nativebind/..."), "devices know no ranks and no engines: plain data goes across in commands/server"},

		{"commands", []string{"cluster/fault", "commands/...", "engine/emulator"}, "the table of personalities"},
		{"commands/cli", on(), "the floor of all personalities"},
		{"commands/config", on(), "files are read and checked before anything is started for them"},
		{"commands/control", on("cluster/...", "storage/...", "commands/fabric"), "one type is message, JSON and domain; there is no way to an engine from here"},
		{"commands/fabric", on("commands/cli"), "what server, agent and dmg say about interfaces"},
		{"commands/layout", on("storage", "commands/config"), "what a configuration means as storage, for server and helper alike"},

		{"commands/agent", on("cluster/...", "engine/drpc/...", "commands/cli", "commands/config", "commands/control", "commands/fabric"), "runs where no storage and no engine is"},
		{"commands/certs", on("cluster/pki", "commands/cli"), "needs no system to make certificates for"},
		{"commands/dmg", on("cluster/...", "storage/...", "engine/drpc/...", "commands/cli", "commands/config", "commands/control", "commands/fabric"), "a client: it starts nothing; of drpc it has the names of properties"},
		{"commands/helper", on("storage/...", "commands/cli", "commands/config", "commands/layout"), "root's power stays small: no network, no engines"},
		{"commands/sandbox", on("cluster/...", "storage/...", "engine/drpc/...", "commands/cli", "commands/config", "commands/control"), "uses what an administrator has: files, processes, the control API"},
		{"commands/server", on("cluster/...", "engine/...", "storage/...", "commands/cli", "commands/config", "commands/control", "commands/fabric", "commands/helper", "commands/layout"), "here cluster, engine and storage meet"},
		{"commands/wire", on("cluster/wire", "commands/cli"), "shows what goes over the network, and says nothing itself"},
	}
}

// confined says where a foreign module may be imported.
type confined struct {
	module string
	to     []string
	why    string
}

func confinements() []confined {
	talkers := []string{"engine/...", "commands/server", "commands/agent"}
	return []confined{
		{"github.com/spf13/cobra", []string{"commands/..."}, "only commands have a command line"},
		{"github.com/spf13/pflag", []string{"commands/..."}, "only commands have a command line"},
		{"google.golang.org/protobuf", talkers, "protobuf is what engines and clients speak, nobody else"},
		{module + "/engine/drpc/pb", append(talkers, "commands/sandbox", "commands/dmg"), "as protobuf; the sandbox plays a client, dmg spells properties as the engine's table does"},
		{"gopkg.in/yaml.v3", []string{"cluster/hostlist", "commands/config", "storage/..."}, "where configuration files, groups of hosts and superblocks are read"},
		{"github.com/hashicorp/raft", []string{"cluster"}, "the owner of the database is the only one to know how it is replicated"},
		{"github.com/hashicorp/raft-wal", []string{"cluster"}, "as raft"},
		{"github.com/fxamacker/cbor", []string{"cluster/...", "commands/control", "commands/helper"}, "where bodies are encoded"},
		{"github.com/rogpeppe/go-internal", nil, "tests only"},
		{"github.com/matryer/is", nil, "tests only"},
		{"go.uber.org/goleak", nil, "tests only"},
	}
}

// matches reports whether pkg is pattern, or below it where it ends with "/...".
func matches(pattern, pkg string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == root || strings.HasPrefix(pkg, root+"/")
	}
	return pkg == pattern
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, pkg) })
}

// source is one Go file that is no test.
type source struct {
	name      string // relative to the module's root
	pkg       string // relative to the module, "" for main
	file      *ast.File
	imports   []string
	lines     int
	generated bool
}

// sources parses the whole module.
func sources(t *testing.T) []source {
	t.Helper()
	is := is.New(t)
	const root = ".."
	var all []source
	is.NoErr(filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != root && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".")) {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		s, err := parse(root, name)
		all = append(all, s)
		return err
	}))
	is.True(len(all) > 100) // the walk has seen the module
	return all
}

func parse(root, name string) (source, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return source{}, err
	}
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return source{}, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), rel, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{name: rel, pkg: strings.TrimPrefix(path.Dir(filepath.ToSlash(rel)), "."), file: file,
		lines: bytes.Count(data, []byte("\n")), generated: ast.IsGenerated(file)}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports = append(s.imports, imported)
	}
	return s, nil
}

// own is the path of one of our packages relative to the module.
func own(imported string) (string, bool) {
	if imported == module {
		return "", true
	}
	return strings.CutPrefix(imported, module+"/")
}

func TestArrows(t *testing.T) {
	rows := layers()
	for _, s := range sources(t) {
		i := slices.IndexFunc(rows, func(l layer) bool { return matches(l.pkg, s.pkg) })
		if i < 0 {
			t.Errorf("%s: package %s has no row: who may it import, and why?", s.name, s.pkg)
			continue
		}
		for _, imported := range s.imports {
			if pkg, ok := own(imported); ok && !matchesAny(rows[i].may, pkg) {
				t.Errorf("%s imports %s: %s", s.name, pkg, rows[i].why)
			}
		}
	}
}

func TestForeignModules(t *testing.T) {
	for _, s := range sources(t) {
		for _, c := range confinements() {
			for _, imported := range s.imports {
				if matches(c.module+"/...", imported) && !matchesAny(c.to, s.pkg) {
					t.Errorf("%s imports %s: %s", s.name, imported, c.why)
				}
			}
		}
	}
}

func TestShippedCodeDoesNotTest(t *testing.T) {
	imports := make(map[string][]string)
	for _, s := range sources(t) {
		imports[s.pkg] = append(imports[s.pkg], s.imports...)
	}
	seen := map[string]bool{"": true}
	for next := []string{""}; len(next) > 0; next = next[1:] {
		for _, imported := range imports[next[0]] {
			if imported == "testing" || strings.HasPrefix(imported, "testing/") {
				t.Errorf("package %s ships and imports %s", next[0], imported)
			}
			if pkg, ok := own(imported); ok && !seen[pkg] {
				seen[pkg] = true
				next = append(next, pkg)
			}
		}
	}
	for pkg := range imports {
		if !seen[pkg] && !strings.HasSuffix(pkg, "test") {
			t.Errorf("package %s is part of no personality: is it needed?", pkg)
		}
	}
}

func TestPackageComments(t *testing.T) {
	comments := make(map[string]int)
	for _, s := range sources(t) {
		comments[s.pkg] += 0
		if s.file.Doc != nil && !s.generated {
			comments[s.pkg]++
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(comments)) {
		if comments[pkg] != 1 {
			t.Errorf("package %q has %d package comments: one is for a reader with five minutes", pkg, comments[pkg])
		}
	}
}

// processState are the names of package os that only main may use: what a command
// uses, it is given in its Env.
var processState = []string{"Args", "Environ", "Executable", "Exit", "ExpandEnv", "Getenv", "Getwd", "LookupEnv", "Stderr", "Stdin", "Stdout"}

func TestProcessBelongsToMain(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg == "" || s.generated {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s has an init function: it would cost every start of every personality", s.name)
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && forbidden(x.Name, n.Sel.Name) {
					t.Errorf("%s uses %s.%s: only main looks at the process", s.name, x.Name, n.Sel.Name)
				}
			}
			return true
		})
	}
}

func forbidden(pkg, name string) bool {
	switch pkg {
	case "os":
		return slices.Contains(processState, name)
	case "log":
		return strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Panic")
	case "syscall", "unix":
		return name == "Exit" || name == "Getenv" || name == "Environ"
	}
	return false
}

func TestFilesHaveOneSubject(t *testing.T) {
	const most = 600
	for _, s := range sources(t) {
		if s.lines > most && !s.generated {
			t.Errorf("%s has %d lines: is there a second subject in it?", s.name, s.lines)
		}
	}
}

// TestRulesBite keeps the tests above from passing because they see nothing.
func TestRulesBite(t *testing.T) {
	is := is.New(t)
	is.True(matches("cluster/...", "cluster"))
	is.True(matches("cluster/...", "cluster/wire"))
	is.True(!matches("cluster/...", "clusters"))
	is.True(!matches("cluster", "cluster/wire"))
	is.True(forbidden("os", "Getenv"))
	is.True(!forbidden("os", "Open"))
	why := make(map[string]bool)
	for _, l := range layers() {
		is.True(l.why != "")
		is.True(!why["layer "+l.pkg]) // one row for each package
		why["layer "+l.pkg] = true
	}
	s, err := parse("..", "../main.go")
	is.NoErr(err)
	is.Equal(s.pkg, "")
	is.True(slices.Contains(s.imports, module+"/commands"))
	is.True(s.lines > 10)
	is.Equal(fmt.Sprint(s.file.Name), "main")
}
