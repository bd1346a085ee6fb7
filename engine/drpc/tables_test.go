package drpc

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/drpctest"
	"daosbox/engine/drpc/pb"
)

func TestMethods(t *testing.T) {
	is := is.New(t)
	all := Methods()
	is.Equal(len(all), 57)
	names := make(map[string]bool)
	for i, info := range all {
		is.True(i == 0 || all[i-1].Method < info.Method) // sorted, unique
		is.True(!names[info.Name])
		names[info.Name] = true
		is.Equal(info.Method.Module(), info.Module) // hundreds digit
		is.True(info.Since >= V12 && info.Since <= V28)
		is.True(info.Method.In(V28))
		is.Equal(info.Method.In(V26), info.Since <= V26)
	}
	for m, since := range map[Method]Family{MethodSetRank: V12, MethodPoolUpgrade: V22, MethodListPools: V262,
		MethodGetGroupStatus: V28, MethodGetSysProps: V28} {
		is.Equal(m.In(since), true)
		is.Equal(m.In(since-1), false)
	}
	_, ok := Method(201).Info()
	is.True(!ok) // defined on the other side, served by nobody
	is.Equal(MethodSetRank.String(), "SetRank(202)")
	is.Equal(Method(999).String(), "method 999")
}

// Every message, field, number and type is the one of the independent table, and
// the other way round.
func TestMessagesMatchTable(t *testing.T) {
	is := is.New(t)
	table := drpctest.Messages()
	seen := make(map[string]bool)
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(file.Path(), "engine/drpc/pb/") {
			compareMessages(t, table, file.Messages(), seen)
		}
		return true
	})
	is.Equal(slices.Sorted(maps.Keys(seen)), slices.Sorted(maps.Keys(table)))
}

func compareMessages(t *testing.T, table drpctest.Table, list protoreflect.MessageDescriptors, seen map[string]bool) {
	t.Helper()
	for i := range list.Len() {
		m := list.Get(i)
		if m.IsMapEntry() {
			continue
		}
		name := string(m.FullName())
		specs, ok := table[name]
		seen[name] = true
		if !ok || m.Fields().Len() != len(specs) {
			t.Errorf("%s: %d fields, in the table %d", name, m.Fields().Len(), len(specs))
			continue
		}
		for _, spec := range specs {
			if f := m.Fields().ByName(protoreflect.Name(spec.Name)); f == nil || specOf(f) != spec {
				t.Errorf("%s: %+v differs", name, spec)
			}
		}
		compareMessages(t, table, m.Messages(), seen)
	}
}

func specOf(f protoreflect.FieldDescriptor) drpctest.Spec {
	spec := drpctest.Spec{Name: string(f.Name()), Number: int(f.Number()), Repeated: f.IsList(), Type: f.Kind().String()}
	switch {
	case f.IsMap():
		spec.Type = "map"
	case f.Message() != nil:
		spec.Message = string(f.Message().FullName())
	}
	return spec
}

func TestEvents(t *testing.T) {
	is := is.New(t)
	for f := V12; f <= VHead; f++ {
		ids := make(map[uint32]string)
		for _, row := range events {
			id, ok := EventID(f, row.name)
			if !ok {
				continue
			}
			is.Equal(ids[id], "") // no number twice in a release
			ids[id] = row.name
			is.Equal(EventName(f, id), row.name)
		}
		for id := range uint32(len(ids)) { // positions of a list have no gap
			is.True(ids[id] != "")
		}
	}
	is.Equal(EventName(V28, 4242), "")
	is.Equal(EventName(0, 1), "")
	_, ok := EventID(VHead+1, EventEngineDied)
	is.True(!ok)
	id, ok := EventID(V28, EventSwimRankDead)
	is.True(ok)
	is.Equal(id, uint32(17))
}

