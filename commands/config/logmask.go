package config

import (
	"fmt"
	"slices"
	"strings"
)

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
	if err := checkMaskText("the log mask", mask); err != nil {
		return err
	}
	for i, part := range strings.Split(strings.ToUpper(mask), ",") {
		subsystem, level, assigned := strings.Cut(part, "=")
		if !assigned {
			if level = part; i > 0 {
				return &valueError{why: fmt.Sprintf("%q must come first, or name a subsystem", part), hint: "write LEVEL,SUBSYSTEM=LEVEL,... as in ERR,RPC=DEBUG"}
			}
		} else if !slices.Contains(logSubsystems, subsystem) {
			return unknownWord("subsystem", subsystem, logSubsystems)
		}
		if !slices.Contains(engineLevels, level) {
			return unknownWord("log level", level, engineLevels)
		}
	}
	return nil
}

// checkNames checks a list of names, or ALL by itself.
func checkNames(what, text string, known []string) *valueError {
	if text == "" {
		return nil
	}
	if err := checkMaskText(what, text); err != nil {
		return err
	}
	names := strings.Split(strings.ToUpper(text), ",")
	for _, name := range names {
		if name == "ALL" && len(names) > 1 {
			return &valueError{why: what + ": ALL stands beside other names", hint: "write ALL only, or the names only"}
		}
		if name != "ALL" && !slices.Contains(known, name) {
			return unknownWord("name in "+what, name, known)
		}
	}
	return nil
}

func checkMaskText(what, text string) *valueError {
	if len(text) > maxLogMask {
		return &valueError{why: fmt.Sprintf("%s has %d characters, more than %d", what, len(text), maxLogMask), hint: "shorten it"}
	}
	other := strings.IndexFunc(text, func(r rune) bool {
		return r != ',' && r != '=' && r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if other >= 0 {
		return &valueError{why: fmt.Sprintf("%s has the character %q", what, []rune(text[other:])[0]), hint: "use letters, commas, = and _ only"}
	}
	return nil
}

func unknownWord(kind, word string, known []string) *valueError {
	e := &valueError{why: fmt.Sprintf("%q is no known %s", word, kind), hint: "known are " + strings.Join(known, ", ")}
	if near := nearest(word, known); near != "" {
		e.hint = fmt.Sprintf("did you mean %q?", near)
	}
	return e
}
