package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// A replica whose state differs from the leader's stops and says so; the others go
// on. A system in which nothing happens writes no entries.
func TestStatesAreCompared(t *testing.T) {
	is := is.New(t)
	all := newReplicas(t, 3, func(c *Config) { c.Timers.StateCheck = 20 * time.Millisecond })
	startAll(all)
	leader := leaderOf(t, all)
	apply(t, all, "", SetAttributes{map[string]string{"a": "1"}})
	compared := func(r *replica) bool {
		m := r.s.fsm
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.checks.mark != nil && m.checks.mark.mine != "" && m.checks.mark.mine == m.checks.mark.theirs
	}
	for _, r := range all {
		eventually(t, "compared", func() bool { return compared(r) })
	}
	version := leader.s.Local().Version()
	_, err := leader.s.Watch(shortly(t, 10*leader.cfg.Timers.StateCheck), version)
	is.Equal(fault.Of(err), fault.Timeout) // quiet

	wrong := all[0]
	if wrong == leader {
		wrong = all[1]
	}
	wrong.s.fsm.mu.Lock()
	wrong.s.fsm.db.setAttr("a", "2") // as a flipped bit of its memory would
	wrong.s.fsm.mu.Unlock()
	apply(t, all, "", SetAttributes{map[string]string{"b": "1"}})
	err = <-wrong.done
	is.Equal(fault.Of(err), fault.Corrupt)
	is.True(strings.Contains(err.Error(), "the leader's"))
	is.True(fault.HintOf(err) != "")
	wrong.s, wrong.cfg.Listener = nil, nil
	wrong.start() // reads its log again, and is right
	eventually(t, "it is back", func() bool { return wrong.s.Local().Attribute("b") == "1" && wrong.s.Local().Attribute("a") == "1" })
	apply(t, all, "", SetAttributes{map[string]string{"b": "2"}})
	eventually(t, "compared again", func() bool { return compared(wrong) })
}

func BenchmarkStateHash(b *testing.B) {
	db := NewDB()
	for n := range 2048 {
		join(db, engine(n+1))
	}
	for n := range 200 {
		do(db, AddPool{UUID: poolUUID(n), Label: poolUUID(n)[24:] + "p", Storage: PoolStorage{CreationRanks: make([]Rank, 1)}})
	}
	for b.Loop() {
		db.Hash()
	}
}
