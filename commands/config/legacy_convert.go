package config

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"daosbox/cluster/fault"
)

// maxCores bounds the core numbers of an old core list.
const maxCores = 4096

func isMinusOne(v *yaml.Node) bool { return v.Kind == yaml.ScalarNode && v.Value == "-1" }

func isList(v *yaml.Node) bool { return v.Kind == yaml.SequenceNode }

func mapping(at *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: at.Line, Column: at.Column}
}

func sequence(at *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: at.Line, Column: at.Column}
}

// inverted turns enable_X into disable_X with the opposite value. A value that is
// no boolean is handed on as it is, for the decoder to refuse.
func inverted(_ *legacyPass, m, k, v *yaml.Node, _ string) bool {
	value := *v
	switch strings.ToLower(v.Value) {
	case "true", "yes", "on", "y":
		value.Value = "false"
	case "false", "no", "off", "n":
		value.Value = "true"
	}
	put(m, k, strings.Replace(k.Value, "enable_", "disable_", 1), &value)
	return true
}

func minusOneHugepages(_ *legacyPass, m, k, v *yaml.Node, _ string) bool {
	put(m, k, "disable_hugepages", scalarAt(v, "!!bool", "true"))
	return true
}

// mountForAll gives every engine of the flat form that has no mount point the
// common one.
func mountForAll(l *legacyPass, _, k, v *yaml.Node, _ string) bool {
	for _, engine := range l.places(engineLevel) {
		mount, _ := lookup(engine.node, "scm_mount")
		tiers, _ := lookup(engine.node, "storage")
		if mount == nil && tiers == nil && engine.node.Kind == yaml.MappingNode {
			put(engine.node, k, "scm_mount", v)
		}
	}
	return true
}

func shareAddrForAll(l *legacyPass, _, k, v *yaml.Node, path string) bool {
	for _, engine := range l.places(engineLevel) {
		if own, _ := lookup(engine.node, "crt_ctx_share_addr"); own != nil || engine.node.Kind != yaml.MappingNode {
			continue
		}
		if !shareAddr(l, engine.node, k, v, path) {
			return false
		}
	}
	return true
}

// shareAddr adds the variable that the key stood for, unless env_vars sets it.
func shareAddr(l *legacyPass, m, k, v *yaml.Node, path string) bool {
	const name = "CRT_CTX_SHARE_ADDR"
	if _, err := strconv.ParseUint(v.Value, 0, 32); err != nil || v.Kind != yaml.ScalarNode {
		l.add(position(v), fault.Config, path, "", "expected a whole number, found %q", v.Value)
		return false
	}
	_, list := lookup(m, "env_vars")
	if list == nil || isNull(list) {
		remove(m, "env_vars")
		list = sequence(k)
		put(m, k, "env_vars", list)
	}
	for _, one := range list.Content {
		if strings.HasPrefix(one.Value, name+"=") {
			return true
		}
	}
	if list.Kind == yaml.SequenceNode {
		list.Content = append(list.Content, scalarAt(v, "!!str", name+"="+v.Value))
	}
	return true
}

// intoTransport moves a certificate path of the top level; one that
// transport_config has itself is a contradiction.
func intoTransport(l *legacyPass, _, k, v *yaml.Node, path string) bool {
	_, transport := lookup(l.root, string(transportLevel))
	if isNull(transport) {
		remove(l.root, string(transportLevel))
		transport = mapping(k)
		put(l.root, k, string(transportLevel), transport)
	}
	if other, _ := lookup(transport, k.Value); other != nil {
		l.add(position(k), codeBadConfig, path, "keep the one in transport_config",
			"the key and transport_config.%s (line %d) are both given", k.Value, other.Line)
		return false
	}
	if transport.Kind == yaml.MappingNode {
		put(transport, k, k.Value, v)
	}
	return true
}

// countCores makes the number of targets of a list of core ranges as 0-20.
func countCores(l *legacyPass, m, k, v *yaml.Node, path string) bool {
	if v.Kind != yaml.SequenceNode {
		l.add(position(v), fault.Config, path, "write targets: N", "expected a list of cores, found %s", kindName(v))
		return false
	}
	total := 0
	for _, one := range v.Content {
		n, ok := coresIn(one.Value)
		if !ok || one.Kind != yaml.ScalarNode {
			l.add(position(one), fault.Config, path, "write targets: N", "%q is no core or range of cores", one.Value)
			return false
		}
		total += n
	}
	put(m, k, "targets", scalarAt(v, "!!int", strconv.Itoa(total)))
	return true
}

