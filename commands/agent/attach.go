package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"google.golang.org/protobuf/proto"
)

const (
	// refreshEvery is how often the service is asked whether the map changed; each
	// wait is up to a fifth shorter or longer, so that a thousand agents that were
	// started together do not ask together.
	refreshEvery = 5 * time.Second
	// firstFetch bounds the wait of a client for a service that is starting;
	// laterFetch that of one for which a map is at hand should the service fail.
	firstFetch = time.Minute
	laterFetch = 10 * time.Second
	// emptyPause is the time between two questions to a system without ranks.
	emptyPause = time.Second
)

// asker fetches the map; known is the version at hand, 0 to get it whole.
type asker func(ctx context.Context, known uint64) (control.AttachInfoResp, error)

// attachCache keeps the last map of the service and keeps it fresh. Clients are
// served from memory; all that come before the first map share one fetch, and
// while the service is away they get the last map there was.
type attachCache struct {
	ask        asker
	log        *slog.Logger
	disabled   bool          // every client has the service asked
	expiration time.Duration // age at which a client has the service asked, 0 is none
	interval   time.Duration // between refreshes
	retry      time.Duration // of an expired map, after a try that failed

	ctx     context.Context // of the fetches; ends with run
	cancel  context.CancelFunc
	refresh chan struct{} // asks for a whole map now
	fetches sync.WaitGroup

	mu        sync.Mutex
	last      *addressMap
	confirmed time.Time // when the service last said that the map is current
	tried     time.Time
	whole     bool       // the next fetch wants the whole map
	trouble   fault.Code // of the last fetch, 0 after a good one
	flight    *flight
}

// flight is a fetch in progress.
type flight struct {
	done chan struct{}
	last *addressMap
	err  error
}

