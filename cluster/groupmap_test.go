package cluster

import (
	"errors"
	"testing"

	"github.com/matryer/is"
)

func TestGroupPlan(t *testing.T) {
	is := is.New(t)
	var p groupPlan
	is.Equal(p.next(5, false), groupIdle) // nobody asked
	p.request(true)
	is.Equal(p.next(5, true), groupIdle) // paused
	is.Equal(p.next(5, false), groupSend)
	p.done(5, errors.New("no engine"))
	is.Equal(p.next(5, false), groupSend) // again, without another version
	p.done(5, nil)
	is.Equal(p.next(5, false), groupIdle)
	p.request(false)
	is.Equal(p.next(5, false), groupIdle) // the engines have this version
	is.Equal(p.next(6, false), groupIdle) // and the request is settled
	p.request(false)
	is.Equal(p.next(6, false), groupSend)
	p.done(6, nil)
	p.request(true)
	is.Equal(p.next(6, false), groupRaise) // an immediate request must reach engines
	is.Equal(p.next(7, false), groupSend)
	p.done(7, nil)
	is.Equal(p.next(7, false), groupIdle)
	is.Equal((&groupPlan{wanted: true}).next(0, false), groupIdle) // nothing to tell
}
