package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// source answers fetches of a cache after a while, as the test says.
type source struct {
	mu    sync.Mutex
	info  control.AttachInfoResp
	err   error
	takes time.Duration
	known []uint64
}

func (s *source) ask(ctx context.Context, known uint64) (control.AttachInfoResp, error) {
	s.mu.Lock()
	s.known = append(s.known, known)
	takes, info, err := s.takes, s.info, s.err
	s.mu.Unlock()
	if err = errors.Join(err, pause(ctx, takes)); err != nil {
		return control.AttachInfoResp{}, err
	}
	if known != 0 && known == info.DataVersion {
		return control.AttachInfoResp{Unchanged: true, DataVersion: known}, nil
	}
	return info, nil
}

func (s *source) set(change func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// withCache runs a test against a cache in a bubble of time.
func withCache(t *testing.T, test func(is *is.I, s *source, c *attachCache), options ...func(*attachCache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &source{info: captured(), takes: 20 * time.Millisecond}
		c := newAttachCache(s.ask, quiet())
		for _, option := range options {
			option(c)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		synctest.Wait()
		test(is.New(t), s, c)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func version(t *is.I, c *attachCache) uint64 {
	t.Helper()
	m, err := c.get(context.Background())
	t.NoErr(err)
	return m.info.DataVersion
}

func TestClientsThatStartTogetherCostOneFetch(t *testing.T) {
	withCache(t, func(is *is.I, s *source, c *attachCache) {
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if m, err := c.get(context.Background()); err != nil || m.info.DataVersion != 7 {
					t.Error(m, err)
				}
			})
		}
		all.Wait()
		is.Equal(s.known, []uint64{0})
	})
}

func TestChangesReachClientsByThemselves(t *testing.T) {
	withCache(t, func(is *is.I, s *source, c *attachCache) {
		is.Equal(version(is, c), uint64(7))
		before, _ := c.get(context.Background())
		time.Sleep(2 * refreshEvery)
		after, _ := c.get(context.Background())
		is.Equal(before, after) // the same map, confirmed
		s.set(func(s *source) { s.info.DataVersion = 8 })
		time.Sleep(2 * refreshEvery)
		is.Equal(version(is, c), uint64(8))
		for _, known := range s.known[1:] {
			is.True(known >= 7) // no map was sent twice
		}
	})
}

func TestLastMapIsServedWhileTheServiceIsAway(t *testing.T) {
	withCache(t, func(is *is.I, s *source, c *attachCache) {
		is.Equal(version(is, c), uint64(7))
		s.set(func(s *source) { s.err = down() })
		time.Sleep(time.Hour)
		is.Equal(version(is, c), uint64(7))
		s.set(func(s *source) { s.err, s.info.DataVersion = nil, 3 }) // another database
		time.Sleep(2 * refreshEvery)
		is.Equal(version(is, c), uint64(3))
	}, func(c *attachCache) { c.expiration = time.Minute })
}

func TestExpiredMapIsAskedForFirst(t *testing.T) {
	withCache(t, func(is *is.I, s *source, c *attachCache) {
		is.Equal(version(is, c), uint64(7))
		asked := len(s.known)
		time.Sleep(2 * time.Minute) // nothing refreshes in between
		s.set(func(s *source) { s.info.DataVersion = 8 })
		is.Equal(version(is, c), uint64(8))
		is.Equal(len(s.known), asked+1)
	}, func(c *attachCache) { c.expiration, c.interval = time.Minute, 24*time.Hour }, func(c *attachCache) {
		// A day between refreshes leaves the next try to the expiration.
		c.retry = time.Second
	})
}

func TestOlderMapOfALaggingReplicaIsNotTaken(t *testing.T) {
	withCache(t, func(is *is.I, s *source, c *attachCache) {
		is.Equal(version(is, c), uint64(7))
		s.set(func(s *source) { s.info.DataVersion = 6 })
		time.Sleep(refreshEvery * 6 / 5)
		is.Equal(version(is, c), uint64(7))
		time.Sleep(2 * refreshEvery) // it stays: another database
		is.Equal(version(is, c), uint64(6))
	})
}

func TestClientsWaitForTheFirstRank(t *testing.T) {
	withCache(t, func(is *is.I, s *source, c *attachCache) {
		s.set(func(s *source) { s.info.MSRanks = nil })
		c.again()
		started := time.Now()
		got := make(chan error, 1)
		go func() {
			_, err := c.get(context.Background())
			got <- err
		}()
		time.Sleep(10 * time.Second)
		s.set(func(s *source) { s.info.MSRanks = []hostlist.Rank{0} })
		is.NoErr(<-got)
		is.True(time.Since(started) < 12*time.Second)
	}, func(c *attachCache) {
		// Empty from the beginning, so that the first fetch finds nothing.
		ask := c.ask
		first := true
		c.ask = func(ctx context.Context, known uint64) (control.AttachInfoResp, error) {
			info, err := ask(ctx, known)
			if first {
				info.RankURIs, first = nil, false
			}
			return info, err
		}
	})
}

func TestSystemThatStaysEmptyEndsTheWait(t *testing.T) {
	withCache(t, func(is *is.I, s *source, c *attachCache) {
		_, err := c.get(context.Background())
		is.Equal(fault.Of(err), fault.NotReady)
	}, func(c *attachCache) {
		c.ask = func(context.Context, uint64) (control.AttachInfoResp, error) {
			return control.AttachInfoResp{System: "s"}, nil
		}
	})
}

func TestClientThatGivesUpDoesNotEndTheFetch(t *testing.T) {
	withCache(t, func(is *is.I, s *source, c *attachCache) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := c.get(ctx)
		is.True(errors.Is(err, context.Canceled))
		is.Equal(version(is, c), uint64(7))
		is.Equal(len(s.known), 1)
	})
}

func TestRepliesAreEncodedOnce(t *testing.T) {
	is := is.New(t)
	m, err := newAddressMap(captured())
	is.NoErr(err)
	d := newDevices(1)
	first, err := m.reply(d, device{"lo", "lo"})
	is.NoErr(err)
	second, err := m.reply(d, device{"lo", "lo"})
	is.NoErr(err)
	is.Equal(first, second)
	for i := range 3 * maxVariants { // wishes do not fill the memory
		_, err := m.reply(d, device{string(rune('a' + i)), "x"})
		is.NoErr(err)
	}
	is.True(len(m.replies) <= maxVariants)
}

func BenchmarkReply(b *testing.B) {
	info := captured()
	for rank := range 2048 {
		info.RankURIs = append(info.RankURIs, control.RankURI{Rank: hostlist.Rank(rank), URI: "ofi+tcp://10.10.10.10:31416", Contexts: 17})
	}
	m, err := newAddressMap(info)
	if err != nil {
		b.Fatal(err)
	}
	d := newDevices(1)
	for b.Loop() {
		if _, err := m.reply(d, device{"lo", "lo"}); err != nil {
			b.Fatal(err)
		}
	}
}
