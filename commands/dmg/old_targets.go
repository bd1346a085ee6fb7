package dmg

// oldTargetVerbs are the commands on ranks and targets of 0.4 to 1.3 that are
// spelled otherwise now. One letter d was destroy and drain; it is destroy.
func oldTargetVerbs() []oldVerb {
	return []oldVerb{
		{old: "pool e", now: "pool exclude"},
		{old: "pool ext", now: "pool extend"},
		{old: "pool r", now: "pool reintegrate"},
		{old: "system e", now: "system erase"},
		{old: "exclude", now: "pool exclude"},
	}
}

// oldTargetFlags are their flags.
func oldTargetFlags() []oldFlag {
	rows := []oldFlag{
		{verb: "exclude", letter: "p", value: true, now: "%s"},
		{verb: "exclude", letter: "r", value: true, now: "--ranks=%s"},
		{verb: "exclude", flag: "target", letter: "t", value: true, now: "--target-idx=%s"},
		{verb: "exclude", flag: "svc", letter: "v", value: true},
		{verb: "exclude", flag: "group", letter: "G", value: true, now: "--sys=%s"},
		{verb: "exclude", flag: "sys-name", value: true, now: "--sys=%s"},
		// Sizes are those that the pool was created with.
		{verb: "pool extend", flag: "scm-size", letter: "s", value: true},
		{verb: "pool extend", flag: "nvme-size", letter: "n", value: true},
		{verb: "pool extend", flag: "pool", value: true, now: "%s"},
	}
	for _, verb := range []string{"exclude", "drain", "reintegrate"} {
		rows = append(rows,
			oldFlag{verb: "pool " + verb, flag: "pool", value: true, now: "%s"},
			oldFlag{verb: "pool " + verb, flag: "rank", value: true, now: "--ranks=%s"})
	}
	return rows
}
