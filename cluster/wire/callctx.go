package wire

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one call at the server. It lies inside the call, and
// makes channel and timer only for a handler that waits for its end: most calls are
// over before anybody asks.
type callContext struct {
	parent   context.Context // for its values; its end comes through the session
	deadline time.Time       // zero for none

	mu    sync.Mutex
	done  chan struct{}
	timer *time.Timer
	err   error
	after []*afterEnd
}

type afterEnd struct{ run func() }

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Value implements context.Context.
func (c *callContext) Value(key any) any { return c.parent.Value(key) }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		} else if !c.deadline.IsZero() {
			c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.end(context.DeadlineExceeded) })
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *callContext) Err() error {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	if err == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		c.end(context.DeadlineExceeded)
		return context.DeadlineExceeded
	}
	return err
}

// AfterFunc lets package context follow the end without a goroutine.
func (c *callContext) AfterFunc(run func()) (stop func() bool) {
	c.Done() // the timer, if there is a deadline
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go run()
		return func() bool { return false }
	}
	own := &afterEnd{run}
	c.after = append(c.after, own)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, a := range c.after {
			if a == own {
				c.after = append(c.after[:i], c.after[i+1:]...)
				return true
			}
		}
		return false
	}
}

// end ends the context once.
func (c *callContext) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
	for _, a := range c.after {
		go a.run()
	}
	c.after = nil
}
