package hostlist

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"daosbox/cluster/fault"
)

// Groups are named host lists, "@name" in an expression, from files and from
// commands that know them. A source is a name space of groups: "@source:name". What
// was looked up is kept for the life of the Groups. It is safe for concurrent use.
type Groups struct {
	standard string // the source of "@name"
	sources  map[string]*source

	find func() error // reads them when they are first needed; nil when read
	once sync.Once
	err  error

	mu    sync.Mutex
	known map[string]*Nodes // values of "source:group"
}

// source is one name space.
type source struct {
	name string
	// groups are definitions from a file; nil when commands know them.
	groups map[string]string
	// calls are the command lines of map, all, list and reverse, dir where they run
	// and base the value of $CFGDIR.
	calls     map[string]string
	dir, base string
}

// FindGroups stands for the groups of the first of the files that exists, which is
// read (LoadGroups) when a group is first asked for. "@name" is looked up in the
// standard source, or in the file's own when that is "".
func FindGroups(standard string, paths ...string) *Groups {
	g := new(Groups)
	g.find = func() error {
		for _, path := range paths {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			found, err := LoadGroups(path)
			if err != nil {
				return err
			}
			g.standard, g.sources = found.standard, found.sources
			break
		}
		if standard != "" {
			g.standard = standard
		}
		return nil
	}
	return g
}

func (g *Groups) load() error {
	if g == nil || g.find == nil {
		return nil
	}
	g.once.Do(func() { g.err = g.find() })
	return g.err
}

// Sources returns the names of all sources, the standard one first; none when they
// cannot be read.
func (g *Groups) Sources() []string {
	if g == nil || g.load() != nil {
		return nil
	}
	names := slices.Sorted(maps.Keys(g.sources))
	if i := slices.Index(names, g.standard); i > 0 {
		copy(names[1:], names[:i])
		names[0] = g.standard
	}
	return names
}

// Names returns the names of the groups of a source, in order; "" is the standard
// source.
func (g *Groups) Names(ctx context.Context, source string) ([]string, error) {
	s, err := g.source(source)
	if err != nil {
		return nil, err
	}
	return s.names(ctx)
}

// Holding returns the names of the groups of a source that have the node.
func (g *Groups) Holding(ctx context.Context, source, node string) ([]string, error) {
	s, err := g.source(source)
	if err != nil {
		return nil, err
	}
	if s.calls["reverse"] != "" {
		out, err := s.call(ctx, "reverse", "$NODE", node)
		return words(out), err
	}
	names, err := s.names(ctx)
	if err != nil {
		return nil, err
	}
	var holding []string
	for _, name := range names {
		n, err := Eval(ctx, "@"+s.name+":"+name, g)
		if err != nil {
			return nil, err
		}
		if n.Contains(node) {
			holding = append(holding, name)
		}
	}
	return holding, nil
}

func (g *Groups) source(name string) (*source, error) {
	if err := g.load(); err != nil {
		return nil, err
	}
	if g == nil || len(g.sources) == 0 {
		return nil, fault.New(fault.NotFound, "cannot look up host groups: none are configured").
			WithHint("name a file of lines like `rack1: node[1-20]`, or a groups.conf")
	}
	if name == "" {
		name = g.standard
	}
	s := g.sources[name]
	if s == nil {
		return nil, fault.New(fault.NotFound, "cannot look up host groups: no source %q", short(name)).
			WithHint("the sources are %s", strings.Join(g.Sources(), ", "))
	}
	return s, nil
}

// allGroup is the group of a file that stands for all names of its source.
const allGroup = "all"

func (s *source) names(ctx context.Context) ([]string, error) {
	if s.groups != nil {
		return slices.Sorted(maps.Keys(s.groups)), nil
	}
	if s.calls["list"] == "" {
		return nil, fault.New(fault.Config, "cannot list the groups of source %s: it has no list command", s.name)
	}
	out, err := s.call(ctx, "list", "", "")
	if err != nil {
		return nil, err
	}
	names := words(out)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// define returns the definition of a group.
func (s *source) define(ctx context.Context, group string) (string, error) {
	if s.groups == nil {
		return s.call(ctx, "map", "$GROUP", group)
	}
	text, ok := s.groups[group]
	if !ok {
		return "", fault.New(fault.NotFound, "cannot find group %q in source %s", short(group), s.name).
			WithHint("`@@%s` stands for the names of its groups", s.name)
	}
	return text, nil
}

// everything returns the definition of all names of a source.
func (s *source) everything(ctx context.Context) (string, error) {
	if s.calls["all"] != "" {
		return s.call(ctx, "all", "", "")
	}
	if text, ok := s.groups[allGroup]; ok {
		return text, nil
	}
	names, err := s.names(ctx)
	if err != nil || len(names) == 0 {
		return "", err
	}
	return "@" + s.name + ":" + strings.Join(names, " @"+s.name+":"), nil
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r < 0x80 && separator(byte(r)) })
}

