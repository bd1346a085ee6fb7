package dmg

import (
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/commands/config"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"github.com/dustin/go-humanize"
	"github.com/google/uuid"
)

// poolProp is what the command line knows of a pool property beyond its row in
// the table of the engines.
type poolProp struct {
	name string
	// about is the description in listings; scripts look for it.
	about string
	// size is a number of bytes, written and printed with a unit.
	size bool
	// share is a number of percent.
	share bool
	// multiple is what the number must be a multiple of, 0 for anything.
	multiple uint64
	// words are those of the row that may be asked for, nil for all; a word is the
	// text of the value in canonical order.
	words []string
	// atCreate properties are fixed when the pool is made.
	atCreate bool
}

// poolPropTable is sorted by name.
func poolPropTable() []poolProp {
	return []poolProp{
		{name: "checkpoint", about: "WAL checkpointing behavior"},
		{name: "checkpoint_freq", about: "WAL checkpointing frequency, in seconds"},
		{name: "checkpoint_thresh", about: "WAL checkpoint threshold, in percentage"},
		{name: "data_thresh", about: "Data bdev threshold size", size: true},
		{name: "ec_cell_sz", about: "EC cell size", size: true, multiple: 32},
		{name: "ec_pda", about: "Performance domain affinity level of EC", atCreate: true},
		{name: "global_version", about: "Global Version"},
		{name: "label", about: "Pool label"},
		{name: "perf_domain", about: "Pool performance domain", atCreate: true},
		{name: "rd_fac", about: "Pool redundancy factor"},
		{name: "reclaim", about: "Reclaim strategy", words: []string{"disabled", "lazy", "time"}},
		{name: "reintegration", about: "Reintegration mode"},
		{name: "rp_pda", about: "Performance domain affinity level of RP", atCreate: true},
		{name: "scrub", about: "Checksum scrubbing mode"},
		{name: "scrub_freq", about: "Checksum scrubbing frequency"},
		{name: "scrub_thresh", about: "Checksum scrubbing threshold"},
		{name: "self_heal", about: "Self-healing policy",
			words: []string{"none", "exclude", "rebuild", "delay_rebuild", "exclude;rebuild", "exclude;delay_rebuild"}},
		{name: "space_rb", about: "Rebuild space ratio", share: true},
		{name: "svc_list", about: "Pool service replica list"},
		{name: "svc_ops_enabled", about: "Metadata duplicate operations detection enabled"},
		{name: "svc_ops_entry_age", about: "Metadata duplicate operations KVS max entry age, in seconds"},
		{name: "svc_rf", about: "Pool service redundancy factor"},
		{name: "upgrade_status", about: "Upgrade Status"},
	}
}

// propAliases are names of earlier releases; they are not told of.
var propAliases = map[string]string{"rf": "rd_fac", "scrub-freq": "scrub_freq", "scrub-thresh": "scrub_thresh"}

// findProp finds a property by a name of any release.
func findProp(name string) (poolProp, drpc.PoolProp, error) {
	if now, old := propAliases[name]; old {
		name = now
	}
	table := poolPropTable()
	for _, p := range table {
		if p.name == name {
			row, _ := drpc.PoolPropByName(name)
			return p, row, nil
		}
	}
	err := fault.New(fault.Usage, "unknown pool property %q", brief(name))
	if name == "policy" {
		return poolProp{}, drpc.PoolProp{}, err.WithHint("data_thresh took its place in 2.6")
	}
	names := make([]string, len(table))
	for i, p := range table {
		names[i] = p.name
	}
	if near := config.Nearest(name, names); near != "" {
		return poolProp{}, drpc.PoolProp{}, err.WithHint("did you mean %s?", near)
	}
	return poolProp{}, drpc.PoolProp{}, err.WithHint("there are %s", strings.Join(names, ", "))
}

// findPropNumber finds a property by its number.
func findPropNumber(number uint32) (poolProp, drpc.PoolProp, bool) {
	row, ok := drpc.PoolPropByNumber(number)
	if !ok {
		return poolProp{}, row, false
	}
	for _, p := range poolPropTable() {
		if p.name == row.Name {
			return p, row, true
		}
	}
	return poolProp{}, row, false
}

// parseProps reads "key:value,key:value" lists. Those that only a new pool takes
// are refused when creating is false.
func parseProps(lists []string, creating bool) ([]control.PoolProperty, error) {
	var properties []control.PoolProperty
	for _, list := range lists {
		pairs, err := parsePairs(list)
		if err != nil {
			return nil, err
		}
		for _, pair := range pairs {
			p, err := parseProp(pair.key, pair.value, creating)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(properties, func(q control.PoolProperty) bool { return q.Number == p.Number }) {
				return nil, fault.New(fault.Usage, "cannot set pool property %s twice", p.Name).WithHint("give it one value")
			}
			properties = append(properties, p)
		}
	}
	return properties, nil
}

