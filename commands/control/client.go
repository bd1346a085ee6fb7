package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/wire"

	"github.com/google/uuid"
)

// Client calls the control API. It is safe for concurrent use.
type Client struct {
	// Dialer reaches servers; its TLS configuration is the caller's identity.
	Dialer *wire.Dialer
	// System is written into every request that names one.
	System string
	// Servers are addresses to ask first for the management service.
	Servers []string
	// Keep holds connections open between calls; for daemons.
	Keep bool
	// Waiting is told, when set, that all servers were asked for the management
	// service and none could answer yet: how long that has lasted and why.
	Waiting func(since time.Duration, why error)
	// Log tells redirects and retries; nil is silent.
	Log *slog.Logger

	mu     sync.Mutex
	conns  map[string]*kept
	closed bool
	leader string
}

// kept is a connection that is held between calls.
type kept struct {
	*wire.Conn
	calls int
	used  time.Time // when the last call ended
}

// keepIdle is how long a connection without calls is kept.
const keepIdle = 15 * time.Minute

// Close ends the kept connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
	c.closed = true
}

// Call asks the server at addr. report may be nil.
func Call[Req, Resp any](ctx context.Context, c *Client, addr string, method Method[Req, Resp], req *Req, report Report) (Resp, error) {
	return call(ctx, c, addr, method, req, report, 0)
}

// call is Call that gives the connection no more than connect, when that is set.
func call[Req, Resp any](ctx context.Context, c *Client, addr string, method Method[Req, Resp], req *Req, report Report, connect time.Duration) (Resp, error) {
	var resp Resp
	c.prepare(req)
	body, err := encoding.Marshal(req)
	if err != nil {
		return resp, fault.Wrap(fault.Internal, err, "cannot encode the request of %s", method.Name)
	}
	if _, ok := ctx.Deadline(); !ok && method.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, method.Timeout)
		defer cancel()
	}
	conn, fresh, err := c.connect(ctx, addr, connect)
	if err != nil {
		return resp, err
	}
	resp, err = converse(ctx, conn, addr, method, body, report)
	if err != nil && !fresh && errors.Is(err, fault.Kind(fault.Unreachable)) {
		// A kept connection may have died unnoticed; the server saw nothing of
		// an idempotent request that it could answer differently.
		c.finish(addr, conn, err)
		if conn, _, err = c.connect(ctx, addr, connect); err != nil {
			return resp, err
		}
		resp, err = converse(ctx, conn, addr, method, body, report)
	}
	c.finish(addr, conn, err)
	return resp, err
}

// A server that is there answers a ping while it works on a call. One that was
// paused, or whose host is gone without a word, does not: the call then fails long
// before its own deadline, and another server can be asked.
const (
	pingEvery = 2 * time.Second
	pingTime  = 4 * time.Second
)