// The framing leaves several lists of numbers; what matters is found all the same.
func TestEventOf(t *testing.T) {
	is := is.New(t)
	dead := func(id uint32) *pb.RASEvent { return &pb.RASEvent{Id: id, Type: EventStateChange} }
	replicas := dead(9)
	replicas.ExtendedInfo = &pb.RASEvent_PoolSvcInfo{PoolSvcInfo: new(pb.RASEvent_PoolSvcEventInfo)}
	for _, c := range []struct {
		framing Framing
		event   *pb.RASEvent
		want    string
	}{
		{Datagram, dead(15), EventSwimRankDead}, // 2.4 to 2.6.4
		{Datagram, dead(16), EventSwimRankDead}, // 2.6.5
		{Datagram, &pb.RASEvent{Id: 15, Type: EventStateChange, Msg: "rank is alive"}, "swim_rank_alive"},
		{Chunked, dead(17), EventSwimRankDead},
		{Chunked, dead(16), "swim_rank_alive"},
		{Datagram, replicas, EventPoolReplicasUpdated},
		{Chunked, &pb.RASEvent{Id: 5, Type: EventInfo}, EventEngineSelfTerminated},
		{Datagram, &pb.RASEvent{Id: 5, Type: EventInfo}, "pool_corruption_detected"},
		{Chunked, &pb.RASEvent{Id: 29, Type: EventInfo, Severity: SeverityNotice}, "device_led_set"},
		{Chunked, &pb.RASEvent{Id: 29, Type: EventInfo, Severity: SeverityError}, "obj_csum_error"},
		{Chunked, &pb.RASEvent{Id: 30, Type: EventInfo}, "device_led_set"},
		{Datagram, &pb.RASEvent{Id: 77}, ""},
		{Chunked, nil, "unknown_ras_event"},
	} {
		is.Equal(EventOf(c.framing, c.event), c.want)
	}
}

func TestStatuses(t *testing.T) {
	is := is.New(t)
	is.Equal(len(statuses), 99)
	names := make(map[string]bool)
	for i, row := range statuses {
		is.True(i == 0 || statuses[i-1].number > row.number) // sorted, unique
		is.True(row.name != "" && row.meaning != "" && !names[row.name])
		names[row.name] = true
		is.Equal(row.number.String(), "DER_"+row.name)
	}
	for s, name := range map[Status]string{StatusNonexist: "DER_NONEXIST", StatusGrpVer: "DER_GRPVER",
		StatusNotReplica: "DER_NOTREPLICA", StatusNoService: "DER_NO_SERVICE", StatusBadCert: "DER_BAD_CERT", 0: "DER_SUCCESS"} {
		is.Equal(s.String(), name)
	}
}

func TestFamilies(t *testing.T) {
	is := is.New(t)
	for _, f := range bothFramings {
		is.Equal(FramingOf(FamilyOf(f)), f)
	}
	is.Equal(V26.String(), "2.6.5")
	is.Equal(VHead.String(), "after 2.8.0")
	is.Equal(Family(99).String(), "unknown")
}

func TestPoolProps(t *testing.T) {
	is := is.New(t)
	all := PoolProps()
	is.Equal(len(all), 27)
	for i, p := range all {
		is.Equal(p.Number, uint32(i+1))
		byName, ok := PoolPropByName(p.Name)
		is.True(ok)
		is.Equal(byName.Number, p.Number)
		if p.Kind == PropNone || p.Kind == PropText || p.Kind == PropRanks || p.ReadOnly {
			continue
		}
		m := &pb.PoolProperty{Number: p.Number, Value: &pb.PoolProperty_Numval{Numval: p.Default}}
		is.NoErr(p.Check(m)) // the default is allowed
		again, err := p.Parse(p.Text(m))
		is.NoErr(err)
		is.Equal(again.GetNumval(), p.Default)
	}
	_, ok := PoolPropByNumber(28)
	is.True(!ok)
	_, ok = PoolPropByNumber(0)
	is.True(!ok)
	_, ok = PoolPropByName("policy")
	is.True(!ok)
}

func TestPoolPropValues(t *testing.T) {
	is := is.New(t)
	parse := func(name, value string) (*pb.PoolProperty, error) {
		p, ok := PoolPropByName(name)
		is.True(ok)
		return p.Parse(value)
	}
	for _, c := range []struct {
		name, value string
		want        uint64
	}{
		{"self_heal", "none", 0}, {"self_heal", "rebuild;exclude", 3}, {"self_heal", "exclude;delay_rebuild", 5},
		{"reclaim", "time", 4}, {"perf_domain", "group", 200}, {"scrub", "timed", 2}, {"space_rb", "0", 0},
		{"checkpoint_thresh", "75", 75}, {"reintegration", "incremental", 2},
	} {
		m, err := parse(c.name, c.value)
		is.NoErr(err)
		is.Equal(m.GetNumval(), c.want)
	}
	for name, value := range map[string]string{"self_heal": "exclude;exclude", "reclaim": "often", "perf_domain": "rack",
		"space_rb": "101", "checkpoint_thresh": "9", "rd_fac": "-1", "acl": "A::OWNER@:rw", "ec_pda": "0"} {
		_, err := parse(name, value)
		is.Equal(fault.Of(err), fault.Usage)
	}
	label, _ := PoolPropByNumber(PropLabel)
	is.True(label.Check(&pb.PoolProperty{Number: PropLabel}) != nil) // no value
	m, err := parse("label", "pool")
	is.NoErr(err)
	is.Equal(label.Text(m), "pool")
	heal, _ := PoolPropByNumber(PropSelfHeal)
	is.True(heal.Check(m) != nil)                                                                       // text for a number
	is.Equal(heal.Text(&pb.PoolProperty{Value: &pb.PoolProperty_Numval{Numval: 64}}), "64")             // no word
	is.Equal(heal.Text(&pb.PoolProperty{Value: &pb.PoolProperty_Numval{Numval: 3}}), "exclude;rebuild") // canonical order
}

