package config

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"daosbox/cluster/fault"
)

// EtcDir is searched after the configuration directory of the build.
const EtcDir = "/etc/daos"

// oldControlFile is the name up to 1.0.
const oldControlFile = "daos.yml"

// FindServer returns the file daos_server uses: explicit when given, else the
// first that exists in confDir and EtcDir. The error names all places.
func FindServer(explicit, confDir string) (string, error) {
	return find(serverFile, explicit, "", confDir)
}

// FindAgent is FindServer for daos_agent.
func FindAgent(explicit, confDir string) (string, error) {
	return find(agentFile, explicit, "", confDir)
}

// FindControl is FindServer for dmg, which looks for HOME/.daos_control.yml first
// and, without any file, uses built-in values: the path is then "".
func FindControl(explicit, home, confDir string) (string, error) {
	path, err := find(controlFile, explicit, home, confDir)
	if fault.Of(err) == codeNoPath {
		return "", nil
	}
	return path, err
}

func find(f file, explicit, home, confDir string) (string, error) {
	if explicit != "" {
		return filepath.Abs(explicit)
	}
	var searched []string
	if home != "" {
		searched = append(searched, filepath.Join(home, "."+string(f)))
	}
	dirs := slices.Compact([]string{cmp.Or(confDir, EtcDir), EtcDir})
	names := []string{string(f)}
	if f == controlFile {
		names = append(names, oldControlFile)
	}
	for _, name := range names { // a new name anywhere wins over the old one
		for _, dir := range dirs {
			searched = append(searched, filepath.Join(dir, name))
		}
	}
	for _, path := range searched {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fault.Wrap(fault.Config, err, "cannot look for %s", f)
		}
	}
	return "", fault.New(codeNoPath, "cannot find %s: none of %s exists", f, strings.Join(searched, ", ")).
		WithHint("write one of these files, or name another with -o")
}

// read returns the contents of a file of bounded size.
func read(path string) ([]byte, error) {
	if path == "" {
		return nil, fault.New(codeNoPath, "cannot read the configuration: no path is given").WithHint("name the file with -o")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot read the configuration").
			WithHint("check that the file exists and that this user may read it")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot read the configuration").WithHint("name a file with -o")
	}
	return data, nil
}

// parse runs the first three steps and returns what was found.
func parse(f file, name string, data []byte, into any) (source, *problems) {
	p := &problems{file: name}
	root := parseTree(p, data)
	applyLegacy(p, f, root)
	return decode(p, root, into), p
}

// ParseServer decodes the text of a daos_server.yml; name is used in messages.
// Defaults that depend on other keys are not set yet (see Resolve).
func ParseServer(name string, data []byte) (*Server, []Hint, error) {
	s, p := parseServer(name, data)
	return s, p.hints, p.err()
}

func parseServer(name string, data []byte) (*Server, *problems) {
	s := NewServer()
	at, p := parse(serverFile, name, data, s)
	s.source = at
	s.normalize()
	return s, p
}

// ParseAgent is ParseServer for daos_agent.yml.
func ParseAgent(name string, data []byte) (*Agent, []Hint, error) {
	a, p := parseAgent(name, data)
	return a, p.hints, p.err()
}

func parseAgent(name string, data []byte) (*Agent, *problems) {
	a := NewAgent()
	at, p := parse(agentFile, name, data, a)
	a.source = at
	return a, p
}

// ParseControl is ParseServer for daos_control.yml. A file without a single
// character is an error; one with only comments means the built-in values.
func ParseControl(name string, data []byte) (*Control, []Hint, error) {
	c, p := parseControl(name, data)
	return c, p.hints, p.err()
}

func parseControl(name string, data []byte) (*Control, *problems) {
	c := NewControl()
	at, p := parse(controlFile, name, data, c)
	if len(bytes.TrimSpace(data)) == 0 {
		p.add(Position{}, fault.Config, "", "remove the file to use the built-in values", "the file is empty")
	}
	c.source = at
	return c, p
}

// LoadServer reads and decodes a daos_server.yml. The hints are for stderr.
func LoadServer(path string) (*Server, []Hint, error) {
	data, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	return ParseServer(path, data)
}

// LoadAgent reads and decodes a daos_agent.yml.
func LoadAgent(path string) (*Agent, []Hint, error) {
	data, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	return ParseAgent(path, data)
}

// LoadControl reads and decodes a daos_control.yml or daos.yml; an empty path
// means the built-in values.
func LoadControl(path string) (*Control, []Hint, error) {
	if path == "" {
		return NewControl(), nil, nil
	}
	data, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	return ParseControl(path, data)
}
