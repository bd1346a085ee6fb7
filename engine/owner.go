package engine

import (
	"context"
	"errors"
	"strings"
	"time"

	"daosbox/cluster/fault"
)

// killTimeout is how long a killed process may take to vanish. Only one that hangs
// in the kernel takes longer.
const killTimeout = 10 * time.Second

// stepResult is the end of Prepare or Join.
type stepResult struct {
	event event
	spec  Spec
	err   error
}

// owner is the state of Run, touched by its goroutine only.
type owner struct {
	*Instance
	base  context.Context // of the steps; outlives the context of Run
	state State
	timer *time.Timer

	// One step runs at a time; cancel is nil when none does.
	cancel  context.CancelFunc
	results chan stepResult
	recheck bool // format was reported while prepare ran
	spec    Spec

	proc   *process
	exited <-chan error // proc's, nil without
	exit   *Exit        // its end, kept until the step that it cut short returned
	notify *Notify
	killed bool // SIGKILL was sent
	asked  bool // the end was asked for
	served bool // it was Ready

	cause    error // why the present start fails, nil as long as it does not
	final    bool  // cause is not worth another try
	failures int   // starts that failed since one was asked for
	delay    time.Duration

	starters, stoppers []chan error
	ending             bool // Run is to return
}

func newOwner(i *Instance, base context.Context) *owner {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &owner{Instance: i, base: base, state: Stopped, timer: timer, results: make(chan stepResult, 1)}
}

// run is the loop: one thing that happened at a time.
func (o *owner) run(ctx context.Context) error {
	defer o.timer.Stop()
	end := ctx.Done()
	for {
		if o.ending && o.state.Idle() {
			o.answer(&o.starters, o.notRunning())
			return nil
		}
		select {
		case <-end:
			end, o.ending = nil, true
			_ = o.deliver(evStop) // every state takes it
		case c := <-o.commands:
			o.command(c)
		case r := <-o.results:
			o.stepEnded(r)
		case err := <-o.exited:
			o.processEnded(err)
		case <-o.timer.C:
			if err := o.timePassed(); err != nil {
				return err
			}
		}
		o.settle()
	}
}

// command performs a request; starts and stops are answered by settle.
func (o *owner) command(c command) {
	switch c.event {
	case evStart:
		if o.ending {
			c.reply <- o.notRunning()
			return
		}
		if o.state.Settled() || o.state == Backoff {
			o.failures = 0
		}
		o.starters = append(o.starters, c.reply)
		if err := o.deliver(c.event); err != nil {
			o.starters = o.starters[:len(o.starters)-1]
			c.reply <- fault.New(fault.Busy, "cannot start engine %d: it is %s", o.cfg.Index, o.state).
				WithHint("wait until it has stopped, then start it again")
		}
	case evStop, evKill, evExpect:
		o.stoppers = append(o.stoppers, c.reply)
		_ = o.deliver(c.event) // every state takes it
	case evNotified:
		state := o.state
		if state == Starting {
			o.notify = c.notify
		}
		if err := o.deliver(c.event); err != nil {
			c.reply <- fault.New(fault.Refused, "cannot take NotifyReady of engine %d: it is %s", o.cfg.Index, state)
			return
		}
		c.reply <- nil
	default:
		c.reply <- o.deliver(c.event)
	}
}

// deliver takes the step of the machine for ev and performs its actions.
func (o *owner) deliver(ev event) error {
	t, err := next(o.state, ev)
	if err != nil {
		return err
	}
	old := o.state
	if t.to == Stopping && old != Stopping {
		o.asked = true
	}
	if t.to != old {
		o.state = t.to
		o.publish()
		o.arm()
		o.cfg.Logger.Debug("engine changes state", "from", old.String(), "to", t.to.String(), "event", ev.String())
		if o.cfg.Steps.State != nil {
			o.cfg.Steps.State(old, t.to)
		}
	}
	for _, a := range t.actions {
		o.perform(a)
	}
	return nil
}

