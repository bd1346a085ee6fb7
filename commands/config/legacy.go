package config

import (
	"cmp"
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"

	"daosbox/cluster/fault"
)

// file is one of the three configuration files.
type file string

const (
	serverFile  file = "daos_server.yml"
	agentFile   file = "daos_agent.yml"
	controlFile file = "daos_control.yml"
)

// level is a mapping inside a file.
type level string

const (
	topLevel        level = ""
	engineLevel     level = "engines[]"
	transportLevel  level = "transport_config"
	credentialLevel level = "credential_config"
)

// action is what becomes of an old key.
type action int

const (
	drop    action = iota // accepted, without effect
	rename                // its value goes to the successor as it is
	convert               // its value goes to the successor in another form
	refuse                // cannot be served
)

// legacyKey is one row of the table of old keys.
type legacyKey struct {
	file  file
	level level
	key   string
	eras  string // releases that had it
	to    string // successor
	act   action
	note  string // why, or what to do
	// clash is the code when key and successor are both given; 0 is codeBadConfig.
	clash fault.Code
	// when narrows the row to values of the old form, nil is any value.
	when func(v *yaml.Node) bool
	// convert moves the value, which is taken out of m already. It returns false
	// after it has recorded a problem.
	convert func(l *legacyPass, m, k, v *yaml.Node, path string) bool
}

