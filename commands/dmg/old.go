package dmg

import (
	"slices"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// modern is a command line in today's spelling.
type modern struct {
	args []string
	// old is set when it was spelled otherwise, note when today's spelling does not
	// carry all of it.
	old  bool
	note string
}

// modernize understands the command lines of earlier eras: it rewrites them by the
// tables and says once how to write them now. A command that is no more is an
// error that names where its work is done.
func modernize(a *app, root *cobra.Command, globals *pflag.FlagSet, args []string) ([]string, error) {
	m, err := rewrite(root, globals, args)
	if err != nil {
		return args, err
	}
	if !m.old && root.Name() == currentName {
		return args, nil
	}
	now := m.args
	if m.note != "" {
		now = withoutHosts(now)
	}
	a.Old(strings.TrimSpace(root.Name()+" "+quoted(args)), strings.TrimSpace(currentName+" "+quoted(now))+m.note)
	return m.args, nil
}

// currentName is the tool's name since 0.7.
const currentName = "dmg"

// refusing is a command line that only fails, whatever it has.
func refusing(a *app, err error) *cobra.Command {
	root := cli.NewRoot(a.Tool, "")
	root.DisableFlagParsing = true
	root.Args = cobra.ArbitraryArgs
	root.RunE = func(*cobra.Command, []string) error { return err }
	return root
}

// rewriter goes through a command line once.
type rewriter struct {
	root    *cobra.Command
	globals *pflag.FlagSet
	verbs   []oldVerb
	flags   []oldFlag

	cmd  *cobra.Command // as far as it is known
	path string         // words so far, in today's spelling where there is one
	from string         // the path before a row changed it

	before []string       // flags that stand before the verb
	hosts  []string       // -l found there
	after  []string       // flags and arguments of the verb
	lead   map[int]string // arguments that old flags became, by row
	old    bool
}

// rewrite is the pure part of modernize.
func rewrite(root *cobra.Command, globals *pflag.FlagSet, args []string) (modern, error) {
	r := &rewriter{root: root, globals: globals, verbs: oldVerbs(), flags: oldFlags(), cmd: root, lead: make(map[int]string)}
	for len(args) > 0 {
		arg := args[0]
		leaf := !r.cmd.HasSubCommands()
		switch {
		case arg == "--":
			r.after = append(r.after, args...)
			args = nil
		case len(arg) > 1 && arg[0] == '-':
			args = args[r.takeFlag(arg, args[1:], leaf):]
		case leaf:
			r.argument(arg)
			args = args[1:]
		default:
			known, err := r.word(arg)
			if err != nil {
				return modern{}, err
			}
			if !known { // cobra says what it has instead
				r.after = append(r.after, args...)
				args = nil
				continue
			}
			args = args[1:]
		}
	}
	return r.result(), nil
}

// word takes the next word of the command; false means that there is none such.
func (r *rewriter) word(word string) (bool, error) {
	path := strings.TrimSpace(r.path + " " + word)
	for i := 0; i < len(r.verbs); i++ {
		row := r.verbs[i]
		if row.old != path {
			continue
		}
		if row.gone != "" {
			return true, fault.New(fault.Usage, "cannot run %q: this command is no more", currentName+" "+path).WithHint("%s", row.gone)
		}
		r.old = true
		r.from = path
		words := strings.Fields(row.now)
		for len(words) > 0 && words[len(words)-1][0] == '-' {
			r.after = append(r.after, words[len(words)-1])
			words = words[:len(words)-1]
		}
		path = strings.Join(words, " ")
		i = -1 // a row may lead to another
	}
	if cmd := lookup(r.root, path); cmd != nil {
		r.cmd, r.path = cmd, strings.TrimPrefix(cmd.CommandPath(), r.root.CommandPath()+" ")
		return true, nil
	}
	if slices.ContainsFunc(r.verbs, func(row oldVerb) bool { return strings.HasPrefix(row.old, path+" ") }) {
		r.path = path // a group that only old commands are in
		return true, nil
	}
	return false, nil
}

func lookup(cmd *cobra.Command, path string) *cobra.Command {
	for _, word := range strings.Fields(path) {
		i := slices.IndexFunc(cmd.Commands(), func(sub *cobra.Command) bool { return sub.Name() == word || sub.HasAlias(word) })
		if i < 0 {
			return nil
		}
		cmd = cmd.Commands()[i]
	}
	return cmd
}

// argument takes an argument of the verb, which may stand for an old flag's value.
func (r *rewriter) argument(arg string) {
	if i := r.row("", ""); i >= 0 {
		r.replace(i, arg)
		return
	}
	r.after = append(r.after, arg)
}

// row finds an old flag of the verb by name or letter, -1 when it has none such.
func (r *rewriter) row(name, letter string) int {
	return slices.IndexFunc(r.flags, func(f oldFlag) bool {
		if f.verb != "" && f.verb != r.from && f.verb != r.path {
			return false
		}
		if name == "" && letter == "" {
			return f.flag == "" && f.letter == ""
		}
		return name != "" && f.flag == name || letter != "" && f.letter == letter
	})
}

// known finds a flag of today: one of the verb's own or a global one.
func (r *rewriter) known(name, letter string) (flag *pflag.Flag, global bool) {
	find := func(fs *pflag.FlagSet) *pflag.Flag {
		if name != "" {
			return fs.Lookup(name)
		}
		return fs.ShorthandLookup(letter)
	}
	if flag = find(r.cmd.Flags()); flag != nil {
		return flag, false
	}
	return find(r.globals), true
}

// takeFlag takes a flag, or a cluster of them, and returns how many arguments that
// were: with its value, two.
func (r *rewriter) takeFlag(arg string, rest []string, leaf bool) int {
	if name, ok := strings.CutPrefix(arg, "--"); ok {
		name, value, has := strings.Cut(name, "=")
		return r.one(name, "", "--"+name, value, has, rest, leaf)
	}
	for i := 1; i < len(arg); i++ { // letters are single bytes
		letter := arg[i : i+1]
		flag, _ := r.known("", letter)
		row := r.row("", letter)
		takes := row >= 0 && r.flags[row].value || row < 0 && flag != nil && flag.NoOptDefVal == ""
		tail := arg[i+1:]
		if takes || strings.HasPrefix(tail, "=") {
			return r.one("", letter, "-"+letter, strings.TrimPrefix(tail, "="), tail != "", rest, leaf)
		}
		r.one("", letter, "-"+letter, "", false, nil, leaf)
	}
	return 1
}

// one takes one flag. raw is how it was written; has says that a value was in the
// same argument.
func (r *rewriter) one(name, letter, raw, value string, has bool, rest []string, leaf bool) int {
	used := 1
	row := r.row(name, letter)
	flag, global := r.known(name, letter)
	takes := row >= 0 && r.flags[row].value || row < 0 && flag != nil && flag.NoOptDefVal == ""
	if takes && !has && len(rest) > 0 {
		value, has, used = rest[0], true, 2
	}
	hosts := flag != nil && global && flag.Name == hostListFlag || row >= 0 && r.flags[row].flag == "hostlist"
	switch {
	case takes && !has:
		r.after = append(r.after, raw) // cobra says that its value is missing
	case hosts:
		r.hosts = []string{"-l", value}
	case row >= 0:
		r.replace(row, value)
	default:
		words := []string{raw}
		switch {
		case has && strings.HasPrefix(raw, "--"):
			words[0] += "=" + value
		case has:
			words = append(words, value)
		}
		if flag == nil || leaf && !global { // what nobody knows stays where cobra says so
			r.after = append(r.after, words...)
		} else {
			r.before = append(r.before, words...)
		}
	}
	return used
}

// replace puts what a row says in the place of an old flag.
func (r *rewriter) replace(row int, value string) {
	r.old = true
	if r.flags[row].last {
		value = escaped(value)
	}
	switch now := strings.ReplaceAll(r.flags[row].now, "%s", value); {
	case r.flags[row].now == "":
	case strings.HasPrefix(r.flags[row].now, "-"):
		r.after = append(r.after, now)
	default:
		r.lead[row] = now
	}
}

// escaped keeps what is in a value from being read as a list of keys and values.
func escaped(value string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `'`, `\'`, `"`, `\"`).Replace(value)
}

