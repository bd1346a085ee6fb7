package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"daosbox/engine/drpc"
)

// ErrAwaitFormat is what Steps.Prepare returns, and Instance.Start then too, when
// the engine's storage has to be formatted first.
var ErrAwaitFormat = errors.New("storage is not formatted")

// ErrRestart is what Steps.Join wraps when the process has to be replaced by a new
// one, which Prepare may then give another command line. It counts as a try.
var ErrRestart = errors.New("engine has to be started again")

// Spec is one process to start.
type Spec struct {
	// Binary is the program, BinaryArgs the words between its name and Argv (a
	// personality of a program that has several).
	Binary     string
	BinaryArgs []string
	// Arg0 is the name the program sees itself called by, Binary when empty; a
	// program with several personalities goes by it.
	Arg0 string
	// Argv are the words of Args.Argv, Env those of EnvSpec.Env; nothing is added.
	Argv []string
	Env  []string
	// Dir is the working directory, empty for that of the server.
	Dir string
}

// Notify is what an engine says when it is ready to be let in.
type Notify struct {
	// URI is the primary fabric address, Contexts its number of contexts.
	URI      string
	Contexts uint32
	// Socket is the path of the engine's own dRPC socket.
	Socket string
	// Index is the engine's position in the configuration.
	Index int
	// Targets is the number of storage targets.
	Targets uint32
	// Incarnation tells the lives of one rank apart; greater is newer.
	Incarnation uint64
	// CheckMode is true when the engine was started for the checker.
	CheckMode bool
	// SecondaryURIs and SecondaryContexts are those of further providers; engines
	// never fill them.
	SecondaryURIs     []string
	SecondaryContexts []uint32
	// Framing is how the engine spoke, and so how it wants to be called.
	Framing drpc.Framing
}

// Exit is the end of one process.
type Exit struct {
	// PID is the process that was.
	PID int
	// Ready is true when it served before.
	Ready bool
	// Asked is true when the end was asked for with Stop, Restart or the end of Run.
	Asked bool
	// Err is never nil: "process exited with 0", "exit status N" or "signal: NAME".
	Err error
	// Tail is the last of its output, oldest line first.
	Tail []string
	// Notify is what it reported, nil when it ended before.
	Notify *Notify
	// Started and Ended bound its life.
	Started, Ended time.Time
}

// Steps is what the owner does around the process. The contexts end when the
// process dies, a stop is asked or the step's time is over; a step must return
// then, since its instance waits for it. Exited and State run on the instance's
// own goroutine: they must be quick, and may call Status but nothing else of it.
// A nil step does nothing.
type Steps struct {
	// Prepare makes storage ready and says what to start. ErrAwaitFormat makes the
	// instance wait for Formatted; any other error fails the start for good.
	Prepare func(ctx context.Context) (Spec, error)
	// Join lets the engine into the system and sets it up; nil makes it Ready. An
	// error kills the process and fails the start for good, but for ErrRestart.
	Join func(ctx context.Context, n Notify) error
	// Exited is told of the end of every process, once, after it is gone.
	Exited func(Exit)
	// State is told of every change.
	State func(old, new State)
}

// Retry says how a start that died is repeated.
type Retry struct {
	// First is the delay before the second try, doubled for each further one up to
	// Max. Default 1 s and 30 s.
	First, Max time.Duration
	// Tries is how often a start is tried in all, default 3.
	Tries int
}

// delay is the wait before another try after n failed ones.
func (r Retry) delay(n int) time.Duration {
	d := r.First
	for ; n > 1 && d < r.Max; n-- {
		d *= 2
	}
	return min(d, r.Max)
}

// Config makes an Instance.
type Config struct {
	// Index is the engine's position in the configuration.
	Index int
	// Logger gets the engine's output (stdout at INFO, stderr at ERROR) and one line
	// for each step; nil discards.
	Logger *slog.Logger
	// StartTimeout is from execution to NotifyReady (default 3 min; engines take
	// some seconds), SetupTimeout from there to Ready (default 10 min).
	StartTimeout, SetupTimeout time.Duration
	// StopTimeout is how long a process that was asked to end may take before it is
	// killed, default 30 s.
	StopTimeout time.Duration
	// Backoff repeats starts that died.
	Backoff Retry
	Steps   Steps
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	fill := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	fill(&c.StartTimeout, 3*time.Minute)
	fill(&c.SetupTimeout, 10*time.Minute)
	fill(&c.StopTimeout, 30*time.Second)
	fill(&c.Backoff.First, time.Second)
	fill(&c.Backoff.Max, 30*time.Second)
	if c.Backoff.Tries <= 0 {
		c.Backoff.Tries = 3
	}
	return c
}

// Status is a snapshot of an instance.
type Status struct {
	Index int
	State State
	// Since is when State began.
	Since time.Time
	// PID is 0 without a process; StartedAt is when it was executed.
	PID       int
	StartedAt time.Time
	// Notify is what the running process reported, nil before; it holds the socket
	// and the framing for calls to the engine.
	Notify *Notify
	// Tries is how many starts failed since it was asked for one.
	Tries int
	// LastExit is the last process that ended, LastError why the last start failed
	// or the engine went down by itself; both nil when there was none.
	LastExit  *Exit
	LastError error
}

// Socket is the path of the running engine's dRPC socket, empty before
// NotifyReady.
func (s Status) Socket() string {
	if s.Notify == nil {
		return ""
	}
	return s.Notify.Socket
}

// Framing is how the running engine wants to be called; valid when Socket is.
func (s Status) Framing() drpc.Framing {
	if s.Notify == nil {
		return 0
	}
	return s.Notify.Framing
}
