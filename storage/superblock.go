package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/google/uuid"
	"gopkg.in/yaml.v3"

	"daosbox/cluster/fault"
)

// Superblock is the identity of an engine: one text file beside its data, with
// the keys that every release since 0.4 reads.
type Superblock struct {
	// Version is 1 since 1.2; nobody compares it.
	Version uint8 `yaml:"version"`
	// UUID is made once, at format, and is the engine's identity in the membership.
	UUID string `yaml:"uuid"`
	// System is the name of the system the engine was formatted for.
	System string `yaml:"system"`
	// Rank is nil until the first join.
	Rank *uint32 `yaml:"rank"`
	// URI is the primary fabric address that the engine reported last.
	URI string `yaml:"uri"`
	// ValidRank is set when a join has accepted the rank.
	ValidRank bool `yaml:"validrank"`
	// HostFaultDomain is the path of the host in the tree of fault domains.
	HostFaultDomain string `yaml:"hostfaultdomain"`
	// Incarnation is what the engine reported last; it grows with each start.
	Incarnation uint64 `yaml:"incarnation"`
}

const (
	superblockMode    fs.FileMode = 0o660
	superblockLimit               = 64 << 10
	superblockVersion             = 1
	// defaultSystem is used when no name is configured.
	defaultSystem = "daos_engine"
)

// NewSuperblock makes the superblock of an engine that never joined, with a new
// random UUID.
func NewSuperblock(system, hostFaultDomain string) (Superblock, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return Superblock{}, fault.Wrap(fault.Internal, err, "cannot make an engine UUID")
	}
	if system == "" {
		system = defaultSystem
	}
	return Superblock{Version: superblockVersion, UUID: id.String(), System: system, HostFaultDomain: hostFaultDomain}, nil
}

// ReadSuperblock reads the superblock at path. A file that does not exist gives
// an error that is fs.ErrNotExist; one that cannot be understood gives
// fault.Corrupt with the line, and the file stays as it is.
func ReadSuperblock(path string) (Superblock, error) { return readSuperblock(osDisk{}, path) }

// WriteSuperblock replaces the superblock at path: aside, synced, renamed, mode
// 0660. When it fails, the former superblock is still there.
func WriteSuperblock(path string, sb Superblock) error {
	return writeSuperblock(osDisk{}, path, sb, nil)
}

func readSuperblock(d disk, path string) (Superblock, error) {
	data, err := readLimited(d, path, superblockLimit)
	if fault.Of(err) == fault.TooLarge || fault.Of(err) == fault.Corrupt {
		return Superblock{}, corruptSuperblock(path, err.Error())
	}
	if err != nil {
		err = explain(err, path, "read superblock "+path)
		if f, ok := fault.As(err); ok && errors.Is(err, fs.ErrNotExist) {
			f.Hint = "format the storage of the engine"
		}
		return Superblock{}, err
	}
	sb, err := parseSuperblock(data)
	if err != nil {
		return Superblock{}, corruptSuperblock(path, err.Error())
	}
	return sb, nil
}

func corruptSuperblock(path, why string) error {
	return fault.New(fault.Corrupt, "cannot read superblock %s: %s", path, why).
		WithHint("restore %s from a backup or repair the line; 'storage format --force' gives the engine a new identity and erases its data", path)
}

func writeSuperblock(d disk, path string, sb Superblock, owner *Owner) error {
	data, err := encodeSuperblock(sb)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "cannot write superblock %s", path)
	}
	return explain(writeAside(d, path, data, superblockMode, owner), path, "write superblock "+path)
}

func encodeSuperblock(sb Superblock) ([]byte, error) {
	if _, err := uuid.Parse(sb.UUID); err != nil {
		return nil, fmt.Errorf("uuid %q: %w", sb.UUID, err)
	}
	return yaml.Marshal(sb)
}

// parseSuperblock goes through the file key by key, so that each complaint has
// its line. Keys that it does not know are of other releases and ignored.
func parseSuperblock(data []byte) (Superblock, error) {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&doc); err != nil {
		return Superblock{}, errors.New(strings.TrimPrefix(fault.OneLine(err.Error()), "yaml: "))
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return Superblock{}, errors.New("line 1: not a map of keys to values")
	}
	var sb Superblock
	fields := map[string]any{
		"version": &sb.Version, "uuid": &sb.UUID, "system": &sb.System, "rank": &sb.Rank, "uri": &sb.URI,
		"validrank": &sb.ValidRank, "hostfaultdomain": &sb.HostFaultDomain, "incarnation": &sb.Incarnation,
	}
	seen := make(map[string]bool)
	pairs := doc.Content[0].Content
	for i := 0; i+1 < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		field, known := fields[key.Value]
		if !known {
			continue
		}
		if seen[key.Value] {
			return Superblock{}, fmt.Errorf("line %d: key %q is there twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if value.Kind != yaml.ScalarNode {
			return Superblock{}, fmt.Errorf("line %d: %s is no plain value", value.Line, key.Value)
		}
		if err := value.Decode(field); err != nil {
			return Superblock{}, fmt.Errorf("line %d: %s has the wrong type of value: %.40q", value.Line, key.Value, value.Value)
		}
		if key.Value == "uuid" {
			if _, err := uuid.Parse(sb.UUID); err != nil {
				return Superblock{}, fmt.Errorf("line %d: uuid %.40q is no UUID", value.Line, sb.UUID)
			}
		}
	}
	if !seen["uuid"] {
		return Superblock{}, fmt.Errorf("line %d: the key uuid is missing", max(1, bytes.Count(data, []byte("\n"))))
	}
	return sb, nil
}
