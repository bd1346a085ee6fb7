package cluster

import (
	"encoding/json"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// Each known mistake has a guard in the code and a scenario that fails without
// it. TestGuards takes the guards out, one after another, and runs the scenario.

// guard is one mistake. The text in the file is a condition, which a variable may
// precede ("x := f(); x > 0"). In the mutated package it is false when the
// environment variable guardVar names the guard. A "call f()" is left out then, as
// if it had returned no error.
type guard struct {
	name     string
	file     string
	text     string
	scenario func(t *testing.T)
}

// guardVar names the guard that a mutated test binary runs without.
const guardVar = "CLUSTER_WITHOUT"

func guards() []guard {
	return []guard{
		{"rank leaks after a failed replace", "join.go", "old == nil || m.Rank != NilRank && m.Rank != old.Rank", failedReplace},
		{"rank twice for one UUID", "join.go", "mine := db.memberByUUID(m.UUID); mine != nil", replacedTwice},
		{"stale UUID index", "state.go", "old := db.c.members.m[m.Rank]; old != nil && old.UUID != m.UUID", replacedUUID},
		{"taken rank given again", "join.go", "db.c.members.m[rank] != nil {", takenRank},
		{"event of an earlier life", "memberops.go", "u.Incarnation != 0 && u.Incarnation < m.Incarnation", earlierLife},
		{"join of an earlier life", "join.go", "m.Incarnation < known.Incarnation && known.State&statesAlive != 0", earlierJoin},
		{"illegal transition", "memberops.go", "!m.State.MayBecome(u.State)", illegalTransition},
		{"administrator's exclusion undone by a join", "join.go", "known.State == StateAdminExcluded", excludedJoins},
		{"same storage twice", "join.go", "other := db.equalMember(m); other != nil", sameHostAgain},
		{"operation twice", "state.go", "cmd.ID != \"\"", operationTwice},
		{"join twice", "join.go", "r.OpID != \"\"", joinTwice},
		{"join twice in a batch", "join.go", "at, twice := here[id]; twice", joinTwiceInBatch},
		{"late list of a pool's replicas", "poolops.go", "b.Version > old.ReplicasVersion || old.ReplicasVersion == 0", lateReplicas},
		{"replicas of a pool that goes", "poolops.go", "old.State == PoolDestroying", destroyedPool},
		{"label twice", "poolops.go", "holder, ok := db.c.labels.m[label]; ok && label != \"\" && holder != by", labelTwice},
		{"stale label", "state.go", "old := db.c.pools.m[p.UUID]; old != nil && old.Label != p.Label", staleLabel},
		{"self-heal switched off", "memberops.go", "!SelfHealExclude(db.c.attr(PropSelfHeal))", selfHealOff},
		{"view changes under a reader", "state.go", "else if t.shared {", changingView},
		{"version sent twice", "groupmap.go", "version > p.sent && version > 0", sentTwice},
	}
}

// whole are guards that need replicas: their scenarios are tests of their own, or
// the simulation, which finds the mistake within some seeds.
func whole() []guard {
	return []guard{
		{"fresh read from a stale leader", "service.go", "call waitCtx(ctx, l.raft.VerifyLeader())", TestStaleLeader},
		{"lead before the log is read", "lead.go", "call waitCtx(l.ctx, l.raft.Barrier(s.cfg.Timers.Apply))", TestSimulation},
		{"vote of a lost disk", "fresh.go", "value == 1 && replicas > 1", TestLostDisk},
		{"retry carried out again", "state.go", "op, res, ok := db.c.ops.find(cmd.ID); ok", TestSimulation},
	}
}

func failedReplace(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	r := engine(9)
	r.Replace = true
	defer func() { is.Equal(recover(), nil) }()
	is.Equal(fault.Of(joinErr(db, r)), ReplaceNotFound)
	is.Equal(join(db, engine(2)).Rank, Rank(2)) // and not 3
}

func replacedTwice(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	r := engine(1)
	r.UUID, r.Replace = engine(7).UUID, true
	is.NoErr(joinErr(db, r))
	is.NoErr(joinErr(db, r)) // started again with the flag
	is.Equal(len(db.View().Members(StatesAll)), 1)
}

func replacedUUID(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	r := engine(1)
	r.UUID, r.Replace = engine(7).UUID, true
	is.NoErr(joinErr(db, r))
	is.True(db.View().MemberByUUID(engine(1).UUID) == nil)
}

func takenRank(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	r := engine(1)
	r.Rank = 1
	is.NoErr(joinErr(db, r))
	defer func() { is.Equal(recover(), nil) }()
	is.Equal(join(db, engine(2)).Rank, Rank(2))
	is.Equal(db.View().Member(1).UUID, r.UUID)
}

func earlierLife(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	do(db, RankDead{Rank: 1, Incarnation: 99})
	do(db, EngineDied{Rank: 1, Incarnation: 99})
	is.Equal(db.View().Member(1).State, StateJoined)
}

func earlierJoin(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	late := engine(1)
	late.Incarnation = 99
	is.Equal(fault.Of(joinErr(db, late)), fault.Refused)
	is.Equal(db.View().Member(1).Incarnation, uint64(100))
	do(db, EngineDied{Rank: 1, Incarnation: 100})
	is.NoErr(joinErr(db, late)) // that life is over: the host's clock was set back
}

func illegalTransition(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	update(db, 1, StateExcluded)
	update(db, 1, StateStopped)
	is.Equal(db.View().Member(1).State, StateExcluded)
}

func excludedJoins(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	do(db, AdminExclude{Ranks: []Rank{1}})
	is.Equal(fault.Of(joinErr(db, engine(1))), RankAdminExcluded)
}

func sameHostAgain(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	r := engine(1)
	r.UUID = engine(7).UUID
	is.Equal(fault.Of(joinErr(db, r)), MemberExists)
	is.Equal(len(db.View().Members(StatesAll)), 1)
}

func operationTwice(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	c := Command{ID: "x", Time: epoch, Body: AddPool{UUID: poolUUID(1), Label: "a"}}
	is.True(db.Apply(c).Err == nil)
	is.True(db.Apply(c).Err == nil)
}

func joinTwice(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	r := engine(1)
	r.OpID = "x"
	is.True(join(db, r).Created)
	do(db, EngineDied{Rank: 1})
	is.True(join(db, r).Created) // the first answer, and no second join
	is.Equal(db.View().Member(1).State, StateErrored)
}

func joinTwiceInBatch(t *testing.T) {
	is := is.New(t)
	r := engine(1)
	r.OpID = "x"
	rows := do(NewDB(), JoinBatch{Joins: []JoinRequest{r, r}}).Joins
	is.True(rows[0].Created && rows[1].Created)
}

func withPool() *DB {
	db := NewDB()
	do(db, AddPool{UUID: poolUUID(1), Label: "a"})
	return db
}

func lateReplicas(t *testing.T) {
	is := is.New(t)
	db := withPool()
	do(db, PoolReplicas{UUID: poolUUID(1), Replicas: []Rank{2}, Version: 5})
	do(db, PoolReplicas{UUID: poolUUID(1), Replicas: []Rank{3}, Version: 4})
	do(db, PoolReplicas{UUID: poolUUID(1), Replicas: []Rank{4}, Version: 6})
	p, err := db.View().Pool("a")
	is.NoErr(err)
	is.Equal(p.Replicas, []Rank{4})
	is.Equal(p.ReplicasVersion, uint64(6))
}

func destroyedPool(t *testing.T) {
	is := is.New(t)
	db := withPool()
	do(db, DestroyPool{UUID: poolUUID(1)})
	do(db, PoolReplicas{UUID: poolUUID(1), Replicas: []Rank{2}, Version: 5})
	p, err := db.View().Pool("a")
	is.NoErr(err)
	is.Equal(p.State, PoolDestroying) // a new leader finds it and goes on
}

func labelTwice(t *testing.T) {
	is := is.New(t)
	db := withPool()
	is.True(do(db, AddPool{UUID: poolUUID(2), Label: "a"}).Err != nil)
}

func staleLabel(t *testing.T) {
	is := is.New(t)
	db := withPool()
	label := "b"
	do(db, UpdatePool{UUID: poolUUID(1), Label: &label})
	is.True(do(db, AddPool{UUID: poolUUID(2), Label: "a"}).Err == nil)
}

func selfHealOff(t *testing.T) {
	is := is.New(t)
	db := NewDB()
	is.NoErr(joinErr(db, engine(1)))
	do(db, SetAttributes{map[string]string{PropSelfHeal: "none"}})
	do(db, RankDead{Rank: 1})
	is.Equal(db.View().Member(1).State, StateJoined)
}

func changingView(t *testing.T) {
	is := is.New(t)
	db := withPool()
	v := db.View()
	do(db, RemovePool{UUID: poolUUID(1)})
	is.Equal(len(v.Pools()), 1)
}

func sentTwice(t *testing.T) {
	is := is.New(t)
	var p groupPlan
	p.request(true)
	is.Equal(p.next(3, false), groupSend)
	p.done(3, nil)
	p.request(false)
	is.Equal(p.next(2, false), groupIdle) // never an older map
	is.Equal(p.next(3, false), groupIdle)
}

func TestKnownMistakes(t *testing.T) {
	for _, g := range guards() {
		t.Run(g.name, g.scenario)
	}
}

// TestGuards builds the package with a switch at every guard, by an overlay of the
// sources, and runs each scenario without its guard: it must fail. With all guards
// all scenarios pass, so that it is the guard that makes the difference.
func TestGuards(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a mutated copy of the package")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go tool to build a mutated copy with")
	}
	binary := buildMutated(t, tool)
	run := func(scenario, without string) (string, error) {
		cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^TestKnownMistakes$/^"+regexp.QuoteMeta(strings.ReplaceAll(scenario, " ", "_"))+"$")
		cmd.Env = append(os.Environ(), guardVar+"="+without)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, g := range guards() {
		t.Run(g.name, func(t *testing.T) {
			if out, err := run(g.name, ""); err != nil || strings.Contains(out, "no tests") {
				t.Fatalf("fails with its guard: %v\n%s", err, out)
			}
			if out, err := run(g.name, g.name); err == nil {
				t.Errorf("passes without its guard\n%s", out)
			}
		})
	}
}

