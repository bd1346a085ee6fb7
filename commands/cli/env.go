// Package cli is the floor of every personality: what a command is given (Env),
// how it answers (Tool.Show, one printer), how its errors are told and which exit
// status they give. It holds the cobra and pflag conventions that reproduce the
// fixed command line: global flags before and after the verb, short clusters,
// flags with underscores.
package cli

import (
	"io"
	"log/slog"
	"os"
)

// Env is everything a command may use of its process. main fills it from the real
// one, tests from buffers; nothing below main looks at package os for these.
type Env struct {
	// Args is the argument vector; Args[0] is the name as invoked.
	Args []string
	// Stdin, Stdout and Stderr are the standard streams. Stdout gets data only.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// LookupEnv finds an environment variable.
	LookupEnv func(string) (string, bool)
	// Environ is the whole environment, "K=V".
	Environ []string
	// Dir is the working directory; relative paths of arguments start there.
	Dir string
	// Executable is the absolute path of the running file.
	Executable string
	// UID and EUID are the real and effective user ids.
	UID, EUID int
	// Secure is set when the process runs with borrowed privilege (AT_SECURE).
	Secure bool
	// StdoutTTY and StderrTTY tell whether a person watches.
	StdoutTTY, StderrTTY bool
	// Width is the terminal's width in columns, 0 when unknown.
	Width int
}

// Getenv returns an environment variable, empty when unset.
func (e *Env) Getenv(name string) string {
	value, _ := e.LookupEnv(name)
	return value
}

// Tool is one run of one personality: its Env, its global switches and its answer.
type Tool struct {
	*Env
	// Name is the personality as the user called it: dmg, daos_server, ...
	Name string
	// JSON makes the answer the envelope instead of text.
	JSON bool
	// Debug raises the log to its most verbose level.
	Debug bool
	// JSONLog makes log lines JSON objects.
	JSONLog bool
	// Log is where a one-shot command tells what it does; daemons make their own
	// once their configuration is known.
	Log *slog.Logger

	level    *slog.LevelVar
	response any
	shown    bool
}

// NewTool prepares a run of the personality name.
func NewTool(env *Env, name string) *Tool {
	t := &Tool{Env: env, Name: name, level: new(slog.LevelVar)}
	t.level.Set(LevelNotice)
	t.Log = slog.New(&lineHandler{out: env.Stderr, name: name, level: t.level})
	return t
}

// Path makes a path from the command line absolute.
func (t *Tool) Path(path string) string {
	if path == "" || os.IsPathSeparator(path[0]) {
		return path
	}
	return t.Dir + string(os.PathSeparator) + path
}
