package cluster

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	simSeeds = flag.Int("sim.seeds", 200, "number of simulated runs")
	simFirst = flag.Uint64("sim.first", 1, "seed of the first run")
	simStep  = flag.Uint64("sim.step", 0, "run in this process, every so many seeds")
	simQuit  = flag.Bool("sim.quit", false, "stop at the first run that breaks a promise")
	simTrace = flag.Bool("sim.trace", false, "print what happened in each run")
)

// simReport is what a run came to; a worker prints one line of it.
type simReport struct {
	Seed  uint64
	Wrong []string
	Hash  string
	Stats simStats
	lines []string
}

const simLine = "SIMULATED "

// TestSimulation runs systems of 3 to 7 replicas, hosts and clients under faults
// on virtual time. A seed decides the system, the load, the faults and the fate of
// each message. Workers of one processor each share the seeds.
func TestSimulation(t *testing.T) {
	if *simStep > 0 {
		for i := range *simSeeds {
			r := simulate(t, *simFirst+uint64(i)**simStep)
			data, _ := json.Marshal(r)
			fmt.Printf("%s%s\n", simLine, data)
			if *simQuit && len(r.Wrong) > 0 {
				return
			}
			if *simTrace {
				fmt.Println(strings.Join(r.lines, "\n"))
			}
		}
		return
	}
	seeds, start := *simSeeds, time.Now()
	if testing.Short() {
		seeds = min(seeds, 10)
	}
	reports := spread(t, *simFirst, seeds)
	var total simStats
	for _, r := range reports {
		total.add(r.Stats)
		if len(r.Wrong) > 0 {
			t.Errorf("seed %d (again with `make sim FIRST=%d SEEDS=1`):\n%s", r.Seed, r.Seed, strings.Join(r.Wrong, "\n"))
		}
	}
	if len(reports) != seeds && !*simQuit {
		t.Errorf("%d of %d runs reported", len(reports), seeds)
	}
	t.Logf("%d runs in %v: %+v", len(reports), time.Since(start).Round(time.Millisecond), total)
	if total.Acked < 20*seeds || total.Leads < seeds {
		t.Errorf("the simulation did next to nothing: %+v", total)
	}
}

// A seed gives the same system, load, faults and fate of each message again. What
// the runtime draws itself (which of the cases that are ready at one instant, the
// order in which raft walks its peers) is beyond a seed: it moves time-outs by
// some milliseconds, after which such runs differ.
func TestSimulationReplays(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("for whole test runs without the race detector, which shuffles goroutines")
	}
	const seeds = 16
	first, second := spread(t, 1, seeds), spread(t, 1, seeds)
	same := 0
	for seed, r := range first {
		if second[seed].Hash == r.Hash {
			same++
		}
	}
	t.Logf("%d of %d runs were the same to the nanosecond", same, seeds)
	if same < 2 {
		t.Errorf("only %d of %d runs were the same again", same, seeds)
	}
}

// spread runs seeds in worker processes, whose goroutines take turns on one
// processor and whose raft draws its time-outs from the seed.
func spread(t *testing.T, first uint64, seeds int) map[uint64]simReport {
	t.Helper()
	workers := min(runtime.NumCPU(), seeds)
	reports := make(map[uint64]simReport)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n := range workers {
		share := (seeds - n + workers - 1) / workers
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSimulation$", "-test.timeout=20m",
				"-sim.first="+strconv.FormatUint(first+uint64(n), 10), "-sim.step="+strconv.Itoa(workers), "-sim.seeds="+strconv.Itoa(share),
				"-sim.trace="+strconv.FormatBool(*simTrace), "-sim.quit="+strconv.FormatBool(*simQuit))
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GODEBUG=randseednop=0,asyncpreemptoff=1")
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			mu.Lock()
			defer mu.Unlock()
			for line := range strings.Lines(string(out)) {
				rest, ok := strings.CutPrefix(line, simLine)
				var r simReport
				if ok && json.Unmarshal([]byte(rest), &r) == nil {
					reports[r.Seed] = r
				} else if *simTrace {
					fmt.Print(line)
				}
			}
			if err != nil {
				t.Errorf("worker: %v\n%s", err, tail(out))
			}
		})
	}
	wg.Wait()
	return reports
}

func tail(out []byte) []byte { return out[max(0, len(out)-8000):] }

// simulate is one run.
func simulate(t *testing.T, seed uint64) simReport {
	//lint:ignore SA1019 raft draws its time-outs from the global source
	rand.Seed(int64(seed))
	var w *world
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(seed)
		w.run()
	})
	w.check()
	return simReport{Seed: seed, Wrong: w.wrong, Hash: fmt.Sprintf("%x", w.traced), Stats: w.stats, lines: w.trace}
}

// run is a life of the system: load and faults, then the proof that it is ready
// and all replicas alike, then the end.
func (w *world) run() {
	for _, n := range w.nodes {
		n.launch()
	}
	var load sync.WaitGroup
	for n := range w.hosts {
		c := w.caller(100 + n)
		load.Go(func() { c.host(n) })
	}
	for n := range 2 + w.plan.IntN(4) {
		c := w.caller(n)
		load.Go(c.client)
	}
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for sleep(700*time.Millisecond, w.over) {
			w.look()
		}
	}()
	w.torment()
	w.settle()
	close(w.over)
	load.Wait()
	<-looked
	w.agree()
	for _, n := range w.nodes {
		n.crash()
	}
	for _, n := range w.nodes {
		n.gone()
	}
	synctest.Wait()
}

// settle: after the last fault the service is ready within bounds.
func (w *world) settle() {
	probe := w.caller(30_000)
	end := time.Now().Add(readyWithin)
	for _, ok := probe.mutate(attrIn{key: "probe", write: true, value: "x"}, SetAttributes{map[string]string{"probe": "x"}}); !ok; {
		if time.Now().After(end) {
			w.fail("no write was accepted within %v after the last fault", readyWithin)
			return
		}
		_, ok = probe.mutate(attrIn{key: "probe", write: true, value: "x"}, SetAttributes{map[string]string{"probe": "x"}})
	}
	w.tell("ready")
	sleep(3*time.Second, w.over) // of load without faults
}

// agree: all replicas come to the same state.
func (w *world) agree() {
	for end := time.Now().Add(alikeWithin); !w.alike(); {
		if time.Now().After(end) {
			w.fail("the replicas are not alike %v after the last operation", alikeWithin)
			for _, n := range w.nodes {
				if s, _ := n.service(); s != nil {
					version, sum := s.Hash()
					w.fail("%s: version %d, hash %.8s, notes %v", n.addr, version, sum, n.disk.numbers())
				} else {
					w.fail("%s is down", n.addr)
				}
			}
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.look()
}
