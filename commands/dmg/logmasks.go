package dmg

import (
	"slices"
	"strings"

	"daosbox/cluster/fault"
)

// The words of an engine's log masks; they are matched in any case.
const (
	logLevels = "DEBUG DBUG INFO NOTE WARN ERROR ERR CRIT ALRT FATAL EMRG EMIT"

	logStreams = "ALL MD PL MGMT EPC DF REBUILD SEC CSUM GROUP_DEFAULT GROUP_METADATA_ONLY GROUP_METADATA ANY TRACE MEM NET IO TEST"

	logSubsystems = "ALL DAOS ARRAY KV COMMON TREE VOS CLIENT SERVER RDB RSVC POOL CONTAINER OBJECT PLACEMENT REBUILD" +
		" MGMT BIO TESTS DFS DUNS DRPC SECURITY DTX DFUSE IL CSUM STACK MISC MEM SWIM FI TELEM CRT RPC BULK CORPC GRP LM HG EXTERNAL ST IV CTL"
)

const (
	allNames   = "ALL"
	maxLogMask = 1023 // characters that an engine takes
)

// checkLogMasks refuses what an engine would refuse, before any is asked.
func checkLogMasks(o *setLogMasksOptions) error {
	if err := checkMask(o.masks); err != nil {
		return err
	}
	if err := checkNames("--streams", o.streams, logStreams); err != nil {
		return err
	}
	return checkNames("--subsystems", o.subsystems, logSubsystems)
}

func checkMask(mask *string) error {
	const flag = "--masks"
	if err := checkMaskText(flag, mask); err != nil || mask == nil || *mask == "" {
		return err
	}
	for i, part := range strings.Split(strings.ToUpper(*mask), ",") {
		subsystem, level, assigned := strings.Cut(part, "=")
		if !assigned {
			level = part
			if i > 0 {
				return maskError(flag, *mask, "%q must come first, or name a subsystem", part).WithHint("write LEVEL,SUBSYSTEM=LEVEL,... as in ERR,RPC=DEBUG")
			}
		} else if subsystem == allNames {
			return maskError(flag, *mask, "%s cannot be assigned a level", allNames).WithHint("write the level alone, first")
		} else if !hasWord(logSubsystems, subsystem) {
			return maskError(flag, *mask, "no subsystem %q", subsystem).WithHint("subsystems are %s", wordList(logSubsystems))
		}
		if !hasWord(logLevels, level) {
			return maskError(flag, *mask, "no level %q", level).WithHint("levels are %s", wordList(logLevels))
		}
	}
	return nil
}

func checkNames(flag string, text *string, known string) error {
	if err := checkMaskText(flag, text); err != nil || text == nil || *text == "" {
		return err
	}
	names := strings.Split(strings.ToUpper(*text), ",")
	if len(names) > 1 && slices.Contains(names, allNames) {
		return maskError(flag, *text, "%s stands beside other names", allNames).WithHint("write %s only, or the names only", allNames)
	}
	for _, name := range names {
		if !hasWord(known, name) {
			return maskError(flag, *text, "no name %q", name).WithHint("names are %s", wordList(known))
		}
	}
	return nil
}

func checkMaskText(flag string, text *string) error {
	if text == nil {
		return nil
	}
	if len(*text) > maxLogMask {
		return maskError(flag, (*text)[:20]+"...", "%d characters are more than %d", len(*text), maxLogMask).WithHint("shorten it")
	}
	bad := strings.IndexFunc(*text, func(r rune) bool {
		return r != ',' && r != '=' && r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if bad >= 0 {
		return maskError(flag, *text, "character %q", []rune((*text)[bad:])[0]).WithHint("use letters, commas, = and _ only")
	}
	return nil
}

func maskError(flag, text, why string, args ...any) *fault.Error {
	return fault.New(fault.Usage, "cannot use "+flag+"=%q: "+why, append([]any{text}, args...)...)
}

func hasWord(words, word string) bool { return slices.Contains(strings.Fields(words), word) }

func wordList(words string) string { return strings.ReplaceAll(words, " ", ", ") }