// simSeedsToFind are the seeds in which a missing guard must show.
const simSeedsToFind = 200

func TestGuardsOfReplicas(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil || testing.Short() {
		t.Skip("for whole test runs with a go tool to build a mutated copy with")
	}
	binary := buildMutated(t, tool)
	for _, g := range whole() {
		t.Run(g.name, func(t *testing.T) {
			name := runtime.FuncForPC(reflect.ValueOf(g.scenario).Pointer()).Name()
			name = name[strings.LastIndex(name, ".")+1:]
			cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^"+name+"$", "-test.timeout=1m", "-sim.quit", "-sim.seeds", fmt.Sprint(simSeedsToFind))
			cmd.Env = append(os.Environ(), guardVar+"="+g.name)
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("%s passes without the guard:\n%s", name, tail(out))
			}
		})
	}
}

func buildMutated(t *testing.T, tool string) string {
	t.Helper()
	is := is.New(t)
	here, err := os.Getwd()
	is.NoErr(err)
	dir := t.TempDir()
	sources := map[string]string{}
	for _, g := range append(guards(), whole()...) {
		text, ok := sources[g.file]
		if !ok {
			data, err := os.ReadFile(g.file)
			is.NoErr(err)
			text = string(data)
		}
		from, _ := strings.CutPrefix(g.text, "call ")
		if !strings.Contains(text, from) {
			t.Fatalf("%s: %q does not occur in %s: the guard has moved", g.name, g.text, g.file)
		}
		sources[g.file] = strings.ReplaceAll(text, from, mutated(g))
	}
	replace := map[string]string{filepath.Join(here, "mutant.go"): filepath.Join(dir, "mutant.go")}
	sources["mutant.go"] = "package cluster\n\nimport \"os\"\n\nfunc without(name string) bool { return os.Getenv(\"" + guardVar + "\") == name }\n\n" +
		"func unless(name string, f func() error) error {\nif without(name) {\nreturn nil\n}\nreturn f()\n}\n"
	for name, text := range sources {
		clean, err := format.Source([]byte(text))
		is.NoErr(err)
		is.NoErr(os.WriteFile(filepath.Join(dir, name), clean, 0o600))
		replace[filepath.Join(here, name)] = filepath.Join(dir, name)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	is.NoErr(err)
	is.NoErr(os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	binary := filepath.Join(dir, "mutated.test")
	cmd := exec.CommandContext(t.Context(), tool, "test", "-c", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the mutated package: %v\n%s", err, out)
	}
	return binary
}

// mutated returns the guard's text with its switch. The statement before a
// condition stays in front of it.
func mutated(g guard) string {
	if call, ok := strings.CutPrefix(g.text, "call "); ok {
		return fmt.Sprintf("unless(%q, func() error { return %s })", g.name, call)
	}
	text, brace := strings.CutSuffix(g.text, " {")
	text, otherwise := strings.CutPrefix(text, "else if ")
	before, condition, split := strings.Cut(text, "; ")
	if !split {
		before, condition = "", text
	} else {
		before += "; "
	}
	text = fmt.Sprintf("%s(%s) && !without(%q)", before, condition, g.name)
	if otherwise {
		text = "else if " + text
	}
	if brace {
		text += " {"
	}
	return text
}
