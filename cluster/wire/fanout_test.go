package wire

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

func manyHosts(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("node%d:10001", i)
	}
	return hosts
}

// Dead hosts, more of them than workers, cost one host deadline and keep no host
// from its turn.
func TestFanOutDeadHosts(t *testing.T) {
	for _, dead := range []int{0, 50, 1000, 2000} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			begin := time.Now()
			good, bad := 0, 0
			FanOut(t.Context(), manyHosts(2000), FanOutOptions{Parallel: 100, HostTimeout: 5 * time.Second},
				func(ctx context.Context, host string) (int, error) {
					var i int
					_, _ = fmt.Sscanf(host, "node%d:", &i)
					if i < dead {
						<-ctx.Done()
						return 0, ctx.Err()
					}
					time.Sleep(10 * time.Millisecond) // the fake clock's time
					return i, nil
				},
				func(r Result[int]) {
					if r.Err == nil {
						good++
						return
					}
					bad++
					is.Equal(fault.Of(r.Err), fault.Timeout)
					is.Equal(r.Err.Error(), "host "+r.Host+" did not answer within 5s")
				})
			is.Equal(good, 2000-dead)
			is.Equal(bad, dead)
			is.True(time.Since(begin) <= 5500*time.Millisecond)
			if dead == 0 {
				is.Equal(time.Since(begin), 200*time.Millisecond) // 20 waves
			}
		})
	}
}

func TestFanOutBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		var now, most atomic.Int32
		n := 0
		FanOut(t.Context(), manyHosts(500), FanOutOptions{Parallel: 8}, func(ctx context.Context, host string) (string, error) {
			if v := now.Add(1); v > most.Load() {
				most.Store(v)
			}
			defer now.Add(-1)
			time.Sleep(time.Millisecond)
			return host, nil
		}, func(r Result[string]) {
			n++
			is.Equal(r.Host, r.Value)
		})
		is.Equal(n, 500)
		is.True(most.Load() <= 8)
	})
}

func TestFanOutBadCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		release := make(chan struct{})
		own := fault.New(fault.Permission, "no")
		begin := time.Now()
		got := map[string]error{}
		FanOut(t.Context(), []string{"panics", "ignores", "fails", "works"}, FanOutOptions{HostTimeout: time.Second},
			func(ctx context.Context, host string) (int, error) {
				switch host {
				case "panics":
					panic("boom")
				case "ignores":
					<-release
				case "fails":
					return 0, own
				}
				return 1, nil
			}, func(r Result[int]) { got[r.Host] = r.Err })
		is.Equal(len(got), 4)
		is.Equal(fault.Of(got["panics"]), fault.Internal)
		is.Equal(fault.Of(got["ignores"]), fault.Timeout)
		is.True(errors.Is(got["fails"], own))
		is.NoErr(got["works"])
		is.True(time.Since(begin) <= 1100*time.Millisecond)
		close(release)
	})
}

func TestFanOutCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		FanOut(ctx, manyHosts(50), FanOutOptions{Parallel: 10, HostTimeout: time.Minute},
			func(ctx context.Context, host string) (int, error) {
				if host == "node5:10001" {
					cancel()
				}
				<-ctx.Done()
				return 0, ctx.Err()
			}, func(r Result[int]) {
				n++
				is.Equal(fault.Of(r.Err), fault.Canceled)
			})
		is.Equal(n, 50)
		FanOut(t.Context(), nil, FanOutOptions{}, func(context.Context, string) (int, error) { return 0, nil }, func(Result[int]) { n++ })
		is.Equal(n, 50)
	})
}
