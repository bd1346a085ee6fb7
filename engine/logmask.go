package engine

import (
	"strings"

	"daosbox/cluster/fault"
)

// logLevel orders the levels of the engine's log; greater is less verbose.
func logLevel(name string) (int, bool) {
	switch strings.ToUpper(name) {
	case "DEBUG", "DBUG":
		return 0, true
	case "INFO":
		return 1, true
	case "NOTE":
		return 2, true
	case "WARN":
		return 3, true
	case "ERROR", "ERR":
		return 4, true
	case "CRIT":
		return 5, true
	case "ALRT":
		return 6, true
	case "FATAL", "EMRG":
		return 7, true
	case "EMIT":
		return 8, true
	}
	return 0, false
}

const levelError = 4

// assignment is one SUBSYSTEM=LEVEL of a mask; order is that of logLevel.
type assignment struct {
	subsystem, level string
	order            int
}

// parseLogMask splits a mask into its base level (ERROR when missing) and its
// assignments.
func parseLogMask(mask string) (base assignment, list []assignment, err error) {
	base = assignment{level: "ERROR", order: levelError}
	for i, word := range strings.Split(mask, ",") {
		word = strings.TrimSpace(word)
		subsystem, level, assigned := strings.Cut(word, "=")
		if !assigned {
			level = subsystem
		}
		order, ok := logLevel(level)
		if !ok || (assigned && subsystem == "") || (!assigned && i > 0) {
			return base, nil, fault.New(fault.Config, "cannot use log_mask %q: %q is not a level or SUBSYSTEM=LEVEL", mask, word).
				WithHint("write LEVEL,SUBSYSTEM=LEVEL,... with levels DEBUG, INFO, NOTE, WARN, ERROR, CRIT, FATAL")
		}
		if assigned {
			list = append(list, assignment{subsystem: subsystem, level: level, order: order})
		} else {
			base = assignment{level: level, order: order}
		}
	}
	return base, list, nil
}

// MergeLogMask works filter, a comma list of subsystems whose messages below
// ERROR are wanted, into mask. Without a filter of ALL nothing below ERROR is
// left but for the listed subsystems.
func MergeLogMask(mask, filter string) (string, error) {
	base, given, err := parseLogMask(mask)
	if err != nil {
		return "", err
	}
	var listed []string
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(filter, ",") {
		if name = strings.TrimSpace(name); name != "" && !wanted[strings.ToUpper(name)] {
			listed = append(listed, name)
			wanted[strings.ToUpper(name)] = true
		}
	}
	all := wanted["ALL"]

	var kept []assignment
	assigned := make(map[string]bool)
	for _, a := range given {
		assigned[strings.ToUpper(a.subsystem)] = true
		if a.order >= levelError || all || wanted[strings.ToUpper(a.subsystem)] {
			kept = append(kept, a)
		}
	}
	if !all {
		if base.order < levelError {
			for _, name := range listed {
				if !assigned[strings.ToUpper(name)] {
					kept = append(kept, assignment{subsystem: name, level: base.level, order: base.order})
				}
			}
			base = assignment{level: "ERROR", order: levelError}
		}
	}
	words := []string{base.level}
	for _, a := range kept {
		if !all && a.order == base.order {
			continue
		}
		words = append(words, a.subsystem+"="+a.level)
	}
	return strings.Join(words, ","), nil
}