func coresIn(text string) (int, bool) {
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		high = low
	}
	lo, err1 := strconv.Atoi(strings.TrimSpace(low))
	hi, err2 := strconv.Atoi(strings.TrimSpace(high))
	if err1 != nil || err2 != nil || lo < 0 || hi < lo || hi >= maxCores {
		return 0, false
	}
	return hi - lo + 1, true
}

// oneSystem lifts the keys of the only entry of the 0.4 list of systems.
func oneSystem(l *legacyPass, m, k, v *yaml.Node, path string) bool {
	if v.Kind != yaml.SequenceNode || len(v.Content) != 1 || v.Content[0].Kind != yaml.MappingNode {
		l.add(position(k), fault.Config, path, "write name and the hosts of one system at the top level",
			"only a list of exactly one system can be read")
		return false
	}
	hosts := "hostlist"
	if l.file == agentFile {
		hosts = "access_points"
	}
	entries := v.Content[0].Content
	for i := 0; i+1 < len(entries); i += 2 {
		key := entries[i]
		name := key.Value
		if name == "access_pts" {
			name = hosts
		}
		if other, _ := lookup(m, name); other != nil {
			l.add(position(key), codeBadConfig, join(path+"[0]", key.Value), "keep the one at the top level",
				"the key is also given at the top level (line %d)", other.Line)
			continue
		}
		put(m, key, name, entries[i+1])
	}
	return true
}

// flatTiers are the storage keys that an engine of the flat form has.
type flatTiers struct {
	engine *yaml.Node
	path   string
	key    *yaml.Node // the first of them
	values map[string]*yaml.Node
}

// intoTier collects a flat storage key; buildTiers makes the tiers when the keys
// of all engines are known.
func intoTier(l *legacyPass, m, k, v *yaml.Node, path string) bool {
	engine := parent(path)
	f := l.flat[engine]
	if f == nil {
		f = &flatTiers{engine: m, path: engine, key: k, values: map[string]*yaml.Node{}}
		l.flat[engine] = f
	}
	f.values[k.Value] = v
	return true
}

func (l *legacyPass) buildTiers() {
	for _, path := range sortedKeys(l.flat) {
		f := l.flat[path]
		if other, _ := lookup(f.engine, "storage"); other != nil {
			l.add(position(f.key), codeBadConfig, f.path, "move the keys into the tiers of storage",
				"storage keys outside storage (line %d) contradict it", other.Line)
			continue
		}
		tiers := sequence(f.key)
		if scm := l.tier(f, "scm_class", "scm_mount", "scm_size", "scm_list"); scm != nil {
			tiers.Content = append(tiers.Content, scm)
		}
		if bdev := l.bdevTier(f); bdev != nil {
			tiers.Content = append(tiers.Content, bdev)
		}
		put(f.engine, f.key, "storage", tiers)
	}
}

// bdevTier is nil also for class nvme with an empty list, the old way to say
// that there are no block devices.
func (l *legacyPass) bdevTier(f *flatTiers) *yaml.Node {
	class, list := f.values["bdev_class"], f.values["bdev_list"]
	none := isNull(list) || list.Kind == yaml.SequenceNode && len(list.Content) == 0
	if none && (class == nil || class.Value == string(ClassNVMe)) {
		return nil
	}
	return l.tier(f, "bdev_class", "bdev_list", "bdev_number", "bdev_size", "bdev_busid_range")
}

func (l *legacyPass) tier(f *flatTiers, classKey string, keys ...string) *yaml.Node {
	class := f.values[classKey]
	at := class
	if class == nil {
		at = f.key
	}
	tier := mapping(at)
	for _, key := range keys {
		v := f.values[key]
		if v == nil {
			continue
		}
		if class == nil {
			l.add(position(v), codeBadConfig, join(f.path, key), fmt.Sprintf("add %s to the engine", classKey),
				"the key means nothing without %s", classKey)
			return nil
		}
		put(tier, v, key, v)
	}
	if class == nil {
		return nil
	}
	put(tier, class, "class", class)
	return tier
}
