package cluster

import (
	"math/rand/v2"
	"sync"
	"time"
)

// faultsFor is how long faults happen in a run.
const faultsFor = 25 * time.Second

// torment lets faults happen, a lane of its own for each of several kinds, and
// mends everything at the end.
func (w *world) torment() {
	var lanes sync.WaitGroup
	end := time.Now().Add(faultsFor)
	for lane := range 1 + w.plan.IntN(3) {
		r := rand.New(rand.NewPCG(w.seed, uint64(50+lane)))
		lanes.Go(func() {
			for time.Now().Before(end) {
				time.Sleep(time.Duration(r.Int64N(int64(3 * time.Second))))
				w.oneFault(r)
			}
		})
	}
	if w.plan.IntN(3) == 0 {
		lanes.Go(func() { w.loseDisk() })
	}
	lanes.Wait()
	w.net.heal()
	for _, n := range w.nodes {
		w.net.resume(n.addr)
		n.disk.heal()
	}
	for _, n := range w.nodes {
		n.relaunch()
	}
	w.tell("faults are over")
}

// victim is the leader in half of the cases.
func (w *world) victim(r *rand.Rand) *simNode {
	any := w.nodes[r.IntN(len(w.nodes))]
	if lead := w.leader(); r.IntN(2) == 0 && lead != nil {
		return lead
	}
	return any
}

// some returns a share of the nodes.
func (w *world) some(r *rand.Rand, n int) (chosen []*simNode) {
	for _, at := range r.Perm(len(w.nodes))[:n] {
		chosen = append(chosen, w.nodes[at])
	}
	return chosen
}

func (w *world) oneFault(r *rand.Rand) {
	w.mu.Lock()
	w.stats.Faults++
	w.mu.Unlock()
	last := func() { time.Sleep(200*time.Millisecond + time.Duration(r.Int64N(int64(6*time.Second)))) }
	n, majority := w.victim(r), len(w.nodes)/2+1
	switch kind := r.IntN(16); kind {
	case 0, 1:
		w.outage([]*simNode{n}, last)
	case 2:
		w.outage(w.some(r, majority-1), last)
	case 3:
		w.outage(w.some(r, majority), last)
	case 4:
		w.outage(w.nodes, last)
	case 5: // one in an orderly way
		w.tell("%s is stopped", n.addr)
		n.quit()
		last()
		n.relaunch()
	case 6, 7, 8, 9:
		w.cutOff(r, kind, n, last)
	case 10:
		w.tell("messages get lost and doubled")
		w.net.set(func() { w.net.loss, w.net.twice = 0.3*r.Float64(), 0.2 })
		last()
		w.net.set(func() { w.net.loss, w.net.twice = 0, 0 })
	case 11:
		w.tell("messages are slow")
		w.net.set(func() { w.net.slow = time.Duration(1 + r.Int64N(int64(800*time.Millisecond))) })
		last()
		w.net.set(func() { w.net.slow = 2 * time.Millisecond })
	case 12:
		w.tell("%s is paused", n.addr)
		w.net.pause(n.addr)
		last()
		w.net.resume(n.addr)
	case 13:
		w.tell("the disk of %s is slow", n.addr)
		n.disk.set(func() { n.disk.slow = time.Duration(1 + r.Int64N(int64(time.Second))) })
		last()
		n.disk.heal()
	case 14:
		readOnly := r.IntN(2) == 0
		w.tell("the disk of %s is full (read-only: %v)", n.addr, readOnly)
		n.disk.set(func() { n.disk.full, n.disk.readOnly = true, readOnly })
		last()
		n.disk.heal()
	case 15:
		w.tell("the clock of %s jumps", n.addr)
		n.skew.Store(r.Int64N(int64(48*time.Hour)) - int64(24*time.Hour))
	}
}

// outage is a loss of power of some nodes.
func (w *world) outage(nodes []*simNode, last func()) {
	for _, n := range nodes {
		n.crash()
	}
	last()
	for _, n := range nodes {
		n.relaunch()
	}
}

// cutOff takes links away, in one or both directions.
func (w *world) cutOff(r *rand.Rand, kind int, n *simNode, last func()) {
	var links [][2]string
	switch kind {
	case 6:
		w.tell("%s is cut off", n.addr)
		for _, o := range w.nodes {
			links = append(links, [2]string{n.addr, o.addr}, [2]string{o.addr, n.addr})
		}
	case 7:
		out := r.IntN(2) == 0
		w.tell("%s is cut off one way (out: %v)", n.addr, out)
		for _, o := range w.nodes {
			if link := [2]string{n.addr, o.addr}; out {
				links = append(links, link)
			} else {
				links = append(links, [2]string{link[1], link[0]})
			}
		}
	case 8:
		o := w.nodes[r.IntN(len(w.nodes))]
		w.tell("%s no longer reaches %s", n.addr, o.addr)
		links = append(links, [2]string{n.addr, o.addr})
	case 9:
		w.tell("the network is split")
		side := map[string]bool{}
		for _, o := range w.some(r, 1+r.IntN(len(w.nodes)-1)) {
			side[o.addr] = true
		}
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if side[a.addr] != side[b.addr] {
					links = append(links, [2]string{a.addr, b.addr})
				}
			}
		}
	}
	set := func(cut bool) {
		w.net.set(func() {
			for _, link := range links {
				w.net.cut[link] = cut && link[0] != link[1]
			}
		})
	}
	set(true)
	last()
	set(false)
}

// settled reports whether every replica has caught up once. A lost disk and
// a replica that never had any look like a new system to one another.
func (w *world) settled() bool {
	for _, n := range w.nodes {
		if !n.disk.filled() || n.disk.numbers()[string(freshKey)] != 0 {
			return false
		}
	}
	return true
}

// loseDisk replaces the disk of one node by an empty one, once in a run: what is
// acknowledged is on a majority, and that is all that is promised.
func (w *world) loseDisk() {
	r := rand.New(rand.NewPCG(w.seed, 49))
	for end := time.Now().Add(faultsFor); ; {
		time.Sleep(time.Duration(r.Int64N(int64(faultsFor / 2))))
		if w.settled() {
			break
		}
		if time.Now().After(end) {
			return
		}
	}
	n := w.victim(r)
	n.crash()
	n.gone()
	w.tell("%s loses its disk", n.addr)
	n.disk.wipe()
	n.relaunch()
}
