package cluster

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"

	"daosbox/cluster/fault"
)

// stateSchema is the version of the state document.
const stateSchema = 1

// snapshotMagic starts a snapshot; the SHA-256 of the document follows, then the
// document to the end.
const snapshotMagic = "daosbox-ms-snapshot\n"

// document is the state in one canonical form: what a snapshot holds and the hash
// is taken of.
type document struct {
	Schema     uint              `json:"schema"`
	Version    uint64            `json:"version"`
	NextRank   Rank              `json:"next_rank"`
	MapVersion uint32            `json:"map_version"`
	Members    []*Member         `json:"members"` // by rank
	Pools      []*PoolRecord     `json:"pools"`   // by UUID
	Attributes map[string]string `json:"attributes"`
	Ops        []opRecord        `json:"ops"` // oldest first
}

func (c *content) document() document {
	attrs := c.attrs.m
	if attrs == nil {
		attrs = map[string]string{}
	}
	return document{
		Schema: stateSchema, Version: c.version, NextRank: c.nextRank, MapVersion: c.mapVersion,
		Members:    sortedValues(c.members.m),
		Pools:      sortedValues(c.pools.m),
		Attributes: attrs,
		Ops:        append([]opRecord{}, c.ops.records...),
	}
}

func sortedValues[K cmp.Ordered, V any](m map[K]V) []V {
	values := make([]V, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[key])
	}
	return values
}

// Hash returns the SHA-256 of the state, in hexadecimal: equal on all replicas
// that have applied the same commands.
func (db *DB) Hash() string { return db.Snapshot().Hash() }

// Snapshot returns the present state for keeping; the database may go on
// meanwhile.
func (db *DB) Snapshot() *Snapshot { return &Snapshot{c: db.c.share(true)} }

// Snapshot is the whole state at one moment.
type Snapshot struct{ c content }

// Hash returns the hash of the state.
func (s *Snapshot) Hash() string {
	sum := sha256.Sum256(marshal(s.c.document()))
	return hex.EncodeToString(sum[:])
}

// WriteTo writes the form that Restore reads.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	doc := marshal(s.c.document())
	sum := sha256.Sum256(doc)
	var total int64
	for _, part := range [][]byte{[]byte(snapshotMagic), sum[:], doc} {
		n, err := w.Write(part)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Restore reads a snapshot. One that is damaged is fault.Corrupt; one that a newer
// release wrote is fault.Unimplemented.
func Restore(r io.Reader) (*DB, error) {
	head := make([]byte, len(snapshotMagic)+sha256.Size)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, badSnapshot("it ends too early")
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, badSnapshot("it does not start like one")
	}
	doc, err := io.ReadAll(io.LimitReader(r, maxSnapshot+1))
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "cannot read a snapshot of the system database")
	}
	if len(doc) > maxSnapshot {
		return nil, badSnapshot(fmt.Sprintf("it is larger than %d bytes", maxSnapshot))
	}
	if sum := sha256.Sum256(doc); !bytes.Equal(sum[:], head[len(snapshotMagic):]) {
		return nil, badSnapshot("its checksum is wrong")
	}
	return restoreDocument(doc)
}

func badSnapshot(why string) error {
	return fault.New(fault.Corrupt, "cannot read a snapshot of the system database: %s", why)
}

func restoreDocument(data []byte) (*DB, error) {
	var head struct {
		Schema uint `json:"schema"`
	}
	if err := unmarshal(data, &head); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "cannot read a snapshot of the system database")
	}
	if head.Schema != stateSchema {
		return nil, tooNew("snapshot with schema %d", head.Schema)
	}
	var d document
	if err := unmarshal(data, &d); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "cannot read a snapshot of the system database")
	}
	return d.load()
}

// load builds the database, refusing a document that no run of commands gives.
func (d *document) load() (*DB, error) {
	db := &DB{c: content{version: d.Version, nextRank: d.NextRank, mapVersion: d.MapVersion}}
	for _, m := range d.Members {
		if m == nil || db.c.members.m[m.Rank] != nil || db.memberByUUID(m.UUID) != nil {
			return nil, badSnapshot("a rank or UUID occurs twice")
		}
		m = m.clone()
		m.LastUpdate = m.LastUpdate.UTC()
		db.c.members.put(m.Rank, m)
		db.c.uuids.put(m.UUID, m.Rank)
	}
	for _, p := range d.Pools {
		if p == nil || db.c.pools.m[p.UUID] != nil || db.labelTaken(p.Label, p.UUID) != nil {
			return nil, badSnapshot("a pool or label occurs twice")
		}
		p = p.clone()
		p.LastUpdate = p.LastUpdate.UTC()
		db.c.pools.put(p.UUID, p)
		if p.Label != "" {
			db.c.labels.put(p.Label, p.UUID)
		}
	}
	for key, value := range d.Attributes {
		db.c.attrs.put(key, value)
	}
	for _, rec := range d.Ops {
		var res Result
		if _, dup := db.c.ops.index.m[rec.ID]; dup || rec.ID == "" || unmarshal(rec.Result, &res) != nil {
			return nil, badSnapshot("a remembered operation cannot be read")
		}
		db.c.ops.addRecord(rec)
	}
	return db, nil
}