// watched is ctx, ending when the server at addr, pinged every so often, does not
// answer within wait.
func watched(ctx context.Context, conn *wire.Conn, addr string, every, wait time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(max(every, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			ping, done := context.WithTimeout(ctx, wait)
			err := conn.Ping(ping)
			done()
			if err != nil && ctx.Err() == nil {
				cancel(fault.New(fault.Unreachable, "cannot go on with host %s: it stopped answering", addr).
					WithHint("is daos_server there hung or paused, or the network cut? see its log"))
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// converse is exchange with the watch over the server.
func converse[Req, Resp any](ctx context.Context, conn *wire.Conn, addr string, method Method[Req, Resp], body []byte, report Report) (Resp, error) {
	ctx, stop := watched(ctx, conn, addr, pingEvery, pingTime)
	defer stop()
	resp, err := exchange(ctx, conn, method, body, report)
	if lost, ok := fault.As(context.Cause(ctx)); err != nil && ok {
		return resp, lost
	}
	return resp, err
}

func exchange[Req, Resp any](ctx context.Context, conn *wire.Conn, method Method[Req, Resp], body []byte, report Report) (Resp, error) {
	var resp Resp
	if !method.Progress {
		answer, err := conn.Call(ctx, method.Name, body)
		if err != nil {
			return resp, err
		}
		if err := decode(answer, &resp); err != nil {
			return resp, fault.Wrap(fault.Protocol, err, "cannot decode the reply of %s", method.Name)
		}
		return resp, nil
	}
	stream, err := conn.Stream(ctx, method.Name, body)
	if err != nil {
		return resp, err
	}
	defer stream.Close()
	result := false
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !result {
				return resp, fault.New(fault.Protocol, "cannot use the reply of %s: it ended without a result", method.Name)
			}
			return resp, nil
		}
		if err != nil {
			return resp, err
		}
		var message streamed[Resp]
		if err := decode(answer, &message); err != nil {
			return resp, fault.Wrap(fault.Protocol, err, "cannot decode the reply of %s", method.Name)
		}
		if message.Progress != nil && report != nil {
			report(*message.Progress)
		}
		if message.Result != nil {
			resp, result = *message.Result, true
		}
	}
}

// prepare fills what every request carries: the system and an operation id.
func (c *Client) prepare(req any) {
	if t, ok := req.(interface{ target() *Target }); ok && t.target().System == "" {
		t.target().System = c.System
	}
	if o, ok := req.(interface{ operation() *Operation }); ok && o.operation().OpID == "" {
		o.operation().OpID = uuid.NewString()
	}
}

// connect is conn within a time of its own. A server that is paused accepts a
// connection and then says nothing: who could ask another must not wait for it.
func (c *Client) connect(ctx context.Context, addr string, limit time.Duration) (*wire.Conn, bool, error) {
	if limit <= 0 {
		return c.conn(ctx, addr)
	}
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, fresh, err := c.conn(short, addr)
	if err != nil && ctx.Err() == nil && short.Err() != nil {
		err = fault.New(fault.Unreachable, "cannot connect to host %s: it did not answer within %v", addr, limit).
			WithHint("is daos_server there hung or paused? see its log")
	}
	return conn, fresh, err
}

// conn is a connection to addr, which finish must get back; fresh when no call was
// made on it before.
func (c *Client) conn(ctx context.Context, addr string) (conn *wire.Conn, fresh bool, err error) {
	if c.Keep {
		c.mu.Lock()
		k := c.conns[addr]
		if k != nil && k.Err() == nil {
			k.calls++
			c.mu.Unlock()
			return k.Conn, false, nil
		}
		delete(c.conns, addr) // closed or told to go away since the last call
		c.mu.Unlock()
		if k != nil {
			_ = k.Close()
		}
	}
	conn, err = c.Dialer.Dial(ctx, addr)
	if err != nil || !c.Keep {
		return conn, true, err
	}
	c.mu.Lock()
	idle := c.takeIdle()
	defer func() { closeAll(idle) }() // without the lock
	defer c.mu.Unlock()
	if c.closed {
		return conn, true, nil // used once and closed by finish
	}
	if first := c.conns[addr]; first != nil {
		first.calls++
		idle = append(idle, conn)
		return first.Conn, false, nil
	}
	if c.conns == nil {
		c.conns = make(map[string]*kept)
	}
	c.conns[addr] = &kept{Conn: conn, calls: 1}
	return conn, true, nil
}

// takeIdle takes out what nobody has used for long; c.mu must be held.
func (c *Client) takeIdle() []*wire.Conn {
	var idle []*wire.Conn
	for addr, k := range c.conns {
		if k.calls == 0 && time.Since(k.used) > keepIdle {
			delete(c.conns, addr)
			idle = append(idle, k.Conn)
		}
	}
	return idle
}

func closeAll(conns []*wire.Conn) {
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// finish ends a call that ended with err: the connection is closed unless it can be
// kept.
func (c *Client) finish(addr string, conn *wire.Conn, err error) {
	if c.Keep {
		c.mu.Lock()
		k := c.conns[addr]
		if k != nil && k.Conn == conn {
			k.calls--
			k.used = time.Now()
			if !errors.Is(err, fault.Kind(fault.Unreachable)) {
				c.mu.Unlock()
				return
			}
			delete(c.conns, addr)
		}
		c.mu.Unlock()
	}
	_ = conn.Close()
}

// Retry pauses between rounds over the replicas.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 400 * time.Millisecond
)

// Ask sends a request to the management service: to whoever leads it for a method
// of route Leader, to any replica for route Replica. It follows redirects and
// tries the other servers until one answers for good or the deadline passes. What
// it is told on the way (nobody leads, nobody answers) is in the error.
func Ask[Req, Resp any](ctx context.Context, c *Client, method Method[Req, Resp], req *Req, report Report) (Resp, error) {
	var resp Resp
	if len(c.Servers) == 0 {
		return resp, fault.New(fault.Usage, "cannot ask the management service: no server is known").
			WithHint("name servers with --host-list or in the configuration file")
	}
	if _, ok := ctx.Deadline(); !ok && method.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, method.Timeout)
		defer cancel()
	}
	c.prepare(req)
	search := newSearch(c.Servers, c.lastLeader(), method.Route == Leader)
	start := time.Now()
	for pause := firstPause; ; {
		addr, ok := search.next()
		if !ok {
			if err := search.verdict(); err != nil {
				return resp, err
			}
			if c.Waiting != nil {
				c.Waiting(time.Since(start), search.lastErr)
			}
			if err := wait(ctx, pause); err != nil {
				return resp, search.timedOut(ctx)
			}
			pause = min(2*pause, lastPause)
			search.again()
			continue
		}
		resp, err := call(ctx, c, addr, method, req, report, search.connectTime())
		if err == nil {
			c.remember(addr)
			return resp, nil
		}
		if ctx.Err() != nil {
			return resp, search.cutOff(ctx, addr, method.Name)
		}
		if !search.learn(addr, err) {
			return resp, err
		}
		if c.Log != nil {
			c.Log.Debug("asking another server", "method", method.Name, "asked", addr, "because", err)
		}
	}
}

