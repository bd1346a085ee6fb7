package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// step is one operation of a host or client and what came of it.
type step struct {
	who        int
	what       any // input of its model
	out        any // output, nil when nobody knows whether it happened
	call, ret  int64
	version    uint64 // of the entry, 0 when it has none of its own
	mapVersion uint32
}

const forever = math.MaxInt64

// caller is a host or client, which finds the leader and tries again.
type caller struct {
	w    *world
	id   int
	name string
	rand *rand.Rand
	last string // the replica that answered last
	ops  int
}

func (w *world) caller(id int) *caller {
	return &caller{w: w, id: id, name: fmt.Sprint("c", id), rand: rand.New(rand.NewPCG(w.seed, uint64(1000+id))), last: w.nodes[id%len(w.nodes)].addr}
}

// think waits about d, or returns false at the end.
func (c *caller) think(d time.Duration) bool {
	return sleep(d/2+time.Duration(c.rand.Int64N(int64(d)))+1, c.w.over)
}

func (c *caller) opID() string {
	c.ops++
	return fmt.Sprintf("%s-%d", c.name, c.ops)
}

// outcome of one try.
type outcome int

const (
	outcomeDone    outcome = iota // answered: the result counts
	outcomeNot                    // it did not happen
	outcomeUnknown                // it may have happened
)

// try asks one replica. Both ways take time, and the answer may be lost.
func (c *caller) try(f func(ctx context.Context, s *Service) error) (outcome, error) {
	n := c.w.node(c.last)
	deadline := time.Now().Add(300*time.Millisecond + time.Duration(c.rand.Int64N(int64(2500*time.Millisecond))))
	if c.w.net.travel(c.name, n.addr, c.w.net.hop(c.name, n.addr), deadline, nil) != nil {
		c.other()
		return outcomeNot, nil
	}
	s, crashed := n.service()
	if s == nil {
		c.other()
		return outcomeNot, nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	err := f(ctx, s)
	select {
	case <-crashed:
		c.other()
		return outcomeUnknown, nil
	default:
	}
	if c.w.net.travel(n.addr, c.name, c.w.net.hop(n.addr, c.name), deadline.Add(rpcTimeout), nil) != nil {
		c.other()
		return outcomeUnknown, nil
	}
	if err == nil {
		return outcomeDone, nil
	}
	e, _ := fault.As(err)
	switch {
	case e.Code == fault.NotLeader || e.Code == fault.NotReady:
		if c.last = e.Data["leader"]; c.last == "" {
			c.other()
		}
		if e.Data["outcome"] != "" {
			return outcomeUnknown, err
		}
		return outcomeNot, err
	case e.Data["outcome"] != "" || e.Code == fault.Timeout || e.Code == fault.Canceled:
		c.other()
		return outcomeUnknown, err
	}
	return outcomeDone, err
}

func (c *caller) other() { c.last = c.w.nodes[c.rand.IntN(len(c.w.nodes))].addr }

// do repeats until there is an answer, for a while. With each set, every try is an
// operation of its own.
func (c *caller) do(what any, each bool, f func(ctx context.Context, s *Service) (any, Result, error)) (any, bool) {
	st := step{who: c.id, what: what, call: int64(time.Since(c.w.start))}
	end := time.Now().Add(12 * time.Second)
	unknown := false
	for time.Now().Before(end) && !c.w.ended() {
		var out any
		var res Result
		how, err := c.try(func(ctx context.Context, s *Service) (err error) {
			out, res, err = f(ctx, s)
			return err
		})
		if how == outcomeDone {
			st.out, st.ret = out, int64(time.Since(c.w.start))
			if err == nil && !res.Replayed {
				st.version = res.Version
			}
			st.mapVersion = res.MapVersion
			c.w.note(st, res.Version, err)
			return out, true
		}
		unknown = unknown || how == outcomeUnknown
		if how == outcomeUnknown && each {
			c.w.note(step{who: c.id, what: what, call: st.call, ret: forever}, 0, nil)
			unknown = false
			st.call = int64(time.Since(c.w.start))
		}
		sleep(50*time.Millisecond+time.Duration(c.rand.Int64N(int64(200*time.Millisecond))), c.w.over)
	}
	if unknown {
		st.ret = forever
		c.w.note(st, 0, nil)
	}
	return nil, false
}

func (w *world) note(st step, version uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, st)
	w.acked = max(w.acked, version)
	switch {
	case st.ret == forever:
		w.stats.Unknown++
	case err != nil:
		w.stats.Refused++
	default:
		w.stats.Acked++
	}
	w.tellLocked("%d %+v = %+v @%d (%v)", st.who, st.what, st.out, version, err)
}

