package cluster

import (
	"slices"
	"strings"

	"github.com/google/uuid"

	"daosbox/cluster/fault"
)

// JoinRequest is one engine that asks to be a rank of the system.
type JoinRequest struct {
	// OpID is the operation's id, made by the joining server; a retry repeats it.
	OpID string `json:"op_id,omitempty"`
	// System is the name of the system that the server belongs to.
	System string `json:"system"`
	UUID   string `json:"uuid"`
	// Rank is the rank of the superblock, NilRank when it has none.
	Rank Rank `json:"rank"`
	// Addr is the control address of the joining server, host:port.
	Addr                    string   `json:"addr"`
	FabricURI               string   `json:"fabric_uri"`
	SecondaryFabricURIs     []string `json:"secondary_fabric_uris,omitempty"`
	FabricContexts          uint32   `json:"fabric_contexts"`
	SecondaryFabricContexts []uint32 `json:"secondary_fabric_contexts,omitempty"`
	// FaultDomain may have labels, "/rack=r1/node=n1".
	FaultDomain string `json:"fault_domain"`
	// Index is the number of the engine on its host.
	Index       int    `json:"index"`
	Incarnation uint64 `json:"incarnation"`
	// CheckMode says that the engine was started for the checker.
	CheckMode bool `json:"check_mode,omitempty"`
	// Replace asks to take over the rank of a member that is equal but for its
	// UUID.
	Replace bool `json:"replace,omitempty"`
}

// What a join's reply says of the mode that the engine is to run in.
const (
	// JoinIn is an ordinary member.
	JoinIn = "IN"
	// JoinCheck is a member while the checker is enabled.
	JoinCheck = "CHECK"
)

// JoinResult answers one join.
type JoinResult struct {
	// Err is why the join was refused, nil when it was not.
	Err  *fault.Error `json:"err,omitempty"`
	Rank Rank         `json:"rank"`
	// State is JoinIn or JoinCheck.
	State string `json:"state"`
	// MapVersion is the version of the group map with this join, at least 1; it
	// goes to the engine with SetRank.
	MapVersion uint32 `json:"map_version"`
	// Local says that the leader itself readies the engine, for it is its own
	// first one.
	Local bool `json:"local"`
	// Created says that the rank is new; Previous is its state before otherwise.
	Created  bool        `json:"created"`
	Previous MemberState `json:"previous"`

	replayed bool
}

// JoinBatch is the joins of one log entry. Each is accepted or refused by itself.
type JoinBatch struct {
	Joins []JoinRequest `json:"joins"`
}

// Op implements Body.
func (JoinBatch) Op() Op { return OpJoin }

func (b JoinBatch) check() error {
	if len(b.Joins) > maxList {
		return tooMany("joins", len(b.Joins))
	}
	for i := range b.Joins {
		if err := b.Joins[i].checkSize(); err != nil {
			return err
		}
	}
	return nil
}

func (r *JoinRequest) checkSize() error {
	texts := append([]string{r.System, r.UUID, r.Addr, r.FabricURI, r.FaultDomain}, r.SecondaryFabricURIs...)
	for _, text := range texts {
		if len(text) > maxText {
			return tooLong("text of a join request", len(text))
		}
	}
	if len(r.OpID) > maxOpID {
		return tooLong("operation id of a join request", len(r.OpID))
	}
	if n := max(len(r.SecondaryFabricURIs), len(r.SecondaryFabricContexts)); n > maxDomainDepth {
		return tooMany("secondary fabric interfaces", n)
	}
	return nil
}

// size is about how many bytes the request has in the log.
func (r *JoinRequest) size() int {
	n := 512 + len(r.OpID) + len(r.System) + len(r.UUID) + len(r.Addr) + len(r.FabricURI) + len(r.FaultDomain)
	for _, uri := range r.SecondaryFabricURIs {
		n += len(uri)
	}
	return n
}

func (b JoinBatch) apply(db *DB, _ string) Result {
	res := Result{Joins: make([]JoinResult, 0, len(b.Joins))}
	joined := false
	here := make(map[string]int) // operations of this batch, by id
	for i := range b.Joins {
		id := b.Joins[i].OpID
		if at, twice := here[id]; twice {
			row := res.Joins[at]
			row.replayed = true
			res.Joins = append(res.Joins, row)
			continue
		}
		if id != "" {
			here[id] = i
		}
		row := db.joinOnce(&b.Joins[i])
		joined = joined || row.Err == nil && !row.replayed
		res.Joins = append(res.Joins, row)
	}
	if joined && db.c.attr(AttrPaused) != "" && db.allJoined() {
		db.setAttr(AttrPaused, "")
	}
	return res
}

