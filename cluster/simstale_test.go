package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

// A leader that was cut off, and whose clock is slow, still believes in itself
// when another leads already. It answers no read.
func TestStaleLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		w := newWorld(1)
		w.nodes = w.nodes[:3]
		old := w.nodes[0]
		for _, n := range w.nodes {
			n.pace = 0.35
		}
		old.pace = 1
		for _, n := range w.nodes {
			n.launch()
		}
		await := func(ok func() bool) {
			for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("not in a minute")
				}
			}
		}
		await(func() bool {
			if lead := w.leader(); lead != nil && lead != old {
				_ = lead.s.Resign(t.Context(), "test") // until the slow one leads
			}
			return w.leader() == old
		})
		_, err := old.s.Apply(t.Context(), "", SetAttributes{map[string]string{"k": "old"}})
		is.NoErr(err)
		w.net.set(func() {
			for _, n := range w.nodes[1:] {
				w.net.cut[[2]string{old.addr, n.addr}], w.net.cut[[2]string{n.addr, old.addr}] = true, true
			}
		})
		var next *simNode
		await(func() bool {
			for _, n := range w.nodes[1:] {
				if n.s.IsLeader() {
					next = n
				}
			}
			return next != nil
		})
		_, err = next.s.Apply(t.Context(), "", SetAttributes{map[string]string{"k": "new"}})
		is.NoErr(err)
		is.True(old.s.IsLeader()) // or the test tests nothing
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if v, err := old.s.Read(ctx); err == nil {
			t.Errorf("a leader that is none answered %q", v.Attribute("k"))
		}
		for _, n := range w.nodes {
			n.crash()
			n.gone()
		}
		is.Equal(w.wrong, nil)
	})
}
