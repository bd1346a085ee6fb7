package config

import (
	"fmt"
	"slices"
	"strings"

	"daosbox/cluster/fault"
)

// LogSetting is one of the settings that decide what an engine logs.
type LogSetting int

// The settings, with the environment variables of the engine that hold them.
const (
	// LogMask is LEVEL[,SUBSYSTEM=LEVEL...]: log_mask, D_LOG_MASK.
	LogMask LogSetting = iota
	// LogStreams are the debug streams, or ALL: DD_MASK.
	LogStreams
	// LogSubsystems are the subsystems that log below ERROR, or ALL: DD_SUBSYS.
	LogSubsystems
)

// CheckLogSetting refuses what an engine would refuse; an empty text is fine. The
// error is of code Usage and calls the setting by name.
func CheckLogSetting(setting LogSetting, name, text string) error {
	if err := setting.check(text); err != nil {
		return fault.New(fault.Usage, "cannot use %s: %s", name, err.why).WithHint("%s", err.hint)
	}
	return nil
}

func (s LogSetting) check(text string) *valueError {
	switch s {
	case LogStreams:
		return checkNames(text, "debug stream", debugStreams)
	case LogSubsystems:
		return checkNames(text, "subsystem", logSubsystems)
	}
	return checkLogMask(text)
}

// The words of an engine's log mask.
var (
	engineLevels = []string{"DEBUG", "DBUG", "INFO", "NOTE", "WARN", "ERROR", "ERR", "CRIT", "ALRT", "FATAL", "EMRG", "EMIT"}

	logSubsystems = strings.Fields(`DAOS ARRAY KV COMMON TREE VOS CLIENT SERVER RDB RSVC POOL CONTAINER OBJECT
		PLACEMENT REBUILD MGMT BIO TESTS DFS DUNS DRPC SECURITY DTX DFUSE IL CSUM STACK MISC MEM SWIM FI TELEM
		CRT RPC BULK CORPC GRP LM HG EXTERNAL ST IV CTL`)

	debugStreams = strings.Fields(`MD PL MGMT EPC DF REBUILD SEC CSUM GROUP_DEFAULT GROUP_METADATA_ONLY
		GROUP_METADATA ANY TRACE MEM NET IO TEST`)
)

const maxLogMask = 1023

// checkLogMask checks LEVEL[,SUBSYSTEM=LEVEL...]; empty is allowed.
func checkLogMask(mask string) *valueError {
	if mask == "" {
		return nil
	}
	if err := checkMaskText(mask); err != nil {
		return err
	}
	for i, part := range strings.Split(strings.ToUpper(mask), ",") {
		subsystem, level, assigned := strings.Cut(part, "=")
		if !assigned {
			if level = part; i > 0 {
				return &valueError{why: fmt.Sprintf("%q must come first, or name a subsystem", part), hint: "write LEVEL,SUBSYSTEM=LEVEL,... as in ERR,RPC=DEBUG"}
			}
		} else if subsystem == allNames {
			return &valueError{why: allNames + " cannot be assigned a level", hint: "write the level alone, first"}
		} else if !slices.Contains(logSubsystems, subsystem) {
			return unknownWord("subsystem", subsystem, logSubsystems)
		}
		if !slices.Contains(engineLevels, level) {
			return unknownWord("log level", level, engineLevels)
		}
	}
	return nil
}

// allNames stands for every name and cannot stand beside any.
const allNames = "ALL"

// checkNames checks a list of names of a kind, or ALL by itself.
func checkNames(text, kind string, known []string) *valueError {
	if text == "" {
		return nil
	}
	if err := checkMaskText(text); err != nil {
		return err
	}
	names := strings.Split(strings.ToUpper(text), ",")
	for _, name := range names {
		if name == allNames && len(names) > 1 {
			return &valueError{why: allNames + " stands beside other names", hint: "write " + allNames + " only, or the names only"}
		}
		if name != allNames && !slices.Contains(known, name) {
			return unknownWord(kind, name, known)
		}
	}
	return nil
}

func checkMaskText(text string) *valueError {
	if len(text) > maxLogMask {
		return &valueError{why: fmt.Sprintf("%d characters are more than %d", len(text), maxLogMask), hint: "shorten it"}
	}
	other := strings.IndexFunc(text, func(r rune) bool {
		return r != ',' && r != '=' && r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if other >= 0 {
		return &valueError{why: fmt.Sprintf("it has the character %q", []rune(text[other:])[0]), hint: "use letters, commas, = and _ only"}
	}
	return nil
}

func unknownWord(kind, word string, known []string) *valueError {
	e := &valueError{why: fmt.Sprintf("%q is no known %s", word, kind), hint: "known are " + strings.Join(known, ", ")}
	if near := Nearest(word, known); near != "" {
		e.hint = fmt.Sprintf("did you mean %q?", near)
	}
	return e
}
