package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"daosbox/cluster/fault"
)

// envelope is the one JSON document of every --json run.
type envelope struct {
	Response any     `json:"response"`
	Error    *string `json:"error"`
	Status   int32   `json:"status"`
}

// Show gives the answer of a verb: response for programs, human for people. With
// --json the response is kept for the envelope and human is not called. A verb
// shows once, also when it then returns an error (partial failure).
func (t *Tool) Show(response any, human func(w io.Writer)) {
	t.response = response
	t.shown = true
	if !t.JSON && human != nil {
		human(t.Stdout)
	}
}

// Notice tells the user something beside the data, on standard error.
func (t *Tool) Notice(format string, args ...any) {
	fmt.Fprintf(t.Stderr, "NOTICE: %s: %s\n", t.Name, fmt.Sprintf(format, args...))
}

// Finish prints what is left to print, the envelope or the error, and returns the
// exit status. It is the only place that prints an error.
func (t *Tool) Finish(err error) Exit {
	if err != nil {
		t.printError(err)
	}
	if t.JSON {
		if e := t.printEnvelope(err); e != nil && err == nil {
			t.printError(e)
			return Failed
		}
	}
	return ExitOf(err)
}

func (t *Tool) printEnvelope(err error) error {
	env := envelope{Response: t.response, Status: statusOf(err)}
	if err != nil {
		text := err.Error()
		env.Error = &text
	}
	data, e := json.MarshalIndent(env, "", "  ")
	if e != nil {
		return fmt.Errorf("cannot print the answer as JSON: %w", e)
	}
	_, e = t.Stdout.Write(append(data, '\n'))
	return e
}

// printError prints one line for the error, one for each part of a list of
// errors, and one for what to do next.
func (t *Tool) printError(err error) {
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimRight(line, "\n"); line != "" {
			fmt.Fprintf(t.Stderr, "ERROR: %s: %s\n", t.Name, line)
		}
	}
	if hint := fault.HintOf(err); hint != "" {
		fmt.Fprintf(t.Stderr, "HINT: %s: %s\n", t.Name, hint)
	}
}

// PartialError is the error of an operation that failed for failed of asked
// subjects ("host", "rank"); nil when none failed. All failed is no partial failure.
func PartialError(failed, asked int, subject string) error {
	switch {
	case failed == 0:
		return nil
	case failed < asked:
		return fault.New(fault.Partial, "%d of %d %s(s) had errors", failed, asked, subject)
	}
	return fault.New(fault.Unknown, "%d %s(s) had errors", failed, subject)
}

// Joined flattens a joined error into one fault list text; nil stays nil.
func Joined(errs ...error) error { return errors.Join(errs...) }
