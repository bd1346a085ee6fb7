package emulator

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"daosbox/cluster/hostlist"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// Numbers of pool properties that the emulator itself acts on.
const (
	propLabel      = 1
	propSelfHeal   = 4
	propOwner      = 6
	propOwnerGroup = 7
	propSvcList    = 8
	propRdFac      = 11
	propVersion    = 14
	propSvcRF      = 19
)

// Bits of the property self_heal.
const (
	healExclude = 1
	healRebuild = 2
)

// layoutVersion is the durable format of pools of 2.8.
const layoutVersion = 4

// property is one row of the table of pool properties.
type property struct {
	number   uint32
	name     string
	text     bool
	readOnly bool
	deflt    uint64
	min, max uint64
}

// properties has every property that can be read or set, by number.
func properties() []property {
	const any = math.MaxUint64
	return []property{
		{number: propLabel, name: "label", text: true},
		{number: 3, name: "space_rb", deflt: 5, max: 100},
		{number: propSelfHeal, name: "self_heal", deflt: healExclude | healRebuild, max: 7},
		{number: 5, name: "reclaim", deflt: 1, max: 4},
		{number: propOwner, name: "owner", text: true},
		{number: propOwnerGroup, name: "owner_group", text: true},
		{number: propSvcList, name: "svc_list", text: true, readOnly: true},
		{number: 9, name: "ec_cell_sz", deflt: 131072, min: 4096, max: 1048576},
		{number: 10, name: "data_thresh", deflt: 4096, max: any},
		{number: propRdFac, name: "rd_fac", deflt: 3, max: 4},
		{number: 12, name: "ec_pda", deflt: 1, min: 1, max: math.MaxUint32},
		{number: 13, name: "rp_pda", deflt: math.MaxUint32, min: 1, max: math.MaxUint32},
		{number: propVersion, name: "global_version", readOnly: true, deflt: layoutVersion},
		{number: 15, name: "upgrade_status", readOnly: true},
		{number: 16, name: "scrub", max: 2},
		{number: 17, name: "scrub_freq", deflt: 604800, max: any},
		{number: 18, name: "scrub_thresh", max: any},
		{number: propSvcRF, name: "svc_rf", deflt: 2, max: 4},
		{number: 20, name: "obj_version", readOnly: true, deflt: 1},
		{number: 21, name: "perf_domain", deflt: 255, max: 255},
		{number: 22, name: "checkpoint", deflt: 1, max: 2},
		{number: 23, name: "checkpoint_freq", deflt: 5, min: 1, max: 1048576},
		{number: 24, name: "checkpoint_thresh", deflt: 50, min: 10, max: 75},
		{number: 25, name: "reintegration", max: 2},
		{number: 26, name: "svc_ops_enabled", deflt: 1, max: 1},
		{number: 27, name: "svc_ops_entry_age", deflt: 300, min: 60, max: 600},
	}
}

func findProperty(number uint32) (property, error) {
	for _, p := range properties() {
		if p.number == number {
			return p, nil
		}
	}
	return property{}, fmt.Errorf("%w: there is no pool property %d", drpc.StatusInval, number)
}

// check tells whether a value from the wire may be stored.
func (p property) check(in *pb.PoolProperty) error {
	_, isText := in.GetValue().(*pb.PoolProperty_Strval)
	_, isNumber := in.GetValue().(*pb.PoolProperty_Numval)
	why := ""
	switch n := in.GetNumval(); {
	case p.readOnly:
		why = "it is read only"
	case p.text != isText || p.text == isNumber:
		why = "a value of its kind is missing"
	case p.number == propLabel:
		why = badLabel(in.GetStrval())
	case p.text && !validPrincipal(in.GetStrval()):
		why = "it is no principal"
	case !p.text && (n < p.min || n > p.max):
		why = fmt.Sprintf("%d is not between %d and %d", n, p.min, p.max)
	}
	if why != "" {
		return fmt.Errorf("%w: property %s: %s", drpc.StatusInval, p.name, why)
	}
	return nil
}

func validPrincipal(text string) bool {
	return len(text) > 1 && len(text) <= 256 && strings.IndexByte(text, '@') == len(text)-1
}

func badLabel(label string) string {
	if label == "" || len(label) > 127 {
		return "a label has 1 to 127 characters"
	}
	for _, c := range []byte(label) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("_-.:", rune(c)) {
			return "a label has letters, digits and _ - . : only"
		}
	}
	if _, err := uuid.Parse(label); err == nil {
		return "a label must not look like a UUID"
	}
	return ""
}

// setProps checks all values before it stores any.
func (s *service) setProps(in []*pb.PoolProperty) error {
	for _, one := range in {
		p, err := findProperty(one.GetNumber())
		if err == nil {
			err = p.check(one)
		}
		if err != nil {
			return err
		}
		if one.GetNumber() == propRdFac && one.GetNumval()+1 > uint64(s.domains()) {
			return fmt.Errorf("%w: redundancy factor %d needs more than %d fault domains", drpc.StatusInval, one.GetNumval(), s.domains())
		}
	}
	for _, one := range in {
		switch one.GetNumber() {
		case propLabel:
			s.Label = one.GetStrval()
		case propOwner:
			s.User = one.GetStrval()
		case propOwnerGroup:
			s.Group = one.GetStrval()
		default:
			s.Props[one.GetNumber()] = one.GetNumval()
		}
	}
	return nil
}

// num is the value of a numeric property.
func (s *service) num(number uint32) uint64 {
	if n, ok := s.Props[number]; ok {
		return n
	}
	p, err := findProperty(number)
	if err != nil {
		return 0
	}
	if number == propRdFac { // lowered to what the domains allow unless set
		return min(p.deflt, uint64(max(s.domains(), 1)-1))
	}
	return p.deflt
}

// prop answers for one property.
func (s *service) prop(number uint32) (*pb.PoolProperty, error) {
	p, err := findProperty(number)
	if err != nil {
		return nil, err
	}
	out := &pb.PoolProperty{Number: number}
	text := func(v string) { out.Value = &pb.PoolProperty_Strval{Strval: v} }
	switch number {
	case propLabel:
		text(s.Label)
	case propOwner:
		text(s.User)
	case propOwnerGroup:
		text(s.Group)
	case propSvcList:
		text(rankSet(s.Replicas))
	default:
		out.Value = &pb.PoolProperty_Numval{Numval: s.num(p.number)}
	}
	return out, nil
}

// rankSet is the engine's text of a set of ranks, "[0-2,5]".
func rankSet(ranks []uint32) string {
	set := hostlist.Ranks()
	for _, r := range ranks {
		set.Add(hostlist.Rank(r))
	}
	return "[" + set.String() + "]"
}

func poolGetProp(_ context.Context, _ *engine, s *service, req *pb.PoolGetPropReq) (proto.Message, bool, error) {
	out := new(pb.PoolGetPropResp)
	for _, in := range req.GetProperties() {
		p, err := s.prop(in.GetNumber())
		if err != nil {
			return nil, false, err
		}
		out.Properties = append(out.Properties, p)
	}
	return out, false, nil
}

func poolSetProp(_ context.Context, _ *engine, s *service, req *pb.PoolSetPropReq) (proto.Message, bool, error) {
	if err := s.setProps(req.GetProperties()); err != nil {
		return nil, false, err
	}
	return new(pb.PoolSetPropResp), true, nil
}