// joinOnce applies a join, or repeats the answer that the same operation got.
func (db *DB) joinOnce(r *JoinRequest) JoinResult {
	if r.OpID != "" {
		if op, res, ok := db.c.ops.find(r.OpID); ok {
			res = replay(Command{ID: r.OpID, Body: JoinBatch{}}, op, res)
			if res.Err != nil || len(res.Joins) != 1 {
				return JoinResult{Err: res.Err, Rank: NilRank, replayed: true}
			}
			row := res.Joins[0]
			row.replayed = true
			return row
		}
	}
	row, err := db.join(r)
	if err != nil {
		return JoinResult{Err: refuse(err).Err, Rank: NilRank}
	}
	row.State = JoinIn
	if db.c.attr(AttrChecker) == "true" {
		row.State = JoinCheck
	}
	return row
}

// allJoined reports whether every member that engines are told of has joined: a
// member that is not could still have a URI of the old provider.
func (db *DB) allJoined() bool {
	for _, m := range db.c.members.m {
		if m.inGroupMap() && m.State&(StateJoined|StateCheckerStarted) == 0 {
			return false
		}
	}
	return true
}

func (db *DB) join(r *JoinRequest) (JoinResult, error) {
	path, labels, err := db.checkJoin(r)
	if err != nil {
		return JoinResult{}, err
	}
	m := &Member{
		Addr: r.Addr, State: StateJoined, FaultDomain: path, Rank: r.Rank,
		Incarnation: r.Incarnation, UUID: r.UUID, FabricURI: r.FabricURI,
		SecondaryFabricURIs: r.SecondaryFabricURIs, FabricContexts: r.FabricContexts,
		SecondaryFabricContexts: r.SecondaryFabricContexts,
	}
	m = m.clone()
	if r.CheckMode {
		m.State = StateCheckerStarted
	}
	known := db.knownMember(r)
	if err := db.checkDomain(r, known, path, labels); err != nil {
		return JoinResult{}, err
	}
	var row JoinResult
	switch {
	case r.Replace:
		row, err = db.joinReplace(m)
	case known != nil:
		row, err = db.joinKnown(m, known, r.Rank)
	default:
		row, err = db.joinNew(m)
	}
	if err == nil && len(db.c.members.m) == 1 {
		db.setAttr(AttrDomainLabels, strings.Join(labels, "="))
	}
	return row, err
}

// checkJoin looks at the request alone and at the system's settings.
func (db *DB) checkJoin(r *JoinRequest) (path string, labels []string, err error) {
	if id, err := uuid.Parse(r.UUID); err != nil || id.String() != r.UUID {
		return "", nil, fault.New(fault.Usage, "cannot join engine of %s: %.64q is not a UUID in its plain lower-case form", r.Addr, r.UUID)
	}
	if r.Addr == "" {
		return "", nil, fault.New(fault.Usage, "cannot join engine %s: the request has no control address", r.UUID)
	}
	if path, labels, err = splitDomain(r.FaultDomain); err != nil {
		return "", nil, err
	}
	if r.FabricURI == "" {
		return "", nil, fault.New(fault.Usage, "cannot join engine %s of %s: the request has no fabric URI", r.UUID, r.Addr).
			WithHint("see the engine's log for why it has no fabric address")
	}
	return path, labels, db.checkProvider(r)
}

// checkProvider compares the provider of the URI with that of the system.
func (db *DB) checkProvider(r *JoinRequest) error {
	first, _, _ := strings.Cut(db.c.attr(AttrProviders), ",")
	got := ProviderOf(r.FabricURI)
	if first == "" || got == first {
		return nil
	}
	return fault.New(fault.Refused, "cannot join engine %s of %s: its fabric provider is %q, the system's is %q", r.UUID, r.Addr, got, first).
		WithHint("set provider: %s in the configuration of that server", first)
}

// ProviderOf returns the provider part of a fabric URI: "ofi+tcp" of
// "ofi+tcp://10.0.0.1:31416", empty when there is none.
func ProviderOf(uri string) string {
	provider, _, ok := strings.Cut(uri, "://")
	if !ok {
		return ""
	}
	return provider
}

// knownMember finds whom the request is about: by rank, or by UUID when it asks
// for none or for one that is free.
func (db *DB) knownMember(r *JoinRequest) *Member {
	if r.Rank != NilRank {
		if m := db.c.members.m[r.Rank]; m != nil {
			return m
		}
	}
	return db.memberByUUID(r.UUID)
}

// checkDomain holds all members to the same layers.
func (db *DB) checkDomain(r *JoinRequest, known *Member, path string, labels []string) error {
	others := len(db.c.members.m)
	if known != nil {
		others--
	}
	if others == 0 {
		return nil
	}
	var want []string
	if text := db.c.attr(AttrDomainLabels); text != "" {
		want = strings.Split(text, "=")
	}
	if !slices.Equal(want, labels) && len(want) == len(labels) || len(want) == 0 != (len(labels) == 0) {
		return fault.New(BadFaultDomainLabels, "cannot join engine %s of %s: its fault domain %q has the labels %q, the system's are %q",
			r.UUID, r.Addr, r.FaultDomain, strings.Join(labels, "/"), strings.Join(want, "/")).
			WithHint("give fault_path the same labels on all servers, then restart that server")
	}
	for _, m := range db.c.members.m {
		if m == known {
			continue
		}
		if have := domainDepth(m.FaultDomain); have != domainDepth(path) {
			return fault.New(BadFaultDomainDepth, "cannot join engine %s of %s: its fault domain %q has %d layers, the system's have %d",
				r.UUID, r.Addr, path, domainDepth(path), have).
				WithHint("give fault_path the same number of layers on all servers, then restart that server")
		}
		break // all members agree: each was checked when it joined
	}
	return nil
}