func (o *owner) perform(a action) {
	switch a {
	case actPrepare:
		o.prepare()
	case actRecheck:
		o.recheck = true
	case actLaunch:
		o.launch()
	case actJoin:
		o.join()
	case actCancel:
		if o.cancel != nil {
			o.cancel()
		}
	case actInterrupt:
		o.cfg.Logger.Info("asks the engine to end", "pid", o.proc.pid)
		o.proc.interrupt()
	case actKill:
		o.kill()
	}
}

// arm sets the timer to what the state allows.
func (o *owner) arm() {
	o.timer.Stop()
	switch o.state {
	case Starting:
		o.timer.Reset(o.cfg.StartTimeout)
	case Joining:
		o.timer.Reset(o.cfg.SetupTimeout)
	case Stopping, Aborting:
		o.timer.Reset(o.cfg.StopTimeout)
	case Backoff:
		o.timer.Reset(o.delay)
	}
}

func (o *owner) prepare() {
	o.recheck, o.cause, o.final, o.asked, o.killed, o.served = false, nil, false, false, false, false
	o.spec = Spec{}
	run := o.cfg.Steps.Prepare
	o.startStep(func(ctx context.Context) stepResult {
		if run == nil {
			return stepResult{event: evPrepareFailed, err: errors.New("there is no program to start")}
		}
		spec, err := run(ctx)
		switch {
		case errors.Is(err, ErrAwaitFormat):
			return stepResult{event: evUnformatted}
		case err != nil:
			return stepResult{event: evPrepareFailed, err: err}
		}
		return stepResult{event: evPrepared, spec: spec}
	})
}

func (o *owner) join() {
	o.cfg.Logger.Info("engine reports ready", "uri", o.notify.URI, "contexts", o.notify.Contexts,
		"targets", o.notify.Targets, "incarnation", o.notify.Incarnation, "socket", o.notify.Socket)
	run, notify := o.cfg.Steps.Join, *o.notify
	o.startStep(func(ctx context.Context) stepResult {
		if run != nil {
			if err := run(ctx, notify); err != nil {
				return stepResult{event: evJoinFailed, err: err}
			}
		}
		return stepResult{event: evJoined}
	})
}

func (o *owner) startStep(run func(context.Context) stepResult) {
	ctx, cancel := context.WithCancel(o.base)
	o.cancel = cancel
	go func() { o.results <- run(ctx) }()
}

func (o *owner) stepEnded(r stepResult) {
	o.cancel()
	o.cancel = nil
	if o.exit != nil { // the process ended first, whatever the step made of it
		o.ended()
		return
	}
	switch r.event {
	case evPrepared:
		o.spec = r.spec
	case evUnformatted:
		if o.recheck && o.state == Preparing {
			o.prepare()
			return
		}
	case evPrepareFailed:
		if o.state == Preparing {
			o.fail(fault.Wrap(codeOf(r.err), r.err, "cannot start engine %d", o.cfg.Index))
		}
	case evJoinFailed:
		if o.state == Joining {
			o.cause = fault.Wrap(codeOf(r.err), r.err, "cannot start engine %d", o.cfg.Index)
			o.final = !errors.Is(r.err, ErrRestart)
		}
	}
	_ = o.deliver(r.event) // the states that have a step take its ends
	if o.state == Ready {
		o.served = true
		o.setError(nil)
		o.cfg.Logger.Info("engine is ready", "pid", o.proc.pid, "after", time.Since(o.proc.started).Round(time.Millisecond))
	}
}

func (o *owner) launch() {
	proc, err := launch(o.spec, o.cfg.Index, o.cfg.Logger)
	if err != nil {
		o.fail(fault.Wrap(fault.Engine, err, "cannot start engine %d", o.cfg.Index))
		_ = o.deliver(evLaunchFailed) // Starting takes it
		return
	}
	o.proc, o.exited, o.notify = proc, proc.done, nil
	o.publish()
	o.cfg.Logger.Info("engine is started", "pid", proc.pid, "binary", o.spec.Binary,
		"argv", strings.Join(append(o.spec.BinaryArgs[:len(o.spec.BinaryArgs):len(o.spec.BinaryArgs)], o.spec.Argv...), " "))
}