// legacyKeys is the table of old keys, applied from top to bottom: the keys that
// move a whole level come before the keys in it.
//
// A row may not be needed for a key that newer releases read as it is.
func legacyKeys() []legacyKey {
	const (
		byMS     = "the management service chooses ranks"
		noPriv   = "start daos_server as the user it shall run as"
		accident = "it was the name of an internal field"
	)
	s, a, c := serverFile, agentFile, controlFile
	return []legacyKey{
		// daos_server.yml, top level
		{file: s, key: "servers", eras: "0.4-1.2", to: "engines", act: rename},
		{file: s, key: "access_points", eras: "0.4-2.6", to: "mgmt_svc_replicas", act: rename},
		{file: s, key: "enable_hotplug", eras: "2.0-2.6", to: "disable_hotplug", act: convert, note: "with the opposite value", clash: codeHotplugBoth, convert: inverted},
		{file: s, key: "enable_vmd", eras: "2.0-2.4", to: "disable_vmd", act: convert, note: "with the opposite value", clash: codeVMDBoth, convert: inverted},
		{file: s, key: "nr_hugepages", eras: "2.0", to: "disable_hugepages", act: convert, note: "-1 meant no huge pages", when: isMinusOne, convert: minusOneHugepages},
		{file: s, key: "scm_mount_path", eras: "0.4-1.0", to: "engines[].storage[].scm_mount", act: convert, note: "for engines without a mount point of their own", convert: mountForAll},
		{file: s, key: "crt_ctx_share_addr", eras: "1.1.1-2.4", to: "engines[].env_vars[]", act: convert, note: "as CRT_CTX_SHARE_ADDR", convert: shareAddrForAll},
		{file: s, key: "ca_cert", eras: "0.4-0.5", to: "transport_config.ca_cert", act: convert, convert: intoTransport},
		{file: s, key: "cert", eras: "0.4-0.5", to: "transport_config.cert", act: convert, convert: intoTransport},
		{file: s, key: "key", eras: "0.4-0.5", to: "transport_config.key", act: convert, convert: intoTransport},
		{file: s, key: "fabric_ifaces", eras: "0.4-1.0", act: drop, note: "set fabric_iface in each engine"},
		{file: s, key: "bdev_include", eras: "0.4-2.2", act: drop, note: "engines use the devices in their bdev_list only"},
		{file: s, key: "user_name", eras: "0.5-0.8", act: drop, note: noPriv},
		{file: s, key: "group_name", eras: "0.5-0.8", act: drop, note: noPriv},
		{file: s, key: "recreate_superblocks", eras: "0.7-2.4", act: drop, note: "format the storage instead"},
		{file: s, key: "set_hugepages", eras: "0.9-1.2", act: drop, note: "see nr_hugepages and disable_hugepages"},
		{file: s, key: "format_override", eras: "0.4-0.5", act: drop, note: "use dmg storage format --force"},
		{file: s, key: "firmware_helper_log_file", eras: "1.1.1-2.8", act: drop, note: "the helper logs to helper_log_file"},
		{file: s, key: "modules", eras: "0.4-0.8", act: drop, note: accident + "; set modules in each engine"},
		{file: s, key: "attach", eras: "0.4-0.8", act: drop, note: accident},
		{file: s, key: "systemmap", eras: "0.4-0.8", act: drop, note: accident},
		{file: s, key: "path", eras: "0.4-0.8", act: drop, note: accident},
		{file: s, key: "nvmeshmid", eras: "0.4-0.8", act: drop, note: accident},

		// daos_server.yml, engines
		{file: s, level: engineLevel, key: "rank", eras: "0.4-2.2", act: drop, note: byMS},
		{file: s, level: engineLevel, key: "name", eras: "0.7-1.2", act: drop, note: "the name at the top level is used"},
		{file: s, level: engineLevel, key: "socket_dir", eras: "0.7-1.2", act: drop, note: "the socket_dir at the top level is used"},
		{file: s, level: engineLevel, key: "cpus", eras: "0.4", to: "targets", act: convert, note: "as the number of cores", convert: countCores},
		{file: s, level: engineLevel, key: "targets", eras: "0.5-0.6", to: "targets", act: convert, note: "as the number of cores", when: isList, convert: countCores},
		{file: s, level: engineLevel, key: "crt_ctx_share_addr", eras: "1.1.1-2.4", to: "env_vars[]", act: convert, note: "as CRT_CTX_SHARE_ADDR", convert: shareAddr},
		{file: s, level: engineLevel, key: "scm_class", eras: "0.5-2.4", to: "storage[].class", act: convert, convert: intoTier},
		{file: s, level: engineLevel, key: "scm_mount", eras: "0.4-2.4", to: "storage[].scm_mount", act: convert, convert: intoTier},
		{file: s, level: engineLevel, key: "scm_list", eras: "0.5-2.4", to: "storage[].scm_list", act: convert, convert: intoTier},
		{file: s, level: engineLevel, key: "scm_size", eras: "0.5-2.4", to: "storage[].scm_size", act: convert, note: "in GiB", convert: intoTier},
		{file: s, level: engineLevel, key: "bdev_class", eras: "0.4-2.4", to: "storage[].class", act: convert, convert: intoTier},
		{file: s, level: engineLevel, key: "bdev_list", eras: "0.4-2.4", to: "storage[].bdev_list", act: convert, convert: intoTier},
		{file: s, level: engineLevel, key: "bdev_number", eras: "0.4-2.4", to: "storage[].bdev_number", act: convert, convert: intoTier},
		{file: s, level: engineLevel, key: "bdev_size", eras: "0.4-2.4", to: "storage[].bdev_size", act: convert, note: "in GiB, before 2.0 it was 10^9 bytes", convert: intoTier},
		{file: s, level: engineLevel, key: "bdev_busid_range", eras: "2.2-2.4", to: "storage[].bdev_busid_range", act: convert, convert: intoTier},

		// daos_server.yml, transport_config
		{file: s, level: transportLevel, key: "server_name", eras: "0.6-1.2", act: drop, note: "servers are always named \"server\" in their certificates"},
		{file: s, level: transportLevel, key: "pool_cert_max_clock_skew", eras: "none yet", act: refuse, note: "pool certificates are not part of any release"},

		// daos_agent.yml; up to 1.0 it had the keys of all clients
		{file: a, key: "systems", eras: "0.4", act: convert, to: "the top level", convert: oneSystem},
		{file: a, key: "ca_cert", eras: "0.4-0.5", to: "transport_config.ca_cert", act: convert, convert: intoTransport},
		{file: a, key: "cert", eras: "0.4-0.5", to: "transport_config.cert", act: convert, convert: intoTransport},
		{file: a, key: "key", eras: "0.4-0.5", to: "transport_config.key", act: convert, convert: intoTransport},
		{file: a, key: "hostlist", eras: "0.5-1.0", act: drop, note: "it is read from daos_control.yml, by dmg"},
		{file: a, key: "host_file", eras: "0.5-1.0", act: drop, note: "list the servers in access_points"},
		{file: a, key: "log_file_format", eras: "0.5-1.0", act: drop, note: "start the agent with --json-logging for JSON"},
		{file: a, key: "path", eras: "0.5-1.0", act: drop, note: accident},
		{file: a, key: "mgmt_svc_replicas", eras: "2.8, in daos_server.yml", act: refuse, note: "an agent has access_points"},
		{file: a, level: transportLevel, key: "server_name", eras: "0.6-1.2", act: drop, note: "servers are always named \"server\" in their certificates"},
		{file: a, level: credentialLevel, key: "pool_auth_enabled", eras: "none yet", act: refuse, note: "pool certificates are not part of any release"},
		{file: a, level: credentialLevel, key: "node_cert_dir", eras: "none yet", act: refuse, note: "pool certificates are not part of any release"},

		// daos_control.yml and daos.yml
		{file: c, key: "systems", eras: "0.4", act: convert, to: "the top level", convert: oneSystem},
		{file: c, key: "ca_cert", eras: "0.4-0.5", to: "transport_config.ca_cert", act: convert, convert: intoTransport},
		{file: c, key: "cert", eras: "0.4-0.5", to: "transport_config.cert", act: convert, convert: intoTransport},
		{file: c, key: "key", eras: "0.4-0.5", to: "transport_config.key", act: convert, convert: intoTransport},
		{file: c, key: "access_points", eras: "0.5-1.0", act: drop, note: "it is read from daos_agent.yml; dmg asks the hosts in hostlist"},
		{file: c, key: "runtime_dir", eras: "0.5-1.0", act: drop, note: "it is read from daos_agent.yml"},
		{file: c, key: "log_file", eras: "0.5-1.0", act: drop, note: "use dmg --log-file"},
		{file: c, key: "host_file", eras: "0.5-1.0", act: drop, note: "list the hosts in hostlist"},
		{file: c, key: "log_file_format", eras: "0.5-1.0", act: drop, note: "dmg logs text only"},
		{file: c, key: "path", eras: "0.5-1.0", act: drop, note: accident},
		{file: c, key: "mgmt_svc_replicas", eras: "2.8, in daos_server.yml", act: refuse, note: "dmg asks the hosts in hostlist"},
		{file: c, level: transportLevel, key: "server_name", eras: "0.6-1.2", act: drop, note: "servers are always named \"server\" in their certificates"},
	}
}

