package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"daosbox/cluster/fault"
)

// Bounds of the output that an error repeats.
const (
	quotedLines = 3
	quotedBytes = 600
)

const lookHint = "look at the engine's own log file for the reason, then start the rank again"

// publish makes the owner's state visible to Status.
func (o *owner) publish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &o.status
	if s.State != o.state {
		s.State, s.Since = o.state, time.Now()
	}
	s.PID, s.StartedAt, s.Notify, s.Tries = 0, time.Time{}, o.notify, o.failures
	if o.proc != nil {
		s.PID, s.StartedAt = o.proc.pid, o.proc.started
	}
}

// settle answers those whose request is decided.
func (o *owner) settle() {
	if o.state != Stopping {
		o.answer(&o.stoppers, nil)
	}
	switch o.state {
	case Ready:
		o.answer(&o.starters, nil)
	case AwaitFormat:
		o.answer(&o.starters, ErrAwaitFormat)
	case Stopped:
		o.answer(&o.starters, fault.New(fault.Canceled, "cannot start engine %d: a stop was asked meanwhile", o.cfg.Index))
	case Failed:
		o.answer(&o.starters, o.Status().LastError)
	}
}

func (o *owner) answer(waiters *[]chan error, err error) {
	for _, reply := range *waiters {
		reply <- err
	}
	*waiters = nil
}

// fail keeps and logs why the engine is not up.
func (o *owner) fail(err *fault.Error) {
	o.setError(err)
	o.cfg.Logger.Error(err.What, "hint", err.Hint)
}

func (o *owner) setError(err error) {
	o.mu.Lock()
	o.status.LastError = err
	o.mu.Unlock()
}

// failedStart tells in one line why a start failed and what comes next.
func (o *owner) failedStart(exit Exit, again bool) {
	lived := exit.Ended.Sub(exit.Started).Round(10 * time.Millisecond)
	err, _ := o.cause.(*fault.Error)
	if err == nil {
		when := "before it reported ready"
		if exit.Notify != nil {
			when = "before it was set up"
		}
		err = fault.Wrap(fault.Engine, exit.Err, "cannot start engine %d: it ended after %s, %s", o.cfg.Index, lived, when)
	}
	err.What += quote(exit.Tail)
	if err.Hint == "" {
		err.Hint = lookHint
	}
	o.delay = o.cfg.Backoff.delay(o.failures)
	if errors.Is(o.cause, ErrRestart) {
		o.delay = 0 // nothing is broken: it only needs another command line
	}
	o.setError(err)
	if again {
		o.cfg.Logger.Warn(err.What, "try", o.failures, "tries", o.cfg.Backoff.Tries, "again_in", o.delay)
		return
	}
	o.cfg.Logger.Error(err.What, "try", o.failures, "tries", o.cfg.Backoff.Tries, "hint", err.Hint)
}

// quote makes the end of the output fit for an error's line.
func quote(tail []string) string {
	if len(tail) == 0 {
		return " (it printed nothing)"
	}
	text := fault.OneLine(strings.Join(tail[max(0, len(tail)-quotedLines):], " | "))
	text = strings.Map(func(r rune) rune { // errors reach terminals
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
	if len(text) > quotedBytes {
		text = "..." + strings.ToValidUTF8(text[len(text)-quotedBytes:], "")
	}
	return fmt.Sprintf(" (last output: %s)", text)
}

// codeOf keeps the meaning of a step's error, and calls it the engine's when it
// has none.
func codeOf(err error) fault.Code {
	if code := fault.Of(err); code != fault.Unknown {
		return code
	}
	return fault.Engine
}
