package cluster

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"daosbox/cluster/fault"
)

// The models are written anew, not taken from the database that they check.

type attrIn struct {
	key   string
	write bool
	value string
}

var attrModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		op := in.(attrIn)
		if !op.write {
			return out == nil || out == state, state
		}
		return out == nil || out == fault.Code(0), op.value
	},
}

type poolKind int

const (
	poolRead poolKind = iota
	poolAdd
	poolRemove
)

type poolIn struct {
	label string
	kind  poolKind
	uuid  string
}

// The state is the UUID of the pool that has the label.
var poolModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		op := in.(poolIn)
		want, next := any(fault.Code(0)), state
		switch {
		case op.kind == poolRead:
			want = state
		case op.kind == poolAdd && state == "":
			next = op.uuid
		case op.kind == poolAdd:
			want = fault.DuplicateLabel
		case state == op.uuid:
			next = ""
		default:
			want = fault.NotFound
		}
		return out == nil || out == want, next
	},
}

type rankKind int

const (
	rankRead rankKind = iota
	rankJoin
	rankDead
	rankDied
	rankExclude
	rankLift
)

type rankIn struct {
	host int
	kind rankKind
	inc  uint64
}

type rankOut struct {
	code    fault.Code
	there   bool // a read found it; a join found it there
	state   MemberState
	inc     uint64
	rank    Rank
	changed bool
	known   bool // a death that the leader knows of already
}

type rankState struct {
	there bool
	state MemberState
	inc   uint64
}

var rankModel = porcupine.Model{
	Init: func() any { return rankState{} },
	Step: func(state, in, out any) (bool, any) {
		s, op := state.(rankState), in.(rankIn)
		got, told := out.(rankOut)
		switch op.kind {
		case rankRead:
			return !told || got.there == s.there && got.state == s.state && got.inc == s.inc, s
		case rankJoin:
			return joinStep(s, op, got, told)
		}
		next := s
		switch {
		case !s.there:
		case op.kind == rankExclude:
			next.state = StateAdminExcluded
		case op.kind == rankLift && s.state == StateAdminExcluded:
			next.state = StateExcluded
		case op.inc < s.inc || s.state == StateAdminExcluded || op.kind == rankLift:
		case op.kind == rankDead:
			next.state = StateExcluded
		case s.state == StateJoined:
			next.state = StateErrored
		}
		if told && got.known {
			return next == s, s
		}
		return !told || got.state == next.state && got.changed == (next != s), next
	},
}

func joinStep(s rankState, op rankIn, got rankOut, told bool) (bool, rankState) {
	next := rankState{there: true, state: StateJoined, inc: op.inc}
	switch {
	case s.there && s.state == StateAdminExcluded:
		return !told || got.code == RankAdminExcluded, s
	case s.there && op.inc < s.inc && s.state == StateJoined:
		return !told || got.code == fault.Refused, s
	}
	return !told || got.code == 0 && got.there == s.there && got.state == s.state, next
}

// check holds the history to the promises.
func (w *world) check() {
	w.linearizable()
	w.uniqueRanks()
	w.versions()
}

func (w *world) linearizable() {
	parts := map[string][]porcupine.Operation{}
	for _, st := range w.history {
		key := ""
		switch in := st.what.(type) {
		case attrIn:
			key = "attribute " + in.key
		case poolIn:
			key = "pool " + in.label
		case rankIn:
			key = fmt.Sprint("rank of host ", in.host)
		}
		parts[key] = append(parts[key], porcupine.Operation{ClientId: st.who, Input: st.what, Output: st.out, Call: st.call, Return: st.ret})
	}
	for key, ops := range sortedPairs(parts) {
		model := attrModel
		switch ops[0].Input.(type) {
		case poolIn:
			model = poolModel
		case rankIn:
			model = rankModel
		}
		switch porcupine.CheckOperationsTimeout(model, ops, 20*time.Second) {
		case porcupine.Illegal:
			text := ""
			for _, op := range ops {
				text += fmt.Sprintf("\n\t%12d %20d %+v = %+v", op.Call, op.Return, op.Input, op.Output)
			}
			w.fail("%s: no order of these operations explains the answers%s", key, text)
		case porcupine.Unknown:
			w.tell("%s: the check was given up after 20 s", key)
		}
	}
}

// uniqueRanks: a rank has one host for ever, a host one rank.
func (w *world) uniqueRanks() {
	owner, ranks := map[Rank]int{}, map[int]Rank{}
	for _, st := range w.history {
		in, ok := st.what.(rankIn)
		out, told := st.out.(rankOut)
		if !ok || !told || in.kind != rankJoin || out.code != 0 {
			continue
		}
		if other, ok := owner[out.rank]; ok && other != in.host {
			w.fail("hosts %d and %d both got rank %d", other, in.host, out.rank)
		}
		if other, ok := ranks[in.host]; ok && other != out.rank {
			w.fail("host %d got the ranks %d and %d", in.host, other, out.rank)
		}
		owner[out.rank], ranks[in.host] = in.host, out.rank
	}
}

// versions: an entry has a version of its own; what begins after an answer has
// greater ones.
func (w *world) versions() {
	seen := map[uint64]step{}
	byReturn := slices.SortedFunc(slices.Values(w.history), func(a, b step) int { return cmp.Compare(a.ret, b.ret) })
	byCall := slices.SortedFunc(slices.Values(w.history), func(a, b step) int { return cmp.Compare(a.call, b.call) })
	at := 0
	var version uint64
	var mapVersion uint32
	for _, st := range byCall {
		for ; at < len(byReturn) && byReturn[at].ret < st.call; at++ {
			version, mapVersion = max(version, byReturn[at].version), max(mapVersion, byReturn[at].mapVersion)
		}
		if st.version != 0 {
			if other, twice := seen[st.version]; twice {
				w.fail("two operations have version %d: %+v and %+v", st.version, other.what, st.what)
			}
			seen[st.version] = st
			if st.version <= version {
				w.fail("%+v has version %d, though %d was answered before it began", st.what, st.version, version)
			}
			if st.mapVersion < mapVersion {
				w.fail("%+v has map version %d, though %d was answered before it began", st.what, st.mapVersion, mapVersion)
			}
		}
	}
}

func sortedPairs[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