// group adds the value of "@name", "@source:name", "@*", "@source:*" or "@@source",
// where name may have brackets.
func (e *evaluator) group(text []byte) error {
	name, listed := bytes.CutPrefix(text[1:], []byte{'@'})
	if listed {
		names, err := e.groups.Names(e.ctx, e.sourceOr(string(name)))
		if err != nil {
			return err
		}
		for _, one := range names {
			if why := e.all.name([]byte(one)); why != "" {
				return refuse(why, []byte(one))
			}
		}
		return nil
	}
	in, name, qualified := bytes.Cut(name, []byte{':'})
	if !qualified {
		in, name = nil, in
	}
	s, err := e.groups.source(e.sourceOr(string(in)))
	if err != nil {
		return err
	}
	if bytes.IndexByte(name, '[') < 0 {
		return e.groupNamed(s, string(name))
	}
	shape, axes, why := axesOf(name)
	var t *tree
	if why == "" {
		t, why = grow(shape, axes)
	}
	if why != "" {
		return refuse(why, text)
	}
	names := &Nodes{shapes: map[string]*tree{string(shape): t}}
	for name := range names.All() {
		if err := e.groupNamed(s, name); err != nil {
			return err
		}
	}
	return nil
}

func (e *evaluator) sourceOr(name string) string {
	if name == "" {
		return e.source
	}
	return name
}

// groupNamed adds the value of one group, "*" for all names of its source.
func (e *evaluator) groupNamed(s *source, name string) error {
	if why := badGroup(name); why != "" {
		return refuse(why, []byte("@"+s.name+":"+name))
	}
	key := s.name + ":" + name
	n := e.groups.recall(key)
	if n == nil {
		var err error
		if n, err = e.look(s, name, key); err != nil {
			return err
		}
		e.groups.remember(key, n)
	}
	if err := e.spend(n.cells(), []byte("@"+key)); err != nil {
		return err
	}
	if why := e.all.addAll(n); why != "" {
		return refuse(why, []byte("@"+key))
	}
	return nil
}

// look evaluates the definition of a group.
func (e *evaluator) look(s *source, name, key string) (*Nodes, error) {
	if slices.Contains(e.within, key) || len(e.within) == maxGroupDepth {
		return nil, fault.New(fault.Config, "cannot look up group @%s: it refers to itself: %s", key,
			strings.Join(append(slices.Clone(e.within), key), " -> "))
	}
	var text string
	var err error
	if name == "*" {
		text, err = s.everything(e.ctx)
	} else {
		text, err = s.define(e.ctx, name)
	}
	if err != nil {
		return nil, err
	}
	part := e.part()
	part.source = s.name
	part.within = append(slices.Clone(e.within), key)
	n, err := part.eval([]byte(text))
	if err != nil {
		return nil, fault.Wrap(fault.Of(err), err, "cannot look up group @%s", key)
	}
	return n, nil
}

// badGroup says what is wrong with the name of a group. One that starts with a
// hyphen could become an option of the command that looks it up.
func badGroup(name string) string {
	switch {
	case name == "*":
		return ""
	case name == "":
		return "missing name of a group"
	case name[0] == '-':
		return "name of a group that starts with a hyphen"
	case len(name) > maxName:
		return "name of a group that is too long"
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c == 0x7f || strings.IndexByte("@,!&^*[]:", c) >= 0 {
			return "character that no group name has"
		}
	}
	return ""
}

func (g *Groups) recall(key string) *Nodes {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[key]
}

func (g *Groups) remember(key string, n *Nodes) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil {
		g.known = make(map[string]*Nodes)
	}
	g.known[key] = n
}
