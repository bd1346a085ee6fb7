package cluster

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"daosbox/cluster/fault"
)

// Op is the number of a kind of command in the log. Append only: a number is
// never given a second meaning.
type Op uint16

// The commands.
const (
	OpJoin Op = 1 + iota
	OpUpdateMembers
	OpRemoveMembers
	OpAdminExclude
	OpRankDead
	OpEngineDied
	OpAddPool
	OpPoolReplicas
	OpUpdatePool
	OpDestroyPool
	OpRemovePool
	OpSetAttributes
	OpIncMapVersion
	OpCheckState
)

// commandSchema is the version of the entry's frame and of the bodies' meaning.
const commandSchema = 1

// Body is what a command does; the types of this package that implement it are
// all the commands there are.
type Body interface {
	// Op returns the number of the command.
	Op() Op
	// apply changes the database, or refuses and changes nothing.
	apply(db *DB, id string) Result
	// check refuses what is malformed whatever the state.
	check() error
}

// Command is one entry of the log.
type Command struct {
	// ID is made by the client and is the same in a retry; empty means that the
	// command may be applied twice without harm.
	ID string
	// Time is the leader's clock when it made the entry; it is what records say
	// as their last update.
	Time time.Time
	Body Body
}

// Result is what a command brought.
type Result struct {
	// Err is why the command as a whole was refused, nil when it was not.
	Err *fault.Error `json:"err,omitempty"`
	// Members has one row for each rank that was named.
	Members []MemberResult `json:"members,omitempty"`
	// Joins has one row for each join of a batch, in its order.
	Joins []JoinResult `json:"joins,omitempty"`
	// Pool is the record after the command.
	Pool *PoolRecord `json:"pool,omitempty"`
	// MapVersion and Version are those after the command.
	MapVersion uint32 `json:"map_version"`
	Version    uint64 `json:"version"`
	// Replayed says that the operation had been applied before, and this is what
	// came of it then.
	Replayed bool `json:"-"`
}

// MemberResult says what a command did to one member.
type MemberResult struct {
	Rank Rank `json:"rank"`
	// State is the state after the command.
	State MemberState `json:"state"`
	// Changed says whether the record was changed.
	Changed bool `json:"changed"`
	// Why tells why it was not.
	Why string `json:"why,omitempty"`
}

func refuse(err error) Result {
	f, ok := fault.As(err)
	if !ok {
		f = fault.New(fault.Unknown, "%w", err)
	}
	// Only what crosses the log is kept, so that replicas agree.
	return Result{Err: &fault.Error{Code: f.Code, What: f.What, Hint: f.Hint, Status: f.Status, Data: f.Data}}
}

// entry is a command in the log.
type entry struct {
	Schema uint            `json:"v"`
	Op     Op              `json:"op"`
	ID     string          `json:"id,omitempty"`
	Time   int64           `json:"t"` // Unix nanoseconds
	Body   cbor.RawMessage `json:"b"`
}

// Check refuses a command that is malformed whatever the state is.
func (c Command) Check() error {
	if c.Body == nil {
		return fault.New(fault.Internal, "cannot apply a command without a body")
	}
	if len(c.ID) > maxOpID {
		return fault.New(fault.Usage, "cannot apply a command: its operation id has %d bytes, at most %d are allowed", len(c.ID), maxOpID)
	}
	return c.Body.check()
}

// Encode returns the log's form of the command.
func (c Command) Encode() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	data := marshal(entry{Schema: commandSchema, Op: c.Body.Op(), ID: c.ID, Time: c.Time.UnixNano(), Body: marshal(c.Body)})
	if len(data) > maxCommand {
		return nil, fault.New(fault.TooLarge, "cannot apply a command of %d bytes: at most %d are allowed", len(data), maxCommand)
	}
	// An entry that some replica cannot read would stop them all, again and again.
	if _, err := DecodeCommand(data); err != nil {
		return nil, fault.New(fault.Usage, "cannot apply a command that cannot be read again: %v", err)
	}
	return data, nil
}

// DecodeCommand reads a log entry. An entry that a newer release wrote is
// fault.Unimplemented: the replica must stop, for skipping it would make its state
// differ from the others'. An entry that cannot be read is fault.Corrupt.
func DecodeCommand(data []byte) (Command, error) {
	if len(data) > maxCommand {
		return Command{}, fault.New(fault.TooLarge, "cannot read a log entry of %d bytes: at most %d are allowed", len(data), maxCommand)
	}
	var e entry
	if err := unmarshal(data, &e); err != nil {
		return Command{}, fault.Wrap(fault.Corrupt, err, "cannot read a log entry")
	}
	if e.Schema != commandSchema {
		return Command{}, tooNew("log entry with schema %d", e.Schema)
	}
	decode, ok := bodies[e.Op]
	if !ok {
		return Command{}, tooNew("log entry with operation %d", e.Op)
	}
	body, err := decode(e.Body)
	if err != nil {
		return Command{}, fault.Wrap(fault.Corrupt, err, "cannot read a log entry with operation %d", e.Op)
	}
	c := Command{ID: e.ID, Time: time.Unix(0, e.Time).UTC(), Body: body}
	if err := c.Check(); err != nil {
		return Command{}, fault.Wrap(fault.Corrupt, err, "cannot use a log entry with operation %d", e.Op)
	}
	return c, nil
}

func tooNew(format string, arg any) error {
	return fault.New(fault.Unimplemented, "cannot go on with the system database: %s is unknown to this release", fmt.Sprintf(format, arg)).
		WithHint("a newer release wrote it: upgrade this server, its data is kept as it is")
}

// bodies reads the body of each operation.
var bodies = map[Op]func([]byte) (Body, error){
	OpJoin:          decode[JoinBatch],
	OpUpdateMembers: decode[UpdateMembers],
	OpRemoveMembers: decode[RemoveMembers],
	OpAdminExclude:  decode[AdminExclude],
	OpRankDead:      decode[RankDead],
	OpEngineDied:    decode[EngineDied],
	OpAddPool:       decode[AddPool],
	OpPoolReplicas:  decode[PoolReplicas],
	OpUpdatePool:    decode[UpdatePool],
	OpDestroyPool:   decode[DestroyPool],
	OpRemovePool:    decode[RemovePool],
	OpSetAttributes: decode[SetAttributes],
	OpIncMapVersion: decode[IncMapVersion],
	OpCheckState:    decode[CheckState],
}

func decode[B Body](data []byte) (Body, error) {
	var body B
	if err := unmarshal(data, &body); err != nil {
		return nil, err
	}
	return body, nil
}
