package cluster

import (
	"strings"

	"daosbox/cluster/fault"
)

// SetAttributes sets attributes; an empty value deletes one. See UserAttributes
// for what users may set.
type SetAttributes struct {
	Attributes map[string]string `json:"attributes"`
}

// IncMapVersion raises the version of the group map, so that it is sent again.
type IncMapVersion struct{}

// Op implements Body.
func (SetAttributes) Op() Op { return OpSetAttributes }

// Op implements Body.
func (IncMapVersion) Op() Op { return OpIncMapVersion }

func (b SetAttributes) check() error {
	if len(b.Attributes) > maxAttributes {
		return tooMany("attributes", len(b.Attributes))
	}
	for key, value := range b.Attributes {
		if key == "" || len(key) > maxText {
			return fault.New(fault.Usage, "cannot set attribute %.64q: a name has 1 to %d bytes", key, maxText)
		}
		if len(value) > maxAttribute {
			return fault.New(fault.TooLarge, "cannot set attribute %.64q: the value has %d bytes, at most %d are allowed", key, len(value), maxAttribute)
		}
	}
	return nil
}

func (IncMapVersion) check() error { return nil }

func (b SetAttributes) apply(db *DB, _ string) Result {
	n := len(db.c.attrs.m)
	for key, value := range b.Attributes {
		if _, has := db.c.attrs.m[key]; !has && value != "" {
			n++
		}
	}
	if n > maxAttributes {
		return refuse(fault.New(fault.TooLarge, "cannot set attributes: the system would have %d, at most %d are allowed", n, maxAttributes).
			WithHint("delete some with `dmg system del-attr`"))
	}
	for key, value := range b.Attributes {
		db.setAttr(key, value)
	}
	return Result{}
}

func (IncMapVersion) apply(db *DB, _ string) Result {
	db.changed = true
	return Result{}
}

// UserAttributes makes the command by which a user sets attributes. Names with
// the prefix of properties or internal values are refused.
func UserAttributes(attributes map[string]string) (SetAttributes, error) {
	for key := range attributes {
		if strings.HasPrefix(key, PropPrefix) || strings.HasPrefix(key, MgmtPrefix) {
			return SetAttributes{}, fault.New(fault.Refused, "cannot set attribute %q: names starting with %q or %q are the system's own", key, PropPrefix, MgmtPrefix).
				WithHint("system properties are set with `dmg system set-prop`")
		}
	}
	return SetAttributes{Attributes: attributes}, nil
}
