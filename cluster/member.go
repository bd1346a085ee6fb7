package cluster

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
)

// Rank is the number of one engine in the system.
type Rank = hostlist.Rank

// NilRank is the rank of an engine that has none yet.
const NilRank = hostlist.NilRank

// Codes of the inherited fault table that only membership raises.
const (
	// BadFaultDomainDepth is a fault domain with another number of layers than
	// the rest of the system has.
	BadFaultDomainDepth fault.Code = 401
	// ReplaceNotFound is a replacing join that matches no member.
	ReplaceNotFound fault.Code = 403
	// MemberExists is a join that equals a member in all but the UUID.
	MemberExists fault.Code = 404
	// BadFaultDomainLabels is a fault domain whose layers are named otherwise.
	BadFaultDomainLabels fault.Code = 620
	// ReplaceEnabledRank is a replacing join of a rank that a pool still uses.
	ReplaceEnabledRank fault.Code = 622
	// RankAdminExcluded is a rank that the administrator has excluded.
	RankAdminExcluded fault.Code = 623
)

// MemberState is the state of a rank as the system knows it. The values are
// bits, so that several make a filter; they are those of DAOS 2.x.
type MemberState uint32

// The states of a member.
const (
	StateUnknown        MemberState = 0
	StateAwaitFormat    MemberState = 0x1
	StateStarting       MemberState = 0x2
	StateReady          MemberState = 0x4
	StateJoined         MemberState = 0x8
	StateStopping       MemberState = 0x10
	StateStopped        MemberState = 0x20
	StateExcluded       MemberState = 0x40
	StateErrored        MemberState = 0x80
	StateUnresponsive   MemberState = 0x100
	StateAdminExcluded  MemberState = 0x200
	StateCheckerStarted MemberState = 0x400

	// StatesAll selects every member.
	StatesAll MemberState = 0xFFFF
	// StatesAvailable selects the members that a new pool may use.
	StatesAvailable = StateReady | StateJoined
	// statesAlive selects the members whose engine has joined and may still run.
	statesAlive = StateJoined | StateCheckerStarted | StateReady
	// StatesOutsideMap selects the members that the group map leaves out.
	StatesOutsideMap = StateAwaitFormat | StateExcluded | StateAdminExcluded
)

// stateNames is in the order of the values.
var stateNames = [...]struct {
	state MemberState
	name  string
}{
	{StateUnknown, "Unknown"},
	{StateAwaitFormat, "AwaitFormat"},
	{StateStarting, "Starting"},
	{StateReady, "Ready"},
	{StateJoined, "Joined"},
	{StateStopping, "Stopping"},
	{StateStopped, "Stopped"},
	{StateExcluded, "Excluded"},
	{StateErrored, "Errored"},
	{StateUnresponsive, "Unresponsive"},
	{StateAdminExcluded, "AdminExcluded"},
	{StateCheckerStarted, "CheckerStarted"},
}

// MemberStates returns every state a member can be in, in the order of values.
func MemberStates() []MemberState {
	all := make([]MemberState, 0, len(stateNames))
	for _, row := range stateNames {
		all = append(all, row.state)
	}
	return all
}

// String returns the name people see, "Joined".
func (s MemberState) String() string {
	for _, row := range stateNames {
		if row.state == s {
			return row.name
		}
	}
	return "MemberState(0x" + strconv.FormatUint(uint64(s), 16) + ")"
}

// ParseMemberState understands a state's name in any case.
func ParseMemberState(name string) (MemberState, error) {
	for _, row := range stateNames {
		if strings.EqualFold(row.name, strings.TrimSpace(name)) {
			return row.state, nil
		}
	}
	return 0, fault.New(fault.Usage, "cannot use member state %q: no such state", name).
		WithHint("use one of %s", strings.ToLower(stateList()))
}

func stateList() string {
	names := make([]string, 0, len(stateNames))
	for _, row := range stateNames {
		names = append(names, row.name)
	}
	return strings.Join(names, ", ")
}

// MarshalJSON writes the lower-case name, which scripts compare.
func (s MemberState) MarshalJSON() ([]byte, error) {
	return json.Marshal(strings.ToLower(s.String()))
}

// UnmarshalJSON reads a name in any case, or the number.
func (s *MemberState) UnmarshalJSON(data []byte) error {
	var name string
	if err := json.Unmarshal(data, &name); err == nil {
		state, err := ParseMemberState(name)
		if err != nil {
			return err
		}
		*s = state
		return nil
	}
	var number uint32
	if err := json.Unmarshal(data, &number); err != nil {
		return fault.New(fault.Usage, "cannot read member state %.40s: neither a name nor a number", data)
	}
	*s = MemberState(number)
	return nil
}

