package engine

import (
	"context"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// StopMode is how a process is stopped.
type StopMode int

const (
	// Ask interrupts the engine, which shuts down in order, and kills it when
	// Config.StopTimeout passed. An engine that is not ready yet can not take an
	// interrupt and is killed at once.
	Ask StopMode = iota
	// Force kills at once.
	Force
)

// Instance supervises one engine. Its methods are safe for concurrent use.
type Instance struct {
	cfg      Config
	commands chan command
	running  chan struct{} // closed when Run begins
	done     chan struct{} // closed when Run ended
	begin    sync.Once

	mu     sync.Mutex
	status Status
}

// command is a request to the owner. reply has room for one answer, so that a
// caller that left blocks nobody.
type command struct {
	event  event
	notify *Notify
	reply  chan error
}

// New makes an instance in state Stopped; Run brings it to life.
func New(cfg Config) *Instance {
	cfg = cfg.withDefaults()
	cfg.Logger = cfg.Logger.With("engine", cfg.Index)
	return &Instance{
		cfg:      cfg,
		commands: make(chan command),
		running:  make(chan struct{}),
		done:     make(chan struct{}),
		status:   Status{Index: cfg.Index, State: Stopped, Since: time.Now()},
	}
}

// Run owns the engine until ctx ends, and returns when the process is gone: it is
// stopped as with Ask. It is called once. An error means that the process was not
// ended even by SIGKILL, or that a step does not return.
func (i *Instance) Run(ctx context.Context) error {
	first := false
	i.begin.Do(func() { first = true; close(i.running) })
	if !first {
		return fault.New(fault.Internal, "cannot run engine %d: it was run before", i.cfg.Index)
	}
	defer close(i.done)
	return newOwner(i, context.WithoutCancel(ctx)).run(ctx)
}

// Start asks for a start and returns nil when the engine is Ready, ErrAwaitFormat
// when it waits for format, or why it could not be started. A start that is under
// way already is joined, and a Ready engine needs none. When ctx ends first the
// start goes on. A start that waits to be repeated is repeated at once. Before Run
// it waits for Run.
func (i *Instance) Start(ctx context.Context) error {
	err := i.request(ctx, command{event: evStart})
	if ctx.Err() == nil || !isContext(err) {
		return err
	}
	status := i.Status()
	wrapped := fault.Wrap(fault.Timeout, err, "cannot wait for engine %d, which is %s", i.cfg.Index, status.State)
	if status.LastError != nil && !status.State.Settled() {
		wrapped.What += "; last try: " + status.LastError.Error()
	}
	return wrapped.WithHint("the start goes on; ask for the state of the engine later")
}

// Stop ends the process, or the start that is under way, and returns when it is
// gone. An engine without process is left as it is, but is not restarted.
func (i *Instance) Stop(ctx context.Context, mode StopMode) error {
	ev := evStop
	if mode == Force {
		ev = evKill
	}
	return i.stop(ctx, ev)
}

func (i *Instance) stop(ctx context.Context, ev event) error {
	err := i.request(ctx, command{event: ev})
	if ctx.Err() != nil && isContext(err) {
		return fault.Wrap(fault.Timeout, err, "cannot wait for the end of engine %d, which is %s", i.cfg.Index, i.Status().State).
			WithHint("the engine is still being stopped; force it if it does not end")
	}
	return err
}

// Restart is for an engine that announced that it ends itself: it waits for the
// end, for at most Config.StopTimeout before it kills, and starts the engine.
func (i *Instance) Restart(ctx context.Context) error {
	if err := i.stop(ctx, evExpect); err != nil {
		return err
	}
	return i.Start(ctx)
}

// NotifyReady takes the report of the engine's process. It returns at once: the
// joining goes on by itself, and its outcome is that of Start. A report without a
// process that waits for it, a second one, or one of another index is refused.
func (i *Instance) NotifyReady(n Notify) error {
	if n.Index != i.cfg.Index {
		return fault.New(fault.Refused, "cannot take NotifyReady of engine %d: it is for engine %d", i.cfg.Index, n.Index)
	}
	select {
	case <-i.running:
	default:
		return i.notRunning()
	}
	return i.request(context.Background(), command{event: evNotified, notify: &n})
}

// Formatted says that storage is formatted now, which ends AwaitFormat. In any
// other state it changes nothing, but for a check of storage that is under way: it
// is repeated should it find no format.
func (i *Instance) Formatted() {
	select {
	case <-i.running:
		// Only AwaitFormat and Preparing care; a refusal elsewhere says nothing new.
		_ = i.request(context.Background(), command{event: evFormatted})
	default:
	}
}

// Status returns a snapshot.
func (i *Instance) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.status
}

// request hands c to the owner and waits for its answer.
func (i *Instance) request(ctx context.Context, c command) error {
	c.reply = make(chan error, 1)
	select {
	case i.commands <- c:
	case <-i.done:
		return i.notRunning()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (i *Instance) notRunning() error {
	return fault.New(fault.NotReady, "cannot reach engine %d: its supervision is not running", i.cfg.Index).
		WithHint("the server is starting or stopping; try again later")
}

func isContext(err error) bool {
	return err == context.Canceled || err == context.DeadlineExceeded
}
