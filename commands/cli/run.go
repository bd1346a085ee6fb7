package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"daosbox/cluster/fault"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// NewRoot makes the root command of a personality with the conventions of all:
// silent cobra, errors returned, the global flags of fs attached to every verb.
func NewRoot(t *Tool, short string) *cobra.Command {
	root := &cobra.Command{Use: t.Name, Short: short}
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true // ours is in completion.go
	root.SetOut(t.Stdout)
	root.SetErr(t.Stderr)
	root.SetIn(t.Stdin)
	return root
}

// Group is a verb that only holds verbs; run bare it is wrong usage that lists them.
func Group(use, short string, aliases ...string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Aliases: aliases, RunE: needVerb}
}

func needVerb(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownVerb(cmd, args[0])
	}
	return fault.New(fault.Usage, "cannot run %q alone: it needs one of the commands %s", cmd.CommandPath(), verbs(cmd)).
		WithHint("see `%s --help`", cmd.CommandPath())
}

func unknownVerb(cmd *cobra.Command, word string) error {
	err := fault.New(fault.Usage, "unknown command %q for %q: it has %s", word, cmd.CommandPath(), verbs(cmd))
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		return err.WithHint("did you mean `%s %s`?", cmd.CommandPath(), near[0])
	}
	return err.WithHint("see `%s --help`", cmd.CommandPath())
}

func verbs(cmd *cobra.Command) string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return strings.Join(names, ", ")
}

// NoArgs refuses left-over arguments as wrong usage.
func NoArgs(cmd *cobra.Command, args []string) error { return ExactArgs()(cmd, args) }

// ExactArgs wants one argument for each name.
func ExactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return fault.New(fault.Usage, "unexpected arguments: %s", strings.Join(args[len(names):], " ")).
				WithHint("see `%s --help`", cmd.CommandPath())
		}
		if len(args) < len(names) {
			return fault.New(fault.Usage, "missing argument: %s", strings.Join(names[len(args):], ", ")).
				WithHint("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// Execute runs the tree with the tool's arguments and returns the exit status.
// globals are the flags that stand before the verb and after it alike.
func Execute(ctx context.Context, t *Tool, root *cobra.Command, globals *pflag.FlagSet, args []string) Exit {
	if root.HasSubCommands() {
		root.AddCommand(completionVerb(t), manVerb(t))
	}
	attach(root, globals)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, err) })
	enveloped := OK
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, words []string) {
		t.JSON = t.JSON || wantsJSON(args) && globals.Lookup("json") != nil
		enveloped = t.Finish(nil) // before the help, where scripts know it
		t.JSON = false
		help(cmd, words)
	})
	words, err := leading(root, args)
	if err == nil {
		t.applyGlobals()
		root.SetArgs(append([]string{}, words...)) // nil would mean the process's own
		root.PersistentPreRun = func(*cobra.Command, []string) { t.applyGlobals() }
		err = root.ExecuteContext(ctx)
	}
	if enveloped != OK {
		return enveloped
	}
	if err != nil && !t.JSON && wantsJSON(args) && globals.Lookup("json") != nil {
		t.JSON = true // the flags could not be parsed, the envelope is promised all the same
	}
	return t.Finish(classify(err))
}

func (t *Tool) applyGlobals() {
	if t.Debug {
		t.level.Set(LevelTrace)
	}
	if t.JSONLog {
		t.Log = slog.New(slog.NewJSONHandler(t.Stderr, &slog.HandlerOptions{Level: t.level}))
	}
}

// Globals declares the switches that every personality has; debugLetter is the
// short form of --debug, which differs between them.
func (t *Tool) Globals(debugLetter string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(t.Name, pflag.ContinueOnError)
	fs.BoolVarP(&t.JSON, "json", "j", false, "print one JSON document: response, error, status")
	fs.BoolVarP(&t.JSONLog, "json-logging", "J", false, "print log lines as JSON objects")
	fs.BoolVarP(&t.Debug, "debug", debugLetter, false, "log everything")
	fs.Bool("allow-proxy", false, "accepted for old scripts; nothing here uses a proxy")
	_ = fs.MarkHidden("allow-proxy")
	return fs
}

// attach gives every command of the tree the global flags, except where it has a
// flag of that name; a letter that the command uses itself stays the command's.
func attach(cmd *cobra.Command, globals *pflag.FlagSet) {
	globals.VisitAll(func(global *pflag.Flag) {
		if cmd.Flags().Lookup(global.Name) != nil {
			return
		}
		flag := *global
		if flag.Shorthand != "" && cmd.Flags().ShorthandLookup(flag.Shorthand) != nil {
			flag.Shorthand = ""
		}
		cmd.Flags().AddFlag(&flag)
	})
	for _, sub := range cmd.Commands() {
		attach(sub, globals)
	}
}

// leading consumes the flags that stand before each verb, setting them, and
// returns the verbs followed by what is left for the last one. cobra alone would
// lose a value after a cluster such as "-il HOSTS".
func leading(root *cobra.Command, args []string) ([]string, error) {
	if len(args) > 0 && isCompletion(args[0]) {
		return args, nil
	}
	var path []string
	for cmd := root; ; {
		if !cmd.HasSubCommands() {
			return append(path, args...), nil
		}
		cmd.InitDefaultHelpFlag()
		cmd.Flags().SetInterspersed(false)
		err := cmd.Flags().Parse(args)
		cmd.Flags().SetInterspersed(true)
		if errors.Is(err, pflag.ErrHelp) {
			return append(path, "--help"), nil
		}
		if err != nil {
			return nil, usageError(cmd, err)
		}
		if help, _ := cmd.Flags().GetBool("help"); help {
			return append(path, "--help"), nil
		}
		rest := cmd.Flags().Args()
		if len(rest) == 0 {
			return append(path, rest...), nil
		}
		next := find(cmd, rest[0])
		if next == nil {
			if cmd.Runnable() && cmd.Args != nil {
				return append(path, rest...), nil
			}
			return nil, unknownVerb(cmd, rest[0])
		}
		path = append(path, next.Name())
		cmd, args = next, rest[1:]
	}
}

// IsOwnVerb reports whether word is a verb that Execute adds to every tree. Code
// that guesses what a command line without a verb means must leave it alone.
func IsOwnVerb(word string) bool {
	return word == "completion" || word == "manpage" || isCompletion(word)
}

func find(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name || sub.HasAlias(name) {
			return sub
		}
	}
	return nil
}

func usageError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return fault.Wrap(fault.Usage, err, "cannot parse the command line").WithHint("see `%s --help`", cmd.CommandPath())
}

// classify makes cobra's own complaints (arguments, required flags) wrong usage;
// everything a verb returns carries its code already.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := fault.As(err); ok {
		return err
	}
	text := err.Error()
	for _, own := range []string{"unknown command", "required flag", "accepts ", "requires at least", "invalid argument", "if any flags in the group", "at least one of the flags"} {
		if strings.HasPrefix(text, own) {
			return fault.Wrap(fault.Usage, err, "cannot parse the command line")
		}
	}
	return err
}

func wantsJSON(args []string) bool {
	for _, arg := range args {
		if arg == "--" {
			return false
		}
		if arg == "--json" || (len(arg) > 1 && arg[0] == '-' && arg[1] != '-' && strings.Contains(arg, "j")) {
			return true
		}
	}
	return false
}

// Old marks a spelling of an earlier era: it works, is hidden from help, and a
// hint names the new form once.
func (t *Tool) Old(used, now string) {
	fmt.Fprintf(t.Stderr, "NOTICE: %s: %q is the old spelling of %q\n", t.Name, used, now)
}