// legacyPass rewrites a tree by the table.
type legacyPass struct {
	*problems
	file  file
	root  *yaml.Node
	flat  map[string]*flatTiers // by engine path
	hints map[string]*legacyHint
	order []*legacyHint
}

// legacyHint is the one hint of a row, with the number of places it is for.
type legacyHint struct {
	row   legacyKey
	pos   Position
	path  string
	count int
}

// applyLegacy rewrites the old keys in root to what this release reads.
func applyLegacy(p *problems, f file, root *yaml.Node) {
	if root == nil {
		return
	}
	l := &legacyPass{problems: p, file: f, root: root, flat: map[string]*flatTiers{}, hints: map[string]*legacyHint{}}
	for _, row := range legacyKeys() {
		if row.file != f {
			continue
		}
		for _, place := range l.places(row.level) {
			l.apply(row, place.node, place.path)
		}
	}
	l.buildTiers()
	slices.SortStableFunc(l.order, func(a, b *legacyHint) int { return cmp.Compare(a.pos.Line, b.pos.Line) })
	for _, h := range l.order {
		l.problems.hint(h.pos, join(h.path, h.row.key), "%s", h.text())
	}
}

type levelPlace struct {
	node *yaml.Node
	path string
}

// places finds the mappings of a level in the tree.
func (l *legacyPass) places(at level) []levelPlace {
	switch at {
	case topLevel:
		return []levelPlace{{l.root, ""}}
	case engineLevel:
		var all []levelPlace
		if _, list := lookup(l.root, "engines"); list != nil && list.Kind == yaml.SequenceNode {
			for i, e := range list.Content {
				all = append(all, levelPlace{e, item("engines", i)})
			}
		}
		return all
	}
	_, m := lookup(l.root, string(at))
	return []levelPlace{{m, string(at)}}
}

func (l *legacyPass) apply(row legacyKey, m *yaml.Node, path string) {
	k, v := lookup(m, row.key)
	if k == nil || row.when != nil && !row.when(v) {
		return
	}
	remove(m, row.key)
	at := join(path, row.key)
	if row.act == refuse {
		l.add(position(k), fault.Config, at, row.note, "the key (%s) cannot be used", row.eras)
		return
	}
	if other, _ := lookup(m, row.to); other != nil && row.to != row.key {
		code := row.clash
		if code == 0 {
			code = codeBadConfig
		}
		l.add(position(k), code, at, fmt.Sprintf("keep %s only", row.to),
			"the key and its successor %s (line %d) are both given", row.to, other.Line)
		return
	}
	switch {
	case row.act == rename:
		put(m, k, row.to, v)
	case row.act == convert && !isNull(v):
		if !row.convert(l, m, k, v, at) {
			return
		}
	}
	l.note(row, k, path)
}

// note counts a use of the row; the first one gives the hint its place.
func (l *legacyPass) note(row legacyKey, k *yaml.Node, path string) {
	id := string(row.level) + "." + row.key
	h := l.hints[id]
	if h == nil {
		h = &legacyHint{row: row, pos: position(k), path: path}
		l.hints[id] = h
		l.order = append(l.order, h)
	}
	h.count++
}

func (h *legacyHint) text() string {
	r := h.row
	text := fmt.Sprintf("%s (%s) ", r.key, r.eras)
	switch r.act {
	case drop:
		text += "has no effect any more"
	case rename:
		text += "is now called " + r.to
	default:
		text += "is read as " + r.to
	}
	switch {
	case r.note == "":
	case r.act == drop:
		text += ": " + r.note
	default:
		text += " " + r.note
	}
	if h.count > 1 {
		text += fmt.Sprintf(" (%d places)", h.count)
	}
	return text
}
