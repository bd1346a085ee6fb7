package hostlist

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"daosbox/cluster/fault"

	"gopkg.in/yaml.v3"
)

// maxGroupFile is the largest file of groups.
const maxGroupFile = 16 << 20

// LoadGroups reads the groups of a file. Its name says what it is: "*.conf" is a
// groups.conf of ClusterShell with its sections, confdir and autodir; "*.yaml" and
// "*.yml" are sources of groups; anything else has lines "name: host list" and is
// one source named like the file. A file that names commands must belong to the
// user or to root and be writable by nobody else.
func LoadGroups(path string) (*Groups, error) {
	g := &Groups{sources: make(map[string]*source)}
	var err error
	switch ext := filepath.Ext(path); ext {
	case ".conf":
		err = g.loadConf(path)
	case ".yaml", ".yml":
		err = g.loadFile(path, parseYAML)
	default:
		name := strings.TrimSuffix(filepath.Base(path), ext)
		err = g.loadFile(path, func(data []byte) ([]*source, error) {
			groups, err := parseLines(data)
			return []*source{{name: name, groups: groups}}, err
		})
	}
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot read groups from %s", path)
	}
	return g, nil
}

func (g *Groups) loadFile(path string, parse func([]byte) ([]*source, error)) error {
	data, err := readGroupFile(path, false)
	if err != nil {
		return err
	}
	sources, err := parse(data)
	if err != nil {
		return err
	}
	return g.adopt(sources)
}

// adopt adds sources; the first of all is the standard one until a file names it.
func (g *Groups) adopt(sources []*source) error {
	for _, s := range sources {
		if why := badGroup(s.name); why != "" {
			return fault.New(fault.Config, "source %q: %s", short(s.name), why)
		}
		if g.sources[s.name] != nil {
			return fault.New(fault.Config, "source %s is there twice", s.name)
		}
		g.sources[s.name] = s
		if g.standard == "" {
			g.standard = s.name
		}
	}
	return nil
}

// readGroupFile reads a file of bounded size; trusted ones run commands.
func readGroupFile(path string, trusted bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if trusted {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(owner.Uid) != os.Geteuid() && owner.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
			return nil, fault.New(fault.Permission, "others than you and root could change its commands").
				WithHint("chown it to root and chmod go-w %s", path)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxGroupFile+1))
	if err == nil && len(data) > maxGroupFile {
		err = fault.New(fault.TooLarge, "more than %d bytes", maxGroupFile)
	}
	return data, err
}

// parseLines reads lines "name: host list"; a name may have several. Empty lines
// and those that start with # are left out.
func parseLines(data []byte) (map[string]string, error) {
	groups := make(map[string]string)
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		name, list, ok := cut(text, ':')
		why := badGroup(name)
		if !ok || why != "" || name == "*" {
			return nil, fault.New(fault.Config, "line %d is no `name: host list`: %q", number, short(text))
		}
		if old := groups[name]; old != "" {
			list = old + " " + list
		}
		groups[name] = list
	}
	return groups, nil
}

// parseYAML reads sources of groups, whose values are texts or lists of texts.
func parseYAML(data []byte) ([]*source, error) {
	var file map[string]map[string]texts
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	var sources []*source
	for name, groups := range file {
		s := &source{name: name, groups: make(map[string]string, len(groups))}
		for group, list := range groups {
			if why := badGroup(group); why != "" || group == "*" {
				return nil, fault.New(fault.Config, "group %q of source %s: %s", short(group), short(name), why)
			}
			s.groups[group] = strings.Join(list, " ")
		}
		sources = append(sources, s)
	}
	slices.SortFunc(sources, func(a, b *source) int { return strings.Compare(a.name, b.name) })
	return sources, nil
}

// texts is one text or a list of them.
type texts []string

func (t *texts) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return node.Decode((*[]string)(t))
	}
	var one string
	if err := node.Decode(&one); err != nil {
		return err
	}
	*t = texts{one}
	return nil
}

// section is a part of a groups.conf.
type section struct {
	name string
	keys map[string]string
}

// parseConf reads sections of "key: value" or "key = value"; a line that starts
// with a blank continues the value before.
func parseConf(data []byte) ([]section, error) {
	var all []section
	number, last := 0, ""
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimSpace(string(line))
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
			continue
		case text[0] == '[' && text[len(text)-1] == ']':
			last = ""
			all = append(all, section{name: strings.TrimSpace(text[1 : len(text)-1]), keys: make(map[string]string)})
			continue
		case blank(line[0]) && last != "":
			keys := all[len(all)-1].keys
			keys[last] += " " + text
			continue
		}
		at := strings.IndexAny(text, ":=")
		if at <= 0 || len(all) == 0 {
			return nil, fault.New(fault.Config, "line %d is no `key: value` of a section: %q", number, short(text))
		}
		last = strings.ToLower(strings.TrimSpace(text[:at]))
		all[len(all)-1].keys[last] = strings.TrimSpace(text[at+1:])
	}
	return all, nil
}

// loadConf reads a groups.conf, the files of its confdir and those of its autodir.
func (g *Groups) loadConf(path string) error {
	base := filepath.Dir(path)
	main, err := g.loadSections(path, base)
	if err != nil {
		return err
	}
	for _, dir := range groupDirs(main["confdir"], base) {
		files, _ := filepath.Glob(filepath.Join(dir, "*.conf"))
		for _, file := range files {
			if _, err := g.loadSections(file, base); errors.Is(err, fs.ErrPermission) {
				continue
			} else if err != nil {
				return fault.Wrap(fault.Config, err, "%s", file)
			}
		}
	}
	for _, dir := range groupDirs(main["autodir"], base) {
		files, _ := filepath.Glob(filepath.Join(dir, "*.yaml"))
		for _, file := range files {
			if err := g.loadFile(file, parseYAML); err != nil {
				return fault.Wrap(fault.Config, err, "%s", file)
			}
		}
	}
	if name := main["default"]; name != "" {
		if g.sources[name] == nil {
			return fault.New(fault.Config, "the default source %q is not defined", short(name))
		}
		g.standard = name
	}
	return nil
}

// groupDirs takes a list of directories apart; repeated ones count once.
func groupDirs(list, base string) []string {
	var dirs []string
	for _, dir := range strings.Fields(list) {
		dir = strings.Trim(dir, `"'`)
		dir = strings.ReplaceAll(dir, "$CFGDIR", base)
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(base, dir)
		}
		if dir = filepath.Clean(dir); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// loadSections reads one file of sections and returns the keys of its main one.
func (g *Groups) loadSections(path, base string) (map[string]string, error) {
	data, err := readGroupFile(path, true)
	if err != nil {
		return nil, err
	}
	sections, err := parseConf(data)
	if err != nil {
		return nil, err
	}
	var main map[string]string
	for _, s := range sections {
		if strings.EqualFold(s.name, "main") {
			main = s.keys
			continue
		}
		if s.keys["map"] == "" {
			return nil, fault.New(fault.Config, "source %s has no map command", short(s.name))
		}
		dir := filepath.Dir(path)
		if err := g.adopt([]*source{{name: s.name, calls: s.keys, dir: dir, base: base}}); err != nil {
			return nil, err
		}
	}
	return main, nil
}