func parseProp(key, value string, creating bool) (control.PoolProperty, error) {
	p, row, err := findProp(key)
	if err != nil {
		return control.PoolProperty{}, err
	}
	if row.ReadOnly {
		return control.PoolProperty{}, fault.New(fault.Usage, "cannot set pool property %s: it is read-only", p.name).
			WithHint("it is for `dmg pool get-prop` only")
	}
	if p.atCreate && !creating {
		return control.PoolProperty{}, fault.New(fault.Usage, "cannot set pool property %s: it is fixed when the pool is created", p.name).
			WithHint("give it to `dmg pool create --properties %s:%s`", p.name, value)
	}
	message, err := p.parse(row, value)
	if err != nil {
		return control.PoolProperty{}, err
	}
	property := control.PoolProperty{Number: row.Number, Name: p.name}
	switch v := message.GetValue().(type) {
	case *pb.PoolProperty_Strval:
		property.Text = &v.Strval
	case *pb.PoolProperty_Numval:
		property.Value = &v.Numval
	}
	return property, nil
}

// parse turns what people write into the engines' message.
func (p poolProp) parse(row drpc.PoolProp, value string) (*pb.PoolProperty, error) {
	switch {
	case row.Number == drpc.PropLabel:
		if err := checkLabel(value); err != nil {
			return nil, err
		}
	case row.Kind == drpc.PropEnum || row.Kind == drpc.PropBits:
		value = strings.ToLower(value)
	case p.share:
		value = strings.TrimSpace(strings.TrimSuffix(value, "%"))
	case p.size:
		bytes, err := parseSize(value)
		if err != nil {
			return nil, fault.Wrap(fault.Usage, err, "cannot set pool property %s", p.name)
		}
		if p.multiple > 0 && bytes%p.multiple != 0 {
			return nil, fault.New(fault.Usage, "cannot set pool property %s: %d is no multiple of %d", p.name, bytes, p.multiple)
		}
		value = strconv.FormatUint(bytes, 10)
	}
	message, err := row.Parse(value)
	if p.words == nil || err == nil && slices.Contains(p.words, row.Text(message)) {
		return message, err
	}
	return nil, fault.New(fault.Usage, "cannot set pool property %s: %q is not allowed", p.name, brief(value)).
		WithHint("use one of %s", strings.Join(p.words, ", "))
}

// unset is a property that the pool has no value of.
func unset(p control.PoolProperty) bool { return p.Text == nil && p.Value == nil && p.Ranks == nil }

// propMessage is the property as the engines' table understands it.
func propMessage(p control.PoolProperty) *pb.PoolProperty {
	message := &pb.PoolProperty{Number: p.Number}
	switch {
	case p.Text != nil:
		message.Value = &pb.PoolProperty_Strval{Strval: *p.Text}
	case p.Value != nil:
		message.Value = &pb.PoolProperty_Numval{Numval: *p.Value}
	}
	return message
}

// text is the value for people.
func (p poolProp) text(row drpc.PoolProp, property control.PoolProperty) string {
	switch {
	case row.Kind == drpc.PropRanks && property.Ranks != nil:
		return rankText(property.Ranks)
	case unset(property):
		return "not set"
	case p.size && property.Value != nil:
		return humanize.IBytes(*property.Value)
	case p.share && property.Value != nil:
		return strconv.FormatUint(*property.Value, 10) + "%"
	}
	return row.Text(propMessage(property))
}

// json is the value for programs: a number, a word, a list of ranks, or nothing.
func (p poolProp) json(row drpc.PoolProp, property control.PoolProperty) any {
	switch {
	case row.Kind == drpc.PropRanks && property.Ranks != nil:
		return property.Ranks
	case unset(property):
		return nil
	case row.Kind == drpc.PropNumber && property.Value != nil:
		return *property.Value
	}
	return row.Text(propMessage(property))
}

// maxLabel is the length of the longest label.
const maxLabel = 127

// checkLabel reports a text that is no label: only letters, digits, ":.-_".
func checkLabel(label string) error {
	bad := func(why string) error {
		return fault.New(fault.Usage, "cannot use pool label %q: %s", brief(label), why).
			WithHint("a label has 1 to %d letters, digits or characters out of : . - _ and is no UUID", maxLabel)
	}
	switch _, err := uuid.Parse(label); {
	case label == "":
		return bad("it is empty")
	case len(label) > maxLabel:
		return bad("it is too long")
	case err == nil:
		return bad("it is a UUID")
	}
	for _, c := range []byte(label) {
		if !(isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(":.-_", c) >= 0) {
			return bad("it has other characters than allowed")
		}
	}
	return nil
}
