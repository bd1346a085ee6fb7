package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LogLevel is a level of the control plane's logs.
type LogLevel string

// The levels, from none to all.
const (
	LevelDisabled LogLevel = "DISABLED"
	LevelError    LogLevel = "ERROR"
	LevelNotice   LogLevel = "NOTICE"
	LevelInfo     LogLevel = "INFO"
	LevelDebug    LogLevel = "DEBUG"
	LevelTrace    LogLevel = "TRACE"
)

// UnmarshalText accepts a level in any case.
func (l *LogLevel) UnmarshalText(text []byte) error {
	return oneOf(l, strings.ToUpper(string(text)), LevelDisabled, LevelError, LevelNotice, LevelInfo, LevelDebug, LevelTrace)
}

// Class is the kind of a storage tier.
type Class string

// The classes. ClassDir is ours: a plain directory in place of memory, for
// evaluation with the emulated engine.
const (
	ClassDCPM   Class = "dcpm"
	ClassRAM    Class = "ram"
	ClassDir    Class = "dir"
	ClassNVMe   Class = "nvme"
	ClassFile   Class = "file"
	ClassKdev   Class = "kdev"
	ClassMalloc Class = "malloc"
)

// UnmarshalText accepts a known class.
func (c *Class) UnmarshalText(text []byte) error {
	return oneOf(c, string(text), ClassDCPM, ClassRAM, ClassDir, ClassNVMe, ClassFile, ClassKdev, ClassMalloc)
}

// IsSCM reports whether the class is storage-class memory.
func (c Class) IsSCM() bool { return c == ClassDCPM || c == ClassRAM || c == ClassDir }

// IsBdev reports whether the class is a block device.
func (c Class) IsBdev() bool { return c.IsEmulated() || c == ClassNVMe }

// IsEmulated reports whether the class stands in for an NVMe SSD.
func (c Class) IsEmulated() bool { return c == ClassFile || c == ClassKdev || c == ClassMalloc }

// Role is what a block tier holds.
type Role string

// The roles.
const (
	RoleData Role = "data"
	RoleMeta Role = "meta"
	RoleWAL  Role = "wal"
	roleNone Role = "na"
)

// UnmarshalText accepts a known role.
func (r *Role) UnmarshalText(text []byte) error {
	return oneOf(r, strings.ToLower(string(text)), RoleData, RoleMeta, RoleWAL, roleNone)
}

// AccelEngine is an engine of SPDK's acceleration framework.
type AccelEngine string

// The acceleration engines.
const (
	AccelNone AccelEngine = "none"
	AccelSPDK AccelEngine = "spdk"
	AccelDML  AccelEngine = "dml"
)

// UnmarshalText accepts a known engine.
func (a *AccelEngine) UnmarshalText(text []byte) error {
	return withCode(codeAccelEngine, oneOf(a, strings.ToLower(string(text)), AccelNone, AccelSPDK, AccelDML))
}

// AccelOption is a capability of an acceleration engine.
type AccelOption string

// The acceleration options.
const (
	AccelMove AccelOption = "move"
	AccelCRC  AccelOption = "crc"
)

// UnmarshalText accepts a known option.
func (a *AccelOption) UnmarshalText(text []byte) error {
	return withCode(codeAccelOption, oneOf(a, strings.ToLower(string(text)), AccelMove, AccelCRC))
}

// BusRange limits hotplug to PCI buses Low to High.
type BusRange struct{ Low, High uint8 }

// String is the range as the active configuration has it.
func (b BusRange) String() string { return fmt.Sprintf("0x%02x-0x%02x", b.Low, b.High) }

// MarshalText is String.
func (b BusRange) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText accepts "LOW-HIGH" in hex (0x..) or decimal.
func (b *BusRange) UnmarshalText(text []byte) error {
	low, high, ok := strings.Cut(string(text), "-")
	lo, err1 := strconv.ParseUint(strings.TrimSpace(low), 0, 8)
	hi, err2 := strconv.ParseUint(strings.TrimSpace(high), 0, 8)
	if !ok || err1 != nil || err2 != nil {
		return &valueError{
			why:  fmt.Sprintf("%q is no range of PCI buses", text),
			hint: "write LOW-HIGH, each 0-255 or 0x00-0xff, as in 0x80-0x8f",
		}
	}
	if lo > hi {
		return &valueError{
			why:  fmt.Sprintf("range %q starts above its end", text),
			hint: fmt.Sprintf("write 0x%02x-0x%02x", hi, lo),
		}
	}
	*b = BusRange{Low: uint8(lo), High: uint8(hi)}
	return nil
}

// oneOf sets into to the token that text is, or says what would be right.
func oneOf[T ~string](into *T, text string, tokens ...T) error {
	if slices.Contains(tokens, T(text)) {
		*into = T(text)
		return nil
	}
	names := make([]string, len(tokens))
	for i, t := range tokens {
		names[i] = string(t)
	}
	e := &valueError{
		why:  fmt.Sprintf("%q is not a known value", text),
		hint: "use one of " + strings.Join(names, ", "),
	}
	if near := Nearest(text, names); near != "" {
		e.hint = fmt.Sprintf("did you mean %q? Known are %s", near, strings.Join(names, ", "))
	}
	return e
}
