package hostlist_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"

	"github.com/matryer/is"
)

func eval(t testing.TB, text string) *hostlist.Nodes {
	t.Helper()
	n, err := hostlist.Eval(context.Background(), text, nil)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return n
}

func TestEval(t *testing.T) {
	for _, c := range []struct{ text, folded, names string }{
		{"", "", ""},
		{" , ,", "", ""},
		{"node", "node", "node"},
		{"n[1-3,5]:10001", "n[1-3,5]:10001", "n1:10001 n2:10001 n3:10001 n5:10001"},
		{"rack[1-2]node[01-03]", "rack[1-2]node[01-03]", "rack1node01 rack1node02 rack1node03 rack2node01 rack2node02 rack2node03"},
		{"rack1n1,rack2n2 rack2n1\track1n2", "rack[1-2]n[1-2]", "rack1n1 rack1n2 rack2n1 rack2n2"},
		{"rack10-n1,rack2-n1", "rack[2,10]-n1", "rack2-n1 rack10-n1"},
		{"n[0-10/2]", "n[0,2,4,6,8,10]", "n0 n2 n4 n6 n8 n10"},
		{"n[01-10/3]", "n[01,04,07,10]", "n01 n04 n07 n10"},
		{"n[ 1 - 4 / 3 , 9 ]", "n[1,4,9]", "n1 n4 n9"},
		{"n[8-11]", "n[8-11]", "n8 n9 n10 n11"},
		{"n[98-101,098-101]", "n[98-99,098-101]", "n98 n99 n098 n099 n100 n101"},
		{"n09 n10 n100", "n[09-10,100]", "n09 n10 n100"},
		{"n[0-9],n[00-99]", "n[0-9,00-99]", ""},
		{"n[1-2,01-02]", "n[1-2,01-02]", "n1 n2 n01 n02"},
		{"n1[0-2]", "n[10-12]", "n10 n11 n12"},
		{"n0[1-2]", "n[01-02]", "n01 n02"},
		{"n[1-2]05", "n[105,205]", "n105 n205"},
		{"1node,2node", "[1-2]node", "1node 2node"},
		{"[1-3]node", "[1-3]node", "1node 2node 3node"},
		{"b1,a2,a1,b,a", "a,a[1-2],b,b1", "a a1 a2 b b1"},
		{"a1-ib,a1,a2-ib,a2", "a[1-2],a[1-2]-ib", "a1 a2 a1-ib a2-ib"},
		{"10.0.0.[1-2],10.0.1.[1-2]", "10.0.[0-1].[1-2]", "10.0.0.1 10.0.0.2 10.0.1.1 10.0.1.2"},
		{"[fe80::1]:10001,fe80::2,[fe80::a]", "[fe80::1]:10001,[fe80::a],fe80::2", "[fe80::1]:10001 [fe80::a] fe80::2"},
		{"n12345678901234567890,n5", "n5,n12345678901234567890", "n5 n12345678901234567890"},
		{"a[1-5]!a[2-3]", "a[1,4-5]", "a1 a4 a5"},
		{"a[1-5]!a2!a3", "a[1,4-5]", "a1 a4 a5"},
		{"a[1-5]!a[2-3],b1&b1", "b1", "b1"},
		{"a[1-5] b1&b1", "a[1-5],b1", "a1 a2 a3 a4 a5 b1"},
		{"a[1-5]&a[4-9]", "a[4-5]", "a4 a5"},
		{"a[1-5]^a[2-3],a2", "a[1-2,4-5]", "a1 a2 a4 a5"},
		{"a[1-3] ! a2 , c", "a[1,3],c", "a1 a3 c"},
		{"a,,b!b,", "a", "a"},
		{"r[1-3]n[1-4]!r2n3", "r[1,3]n[1-4],r2n[1-2,4]", ""},
		{"n[1-2]x[1-2]x[1-2]!n1x1x1", "n1x1x2,n1x2x[1-2],n2x[1-2]x[1-2]", ""},
		{"n[0-99999]", "n[0-99999]", ""},
		{"a_1 a.1 a-1 A1", "A1,a-1,a.1,a_1", "A1 a-1 a.1 a_1"},
	} {
		t.Run(c.text, func(t *testing.T) {
			is := is.New(t)
			n := eval(t, c.text)
			is.Equal(n.String(), c.folded)
			names := slices.Collect(n.All())
			if c.names != "" {
				is.Equal(strings.Join(names, " "), c.names)
			}
			is.Equal(n.Len(), len(names))
			for _, name := range names {
				is.True(n.Contains(name))
			}
			is.True(!n.Contains("elsewhere"))
			is.True(!n.Contains("n77777777"))
			is.Equal(eval(t, n.String()).String(), c.folded)
			is.True(eval(t, strings.Join(names, "\n")).Equal(n))
			is.Equal(n.Set().Hosts(), hostlist.Of(names...).Hosts())
			var out strings.Builder
			is.NoErr(n.WriteNames(&out, " "))
			is.Equal(out.String(), strings.Join(names, " "))
		})
	}
}

func TestEvalRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"12", `name made of digits only: "12"`},
		{"[1-3]", `name made of digits only`},
		{"[1-3]:10001", `name made of digits only`},
		{"12345678901234567890", `name made of digits only`},
		{":1", `port without a name`},
		{"n[3-1]", `range that ends before it starts: "n[3-1]"`},
		{"n[1-2", `[ without ]`},
		{"n1]", `character that no host name has: "n1]"`},
		{"n[1]]", `] without [`},
		{"n[]", `missing number`},
		{"n[1,,2]", `missing number`},
		{"n[1-9/]", `missing number`},
		{"n[1-9/0]", `step of 0`},
		{"n[-1-2]", `missing number`},
		{"n[1[2]]", `not a number or range`},
		{"n[1-2][3-4]", `brackets without text between them`},
		{"n[1-2]0[3-4]", `brackets without text between them`},
		{"n[1234567890123456789]", `number with more than 18 digits`},
		{"n12345678901234567[12]", `number with more than 18 digits`},
		{"n[12]12345678901234567", `number with more than 18 digits`},
		{"n[0-4194304]", `more than 4194304 names`},
		{"n[0-999999999999999999]", `more than 4194304 names`},
		{"a[0-9999]b[0-9999]", `more than 4194304 names`},
		{"a[0-4000000],b[0-4000000]", `more than 4194304 names`},
		{"fe80::[1-3]", `range within an IPv6 address`},
		{"[::x]:1", `neither a name with a port nor an IPv6 address`},
		{"[::1]x", `text after ] that is not a port`},
		{"a:1:2", `neither a name with a port nor an IPv6 address`},
		{"a/b", `character that no host name has: "a/b"`},
		{"a\x01", `character that no host name has`},
		{"a1!", `missing name after !: "a1!"`},
		{"!a1", `missing name before !`},
		{"a&&b", `missing name`},
		{"a,!b", `missing name before !`},
		{"a ^ ,b", `missing name after ^`},
		{strings.Repeat("a", 300), `name longer than 259 characters`},
		{strings.Repeat("a", 259) + "[1-2]", `name longer than 259 characters`},
		{strings.Repeat("n[0-8000000/2]^", 99) + "n1", `too much work`},
	} {
		t.Run(c.text[:min(20, len(c.text))], func(t *testing.T) {
			is := is.New(t)
			_, err := hostlist.Eval(context.Background(), c.text, nil)
			is.True(err != nil)
			is.Equal(fault.Of(err), fault.Usage)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			is.True(len(err.Error()) < 200)
			is.True(fault.HintOf(err) != "")
		})
	}
}

// someNames returns names that share numbers in all ways.
func someNames(r *rand.Rand, count int) []string {
	forms := []string{"n%d", "n%d", "n%02d", "n%03d", "r%dn%d", "r%dn%02d", "r%d-n%d:10001", "a%db%dc%d", "10.0.%d.%d", "x"}
	names := make([]string, count)
	for i := range names {
		form := forms[r.IntN(len(forms))]
		var args []any
		for range strings.Count(form, "%") {
			args = append(args, r.IntN(12))
		}
		names[i] = fmt.Sprintf(form, args...)
	}
	return names
}

// The algebra is that of sets of strings.
func TestAlgebra(t *testing.T) {
	is := is.New(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	operators := ",!&^"
	for range 300 {
		want := map[string]bool{}
		var text strings.Builder
		result := new(hostlist.Nodes)
		for i := range 1 + r.IntN(5) {
			names := someNames(r, 1+r.IntN(30))
			part := eval(t, strings.Join(names, ","))
			op := operators[r.IntN(4)]
			if i == 0 {
				op = ','
			}
			if i > 0 {
				text.WriteByte(op)
			}
			// one operand each: commas within would be operators of their own
			operand := names[0]
			if op == ',' || op == '!' {
				operand = strings.Join(names, string(rune(op)))
			} else {
				part = eval(t, operand)
				names = names[:1]
			}
			text.WriteString(operand)
			in := map[string]bool{}
			for _, name := range names {
				in[name] = true
			}
			before := maps.Clone(want)
			switch op {
			case ',':
				result = result.Union(part)
				maps.Copy(want, in)
			case '!':
				result = result.Minus(part)
				maps.DeleteFunc(want, func(name string, _ bool) bool { return in[name] })
			case '&':
				result = result.Intersect(part)
				maps.DeleteFunc(want, func(name string, _ bool) bool { return !in[name] })
			case '^':
				result = result.Xor(part)
				maps.Copy(want, in)
				maps.DeleteFunc(want, func(name string, _ bool) bool { return in[name] && before[name] })
			}
		}
		expected := slices.Sorted(maps.Keys(want))
		is.Equal(slices.Sorted(result.All()), expected)
		is.Equal(result.Len(), len(want))
		byText := eval(t, text.String())
		is.Equal(byText.String(), result.String()) // the expression means the same
		is.True(byText.Equal(result))
		// Canonical: any order of names, and the folded form, give the same text.
		r.Shuffle(len(expected), func(i, j int) { expected[i], expected[j] = expected[j], expected[i] })
		is.Equal(eval(t, strings.Join(expected, " ")).String(), result.String())
		is.Equal(eval(t, result.String()).String(), result.String())
	}
}

// Large lists take the paths that small ones do not: counting sort, runs.
func TestLargeListsFoldAlike(t *testing.T) {
	is := is.New(t)
	r := rand.New(rand.NewPCG(1, 2))
	var names []string
	for i := range 60_000 {
		if r.IntN(10) > 0 {
			names = append(names, fmt.Sprintf("rack%d-node%03d", i/300, i%300), fmt.Sprintf("m%d", i))
		}
	}
	ordered := eval(t, strings.Join(names, "\n"))
	is.Equal(ordered.Len(), len(names))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	shuffled := eval(t, strings.Join(append(names, names[:1000]...), ","))
	is.Equal(shuffled.String(), ordered.String())
	slices.Sort(names)
	is.Equal(slices.Sorted(shuffled.All()), names)
	wide := eval(t, "a[0-999999999999999999/999999999999]b[0-99999999999999999/99999999999999999]")
	is.Equal(eval(t, strings.Join(append(slices.Collect(wide.All()), "a5b5"), " ")).Len(), wide.Len()+1)
}
