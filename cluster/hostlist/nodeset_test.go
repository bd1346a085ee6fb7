package hostlist_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"daosbox/cluster/hostlist"

	"github.com/matryer/is"
)

// oracle asks ClusterShell about many texts in one process: for each line it
// prints the folded and the expanded form, or nothing when it refuses the text.
const oracle = `
import sys
from ClusterShell.NodeSet import NodeSet, RESOLVER_NOGROUP
for line in sys.stdin:
    try:
        n = NodeSet(line.rstrip("\n"), resolver=RESOLVER_NOGROUP)
        print("%s\t%s" % (n, " ".join(n)))
    except Exception:
        print("!")
`

type nodeset struct {
	folded   string
	expanded []string
	refused  bool
}

// askNodeset skips the test where ClusterShell is not installed.
func askNodeset(t *testing.T, texts []string) []nodeset {
	t.Helper()
	python := ""
	for _, name := range []string{"/usr/bin/python3", "python3"} { // packages are the system's
		if exec.Command(name, "-c", "import ClusterShell").Run() == nil {
			python = name
			break
		}
	}
	if python == "" {
		t.Skip("ClusterShell (Debian package clustershell) is not installed")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", oracle)
	cmd.Stdin = strings.NewReader(strings.Join(texts, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []nodeset
	for line := range bytes.Lines(out) {
		folded, expanded, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "\t")
		answers = append(answers, nodeset{folded, strings.Fields(expanded), !ok})
	}
	if len(answers) != len(texts) {
		t.Fatalf("%d answers to %d texts", len(answers), len(texts))
	}
	return answers
}

// randomOperand makes names and ranges of both notations.
func randomOperand(r *rand.Rand) string {
	axes := 1
	number := func() string {
		form := []string{"%d", "%d", "%02d", "%03d"}[r.IntN(4)]
		return fmt.Sprintf(form, r.IntN(120))
	}
	part := func(touched bool) string {
		low, width := r.IntN(110), []int{1, 1, 2, 3}[r.IntN(4)]
		if touched {
			width = 3 // it reads n1[9-10] as n[19-110]
		}
		high := low + r.IntN(1+12/axes)
		text := fmt.Sprintf("%0*d", width, low)
		switch r.IntN(5) {
		case 0:
			return text
		case 1:
			return fmt.Sprintf("%s-%0*d/%d", text, width, high, 1+r.IntN(4))
		}
		return fmt.Sprintf("%s-%0*d", text, width, high)
	}
	var b strings.Builder
	axes = []int{1, 1, 2, 2, 3}[r.IntN(5)] // its fold takes long where many vary
	for range axes {
		b.WriteString([]string{"n", "rack", "r-", "x.", "A", "_", "m"}[r.IntN(7)])
		switch r.IntN(5) {
		case 0:
		case 1:
			b.WriteString(number())
		case 2:
			b.WriteString(number()) // digits that touch the bracket
			fallthrough
		default:
			touched := r.IntN(12) == 0 || digits(b.String())
			parts := []string{part(touched)}
			for range r.IntN(1 + 3/axes) {
				parts = append(parts, part(touched))
			}
			fmt.Fprintf(&b, "[%s]", strings.Join(parts, ","))
			if touched && r.IntN(2) == 0 {
				b.WriteString(number())
			}
		}
	}
	b.WriteString([]string{"", "", "-ib", ".site", ":10001", "x"}[r.IntN(6)])
	return b.String()
}

func digits(text string) bool {
	return text != "" && text[len(text)-1] >= '0' && text[len(text)-1] <= '9'
}

func randomExpressions(count int, seed uint64) []string {
	r := rand.New(rand.NewPCG(seed, 7))
	texts := make([]string, count)
	for i := range texts {
		// Names from a small pool meet each other in operations.
		pool := []string{randomOperand(r), randomOperand(r), randomOperand(r)}
		var b strings.Builder
		b.WriteString(pool[0])
		for range r.IntN(6) {
			b.WriteByte(",,!&^"[r.IntN(5)])
			operand := pool[r.IntN(3)]
			if r.IntN(2) == 0 {
				operand = vary(r, operand)
			}
			b.WriteString(operand)
		}
		texts[i] = b.String()
	}
	return texts
}

// vary changes a digit, so that sets overlap in part.
func vary(r *rand.Rand, operand string) string {
	out := []byte(operand)
	for range 3 {
		if i := r.IntN(len(out)); out[i] >= '1' && out[i] <= '9' && (i+1 == len(out) || out[i+1] != '-') {
			out[i] = '1' + byte(r.IntN(9))
		}
	}
	return string(out)
}

// padded finds leading zeros. How ClusterShell writes names where only some have
// them depends on the way that they came into its set.
var padded = regexp.MustCompile(`(^|[^0-9])0[0-9]`)

// What ClusterShell reads is read here as the same names in the same order, and
// written as the same text where names have one number without padding; each reads what the other
// writes.
func TestAgreesWithNodeset(t *testing.T) {
	is := is.New(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	count := 2_000
	if os.Getenv("HOSTLIST_CORPUS") != "" {
		count = 50_000 // minutes
	}
	texts := randomExpressions(count, seed)
	answers := askNodeset(t, texts)
	var back []string
	var want [][]string
	refused, same, flat, names := 0, 0, 0, 0
	for i, text := range texts {
		n, err := hostlist.Eval(context.Background(), text, nil)
		a := answers[i]
		if a.refused {
			refused++ // mixed paddings, which are read here
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v, ClusterShell reads %s", text, err, a.folded)
		}
		got := slices.Collect(n.All())
		simple := oneNumber(got)
		if !simple {
			slices.Sort(a.expanded) // by size of its products
			slices.Sort(got)
		}
		if !slices.Equal(got, a.expanded) {
			t.Fatalf("%s is %s, ClusterShell says %s", text, n, a.folded)
		}
		names += len(got)
		if n.String() == a.folded {
			same++
		} else if simple && !padded.MatchString(a.folded) {
			t.Fatalf("%s folds to %s, ClusterShell writes %s", text, n, a.folded)
		}
		if simple {
			flat++
		}
		again, err := hostlist.Eval(context.Background(), a.folded, nil)
		is.NoErr(err)
		is.True(again.Equal(n)) // reads what ClusterShell writes
		back, want = append(back, n.String()), append(want, got)
	}
	for i, a := range askNodeset(t, back) {
		slices.Sort(a.expanded)
		slices.Sort(want[i])
		if a.refused || !slices.Equal(a.expanded, want[i]) {
			t.Fatalf("ClusterShell reads our %s as %s", back[i], a.folded)
		}
	}
	t.Logf("%d texts, %d names: %d refused by ClusterShell, %d written alike, %d with one number",
		count, names, refused, same, flat)
	is.True(refused < count/2)
}

// oneNumber says that no name has several numbers.
func oneNumber(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		isDigit := func(r rune) bool { return r >= '0' && r <= '9' }
		rest := strings.TrimLeftFunc(name, func(r rune) bool { return !isDigit(r) })
		return strings.ContainsFunc(strings.TrimLeftFunc(rest, isDigit), isDigit)
	})
}