func wait(ctx context.Context, pause time.Duration) error {
	// Jitter keeps many waiting callers from coming back in step.
	timer := time.NewTimer(pause/2 + rand.N(pause/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Client) lastLeader() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leader
}

func (c *Client) remember(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = addr
}

// search is the way through the servers to the one that can answer.
type search struct {
	leader    bool
	queue     []string
	seen      map[string]bool
	all       []string
	reachable int  // servers that answered in this round
	answered  bool // some server answered in any round
	rounds    int
	replicas  []string // as a server told them last
	lastErr   error
}

func newSearch(servers []string, hint string, leader bool) *search {
	s := &search{leader: leader, all: slices.Clone(servers)}
	rand.Shuffle(len(s.all), func(i, j int) { s.all[i], s.all[j] = s.all[j], s.all[i] })
	s.again()
	s.first(hint)
	return s
}

func (s *search) again() {
	s.rounds++
	s.reachable = 0
	s.queue = slices.Clone(s.all)
	s.seen = make(map[string]bool)
}

func (s *search) first(addr string) {
	if addr != "" && !s.seen[addr] {
		s.queue = append([]string{addr}, s.queue...)
	}
}

func (s *search) next() (string, bool) {
	for len(s.queue) > 0 {
		addr := s.queue[0]
		s.queue = s.queue[1:]
		if !s.seen[addr] {
			s.seen[addr] = true
			return addr, true
		}
	}
	return "", false
}

// learn takes an error of the server at addr and reports whether to go on.
func (s *search) learn(addr string, err error) bool {
	e, ok := fault.As(err)
	if !ok {
		return false
	}
	switch e.Code {
	case fault.NotReplica, fault.NotLeader:
		s.reachable++
		s.answered = true
		if told := strings.FieldsFunc(e.Data["replicas"], func(r rune) bool { return r == ',' }); len(told) > 0 {
			s.replicas = told
		}
		for _, replica := range s.replicas {
			if !slices.Contains(s.all, replica) {
				s.all = append(s.all, replica)
			}
			s.queue = append(s.queue, replica)
		}
		s.first(e.Data["leader"])
	case fault.NotReady, fault.NoLeader:
		s.reachable++
		s.answered = true
	case fault.Unreachable, fault.Timeout, fault.Protocol:
	default:
		return false
	}
	if s.lastErr == nil || telling(e.Code) >= telling(fault.Of(s.lastErr)) {
		s.lastErr = err
	}
	return true
}

// telling orders the reasons for having no answer by how much they say: that a
// server is no replica says nothing about those that are.
func telling(code fault.Code) int {
	switch code {
	case fault.Unreachable:
		return 0
	case fault.NotReplica:
		return 1
	}
	return 2
}

// unreachableRounds is how often all servers are tried when none answers at all;
// a service that answers but has no leader is given until the deadline.
const unreachableRounds = 3

func (s *search) verdict() error {
	if s.reachable > 0 || s.rounds < unreachableRounds {
		return nil
	}
	code := fault.Unreachable
	if fault.Of(s.lastErr) == fault.Protocol {
		code = fault.Protocol // it was reached and speaks otherwise
	}
	err := fault.Wrap(code, s.lastErr, "cannot reach the management service at %s", hostlist.Of(s.all...))
	if err.Hint == "" {
		err.Hint = "is daos_server running there? see its log"
	}
	return err
}

// The first round leaves a server that does not even connect quickly; later ones
// give it more, should all be slow.
const (
	firstConnect = 1500 * time.Millisecond
	lastConnect  = 12 * time.Second
)

// connectTime is what a server may take to connect; a single one may take all.
func (s *search) connectTime() time.Duration {
	if len(s.all) < 2 {
		return 0
	}
	return min(firstConnect<<min(s.rounds-1, 4), lastConnect)
}

// cutOff is the error of a call that was under way when its caller's time was over.
func (s *search) cutOff(ctx context.Context, addr, method string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.New(fault.Canceled, "cannot go on waiting for the answer of host %s to %s: canceled", addr, method)
	}
	return fault.New(fault.Timeout, "cannot wait longer for the answer of host %s to %s", addr, method).
		WithHint("it may still be at work on it: see its log, and `dmg system query` for ranks that hang")
}

func (s *search) timedOut(ctx context.Context) error {
	code, what := fault.NoLeader, "cannot find a leader of the management service in time"
	if !s.answered {
		code, what = fault.Timeout, "cannot reach the management service in time"
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		code, what = fault.Canceled, "cannot go on asking the management service: canceled"
	}
	if s.lastErr == nil {
		return fault.New(code, "%s", what)
	}
	replicas := s.replicas
	if len(replicas) == 0 {
		replicas = s.all
	}
	return fault.Wrap(code, s.lastErr, "%s", what).
		WithHint("a majority of the replicas (%s) must be up; `dmg system leader-query` shows who is", hostlist.Of(replicas...))
}
