package dmg

// oldVerb is a command of an earlier era: what it is now, or why it is no more.
// Groups are spelled as they are now, so that one row serves both spellings.
type oldVerb struct {
	old string
	// now may end in flags that the old command implied.
	now string
	// gone says where the work is done now; the command is refused.
	gone string
}

// oldFlag is a flag of an earlier era. verb is today's command, or the old one
// where only that had the flag; "" is every command.
type oldFlag struct {
	verb string
	// flag and letter are what the user wrote; both empty: an argument.
	flag, letter string
	value        bool
	// now is what replaces it, %s being the value; empty: it is not needed. What
	// does not start with a dash is an argument, which goes before all others. One
	// that ends in a colon is joined with the next row's.
	now string
	// last puts that argument after all others.
	last bool
}

const (
	prepareGone  = "devices are prepared on each host: `daos_server nvme prepare` and `daos_server scm prepare` there"
	smdGone      = "use `dmg storage query list-devices` and `dmg storage query list-pools`"
	firmwareGone = "update firmware with the vendor's tool or nvme-cli on each host"
	createGone   = "use `dmg pool create LABEL --scm-size=SIZE --nvme-size=SIZE`, sizes per engine"
	objectsGone  = "use the daos tool"
	svcGone      = "replicas of a pool's service are chosen by the pool; see `dmg pool create --nsvc`"
	shellGone    = "there is no prompt and no list of connections; name servers with -l or in daos_control.yml"
)

// oldVerbs lists the commands of 0.4 to 1.3 that are spelled otherwise now.
func oldVerbs() []oldVerb {
	return append([]oldVerb{
		// Groups (0.4-1.3).
		{old: "st", now: "storage"},
		{old: "sy", now: "system"},
		{old: "n", now: "network"},
		{old: "p", now: "pool"},
		{old: "co", now: "config"},
		{old: "sv", now: "service"},

		// daos_shell and dmg (0.4-1.3).
		{old: "storage list", now: "storage scan"},
		{old: "storage l", now: "storage scan"},
		{old: "storage s", now: "storage scan"},
		{old: "storage f", now: "storage format"},
		{old: "storage query nvme-health", now: "storage scan --nvme-health"},
		{old: "storage query n", now: "storage scan --nvme-health"},
		{old: "storage query blobstore-health", now: "storage query list-devices --health"},
		{old: "storage query b", now: "storage query blobstore-health"},
		{old: "storage query device-health", now: "storage query list-devices --health"},
		{old: "storage query target-health", now: "storage query list-devices --health"},
		{old: "storage query t", now: "storage query target-health"},
		{old: "storage query device-state", now: "storage query list-devices"},
		{old: "storage query d", now: "storage query list-devices"},
		{old: "storage query p", now: "storage query list-pools"},
		{old: "storage query u", now: "storage query usage"},
		{old: "storage query smd", gone: smdGone},
		{old: "storage query s", gone: smdGone},
		{old: "storage prepare", gone: prepareGone},
		{old: "storage p", gone: prepareGone},
		{old: "storage fwupdate", gone: firmwareGone},
		{old: "storage u", gone: firmwareGone},
		{old: "service kill-rank", now: "system stop"},
		{old: "service kr", now: "service kill-rank"},
		{old: "system member-query", now: "system query"},
		{old: "system q", now: "system query"},
		{old: "system s", now: "system stop"},
		{old: "system r", now: "system start"},
		{old: "system l", now: "system leader-query"},
		{old: "system p", now: "system list-pools"},
		{old: "network list", now: "network scan --provider=all"},
		{old: "pool c", now: "pool create"},
		{old: "pool d", now: "pool destroy"},
		{old: "pool l", now: "pool list"},
		{old: "pool q", now: "pool query"},
		{old: "pool ev", now: "pool evict"},
		{old: "pool ga", now: "pool get-acl"},
		{old: "pool g", now: "pool get-acl"},
		{old: "pool oa", now: "pool overwrite-acl"},
		{old: "pool o", now: "pool overwrite-acl"},
		{old: "pool ua", now: "pool update-acl"},
		{old: "pool u", now: "pool update-acl"},
		{old: "pool da", now: "pool delete-acl"},
		{old: "pool sp", now: "pool set-prop"},
		{old: "pool gp", now: "pool get-prop"},

		// The dmg in C (0.4-0.6), later dmg_old.
		{old: "query", now: "pool query"},
		{old: "destroy", now: "pool destroy"},
		{old: "evict", now: "pool evict"},
		{old: "list-pools", now: "pool list"},
		{old: "kill", now: "system stop"},
		{old: "create", gone: createGone},
		{old: "add", gone: svcGone},
		{old: "remove", gone: svcGone},
		{old: "layout", gone: objectsGone},
		{old: "profile", gone: "profiling by dmg has no successor"},

		// The prompt of daos_shell (0.4-0.6).
		{old: "addconns", gone: shellGone},
		{old: "clearconns", gone: shellGone},
		{old: "getconns", gone: shellGone},
		{old: "listfeatures", gone: "see `dmg --help`"},
		{old: "liststorage", now: "storage scan"},
		{old: "scanstorage", now: "storage scan"},
		{old: "formatstorage", now: "storage format"},
		{old: "updatestorage", gone: firmwareGone},
		{old: "killrank", gone: "use `dmg system stop --ranks=N`"},
	}, oldTargetVerbs()...)
}