// client changes and reads attributes, pools and exclusions.
func (c *caller) client() {
	keys, labels := 3, 3
	mine := map[string]string{} // labels of pools, by UUID
	for c.think(250 * time.Millisecond) {
		key, label := fmt.Sprint("k", c.rand.IntN(keys)), fmt.Sprint("p", c.rand.IntN(labels))
		switch c.rand.IntN(9) {
		case 0, 1, 2:
			value := fmt.Sprintf("%s/%d", c.name, c.ops)
			if c.rand.IntN(4) == 0 {
				value = ""
			}
			c.mutate(attrIn{key: key, write: true, value: value}, SetAttributes{map[string]string{key: value}})
		case 3, 4:
			c.do(attrIn{key: key}, false, func(ctx context.Context, s *Service) (any, Result, error) {
				return c.read(ctx, s, func(v *View) any { return v.Attribute(key) })
			})
		case 5:
			uuid := fmt.Sprintf("22222222-0000-4000-8000-%06d%06d", c.id, c.ops)
			mine[uuid] = label
			c.mutate(poolIn{label: label, kind: poolAdd, uuid: uuid}, AddPool{UUID: uuid, Label: label})
		case 6:
			for uuid, label := range sortedPairs(mine) {
				delete(mine, uuid)
				c.mutate(poolIn{label: label, kind: poolRemove, uuid: uuid}, RemovePool{UUID: uuid})
				break
			}
		case 7:
			c.do(poolIn{label: label, kind: poolRead}, false, func(ctx context.Context, s *Service) (any, Result, error) {
				return c.read(ctx, s, func(v *View) any {
					if p, err := v.Pool(label); err == nil {
						return p.UUID
					}
					return ""
				})
			})
		case 8:
			c.exclusion()
		}
	}
}

func (c *caller) read(ctx context.Context, s *Service, pick func(*View) any) (any, Result, error) {
	v, err := s.Read(ctx)
	if err != nil {
		return nil, Result{}, err
	}
	return pick(v), Result{Version: v.Version(), MapVersion: v.MapVersion(), Replayed: true}, nil
}

// mutate carries out a mutation once, however often it is asked for.
func (c *caller) mutate(what any, body Body) (any, bool) {
	id := c.opID()
	return c.do(what, false, func(ctx context.Context, s *Service) (any, Result, error) {
		res, err := s.Apply(ctx, id, body)
		return fault.Of(err), res, err
	})
}

// exclusion excludes and readmits the engine of a host, or looks at it.
func (c *caller) exclusion() {
	host := c.rand.IntN(c.w.hosts)
	var rank Rank = NilRank
	var out rankOut
	read := func(ctx context.Context, s *Service) (any, Result, error) {
		return c.read(ctx, s, func(v *View) any {
			out = rankOut{}
			if m := v.MemberByUUID(engine(host + 1).UUID); m != nil {
				rank, out = m.Rank, rankOut{state: m.State, inc: m.Incarnation, there: true}
			}
			return out
		})
	}
	if _, ok := c.do(rankIn{host: host, kind: rankRead}, false, read); !ok || rank == NilRank || c.rand.IntN(3) > 0 {
		return
	}
	lift := out.state == StateAdminExcluded
	kind := rankExclude
	if lift {
		kind = rankLift
	}
	id := c.opID()
	c.do(rankIn{host: host, kind: kind}, false, func(ctx context.Context, s *Service) (any, Result, error) {
		res, err := s.Apply(ctx, id, AdminExclude{Ranks: []Rank{rank}, Clear: lift})
		if err != nil || len(res.Members) != 1 {
			return nil, res, err
		}
		return rankOut{state: res.Members[0].State, changed: res.Members[0].Changed}, res, nil
	})
}

// host is a server with an engine, which joins, dies and joins again. Reports of
// its deaths come early, late and more than once.
func (c *caller) host(n int) {
	req := engine(n + 1)
	late := make(chan func(), 64)
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { // what others report, in its own time
		other := c.w.caller(10_000 + n)
		for {
			select {
			case report := <-late:
				if !other.think(2 * time.Second) {
					return
				}
				report()
			case <-c.w.over:
				return
			}
		}
	})
	reporter := c.w.caller(20_000 + n)
	for life := uint64(1); c.think(time.Duration(1+min(life-1, 1)*6) * time.Second); life++ {
		req.Incarnation = 100 + life
		rank, ok := c.join(n, req)
		if !ok {
			continue // another life
		}
		req.Rank = rank
		if !c.think(3 * time.Second) {
			return
		}
		inc := req.Incarnation
		if c.rand.IntN(2) == 0 {
			c.report(n, rank, inc, rankDied)
		}
		for range c.rand.IntN(3) {
			select {
			case late <- func() { reporter.report(n, rank, inc, rankDead) }:
			default:
			}
		}
	}
}

func (c *caller) join(n int, req JoinRequest) (Rank, bool) {
	req.OpID = c.opID()
	var rank Rank
	_, ok := c.do(rankIn{host: n, kind: rankJoin, inc: req.Incarnation}, false, func(ctx context.Context, s *Service) (any, Result, error) {
		row, err := s.Join(ctx, req)
		out := rankOut{code: fault.Of(err), there: !row.Created, state: row.Previous, rank: row.Rank}
		rank = row.Rank
		return out, Result{MapVersion: row.MapVersion, Replayed: true}, err
	})
	return rank, ok && rank != NilRank
}

func (c *caller) report(n int, rank Rank, inc uint64, kind rankKind) {
	c.do(rankIn{host: n, kind: kind, inc: inc}, true, func(ctx context.Context, s *Service) (any, Result, error) {
		var row MemberResult
		var err error
		if kind == rankDead {
			row, err = s.HandleRankDead(ctx, rank, inc)
		} else {
			row, err = s.HandleEngineDied(ctx, rank, inc, "died")
		}
		return rankOut{state: row.State, changed: row.Changed, known: row.Why == "reported before"}, Result{Replayed: true}, err
	})
}