// joinKnown refreshes the record of a rank that comes back. The table of
// transitions is not asked: whoever joins is there.
func (db *DB) joinKnown(m, known *Member, asked Rank) (JoinResult, error) {
	changed := func(what string, is, was any) error {
		return fault.New(fault.Refused, "cannot join engine %s of %s: its %s is %v, but rank %d is recorded with %v",
			m.UUID, m.Addr, what, is, known.Rank, was)
	}
	switch {
	case known.State == StateAdminExcluded:
		return JoinResult{}, fault.New(RankAdminExcluded, "cannot join rank %d of %s: the administrator has excluded it", known.Rank, m.Addr).
			WithHint("`dmg system clear-exclude --ranks=%d` lets it join again", known.Rank)
	case asked != NilRank && asked != known.Rank:
		return JoinResult{}, changed("rank", asked, known.Rank)
	case m.UUID != known.UUID:
		if m.sameButUUID(&Member{UUID: known.UUID, Addr: known.Addr, FabricURI: known.FabricURI,
			FaultDomain: known.FaultDomain, SecondaryFabricURIs: known.SecondaryFabricURIs}) {
			return JoinResult{}, memberExists(m, known)
		}
		return JoinResult{}, changed("UUID", m.UUID, known.UUID)
	case m.Addr != known.Addr:
		return JoinResult{}, changed("control address", m.Addr, known.Addr)
	}
	if m.Incarnation < known.Incarnation && known.State&statesAlive != 0 {
		return JoinResult{}, fault.New(fault.Refused, "cannot join rank %d of %s: the request is about an earlier life of the engine (incarnation %d) than the one that joined (%d)",
			known.Rank, m.Addr, m.Incarnation, known.Incarnation).
			WithHint("if the clock of that host was set back: `dmg system exclude --ranks=%d`, then `dmg system clear-exclude --ranks=%d`, and start the rank again", known.Rank, known.Rank)
	}
	m.Rank = known.Rank
	db.putMember(m)
	return JoinResult{Rank: m.Rank, Previous: known.State}, nil
}

func memberExists(m, other *Member) error {
	return fault.New(MemberExists, "cannot join engine %s of %s: rank %d is recorded with the same address, fabric URI and fault domain under UUID %s",
		m.UUID, m.Addr, other.Rank, other.UUID).
		WithHint("if the storage of rank %d was lost, format that server again with `dmg storage format --replace`", other.Rank)
}

// joinNew adds a rank.
func (db *DB) joinNew(m *Member) (JoinResult, error) {
	if other := db.equalMember(m); other != nil {
		return JoinResult{}, memberExists(m, other)
	}
	if m.Rank == NilRank {
		rank, err := db.takeRank()
		if err != nil {
			return JoinResult{}, err
		}
		m.Rank = rank
	}
	db.putMember(m)
	return JoinResult{Rank: m.Rank, Created: true}, nil
}

// takeRank returns the next free rank. Ranks that were asked for by number may be
// ahead of the counter and are stepped over.
func (db *DB) takeRank() (Rank, error) {
	for db.c.nextRank != NilRank {
		rank := db.c.nextRank
		db.c.nextRank++
		if db.c.members.m[rank] != nil {
			continue
		}
		return rank, nil
	}
	return 0, fault.New(fault.Refused, "cannot join: no rank is free")
}

// equalMember finds the member of the lowest rank that equals m in all but the
// UUID.
func (db *DB) equalMember(m *Member) *Member {
	var found *Member
	for _, other := range db.c.members.m {
		if m.sameButUUID(other) && (found == nil || other.Rank < found.Rank) {
			found = other
		}
	}
	return found
}

// joinReplace puts new storage in the place of a member. Whether a pool still has
// the rank enabled was asked by the leader, which alone can ask the engines.
func (db *DB) joinReplace(m *Member) (JoinResult, error) {
	if mine := db.memberByUUID(m.UUID); mine != nil {
		return db.joinKnown(m, mine, m.Rank) // replaced already, and started again
	}
	old := db.equalMember(m)
	if old == nil || m.Rank != NilRank && m.Rank != old.Rank {
		return JoinResult{}, fault.New(ReplaceNotFound, "cannot replace a rank by engine %s of %s: no member has this address, fabric URI %s and fault domain %s",
			m.UUID, m.Addr, m.FabricURI, m.FaultDomain).
			WithHint("compare with `dmg system query --verbose`; format without --replace to add the engine as a new rank")
	}
	m.Rank = old.Rank
	db.putMember(m)
	return JoinResult{Rank: m.Rank, Previous: old.State}, nil
}
