package control

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/wire"
)

// courier passes one sealed request on to its targets, for the administrator's
// tool and for a relay alike. Each target that pass is given has exactly one
// outcome when pass returns.
type courier struct {
	client  *Client
	request sealed
	to      *targets
	deliver func(outcome) // from any goroutine
}

// Times of a relay: what is left for a dial, and how soon silence is noticed.
const (
	relayDial = 3 * time.Second
	// relayDetour is into how many parts the hosts behind a relay that cannot be
	// reached are divided.
	relayDetour = 4
)

// spread divides the targets among relays and passes the request on to each.
func (c *courier) spread(ctx context.Context, all span, parts int) {
	var wait sync.WaitGroup
	for _, part := range all.split(parts) {
		wait.Go(func() { c.pass(ctx, part) })
	}
	wait.Wait()
}

// pass hands a span to its first target. When that cannot be reached it was told
// nothing, and the rest are divided among others of them; when it was told and
// fails, what it has not answered is lost, since the rest may know the request
// already and would refuse it as a replay.
func (c *courier) pass(ctx context.Context, part span) {
	in := newInbox(part)
	addr := c.to.at(part.lo).String()
	conn, fresh, err := c.dial(ctx, addr)
	if err == nil {
		err = c.converse(ctx, conn, addr, in)
		if again := err != nil && !fresh && errors.Is(err, fault.Kind(fault.Unreachable)) && in.left == part.len(); again && ctx.Err() == nil {
			// A kept connection may have died unnoticed.
			c.client.finish(addr, conn, err)
			if conn, _, err = c.dial(ctx, addr); err != nil {
				conn = nil
			} else {
				err = c.converse(ctx, conn, addr, in)
			}
		}
		if conn != nil {
			c.client.finish(addr, conn, err)
		}
	} else if ctx.Err() == nil {
		c.deliver(outcome{[]span{{part.lo, part.lo + 1}}, nil, faultContent(lost, err)})
		c.spread(ctx, span{part.lo + 1, part.hi}, relayDetour)
		return
	}
	if in.left == 0 {
		return
	}
	kind := lost
	if ctx.Err() != nil {
		kind, err = failed, late(ctx, addr)
	} else {
		err = fault.Wrap(fault.Of(err), err, "cannot go by way of relay %s", addr)
	}
	for _, rest := range in.missing() {
		// The relay is on nobody's way to itself.
		for _, o := range in.outcomes([]span{rest}, nil, faultContent(kind, err)) {
			c.deliver(o)
		}
	}
}

func late(ctx context.Context, addr string) *fault.Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.New(fault.Canceled, "cannot wait for an answer of or by way of host %s: canceled", addr)
	}
	return fault.New(fault.Timeout, "cannot wait any longer for an answer of or by way of host %s", addr).
		WithHint("is the host busy, or the network slow? try --relay=never")
}

// dial does not spend on one dead server the time of those behind it.
func (c *courier) dial(ctx context.Context, addr string) (*wire.Conn, bool, error) {
	limited, cancel := context.WithTimeout(ctx, min(relayDial, remaining(ctx)/8))
	defer cancel()
	return c.client.conn(limited, addr)
}

// remaining is the time until the context's deadline, much when it has none.
func remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), 0)
	}
	return time.Hour
}

func (c *courier) converse(ctx context.Context, conn *wire.Conn, addr string, in *inbox) error {
	body, err := encoding.Marshal(relayFan{c.request, in.asked.lo, in.asked.hi})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "cannot encode a request to be relayed")
	}
	left := remaining(ctx)
	watch, stop := watched(ctx, conn, addr, min(pingEvery, left/10), min(pingTime, left/5))
	defer stop()
	err = c.receive(watch, conn, body, in)
	if gone, ok := fault.As(context.Cause(watch)); err != nil && ok {
		return gone
	}
	return err
}

func (c *courier) receive(ctx context.Context, conn *wire.Conn, body []byte, in *inbox) error {
	stream, err := conn.Stream(ctx, RelayFan.Name, body)
	if err != nil {
		return err
	}
	defer stream.Close()
	for in.left > 0 {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return brokenReply("it ended before all hosts were told of")
		}
		if err != nil {
			return err
		}
		all, err := in.take(message)
		for _, o := range all {
			c.deliver(o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
