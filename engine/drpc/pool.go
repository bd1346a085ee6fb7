package drpc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/pb"
)

// Numbers of pool properties, in field number of pb.PoolProperty.
const (
	PropLabel            uint32 = 1
	PropACL              uint32 = 2
	PropSpaceRB          uint32 = 3
	PropSelfHeal         uint32 = 4
	PropReclaim          uint32 = 5
	PropOwner            uint32 = 6
	PropOwnerGroup       uint32 = 7
	PropSvcList          uint32 = 8
	PropECCellSize       uint32 = 9
	PropDataThresh       uint32 = 10
	PropRdFac            uint32 = 11
	PropECPDA            uint32 = 12
	PropRPPDA            uint32 = 13
	PropGlobalVersion    uint32 = 14
	PropUpgradeStatus    uint32 = 15
	PropScrub            uint32 = 16
	PropScrubFreq        uint32 = 17
	PropScrubThresh      uint32 = 18
	PropSvcRF            uint32 = 19
	PropObjVersion       uint32 = 20
	PropPerfDomain       uint32 = 21
	PropCheckpoint       uint32 = 22
	PropCheckpointFreq   uint32 = 23
	PropCheckpointThresh uint32 = 24
	PropReintegration    uint32 = 25
	PropSvcOpsEnabled    uint32 = 26
	PropSvcOpsEntryAge   uint32 = 27
)

// Bits of the value of [PropSelfHeal].
const (
	SelfHealExclude      uint64 = 1
	SelfHealRebuild      uint64 = 2
	SelfHealDelayRebuild uint64 = 4
)

// PropKind says which value a pool property has.
type PropKind int

const (
	// PropText is a text in strval.
	PropText PropKind = iota
	// PropRanks is the text of a rank set, "[0-3,5]", in strval.
	PropRanks
	// PropNumber is a number in numval.
	PropNumber
	// PropEnum is a number in numval, each with a word.
	PropEnum
	// PropBits is an OR of numbers in numval, each with a word.
	PropBits
	// PropNone has no value in this message: the ACL has methods of its own.
	PropNone
)

// PoolProp is the row of a pool property.
type PoolProp struct {
	Number uint32
	Name   string // key on command lines
	Kind   PropKind
	// Words of PropEnum, by value, and of PropBits, by position of the bit.
	Words []string
	// Min and Max bound a PropNumber; both ends are allowed.
	Min, Max uint64
	// Default is the value of a new pool since 2.8.
	Default uint64
	// ReadOnly is a property that only the engine changes.
	ReadOnly bool
}

const (
	anyU32 = 1<<32 - 1
	anyU64 = 1<<64 - 1
)

// perfWords are the levels of the performance domain, which are not counted from 0.
var perfWords = map[string]uint64{"root": 255, "group": 200}