// forbidden lists, by the state a member is in, the states that a result or an
// event may not put it into.
func forbidden(from MemberState) MemberState {
	switch from {
	case StateUnknown, StateAdminExcluded:
		return StatesAll
	case StateAwaitFormat, StateStarting, StateReady:
		return StateExcluded
	case StateJoined:
		return StateReady
	case StateErrored, StateUnresponsive:
		return StateReady | StateJoined | StateStopping
	case StateCheckerStarted:
		return StateReady | StateJoined
	case StateExcluded:
		return StateErrored | StateStopping | StateStopped | StateStarting | StateReady | StateUnresponsive
	}
	return 0
}

// MayBecome reports whether a result or an event may move a member from s to
// next. The same state again is no move. Join, exclusion by the administrator and
// its lifting do not ask.
func (s MemberState) MayBecome(next MemberState) bool {
	if s == next || next == StateUnknown && forbidden(s) == StatesAll {
		return false
	}
	return forbidden(s)&next == 0
}

// Member is one rank of the system. The JSON keys are those of `system query`.
type Member struct {
	// Addr is the control address of the rank's server, host:port.
	Addr  string      `json:"addr"`
	State MemberState `json:"state"`
	// FaultDomain is the path of the rank's place, "/rack1/node3", without labels.
	FaultDomain string `json:"fault_domain"`
	Rank        Rank   `json:"rank"`
	// Incarnation is the engine's start time (HLC); it grows with each start.
	Incarnation             uint64   `json:"incarnation"`
	UUID                    string   `json:"uuid"`
	FabricURI               string   `json:"fabric_uri"`
	SecondaryFabricURIs     []string `json:"secondary_fabric_uris"`
	FabricContexts          uint32   `json:"fabric_contexts"`
	SecondaryFabricContexts []uint32 `json:"secondary_fabric_contexts"`
	// Info is the reason of the state, empty when there is none.
	Info       string    `json:"info"`
	LastUpdate time.Time `json:"last_update"`
}

// clone returns a copy that shares nothing and whose lists are not nil.
func (m *Member) clone() *Member {
	c := *m
	c.SecondaryFabricURIs = append([]string{}, m.SecondaryFabricURIs...)
	c.SecondaryFabricContexts = append([]uint32{}, m.SecondaryFabricContexts...)
	return &c
}

// inGroupMap reports whether engines are told of this member.
func (m *Member) inGroupMap() bool {
	return m.State&StatesOutsideMap == 0 && m.Rank != NilRank && m.FabricURI != ""
}

// sameButUUID reports whether two members stand for the same engine of the same
// host with other storage: everything that stays when storage is replaced agrees.
func (m *Member) sameButUUID(o *Member) bool {
	return m.UUID != o.UUID && m.Addr == o.Addr && m.FabricURI == o.FabricURI &&
		m.FaultDomain == o.FaultDomain && slices.Equal(m.SecondaryFabricURIs, o.SecondaryFabricURIs)
}

// domainDepth counts the layers of a fault domain.
func domainDepth(domain string) int {
	return len(strings.FieldsFunc(domain, func(r rune) bool { return r == '/' }))
}

// splitDomain takes "/rack=r1/node=n1" apart into the plain path and the labels
// of its layers; labels is empty when the layers have none.
func splitDomain(domain string) (path string, labels []string, err error) {
	bad := func(why string) error {
		return fault.New(BadFaultDomainLabels, "cannot use fault domain %q: %s", domain, why).
			WithHint("write /level1/level2 or /label1=level1/label2=level2 as fault_path in the server's configuration")
	}
	if !strings.HasPrefix(domain, "/") {
		return "", nil, bad("it does not start with /")
	}
	layers := strings.Split(strings.TrimPrefix(domain, "/"), "/")
	if len(layers) > maxDomainDepth {
		return "", nil, bad("too many layers")
	}
	for i, layer := range layers {
		label, value, has := strings.Cut(layer, "=")
		if !has {
			label, value = "", layer
		}
		if value == "" || has && label == "" {
			return "", nil, bad("a layer is empty")
		}
		if i > 0 && has != (len(labels) > 0) {
			return "", nil, bad("only some layers have a label")
		}
		if has {
			labels = append(labels, label)
		}
		path += "/" + value
	}
	return path, labels, nil
}
