package cluster

import (
	"encoding/json"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

func TestTransitions(t *testing.T) {
	is := is.New(t)
	const (
		u  = StateUnknown
		af = StateAwaitFormat
		st = StateStarting
		rd = StateReady
		jd = StateJoined
		sg = StateStopping
		sd = StateStopped
		ex = StateExcluded
		er = StateErrored
		un = StateUnresponsive
		ae = StateAdminExcluded
		ck = StateCheckerStarted
	)
	forbidden := map[MemberState][]MemberState{
		u:  MemberStates(),
		ae: MemberStates(),
		af: {ex}, st: {ex}, rd: {ex},
		jd: {rd},
		er: {rd, jd, sg},
		un: {rd, jd, sg},
		ck: {rd, jd},
		ex: {er, sg, sd, st, rd, un},
	}
	for _, from := range MemberStates() {
		for _, to := range MemberStates() {
			want := from != to
			for _, no := range forbidden[from] {
				if no == to {
					want = false
				}
			}
			if from.MayBecome(to) != want {
				t.Errorf("%v to %v: allowed %v, want %v", from, to, !want, want)
			}
		}
	}
	is.Equal(len(MemberStates()), 12)
}

func TestStateNames(t *testing.T) {
	is := is.New(t)
	for _, s := range MemberStates() {
		data, err := json.Marshal(s)
		is.NoErr(err)
		var back MemberState
		is.NoErr(json.Unmarshal(data, &back))
		is.Equal(back, s)
	}
	data, _ := json.Marshal(StateAdminExcluded)
	is.Equal(string(data), `"adminexcluded"`)
	_, err := ParseMemberState("gone")
	is.Equal(fault.Of(err), fault.Usage)
	is.Equal(uint32(StateCheckerStarted), uint32(0x400))
}

func TestMemberJSON(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	data, err := json.Marshal(db.View().Member(1))
	is.NoErr(err)
	var keys map[string]any
	is.NoErr(json.Unmarshal(data, &keys))
	for _, key := range []string{"addr", "state", "fault_domain", "rank", "incarnation", "uuid", "fabric_uri",
		"secondary_fabric_uris", "fabric_contexts", "secondary_fabric_contexts", "info", "last_update"} {
		value, ok := keys[key]
		is.True(ok)           // every key is there
		is.True(value != nil) // and lists are never null
	}
	is.Equal(len(keys), 12)
	is.Equal(keys["state"], "joined")
}

func TestSplitDomain(t *testing.T) {
	is := is.New(t)
	path, labels, err := splitDomain("/rack=r1/node=n1")
	is.NoErr(err)
	is.Equal(path, "/r1/n1")
	is.Equal(labels, []string{"rack", "node"})
	path, labels, err = splitDomain("/n1")
	is.NoErr(err)
	is.Equal(path, "/n1")
	is.Equal(len(labels), 0)
	for _, bad := range []string{"", "n1", "/", "/a//b", "/rack=r/n", "/n/rack=r", "/=x", "/x="} {
		_, _, err := splitDomain(bad)
		is.Equal(fault.Of(err), BadFaultDomainLabels)
	}
}
