package wire

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// FanOutOptions bounds a FanOut.
type FanOutOptions struct {
	// Parallel is how many hosts are worked on at a time (default 256).
	Parallel int
	// HostTimeout is the time every host has; 0 leaves it to the context.
	HostTimeout time.Duration
}

// Result is one host's outcome.
type Result[T any] struct {
	Host  string
	Value T
	Err   error
	Took  time.Duration
}

const (
	fanOutParallel = 256
	fanOutPatience = time.Second
	// fanOutGrace is how long after the deadline a call may take to notice.
	fanOutGrace = 50 * time.Millisecond
)

// FanOut runs call for every host and hands each its result, one at a time and as
// they come, in the caller's goroutine. It returns when every host has had its
// result, which the context or HostTimeout (plus 5 %) bounds, whatever the hosts
// do: a call that ignores its context is left behind with a Timeout in its place.
//
// All hosts' clocks start together. Only Parallel hosts are worked on at first;
// one that has not answered for a while (so long that every host is begun before
// half the time is over, at most a second) keeps waiting but no longer counts,
// since it waits for the network and costs nothing. So dead hosts neither add up
// nor keep others from their turn. A panic of call becomes fault.Internal.
func FanOut[T any](ctx context.Context, hosts []string, o FanOutOptions, call func(ctx context.Context, host string) (T, error), each func(Result[T])) {
	if len(hosts) == 0 {
		return
	}
	f := newFan(&o, len(hosts))
	parent := ctx
	if o.HostTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.HostTimeout)
		defer cancel()
	}
	type indexed struct {
		i int
		r Result[T]
	}
	results := make(chan indexed, len(hosts)) // room for all: nobody blocks on an absent reader
	begin := time.Now()
	launch := func(i int) {
		start, host := time.Now(), hosts[i]
		release := sync.OnceFunc(func() { <-f.slots })
		patience := time.AfterFunc(f.patience, release)
		go func() {
			r := Result[T]{Host: host}
			r.Value, r.Err = guarded(ctx, host, call)
			r.Took = time.Since(start)
			patience.Stop()
			release()
			results <- indexed{i, r}
		}()
	}
	told := make([]bool, len(hosts))
	left := len(hosts)
	tell := func(x indexed) {
		if x.r.Err != nil && ctx.Err() != nil {
			x.r.Err = fanFault(parent, ctx, x.r.Host, o.HostTimeout, begin, x.r.Err)
		}
		told[x.i] = true
		left--
		each(x.r)
	}
	next := 0
	over := ctx.Done()
	var grace <-chan time.Time
	for left > 0 {
		slot := f.slots
		if next == len(hosts) || over == nil {
			slot = nil
		}
		select {
		case slot <- struct{}{}:
			launch(next)
			next++
		case x := <-results:
			tell(x)
		case <-over:
			over = nil
			timer := time.NewTimer(fanOutGrace + o.HostTimeout/20)
			defer timer.Stop()
			grace = timer.C
			for ; next < len(hosts); next++ {
				tell(indexed{next, Result[T]{Host: hosts[next], Err: ctx.Err()}})
			}
		case <-grace:
			for len(results) > 0 {
				tell(<-results)
			}
			for i := range hosts {
				if !told[i] {
					tell(indexed{i, Result[T]{Host: hosts[i], Err: ctx.Err(), Took: time.Since(begin)}})
				}
			}
		}
	}
}

// fan bounds how many hosts are worked on.
type fan struct {
	slots    chan struct{}
	patience time.Duration
}

func newFan(o *FanOutOptions, hosts int) *fan {
	if o.Parallel <= 0 {
		o.Parallel = fanOutParallel
	}
	patience := fanOutPatience
	if o.HostTimeout > 0 && hosts > o.Parallel {
		waves := time.Duration((hosts + o.Parallel - 1) / o.Parallel)
		patience = min(patience, o.HostTimeout/(2*waves))
	}
	return &fan{make(chan struct{}, o.Parallel), patience}
}

// guarded runs one call.
func guarded[T any](ctx context.Context, host string, call func(context.Context, string) (T, error)) (v T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.New(fault.Internal, "cannot ask host %s: %v", host, r).WithData("stack", string(debug.Stack()))
		}
	}()
	return call(ctx, host)
}

// fanFault says in the words of the whole fan-out why a host has no answer.
func fanFault(parent, ctx context.Context, host string, wait time.Duration, begin time.Time, err error) error {
	code := fault.Of(err)
	switch {
	case code != fault.Unknown && code != fault.Timeout && code != fault.Canceled:
		return err // the host has answered, or said why not
	case parent.Err() != nil:
		return ended(parent, host, begin)
	case wait > 0:
		return timedOut(host, wait)
	}
	return ended(ctx, host, begin)
}
