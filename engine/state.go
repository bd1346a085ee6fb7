package engine

import (
	"fmt"
)

// State is where the supervision of one engine stands.
type State int

const (
	// Stopped has no process and waits to be asked for one.
	Stopped State = iota
	// AwaitFormat has no process and waits for its storage to be formatted.
	AwaitFormat
	// Preparing runs the owner's step before the start.
	Preparing
	// Starting has a process that has not reported ready.
	Starting
	// Joining has a process that reported ready and is being let into the system.
	Joining
	// Ready has a process that serves.
	Ready
	// Stopping was asked to stop and waits for its process or step to end.
	Stopping
	// Aborting waits for the process of a failed start to end.
	Aborting
	// Backoff waits before it tries a failed start again.
	Backoff
	// Failed has no process, after a failed start or an unexpected end, and waits
	// to be asked.
	Failed

	stateCount
)

var stateNames = [stateCount]string{
	Stopped: "stopped", AwaitFormat: "await-format", Preparing: "preparing", Starting: "starting",
	Joining: "joining", Ready: "ready", Stopping: "stopping", Aborting: "aborting",
	Backoff: "backoff", Failed: "failed",
}

func (s State) String() string {
	if s < 0 || s >= stateCount {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return stateNames[s]
}

// Settled reports whether s stays until somebody asks for something: nothing is
// under way in it.
func (s State) Settled() bool {
	return s == Stopped || s == AwaitFormat || s == Ready || s == Failed
}

// Idle reports whether s has neither a process nor anything under way.
func (s State) Idle() bool { return s.Settled() && s != Ready }

// event is what happened to an instance.
type event int

const (
	evStart         event = iota // asked to start
	evStop                       // asked to stop, politely
	evKill                       // asked to stop at once
	evExpect                     // the process announced its own end
	evFormatted                  // storage has been formatted
	evPrepared                   // prepare succeeded
	evUnformatted                // prepare found storage without format
	evPrepareFailed              // prepare failed
	evLaunchFailed               // the program could not be executed
	evNotified                   // the process reported ready
	evJoined                     // join succeeded
	evJoinFailed                 // join failed
	evDeadline                   // the time that the state allows passed
	evGone                       // the process ended; another try is allowed
	evGoneLast                   // the process ended; no try is left
	evRetry                      // the delay before the next try passed

	eventCount
)

var eventNames = [eventCount]string{
	evStart: "start", evStop: "stop", evKill: "kill", evExpect: "expect-end", evFormatted: "formatted",
	evPrepared: "prepared", evUnformatted: "unformatted", evPrepareFailed: "prepare-failed",
	evLaunchFailed: "launch-failed", evNotified: "notify-ready", evJoined: "joined",
	evJoinFailed: "join-failed", evDeadline: "deadline", evGone: "gone", evGoneLast: "gone-last",
	evRetry: "retry",
}

func (e event) String() string {
	if e < 0 || e >= eventCount {
		return fmt.Sprintf("event(%d)", int(e))
	}
	return eventNames[e]
}

// action is what the owner does because of an event, in the order given.
type action int

const (
	actPrepare   action = iota // run the prepare step
	actRecheck                 // run prepare once more if it finds no format
	actLaunch                  // execute the program
	actJoin                    // run the join step
	actCancel                  // end the running step
	actInterrupt               // ask the process to end
	actKill                    // kill the process and its group

	actionCount
)

var actionNames = [actionCount]string{
	actPrepare: "prepare", actRecheck: "recheck", actLaunch: "launch", actJoin: "join",
	actCancel: "cancel step", actInterrupt: "interrupt", actKill: "kill",
}

func (a action) String() string {
	if a < 0 || a >= actionCount {
		return fmt.Sprintf("action(%d)", int(a))
	}
	return actionNames[a]
}

// transition is the outcome of an event.
type transition struct {
	to      State
	actions []action
}

func to(s State, actions ...action) transition { return transition{to: s, actions: actions} }

// transitions is the whole state machine. An event that a state does not name is
// an error; what a state names without a change is expected there and harmless.
//
// An engine takes SIGINT only when it is ready and lets it pend before, so only
// Ready interrupts; every state before it kills.
var transitions = [stateCount]map[event]transition{
	Stopped: {
		evStart: to(Preparing, actPrepare),
		evStop:  to(Stopped), evKill: to(Stopped), evExpect: to(Stopped),
	},
	AwaitFormat: {
		evStart: to(AwaitFormat),
		evStop:  to(AwaitFormat), evKill: to(AwaitFormat), evExpect: to(AwaitFormat),
		evFormatted: to(Preparing, actPrepare),
	},
	Preparing: {
		evStart: to(Preparing),
		evStop:  to(Stopping, actCancel), evKill: to(Stopping, actCancel), evExpect: to(Preparing),
		evFormatted:     to(Preparing, actRecheck),
		evPrepared:      to(Starting, actLaunch),
		evUnformatted:   to(AwaitFormat),
		evPrepareFailed: to(Failed),
	},
	Starting: {
		evStart: to(Starting),
		evStop:  to(Stopping, actKill), evKill: to(Stopping, actKill), evExpect: to(Stopping, actKill),
		evLaunchFailed: to(Failed),
		evNotified:     to(Joining, actJoin),
		evDeadline:     to(Aborting, actKill),
		evGone:         to(Backoff), evGoneLast: to(Failed),
	},
	Joining: {
		evStart: to(Joining),
		evStop:  to(Stopping, actCancel, actKill), evKill: to(Stopping, actCancel, actKill),
		evExpect:     to(Stopping, actCancel, actKill),
		evJoined:     to(Ready),
		evJoinFailed: to(Aborting, actKill),
		evDeadline:   to(Aborting, actCancel, actKill),
		evGone:       to(Backoff), evGoneLast: to(Failed),
	},
	Ready: {
		evStart: to(Ready),
		evStop:  to(Stopping, actInterrupt), evKill: to(Stopping, actKill), evExpect: to(Stopping),
		evGone: to(Failed), evGoneLast: to(Failed),
	},
	Stopping: {
		evStop: to(Stopping), evKill: to(Stopping, actKill), evExpect: to(Stopping),
		// A step that was canceled ends: before the launch that is the end, after it
		// the process is still to go.
		evPrepared: to(Stopped), evUnformatted: to(Stopped), evPrepareFailed: to(Stopped),
		evJoined: to(Stopping), evJoinFailed: to(Stopping),
		evDeadline: to(Stopping, actKill),
		evGone:     to(Stopped), evGoneLast: to(Stopped),
	},
	Aborting: {
		evStart: to(Aborting),
		evStop:  to(Stopping), evKill: to(Stopping, actKill), evExpect: to(Stopping),
		evJoined: to(Aborting), evJoinFailed: to(Aborting),
		evDeadline: to(Aborting, actKill),
		evGone:     to(Backoff), evGoneLast: to(Failed),
	},
	Backoff: {
		evStart: to(Preparing, actPrepare), evRetry: to(Preparing, actPrepare),
		evStop: to(Stopped), evKill: to(Stopped), evExpect: to(Backoff),
	},
	Failed: {
		evStart: to(Preparing, actPrepare),
		evStop:  to(Stopped), evKill: to(Stopped), evExpect: to(Failed),
	},
}

// next is the pure step of the machine.
func next(s State, e event) (transition, error) {
	if s >= 0 && s < stateCount {
		if t, ok := transitions[s][e]; ok {
			return t, nil
		}
	}
	return transition{to: s}, fmt.Errorf("cannot take %s in state %s", e, s)
}