// poolProps is sorted by number, without a gap.
var poolProps = []PoolProp{
	{Number: PropLabel, Name: "label", Kind: PropText},
	{Number: PropACL, Name: "acl", Kind: PropNone},
	{Number: PropSpaceRB, Name: "space_rb", Kind: PropNumber, Max: 100, Default: 5},
	{Number: PropSelfHeal, Name: "self_heal", Kind: PropBits, Default: SelfHealExclude | SelfHealRebuild,
		Words: []string{"exclude", "rebuild", "delay_rebuild"}},
	{Number: PropReclaim, Name: "reclaim", Kind: PropEnum, Default: 1,
		Words: []string{"disabled", "lazy", "snapshot", "batch", "time"}},
	{Number: PropOwner, Name: "owner", Kind: PropText},
	{Number: PropOwnerGroup, Name: "owner_group", Kind: PropText},
	{Number: PropSvcList, Name: "svc_list", Kind: PropRanks, ReadOnly: true},
	{Number: PropECCellSize, Name: "ec_cell_sz", Kind: PropNumber, Min: 4 << 10, Max: 1 << 20, Default: 128 << 10},
	{Number: PropDataThresh, Name: "data_thresh", Kind: PropNumber, Max: anyU32, Default: 4 << 10},
	{Number: PropRdFac, Name: "rd_fac", Kind: PropNumber, Max: 4, Default: 3},
	{Number: PropECPDA, Name: "ec_pda", Kind: PropNumber, Min: 1, Max: anyU32, Default: 1},
	{Number: PropRPPDA, Name: "rp_pda", Kind: PropNumber, Min: 1, Max: anyU32, Default: anyU32},
	{Number: PropGlobalVersion, Name: "global_version", Kind: PropNumber, Max: anyU32, ReadOnly: true},
	{Number: PropUpgradeStatus, Name: "upgrade_status", Kind: PropEnum, ReadOnly: true,
		Words: []string{"not started", "in progress", "completed", "failed"}},
	{Number: PropScrub, Name: "scrub", Kind: PropEnum, Words: []string{"off", "lazy", "timed"}},
	{Number: PropScrubFreq, Name: "scrub_freq", Kind: PropNumber, Max: anyU64, Default: 604800},
	{Number: PropScrubThresh, Name: "scrub_thresh", Kind: PropNumber, Max: anyU64},
	{Number: PropSvcRF, Name: "svc_rf", Kind: PropNumber, Max: 4, Default: 2},
	{Number: PropObjVersion, Name: "obj_version", Kind: PropNumber, Max: anyU32},
	{Number: PropPerfDomain, Name: "perf_domain", Kind: PropEnum, Default: 255},
	{Number: PropCheckpoint, Name: "checkpoint", Kind: PropEnum, Default: 1, Words: []string{"disabled", "timed", "lazy"}},
	{Number: PropCheckpointFreq, Name: "checkpoint_freq", Kind: PropNumber, Min: 1, Max: 1 << 20, Default: 5},
	{Number: PropCheckpointThresh, Name: "checkpoint_thresh", Kind: PropNumber, Min: 10, Max: 75, Default: 50},
	{Number: PropReintegration, Name: "reintegration", Kind: PropEnum,
		Words: []string{"data_sync", "no_data_sync", "incremental"}},
	{Number: PropSvcOpsEnabled, Name: "svc_ops_enabled", Kind: PropNumber, Max: 1, Default: 1},
	{Number: PropSvcOpsEntryAge, Name: "svc_ops_entry_age", Kind: PropNumber, Min: 60, Max: 600, Default: 300},
}

// PoolProps returns the rows of all pool properties, sorted by number.
func PoolProps() []PoolProp { return slices.Clone(poolProps) }

// PoolPropByNumber returns the row of a property.
func PoolPropByNumber(number uint32) (PoolProp, bool) {
	if number == 0 || int(number) > len(poolProps) {
		return PoolProp{}, false
	}
	return poolProps[number-1], true
}

// PoolPropByName returns the row of a property, by its key on command lines.
func PoolPropByName(name string) (PoolProp, bool) {
	for _, p := range poolProps {
		if p.Name == name {
			return p, true
		}
	}
	return PoolProp{}, false
}

// Check reports a value that the property cannot have: of the wrong kind, out of
// bounds or absent. It asks for numbers, not for the rules of labels and names.
func (p PoolProp) Check(m *pb.PoolProperty) error {
	if p.Kind == PropNone {
		return fault.New(fault.Usage, "cannot set pool property %s: it has methods of its own", p.Name)
	}
	if p.Kind == PropText || p.Kind == PropRanks {
		if _, ok := m.GetValue().(*pb.PoolProperty_Strval); !ok {
			return fault.New(fault.Usage, "cannot set pool property %s: the value is no text", p.Name)
		}
		return nil
	}
	if _, ok := m.GetValue().(*pb.PoolProperty_Numval); !ok {
		return fault.New(fault.Usage, "cannot set pool property %s: the value is no number", p.Name)
	}
	if v := m.GetNumval(); !p.allows(v) {
		return fault.New(fault.Usage, "cannot set pool property %s: %d is not allowed", p.Name, v).WithHint("%s", p.hint())
	}
	return nil
}

func (p PoolProp) allows(v uint64) bool {
	switch {
	case p.Number == PropPerfDomain:
		return v == perfWords["root"] || v == perfWords["group"]
	case p.Kind == PropEnum:
		return v < uint64(len(p.Words))
	case p.Kind == PropBits:
		return v < 1<<len(p.Words)
	}
	return v >= p.Min && v <= p.Max
}

