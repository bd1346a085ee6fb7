package control

import (
	"context"
	"crypto/x509"
	"net/netip"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
)

// Relay is a server's part in passing requests on: it answers for itself what an
// administrator asked of it, and passes the request on to the others it is given.
// DESIGN.md says what it believes and why.
type Relay struct {
	// Client reaches the other servers; it should keep its connections.
	Client *Client
	// Verify checks the certificates of an administrator, leaf first, against the
	// authority. Nil is for insecure systems only, where nothing is signed.
	Verify func(chain []*x509.Certificate) error
	// Own reports whether an address is this server's control address.
	Own func(addr netip.AddrPort) bool

	mux   *Mux
	began time.Time
	seen  nonces
	log   sparseLog
	now   func() time.Time
}

// HandleRelay lets the server take part in relaying the methods that allow it.
func (m *Mux) HandleRelay(r *Relay) {
	r.mux, r.now = m, time.Now
	r.began, r.seen.most = r.now().Truncate(time.Millisecond), maxNonces
	m.handlers[RelayFan.Name] = handler{row: RelayFan.row(), call: r.serve}
}

// order is a relayed request that was found good.
type order struct {
	sealed
	to     *targets
	part   span
	method handler
	caller Caller
}

func (r *Relay) serve(ctx context.Context, caller Caller, body []byte, out wire.Sender) error {
	o, err := r.open(caller, body)
	if err != nil {
		r.log.warn(r.mux.log, r.now(), caller.Addr, err)
		return err
	}
	// What is left of the time tells the caller what did not come.
	left := remaining(ctx)
	ctx, cancel := context.WithTimeout(ctx, left-min(left/20, relayMargin))
	outcomes := make(chan outcome, o.part.len()) // room for all: nobody waits for a reader
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	wait.Go(func() { outcomes <- outcome{[]span{{o.part.lo, o.part.lo + 1}}, nil, r.answer(ctx, o)} })
	c := &courier{client: r.Client, request: o.sealed, to: o.to, deliver: func(o outcome) { outcomes <- o }}
	rest := span{o.part.lo + 1, o.part.hi}
	wait.Go(func() { c.spread(ctx, rest, width(rest.len())) })
	return o.collect(ctx, out, outcomes)
}

const (
	// relayMargin is the most that each level keeps for reporting.
	relayMargin = 250 * time.Millisecond
	// relayBatch is how long an answer waits for others to travel with.
	relayBatch = 20 * time.Millisecond
	// relayFlush is how many bytes of answers do not wait.
	relayFlush = 64 << 10
)

// collect sends outcomes in batches until each target of the order has one. Those
// that have none when ctx ends are told to be late.
func (o *order) collect(ctx context.Context, out wire.Sender, outcomes <-chan outcome) error {
	b, told := newBatch(), newInbox(o.part)
	over := ctx.Done()
	var due, grace <-chan time.Time
	for told.left > 0 {
		select {
		case one := <-outcomes:
			for _, s := range one.hosts {
				_, _ = told.mark([]int{s.lo, s.hi})
			}
			b.add(one)
			if due == nil {
				due = time.After(relayBatch)
			}
			if b.size < relayFlush {
				continue
			}
		case <-due:
		case <-over:
			over, grace = nil, time.After(relayMargin/5)
			continue
		case <-grace:
			text := faultContent(failed, late(ctx, o.to.at(o.part.lo).String()))
			b.add(outcome{told.missing(), nil, text})
			return send(out, b.flush())
		}
		due = nil
		if err := send(out, b.flush()); err != nil {
			return err
		}
	}
	if len(b.next.Rows) == 0 {
		return nil
	}
	return send(out, b.flush())
}

// open checks a request from its form to its nonce. What it refuses was neither
// done nor passed on.
func (r *Relay) open(caller Caller, body []byte) (*order, error) {
	var fan relayFan
	if err := decode(body, &fan); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "cannot decode a relayed request")
	}
	e, to, err := decodeEnvelope(fan.Envelope)
	if err != nil {
		return nil, err
	}
	o := &order{sealed: fan.sealed, to: to, part: span{fan.From, fan.To}}
	origin := wire.Peer{Addr: caller.Addr, Secure: caller.Secure}
	if r.Verify != nil {
		if origin.Cert, err = fan.origin(e, r.Verify); err != nil {
			return nil, err
		}
		if caller.Role != pki.Server && (caller.Cert == nil || !caller.Cert.Equal(origin.Cert)) {
			return nil, fault.New(fault.Permission, "cannot take a relayed request: it was signed by another than who sends it").
				WithHint("only servers pass on what others signed")
		}
	}
	if e.System != r.mux.system {
		return nil, fault.New(fault.WrongSystem, "cannot serve system %q: this server belongs to %q", e.System, r.mux.system)
	}
	if err := fan.checkBody(e); err != nil {
		return nil, err
	}
	known := false
	if o.method, known = r.mux.handlers[e.Method]; !known {
		return nil, fault.New(fault.Unimplemented, "unknown method %q", e.Method)
	}
	if !o.method.row.Relay {
		return nil, fault.New(fault.Permission, "cannot relay %s: it must be asked of each host", e.Method)
	}
	if o.caller, err = r.mux.authorize(o.method.row, origin); err != nil {
		return nil, err
	}
	if o.part.lo < 0 || o.part.lo >= o.part.hi || o.part.hi > to.count {
		return nil, fault.New(fault.Permission, "cannot take a relayed request: it is for servers that it was not signed for")
	}
	if addr := to.at(o.part.lo); !r.Own(addr) {
		return nil, fault.New(fault.Refused, "cannot take a relayed request: it is for %s, which is no control address of this server", addr).
			WithHint("name servers by the address of their control_addr or control_iface, or use --relay=never")
	}
	now := r.now()
	if err := e.checkTime(now, r.began); err != nil {
		return nil, err
	}
	return o, r.seen.use(e.Nonce, time.UnixMilli(e.Expires).Add(maxSkew), now)
}

// answer calls the method on this server.
func (r *Relay) answer(ctx context.Context, o *order) *content {
	var reply capture
	err := o.method.call(ctx, o.caller, o.Body, &reply)
	switch {
	case err != nil && ctx.Err() != nil:
		return faultContent(failed, fault.New(fault.Timeout, "cannot answer %s in time: host %s has not done with it", o.method.row.Name, o.to.at(o.part.lo)))
	case err != nil:
		return faultContent(failed, err)
	case len(reply) != 1:
		return faultContent(lost, fault.New(fault.Internal, "cannot relay %s: it has %d replies", o.method.row.Name, len(reply)))
	case len(reply[0]) > maxRelayed:
		return faultContent(lost, fault.New(fault.TooLarge, "cannot relay an answer of %d bytes", len(reply[0])))
	}
	return newContent(answered, reply[0])
}

// capture keeps what a handler sends.
type capture [][]byte

func (c *capture) Send(body []byte) error {
	*c = append(*c, append([]byte(nil), body...))
	return nil
}
