package drpc

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/pb"
)

// Messages are kept in the layout since 2.8. What releases up to 2.6 lay out in
// another way under the same number is translated here; what they only lack is
// ignored by one side and default at the other.

// oldDeadRanks is the number that dead_ranks had in PoolQueryResp from 2.6.3 to
// 2.6.5; since 2.8 another field with another wire type has it.
const oldDeadRanks protowire.Number = 21

// toFamily returns m as releases of family f read it; m itself stays.
func toFamily(f Family, m proto.Message) (proto.Message, error) {
	if f >= V28 {
		return m, nil
	}
	switch m := m.(type) {
	case *pb.PoolCreateReq:
		// The number was meta_blob_size, in bytes: a ratio would be misread.
		if m.GetMemRatio() != 0 {
			return nil, fault.New(fault.Refused, "cannot send a memory ratio to an engine of release 2.6 or older").
				WithHint("leave the memory ratio away, or update DAOS on the engine's host")
		}
	case *pb.PoolQueryResp:
		return oldPoolQuery(m), nil
	}
	return m, nil
}

func oldPoolQuery(m *pb.PoolQueryResp) *pb.PoolQueryResp {
	m = proto.Clone(m).(*pb.PoolQueryResp)
	if r := m.GetRebuild(); r != nil {
		r.State = rebuildToOld(r.GetState())
		r.DerivedState, r.Degraded = 0, false
	}
	dead := m.GetDeadRanks()
	m.MemFileBytes, m.DeadRanks, m.MdOnSsdActive, m.SelfHealPolicy, m.SysSelfHealPolicy = 0, "", false, "", ""
	if dead != "" {
		raw := protowire.AppendTag(nil, oldDeadRanks, protowire.BytesType)
		m.ProtoReflect().SetUnknown(protowire.AppendString(raw, dead))
	}
	return m
}

// fromFamily changes m, decoded from a peer of family f, to today's meaning.
func fromFamily(f Family, m proto.Message) {
	resp, ok := m.(*pb.PoolQueryResp)
	if f >= V28 || !ok {
		return
	}
	if r := resp.GetRebuild(); r != nil {
		r.State = rebuildFromOld(r.GetState())
	}
	raw := resp.ProtoReflect().GetUnknown()
	var rest []byte
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeField(raw)
		if n < 0 {
			return
		}
		if number == oldDeadRanks && kind == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(raw)
			text, _ := protowire.ConsumeString(raw[tag:])
			resp.DeadRanks = text
		} else {
			rest = append(rest, raw[:n]...)
		}
		raw = raw[n:]
	}
	resp.ProtoReflect().SetUnknown(rest)
}

// The states of a rebuild were IDLE 0, DONE 1, BUSY 2 up to 2.6.
func rebuildFromOld(s pb.PoolRebuildStatus_State) pb.PoolRebuildStatus_State {
	switch s {
	case 0:
		return pb.PoolRebuildStatus_IDLE
	case 1:
		return pb.PoolRebuildStatus_DONE
	case 2:
		return pb.PoolRebuildStatus_BUSY
	}
	return s
}

// Old releases have three states: what was added since counts as busy until the
// rebuild has come to its end.
func rebuildToOld(s pb.PoolRebuildStatus_State) pb.PoolRebuildStatus_State {
	switch s {
	case pb.PoolRebuildStatus_IDLE:
		return 0
	case pb.PoolRebuildStatus_DONE, pb.PoolRebuildStatus_STOPPED, pb.PoolRebuildStatus_FAILED:
		return 1
	}
	return 2
}