func TestQueryMask(t *testing.T) {
	is := is.New(t)
	for mask, want := range map[QueryMask]int64{QueryDefault: -85, QueryPool: -21, QueryHealth: -6} {
		is.Equal(int64(mask), want) // as tools send it
	}
	is.True(QueryMask(0).Has(QuerySpace | QueryRebuild | QueryDisabledEngines))
	is.True(!QueryMask(0).Has(QueryEnabledEngines))
	is.True(!QueryMask(1).Has(QuerySpace | QueryRebuild))
}

func TestFaultDomains(t *testing.T) {
	is := is.New(t)
	tree := &FaultDomain{ID: 1, Children: []*FaultDomain{
		{ID: 2, Children: []*FaultDomain{{ID: 4, Ranks: []uint32{0, 1}}}},
		{ID: 3, Children: []*FaultDomain{{ID: 5, Ranks: []uint32{7}}, {ID: 6, Ranks: []uint32{2}}}},
	}}
	words, err := tree.Words(TreePerfLevel)
	is.NoErr(err)
	is.Equal(words, []uint32{2, 3, 1, 2, 2, 2, 1, 2, 3, 2, 1, 4, 2, 1, 5, 1, 1, 6, 1, 0, 1, 7, 2})
	root, flags, err := ParseFaultDomains(words)
	is.NoErr(err)
	is.Equal(flags, TreePerfLevel)
	is.Equal(root, tree)

	for _, bad := range []*FaultDomain{
		{ID: 2, Ranks: []uint32{1}},
		{ID: 1},
		{ID: 1, Children: []*FaultDomain{{ID: 2, Ranks: []uint32{0}}, {ID: 3}}},
		{ID: 1, Children: []*FaultDomain{{ID: 2, Ranks: []uint32{0}}, {ID: 3, Children: []*FaultDomain{{ID: 4, Ranks: []uint32{1}}}}}},
	} {
		_, err := bad.Words(0)
		is.True(err != nil)
	}
	for _, bad := range [][]uint32{nil, {0, 1, 1}, {0, 0, 1, 1, 5}, {0, 2, 9, 1, 1, 2, 1, 0}, {0, 2, 1, 1, 1, 1, 1, 0},
		{0, 2, 1, 1, 2, 2, 1, 0}, {0, 2, 1, 1, 1, 2, 2, 0}, {0, 2, 1, 1, 1, 2, 1, 0, 1}, {0, 2, 1, 4294967295, 1, 2, 1, 0}} {
		_, _, err := ParseFaultDomains(bad)
		is.Equal(fault.Of(err), fault.Protocol)
	}
}

func TestNewCredential(t *testing.T) {
	is := is.New(t)
	sys := &pb.Sys{Machinename: "node1", User: Principal("alice"), Group: Principal("hpc"), Groups: []string{"hpc@", "lab@"}}
	cred, err := NewCredential(sys, func(b []byte) ([]byte, error) { return append([]byte("sig:"), b[:4]...), nil })
	is.NoErr(err)
	is.Equal(string(cred.GetVerifier().GetData()[:4]), "sig:")
	fields, err := drpctest.Messages().Decode("auth.Sys", cred.GetToken().GetData())
	is.NoErr(err)
	is.Equal(fields, map[string]any{"machinename": "node1", "user": "alice@", "group": "hpc@", "groups": []any{"hpc@", "lab@"}})

	_, err = NewCredential(sys, func([]byte) ([]byte, error) { return nil, StatusBadCert })
	is.True(err != nil)
	_, err = NewCredential(&pb.Sys{User: "\xff"}, nil)
	is.True(err != nil)

	good, err := NewCredential(sys, nil)
	is.NoErr(err)
	is.Equal(VerifyCredential(good, nil), StatusOK)
	good.Token.Data[0]++
	is.Equal(VerifyCredential(good, nil), StatusNoPerm)
	is.Equal(VerifyCredential(nil, nil), StatusInval)
	is.Equal(VerifyCredential(&pb.Credential{Token: good.GetToken()}, nil), StatusInval)
	is.Equal(VerifyCredential(good, func(_, _ []byte) error { return StatusNoPerm }), StatusNoPerm)
}
