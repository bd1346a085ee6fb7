package emulator

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// maxSystemName is the longest system name that an engine takes.
const maxSystemName = 15

// maxTargets bounds -t: far above any real engine, it keeps a typing error from
// making a million files.
const maxTargets = 1024

// options is the command line of daos_engine. Those that mean cores, memory and
// modules of a real engine are read, checked and not used.
type options struct {
	targets   int
	helpers   int
	group     string
	socketDir string
	index     uint32
	scm       string
	nvme      string
	tiers     int
	check     bool
	help      bool
}

// option is one row of the engine's option table.
type option struct {
	short byte
	long  string
	arg   string // name of the value in the usage text, empty for a switch
	help  string
	set   func(o *options, value string) error
}

// optionTable has the options of daos_engine, in the order of its usage text.
func optionTable() []option {
	ignored := func(*options, string) error { return nil }
	ignoredNumber := func(_ *options, v string) error {
		_, err := number(v, 1<<40)
		return err
	}
	targets := func(o *options, v string) error {
		n, err := number(v, maxTargets)
		if err == nil && n == 0 {
			err = fmt.Errorf("an engine needs a target")
		}
		o.targets = int(n)
		return err
	}
	return []option{
		{'m', "modules", "LIST", "modules to load (ignored)", ignored},
		{'t', "targets", "N", "number of targets", targets},
		{'c', "cores", "N", "older spelling of -t", targets},
		{'x', "xshelpernr", "N", "number of helper streams", func(o *options, v string) error {
			n, err := number(v, maxTargets)
			o.helpers = int(n)
			return err
		}},
		{'f', "firstcore", "N", "first core (ignored)", ignoredNumber},
		{'g', "group", "NAME", "name of the system", func(o *options, v string) error {
			if v == "" || len(v) > maxSystemName {
				return fmt.Errorf("%q is not a system name of 1 to %d characters", v, maxSystemName)
			}
			o.group = v
			return nil
		}},
		{'s', "storage", "DIR", "SCM mount point", func(o *options, v string) error { o.scm = v; return nil }},
		{'d', "socket_dir", "DIR", "directory of the dRPC sockets", func(o *options, v string) error { o.socketDir = v; return nil }},
		{'n', "nvme", "FILE", "daos_nvme.conf", func(o *options, v string) error { o.nvme = v; return nil }},
		{'p', "pinned_numa_node", "N", "NUMA node (ignored)", ignoredNumber},
		{'I', "instance_idx", "N", "index of this engine on its host", func(o *options, v string) error {
			n, err := number(v, 1<<16)
			o.index = uint32(n)
			return err
		}},
		{'r', "mem_size", "MIB", "memory for DMA (ignored)", ignoredNumber},
		{'H', "hugepage_size", "MIB", "size of a hugepage (ignored)", ignoredNumber},
		{'T', "storage_tiers", "N", "number of storage tiers", func(o *options, v string) error {
			n, err := number(v, 4)
			if err == nil && n == 0 {
				err = fmt.Errorf("%q is not 1 to 4", v)
			}
			o.tiers = int(n)
			return err
		}},
		{'b', "bypass_health_chk", "", "no health check of devices (ignored)", ignored},
		{'C', "check", "", "start in check mode", func(o *options, _ string) error { o.check = true; return nil }},
		{'h', "help", "", "this text", func(o *options, _ string) error { o.help = true; return nil }},
	}
}

func number(text string, limit uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > limit {
		return 0, fmt.Errorf("%q is not a number from 0 to %d", text, limit)
	}
	return n, nil
}

// parseOptions reads a command line the way getopt_long does: "-t 4", "-t4",
// clusters of switches, "--targets 4", "--targets=4". Words that are no options
// are refused.
func parseOptions(args []string) (*options, error) {
	o := &options{targets: 1, helpers: 2, group: "daos_server", socketDir: "/var/run/daos_server", scm: "/mnt/daos", tiers: 1}
	table := optionTable()
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		var err error
		switch {
		case strings.HasPrefix(word, "--") && len(word) > 2:
			args, err = parseLong(o, table, word[2:], args)
		case strings.HasPrefix(word, "-") && word != "-" && word != "--":
			args, err = parseShort(o, table, word[1:], args)
		default:
			err = fault.New(fault.Usage, "cannot use argument %q: an engine takes options only", word)
		}
		if err != nil {
			return nil, err
		}
	}
	return o, nil
}

func parseLong(o *options, table []option, word string, rest []string) ([]string, error) {
	name, value, given := strings.Cut(word, "=")
	for _, row := range table {
		if row.long != name {
			continue
		}
		if row.arg == "" && given {
			return nil, fault.New(fault.Usage, "cannot use option --%s=%s: it takes no value", name, value)
		}
		if row.arg != "" && !given {
			if len(rest) == 0 {
				return nil, fault.New(fault.Usage, "cannot use option --%s: its value is missing", name)
			}
			value, rest = rest[0], rest[1:]
		}
		return rest, apply(o, row, "--"+name, value)
	}
	return nil, fault.New(fault.Usage, "cannot use option --%s: unknown", name)
}

func parseShort(o *options, table []option, cluster string, rest []string) ([]string, error) {
next:
	for i := 0; i < len(cluster); i++ {
		for _, row := range table {
			if row.short != cluster[i] {
				continue
			}
			flag := "-" + string(row.short)
			if row.arg == "" {
				if err := apply(o, row, flag, ""); err != nil {
					return nil, err
				}
				continue next
			}
			value := cluster[i+1:]
			if value == "" {
				if len(rest) == 0 {
					return nil, fault.New(fault.Usage, "cannot use option %s: its value is missing", flag)
				}
				value, rest = rest[0], rest[1:]
			}
			return rest, apply(o, row, flag, value)
		}
		return nil, fault.New(fault.Usage, "cannot use option -%c: unknown", cluster[i])
	}
	return rest, nil
}

func apply(o *options, row option, flag, value string) error {
	if err := row.set(o, value); err != nil {
		return fault.Wrap(fault.Usage, err, "cannot use option %s", flag)
	}
	return nil
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "daos_engine_emulator: behaves towards the control plane as daos_engine does; serves no data")
	fmt.Fprintln(w, "\nUsage: daos_engine_emulator [options]")
	for _, row := range optionTable() {
		left := fmt.Sprintf("-%c, --%s %s", row.short, row.long, row.arg)
		fmt.Fprintf(w, "  %-32s %s\n", strings.TrimRight(left, " "), row.help)
	}
}