func (p PoolProp) hint() string {
	switch {
	case p.Number == PropPerfDomain:
		return "use one of root, group"
	case p.Kind == PropEnum:
		return "use one of " + strings.Join(p.Words, ", ")
	case p.Kind == PropBits:
		return "use none, or some of " + strings.Join(p.Words, ";")
	}
	return fmt.Sprintf("use a number from %d to %d", p.Min, p.Max)
}

// Parse makes the message of a property from the words of its table row: a word
// of an enumeration, words joined by ";" or "none" for bits, a plain decimal
// number, or a text as it is. Sizes with units are for the command line to resolve.
func (p PoolProp) Parse(value string) (*pb.PoolProperty, error) {
	m := &pb.PoolProperty{Number: p.Number}
	if p.Kind == PropText || p.Kind == PropRanks {
		m.Value = &pb.PoolProperty_Strval{Strval: value}
		return m, nil
	}
	number, ok := p.number(value)
	if !ok && p.Kind != PropNone {
		return nil, fault.New(fault.Usage, "cannot set pool property %s: %q is no such value", p.Name, value).
			WithHint("%s", p.hint())
	}
	m.Value = &pb.PoolProperty_Numval{Numval: number}
	return m, p.Check(m)
}

func (p PoolProp) number(value string) (uint64, bool) {
	switch {
	case p.Number == PropPerfDomain:
		v, ok := perfWords[value]
		return v, ok
	case p.Kind == PropEnum:
		i := slices.Index(p.Words, value)
		return uint64(i), i >= 0
	case p.Kind == PropBits:
		return p.bits(value)
	}
	v, err := strconv.ParseUint(value, 10, 64)
	return v, err == nil
}

func (p PoolProp) bits(value string) (bits uint64, ok bool) {
	if value == "none" {
		return 0, true
	}
	for _, word := range strings.Split(value, ";") {
		i := slices.Index(p.Words, word)
		if i < 0 || bits&(1<<i) != 0 {
			return 0, false
		}
		bits |= 1 << i
	}
	return bits, true
}

// Text is the inverse of Parse: the value as a word, number or text. A number
// without a word is printed as a number.
func (p PoolProp) Text(m *pb.PoolProperty) string {
	if s, ok := m.GetValue().(*pb.PoolProperty_Strval); ok {
		return s.Strval
	}
	v := m.GetNumval()
	switch {
	case !p.allows(v):
	case p.Number == PropPerfDomain:
		for word, number := range perfWords {
			if number == v {
				return word
			}
		}
	case p.Kind == PropEnum:
		return p.Words[v]
	case p.Kind == PropBits && v == 0:
		return "none"
	case p.Kind == PropBits:
		var words []string
		for i, word := range p.Words {
			if v&(1<<i) != 0 {
				words = append(words, word)
			}
		}
		return strings.Join(words, ";")
	}
	return strconv.FormatUint(v, 10)
}

// QueryMask says what a pool query asks for, in field query_mask (since 2.6).
type QueryMask uint64

// The bits of a query. Bits without a name are sent by tools and ignored.
const (
	QuerySpace QueryMask = 1 << iota
	QueryRebuild
	QueryEnabledEngines
	QueryDisabledEngines
	QueryDeadEngines
	QueryRebuildLayout
	QuerySelfHeal
)

// The masks of the usual tools. They are written from the complement, so that
// they have all high bits set.
const (
	QueryDefault = ^(QueryEnabledEngines | QueryDeadEngines | QuerySelfHeal)
	QueryPool    = ^(QueryEnabledEngines | QueryDeadEngines)
	QueryHealth  = ^(QuerySpace | QueryEnabledEngines)
)

// Effective returns the mask that m means: 0 asks for the default.
func (m QueryMask) Effective() QueryMask {
	if m == 0 {
		return QueryDefault
	}
	return m
}

// Has reports whether m asks for all the given bits.
func (m QueryMask) Has(bits QueryMask) bool { return m.Effective()&bits == bits }