// oldFlags lists the flags of 0.4 to 2.6 that are spelled otherwise now.
func oldFlags() []oldFlag {
	return append([]oldFlag{
		{verb: "", flag: "hostlist", value: true, now: "--" + hostListFlag + "=%s"},

		{verb: "storage scan", flag: "nvme-meta", letter: "m", now: "--verbose"},
		{verb: "storage scan", flag: "summary"},
		{verb: "storage format", flag: "reformat", now: "--force"},
		{verb: "storage format", letter: "f", now: "--force"},
		{verb: "storage query list-devices", flag: "devuuid", value: true, now: "--uuid=%s"},
		{verb: "storage query blobstore-health", flag: "tgtid", letter: "t", value: true}, // targets are shown with their devices
		{verb: "storage query target-health", flag: "tgtid", letter: "t", value: true},
		{verb: "network scan", flag: "all", letter: "a", now: "--provider=all"},
		{verb: "system query", flag: "rank", value: true, now: "--ranks=%s"},
		{verb: "server set-logmasks", value: true, now: "--masks=%s"},
		{verb: "service kill-rank", flag: "rank", letter: "r", value: true, now: "--ranks=%s"},
		{verb: "service kill-rank", flag: "pool-uuid", letter: "p", value: true},
		{verb: "kill", flag: "rank", letter: "r", value: true, now: "--ranks=%s"},
		{verb: "kill", flag: "group", letter: "G", value: true},
		{verb: "kill", flag: "sys-name", value: true},

		{verb: "pool create", flag: "label", letter: "p", value: true, now: "%s"},
		{verb: "pool create", flag: "name", value: true, now: "%s"},
		{verb: "pool create", flag: "scm-ratio", value: true, now: "--tier-ratio=%s"},
		{verb: "pool destroy", flag: "uuid", letter: "u", value: true, now: "%s"},
		{verb: "pool query", flag: "show-disabled", letter: "b"},
	}, append(oldPoolFlags(), oldTargetFlags()...)...)
}

// oldPoolFlags are the ways to name the pool, and the system, before 1.3.103.
func oldPoolFlags() []oldFlag {
	var rows []oldFlag
	for _, verb := range []string{"delete-acl", "destroy", "evict", "get-acl", "get-prop", "overwrite-acl", "query", "set-prop", "update-acl"} {
		rows = append(rows, oldFlag{verb: "pool " + verb, flag: "pool", value: true, now: "%s"})
	}
	for _, verb := range []string{"query", "destroy", "evict"} {
		rows = append(rows,
			oldFlag{verb: verb, letter: "p", value: true, now: "%s"},
			oldFlag{verb: verb, flag: "svc", letter: "v", value: true},
			oldFlag{verb: verb, flag: "group", letter: "G", value: true, now: "--sys=%s"},
			oldFlag{verb: verb, flag: "sys-name", value: true, now: "--sys=%s"})
	}
	rows = append(rows, oldFlag{verb: "list-pools", flag: "group", letter: "G", value: true, now: "--sys=%s"},
		oldFlag{verb: "list-pools", flag: "sys-name", value: true, now: "--sys=%s"})
	// A property was two flags.
	return append(rows,
		oldFlag{verb: "pool set-prop", flag: "name", letter: "n", value: true, now: "%s:", last: true},
		oldFlag{verb: "pool set-prop", flag: "value", letter: "v", value: true, now: "%s", last: true})
}