func newAttachCache(ask asker, log *slog.Logger) *attachCache {
	c := &attachCache{ask: ask, log: log, interval: refreshEvery, retry: refreshEvery, refresh: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// get returns the map to serve a client with.
func (c *attachCache) get(ctx context.Context) (*addressMap, error) {
	c.mu.Lock()
	last, now := c.last, time.Now()
	if c.disabled {
		c.mu.Unlock()
		return c.direct(ctx, last)
	}
	expired := c.expiration > 0 && now.Sub(c.confirmed) >= c.expiration && now.Sub(c.tried) >= c.retry
	if last != nil && !expired {
		c.mu.Unlock()
		return last, nil
	}
	f := c.begin()
	c.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.err != nil && last != nil && isAway(f.err) {
		return last, nil
	}
	return f.last, f.err
}

// direct asks the service for one client. The map of the client before saves the
// transfer when it is still current.
func (c *attachCache) direct(ctx context.Context, last *addressMap) (*addressMap, error) {
	ctx, cancel := context.WithTimeout(ctx, firstFetch)
	defer cancel()
	found, err := c.fetch(ctx, last, false)
	if err == nil {
		c.mu.Lock()
		c.last = found
		c.mu.Unlock()
	}
	return found, err
}

// run keeps the map fresh until ctx ends; then no fetch is left.
func (c *attachCache) run(ctx context.Context) error {
	defer c.fetches.Wait()
	defer context.AfterFunc(ctx, c.cancel)()
	if c.disabled {
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.refresh:
			c.mu.Lock()
			c.whole = true
			c.mu.Unlock()
		}
		c.mu.Lock()
		f := c.begin()
		c.mu.Unlock()
		<-f.done // at the end of ctx too
		timer.Reset(c.interval*4/5 + rand.N(c.interval*2/5))
	}
}

// again asks for a whole map soon.
func (c *attachCache) again() {
	select {
	case c.refresh <- struct{}{}:
	default:
	}
}

// begin starts a fetch or joins the one that runs; c.mu must be held.
func (c *attachCache) begin() *flight {
	if c.flight == nil {
		c.flight = &flight{done: make(chan struct{})}
		limit := laterFetch
		if c.last == nil {
			limit = firstFetch
		}
		f, last, whole := c.flight, c.last, c.whole
		c.whole = false
		c.fetches.Go(func() { c.fly(f, last, whole, limit) })
	}
	return c.flight
}

func (c *attachCache) fly(f *flight, last *addressMap, whole bool, limit time.Duration) {
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	defer cancel()
	found, err := c.fetch(ctx, last, whole)
	older := err == nil && last != nil && !whole && found.info.DataVersion < last.info.DataVersion
	if older {
		found = last
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(last, found, err)
	c.tried = time.Now()
	if err == nil {
		c.last, c.confirmed = found, c.tried
	}
	// A replica that lags has an older map, and is asked again. But a service that
	// was away, or stays behind, may have another database, whose versions mean
	// something else.
	c.whole = c.whole || older || err != nil
	f.last, f.err = found, err
	c.flight = nil
	close(f.done)
}

// tell logs what changed: the map, or that fetches begin to fail or to work.
func (c *attachCache) tell(last, found *addressMap, err error) {
	if err != nil {
		if code := fault.Of(err); code != c.trouble && c.ctx.Err() == nil {
			c.trouble = code
			if last == nil {
				c.log.Warn("cannot get the address map, trying on", "error", err, "hint", fault.HintOf(err))
			} else {
				c.log.Warn("cannot refresh the address map, serving the last one", "version", last.info.DataVersion, "error", err, "hint", fault.HintOf(err))
			}
		}
		return
	}
	if c.trouble != 0 {
		c.log.Info("the management service answers again")
		c.trouble = 0
	}
	if found != last {
		c.log.Info("got the address map", "version", found.info.DataVersion, "ranks", len(found.info.RankURIs), "provider", found.info.NetHint.Provider)
	}
}

// fetch returns last when it is current, else the new map. A system in which no
// client could do anything yet is asked again until ctx ends.
func (c *attachCache) fetch(ctx context.Context, last *addressMap, whole bool) (*addressMap, error) {
	var known uint64
	if last != nil && !whole {
		known = last.info.DataVersion
	}
	for {
		info, err := c.ask(ctx, known)
		if err != nil {
			return nil, err
		}
		if info.Unchanged && known != 0 {
			return last, nil
		}
		if len(info.RankURIs) > 0 && len(info.MSRanks) > 0 {
			return newAddressMap(info)
		}
		timer := time.NewTimer(emptyPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fault.New(fault.NotReady, "cannot get the address map: no rank of a management service host has joined system %q", info.System).
				WithHint("see the ranks with `dmg system query`")
		}
	}
}

// isAway reports whether an error means that the service could not be asked, as
// against one in which it refused to answer.
func isAway(err error) bool {
	switch fault.Of(err) {
	case fault.Unreachable, fault.Timeout, fault.NoLeader, fault.NotLeader, fault.NotReplica, fault.NotReady, fault.Busy, fault.Canceled:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// addressMap is one answer of the service, encoded for clients. What depends on
// the client is in few variants, which are encoded once too.
type addressMap struct {
	info   control.AttachInfoResp
	shared []byte // fields that are the same for every client

	mu      sync.Mutex
	replies map[variant]*drpc.Encoded
}

// variant is what an answer depends on beside the map.
type variant struct {
	devices *devices
	chosen  device
}

// maxVariants bounds the kept answers: a client may wish for any interface.
const maxVariants = 64

func newAddressMap(info control.AttachInfoResp) (*addressMap, error) {
	m := &pb.GetAttachInfoResp{Sys: info.System, BuildInfo: &pb.BuildInfo{
		Major: info.Build.Major, Minor: info.Build.Minor, Patch: info.Build.Patch, Tag: info.Build.Tag}}
	for _, r := range info.RankURIs {
		m.RankUris = append(m.RankUris, &pb.GetAttachInfoResp_RankUri{Rank: uint32(r.Rank), Uri: r.URI, NumCtxs: r.Contexts})
	}
	for _, rank := range info.MSRanks {
		m.MsRanks = append(m.MsRanks, uint32(rank))
	}
	shared, err := proto.Marshal(m)
	if err != nil {
		return nil, fault.Wrap(fault.Protocol, err, "cannot encode the address map")
	}
	return &addressMap{info: info, shared: shared, replies: make(map[variant]*drpc.Encoded)}, nil
}

// reply is the answer to a client that was given the device chosen.
func (m *addressMap) reply(d *devices, chosen device) (*drpc.Encoded, error) {
	key := variant{d, chosen}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ready := m.replies[key]; ready != nil {
		return ready, nil
	}
	hint := m.info.NetHint
	made, err := drpc.Encode(&pb.GetAttachInfoResp{
		ClientNetHint: &pb.ClientNetHint{
			Provider: hint.Provider, Interface: chosen.name, Domain: chosen.domain, CrtTimeout: hint.CRTTimeout,
			NetDevClass: hint.NetDevClass, SrvSrxSet: hint.SrvSRXSet, EnvVars: hint.EnvVars,
		},
		NumaFabricInterfaces: d.message(hint.Provider),
	}, m.shared)
	if err != nil {
		return nil, err
	}
	if len(m.replies) >= maxVariants {
		clear(m.replies)
	}
	m.replies[key] = made
	return made, nil
}