// result puts the command line together.
func (r *rewriter) result() modern {
	m := modern{old: r.old, args: r.before}
	own := r.cmd.Flags().Lookup(hostListFlag) != nil
	asks := !r.cmd.HasSubCommands() && !isLocal(r.cmd)
	if len(r.hosts) > 0 && asks {
		m.old = true
	}
	if len(r.hosts) > 0 && !own {
		m.args = append(m.args, r.hosts...)
		if asks {
			m.note = " with " + r.hosts[1] + " as hostlist in daos_control.yml"
		}
	}
	m.args = append(m.args, strings.Fields(r.path)...)
	first, last := r.leads()
	m.args = append(m.args, first...)
	m.args = append(append(m.args, r.after...), last...)
	if len(r.hosts) > 0 && own {
		m.args = append(m.args, r.hosts...)
	}
	return m
}

// leads are the arguments that old flags became, in the order of the table: those
// that go before all others and those that go after them.
func (r *rewriter) leads() (first, last []string) {
	joined := ""
	for row, f := range r.flags {
		part, ok := r.lead[row]
		if !ok {
			continue
		}
		if joined += part; strings.HasSuffix(part, ":") {
			continue
		}
		if f.last {
			last = append(last, joined)
		} else {
			first = append(first, joined)
		}
		joined = ""
	}
	if joined != "" {
		last = append(last, joined)
	}
	return first, last
}

func withoutHosts(args []string) []string {
	if i := slices.Index(args, "-l"); i >= 0 && i+1 < len(args) {
		return append(slices.Clone(args[:i]), args[i+2:]...)
	}
	return args
}

// quoted joins words as a shell wants them.
func quoted(args []string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		if words[i] = arg; arg == "" || strings.ContainsAny(arg, " \t\n'\"$&|;<>()*?\\`") {
			words[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
