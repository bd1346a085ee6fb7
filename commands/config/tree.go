package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"daosbox/cluster/fault"
)

// Limits of a document, checked before anything is built from it.
const (
	maxFileBytes = 1 << 20
	maxNodes     = 20000 // after aliases are followed
	maxDepth     = 32
)

const mergeTag = "!!merge"

// commentTab is the margin of a comment that has a line, or a line after a dash,
// to itself. Tabs in it are harmless, but the YAML parser refuses them; each
// becomes one space, so that columns stay right. Tabs between a value and its
// comment the parser takes as they are.
var commentTab = regexp.MustCompile(`(?m)^[ \t-]*\t[ \t]*#`)

// parseTree makes the tree of the one document in data: a mapping without
// aliases, merge keys and duplicate keys, or nil when the document is empty or
// unusable; unusable documents are recorded in p.
func parseTree(p *problems, data []byte) *yaml.Node {
	if len(data) > maxFileBytes {
		p.add(Position{}, fault.Config, "", "", "the file is larger than %d bytes", maxFileBytes)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(commentTab.ReplaceAllFunc(data, func(margin []byte) []byte {
		return bytes.ReplaceAll(margin, []byte("\t"), []byte(" "))
	})))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		p.syntax(data, err)
		return nil
	}
	if err := decoder.Decode(&second); err == nil {
		p.add(position(&second), fault.Config, "", "keep one and remove the \"---\" between them",
			"there is more than one document in the file")
		return nil
	} else if !errors.Is(err, io.EOF) {
		p.syntax(data, err)
		return nil
	}
	x := &expander{problems: p, left: maxNodes}
	root := x.expand(document.Content[0], "", 0)
	switch {
	case x.failed || isNull(root):
		return nil
	case root.Kind != yaml.MappingNode:
		p.add(position(root), fault.Config, "", "write \"key: value\" lines", "the file is %s, not a list of keys", kindName(root))
		return nil
	}
	return root
}

var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax records what the YAML scanner says. A tab in the indentation is told
// with its place, since the scanner's own words do not help.
func (p *problems) syntax(data []byte, err error) {
	for i, line := range strings.Split(string(data), "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t-"))]
		rest := strings.TrimSpace(line)
		if tab := strings.IndexByte(indent, '\t'); tab >= 0 && rest != "" && rest[0] != '#' {
			p.add(Position{Line: i + 1, Column: tab + 1}, fault.Config, "", "indent with spaces only", "a tab in the indentation")
			return
		}
	}
	why, pos := err.Error(), Position{Line: 1} // the parser leaves a first line out
	if m := syntaxLine.FindStringSubmatch(why); m != nil {
		pos.Line, _ = strconv.Atoi(m[1])
		why = strings.TrimPrefix(why, m[0])
	}
	p.add(pos, fault.Config, "", "check indentation, quotes and brackets around this line", "%s", strings.TrimPrefix(why, "yaml: "))
}

// expander copies a tree so that it has no aliases, within a budget of nodes.
type expander struct {
	problems *problems
	left     int
	failed   bool
}

func (x *expander) expand(n *yaml.Node, path string, depth int) *yaml.Node {
	if x.failed {
		return n
	}
	x.left--
	if x.left < 0 || depth > maxDepth {
		x.failed = true
		x.problems.add(position(n), fault.Config, path, "write it without anchors and aliases",
			"the document is nested too deeply or becomes too large when its aliases are followed")
		return n
	}
	if n.Kind == yaml.AliasNode {
		clone := x.expand(n.Alias, path, depth+1)
		// Problems point at the place of use.
		clone.Line, clone.Column = n.Line, n.Column
		return clone
	}
	clone := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Style: n.Style, Value: n.Value, Line: n.Line, Column: n.Column}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, child := range n.Content {
			clone.Content = append(clone.Content, x.expand(child, item(path, i), depth+1))
		}
	case yaml.MappingNode:
		x.mapping(n, clone, path, depth)
	}
	return clone
}

func (x *expander) mapping(n, clone *yaml.Node, path string, depth int) {
	var merged []*yaml.Node
	lines := map[string]int{} // of the keys so far
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := x.expand(n.Content[i], path, depth+1)
		if x.failed {
			return
		}
		if key.Kind != yaml.ScalarNode {
			x.problems.add(position(key), fault.Config, path, "", "a key is %s", kindName(key))
			continue
		}
		value := x.expand(n.Content[i+1], join(path, key.Value), depth+1)
		if key.Tag == mergeTag {
			merged = append(merged, value)
			continue
		}
		if first, ok := lines[key.Value]; ok {
			x.problems.add(position(key), fault.Config, join(path, key.Value), "keep one of the two",
				"the key is given twice (first in line %d)", first)
			continue
		}
		lines[key.Value] = key.Line
		clone.Content = append(clone.Content, key, value)
	}
	for _, from := range merged {
		mergeInto(clone, from, lines)
	}
}

// mergeInto adds the entries of a "<<" value whose keys the mapping does not have.
func mergeInto(m, from *yaml.Node, has map[string]int) {
	if from.Kind == yaml.SequenceNode {
		for _, one := range from.Content {
			mergeInto(m, one, has)
		}
		return
	}
	if from.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(from.Content); i += 2 {
		key := from.Content[i]
		if _, ok := has[key.Value]; !ok {
			has[key.Value] = key.Line
			m.Content = append(m.Content, key, from.Content[i+1])
		}
	}
}

// lookup returns the key and value nodes of a mapping, nil when it has no such key.
func lookup(m *yaml.Node, key string) (k, v *yaml.Node) {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

// remove takes a key out of a mapping and returns its nodes.
func remove(m *yaml.Node, key string) (k, v *yaml.Node) {
	if k, v = lookup(m, key); k == nil {
		return nil, nil
	}
	kept := make([]*yaml.Node, 0, len(m.Content))
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i] != k {
			kept = append(kept, m.Content[i], m.Content[i+1])
		}
	}
	m.Content = kept
	return k, v
}

// put adds a key at the position of an old one.
func put(m *yaml.Node, at *yaml.Node, key string, value *yaml.Node) {
	k := scalarAt(at, "!!str", key)
	m.Content = append(m.Content, k, value)
}

func scalarAt(at *yaml.Node, tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value, Line: at.Line, Column: at.Column}
}

func position(n *yaml.Node) Position { return Position{Line: n.Line, Column: n.Column} }

func isNull(n *yaml.Node) bool {
	return n == nil || n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!int":
		return "a number"
	case "!!float":
		return "a fraction"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "empty"
	}
	return "text"
}
