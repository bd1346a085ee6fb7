package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
)

// Severities of events (drpc.md §7).
const (
	severityError   = 1
	severityWarning = 2
	severityNotice  = 3
)

// raise logs an event of this host and hands it on when the leader acts on it.
func (s *server) raise(e control.Event) {
	if e.Timestamp == "" {
		e.Timestamp = time.Now().Format("2006-01-02T15:04:05.000-07:00")
	}
	if e.Hostname == "" {
		e.Hostname = s.hostname
	}
	level := slog.LevelInfo
	switch e.Severity {
	case severityError:
		level = slog.LevelError
	case severityWarning:
		level = slog.LevelWarn
	}
	attrs := []any{"id", e.Name, "msg", fault.OneLine(e.Msg), "host", e.Hostname}
	if e.Rank != hostlist.NilRank {
		attrs = append(attrs, "rank", e.Rank, "incarnation", e.Incarnation)
	}
	if e.PoolUUID != "" {
		attrs = append(attrs, "pool", e.PoolUUID)
	}
	s.log.Log(s.life, level, "event", attrs...)
	if e.StateChange && (e.Rank != hostlist.NilRank || e.PoolUUID != "") {
		s.events.put(e)
	}
}

// forwarder brings events to the leader, in order. What cannot be delivered waits;
// beyond its bound the oldest is dropped and told.
type forwarder struct {
	srv *server

	mu      sync.Mutex
	queue   []queued
	last    uint64 // number of the newest event
	stopped bool
	wake    chan struct{}
}

// queued is an event with its number, by which it is taken out again.
type queued struct {
	number uint64
	event  control.Event
}

const (
	forwardQueue = 1000
	forwardPause = 500 * time.Millisecond
	forwardTime  = 10 * time.Second
)

func newForwarder(s *server) *forwarder {
	return &forwarder{srv: s, wake: make(chan struct{}, 1)}
}

func (f *forwarder) put(e control.Event) {
	f.mu.Lock()
	if len(f.queue) >= forwardQueue {
		f.srv.log.Error("dropping the oldest event: the leader cannot be reached for long", "id", f.queue[0].event.Name, "rank", f.queue[0].event.Rank)
		f.queue = f.queue[1:]
	}
	f.last++
	f.queue = append(f.queue, queued{f.last, e})
	f.mu.Unlock()
	f.signal()
}

func (f *forwarder) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// stop ends the forwarding; what is queued is given up, since the system learns
// of the engines' end from their peers.
func (f *forwarder) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.signal()
}

func (f *forwarder) first() (e queued, ok, stopped bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped || len(f.queue) == 0 {
		return e, false, f.stopped
	}
	return f.queue[0], true, false
}

// delivered takes an event out, unless it was dropped meanwhile.
func (f *forwarder) delivered(e queued) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) > 0 && f.queue[0].number == e.number {
		f.queue = f.queue[1:]
	}
}

func (f *forwarder) run(ctx context.Context) error {
	for {
		e, ok, stopped := f.first()
		if stopped || ctx.Err() != nil {
			return nil
		}
		if !ok {
			select {
			case <-ctx.Done():
				return nil
			case <-f.wake:
			}
			continue
		}
		if err := f.deliver(ctx, e); err != nil {
			retry := time.NewTimer(forwardPause)
			select {
			case <-ctx.Done():
			case <-f.wake: // a newer event, or the stop
			case <-retry.C:
			}
			retry.Stop()
		}
	}
}

// deliver hands one event to the leader. A refusal for good counts as delivered:
// a later one would be refused as well.
func (f *forwarder) deliver(ctx context.Context, e queued) error {
	ctx, cancel := context.WithTimeout(ctx, forwardTime)
	defer cancel()
	_, err := control.Ask(ctx, f.srv.client, control.SystemEvent, &control.EventReq{Sequence: e.number, Event: e.event}, nil)
	if err != nil && waitable(err) {
		f.srv.log.Debug("cannot deliver an event yet", "id", e.event.Name, "error", err)
		return err
	}
	if err != nil {
		f.srv.log.Error("the leader refused an event", "id", e.event.Name, "rank", e.event.Rank, "error", err)
	}
	f.delivered(e)
	return nil
}