func (o *owner) kill() {
	if o.proc == nil || o.exit != nil {
		return
	}
	if !o.killed {
		o.cfg.Logger.Info("kills the engine", "pid", o.proc.pid)
	}
	o.killed = true
	o.proc.kill()
	o.timer.Reset(killTimeout)
}

// timePassed handles the timer: the next try, or a deadline.
func (o *owner) timePassed() error {
	switch o.state {
	case Backoff:
		return o.deliver(evRetry)
	case Starting:
		o.cause = fault.New(fault.Engine, "cannot start engine %d: it did not report ready within %s", o.cfg.Index, o.cfg.StartTimeout)
	case Joining:
		if o.exit == nil {
			o.cause = fault.New(fault.Engine, "cannot start engine %d: it was not set up within %s", o.cfg.Index, o.cfg.SetupTimeout)
		}
	case Stopping, Aborting:
		if o.killed || o.proc == nil || o.exit != nil {
			return o.stuck()
		}
		o.cfg.Logger.Warn("engine does not end in time", "pid", o.proc.pid, "timeout", o.cfg.StopTimeout)
	}
	return o.deliver(evDeadline)
}

// stuck handles what even SIGKILL did not end, or a step that does not return: it
// is told, and tried again, but holds up nobody.
func (o *owner) stuck() error {
	err := fault.New(fault.Engine, "cannot stop engine %d: a step of its start does not end", o.cfg.Index)
	if o.proc != nil && o.exit == nil {
		err = fault.New(fault.Engine, "cannot stop engine %d: process %d is still there after SIGKILL", o.cfg.Index, o.proc.pid).
			WithHint("it hangs in the kernel, often on storage: look at /proc/%d/stack and the kernel log", o.proc.pid)
	}
	o.cfg.Logger.Error(err.What, "hint", err.Hint)
	o.answer(&o.stoppers, err)
	if o.ending {
		if o.exit != nil { // the process did end: that is told
			o.ended()
		}
		o.answer(&o.starters, o.notRunning())
		return err
	}
	o.timer.Reset(killTimeout)
	return o.deliver(evDeadline)
}

// processEnded takes the end of the process, and holds it until the step that runs
// has noticed.
func (o *owner) processEnded(err error) {
	o.exited = nil
	o.exit = &Exit{
		PID: o.proc.pid, Ready: o.served, Asked: o.asked,
		Err: err, Tail: o.proc.tail.list(), Notify: o.notify, Started: o.proc.started, Ended: time.Now(),
	}
	if o.cancel != nil {
		o.cancel()
		o.timer.Reset(killTimeout)
		return
	}
	o.ended()
}

// ended finishes the life of a process: it is told, and the machine goes on.
func (o *owner) ended() {
	exit := *o.exit
	o.proc, o.exit, o.notify = nil, nil, nil
	o.mu.Lock()
	o.status.LastExit = &exit
	o.mu.Unlock()
	o.publish()
	if o.cfg.Steps.Exited != nil {
		o.cfg.Steps.Exited(exit)
	}
	ev := evGone
	switch o.state {
	case Stopping:
		o.cfg.Logger.Info("engine has stopped", "pid", exit.PID, "exit", exit.Err.Error())
	case Ready:
		err := fault.Wrap(fault.Engine, exit.Err, "cannot keep engine %d up: process %d ended", o.cfg.Index, exit.PID)
		err.What += quote(exit.Tail)
		o.fail(err.WithHint(lookHint))
	default:
		o.failures++
		if o.final || o.ending || o.failures >= o.cfg.Backoff.Tries {
			ev = evGoneLast
		}
		o.failedStart(exit, ev == evGone)
	}
	_ = o.deliver(ev) // every state with a process takes it
}
