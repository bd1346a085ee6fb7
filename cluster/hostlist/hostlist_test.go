package hostlist_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"

	"github.com/matryer/is"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text   string
		hosts  string // separated by spaces, in order
		folded string
	}{
		{"", "", ""},
		{" ,\t, ", "", ""},
		{"node1", "node1", "node1"},
		{"localhost", "localhost", "localhost"},
		{"node[1-3,5]:10001", "node1:10001 node2:10001 node3:10001 node5:10001", "node[1-3,5]:10001"},
		{"10.0.0.[1-4]", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4", "10.0.0.[1-4]"},
		{"10.0.0.2,10.0.0.1 10.0.0.2\t10.0.0.3", "10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.[1-3]"},
		{"10.0.0.1:1,10.0.0.2:2", "10.0.0.1:1 10.0.0.2:2", "10.0.0.1:1,10.0.0.2:2"},
		{"10.0.0.9,10.0.0.10,10.0.2.1,10.0.10.1", "10.0.0.9 10.0.0.10 10.0.2.1 10.0.10.1", "10.0.0.[9-10],10.0.2.1,10.0.10.1"},
		{"oss-[1-3,7]", "oss-1 oss-2 oss-3 oss-7", "oss-[1-3,7]"},
		{"oss[1-4]-ib:10001", "oss1-ib:10001 oss2-ib:10001 oss3-ib:10001 oss4-ib:10001", "oss[1-4]-ib:10001"},
		{"oss-[01-03]:10001", "oss-01:10001 oss-02:10001 oss-03:10001", "oss-[01-03]:10001"},
		{"n[9-11]", "n9 n10 n11", "n[9-11]"},
		{"n[009-011]", "n009 n010 n011", "n[009-011]"},
		{"n[98-101]", "n98 n99 n100 n101", "n[98-101]"},
		{"n[098-101]", "n098 n099 n100 n101", "n[098-101]"},
		{"n01,n1", "n1 n01", "n[1,01]"},
		{"n[1-2,01-02]", "n1 n01 n2 n02", "n[1-2,01-02]"},
		{"n[08-10],n[8-9]", "n8 n08 n9 n09 n10", "n[8-10,08-09]"},
		{"rack1-node[1-2],rack1-node3", "rack1-node1 rack1-node2 rack1-node3", "rack1-node[1-3]"},
		{"rack10-n1,rack2-n1", "rack2-n1 rack10-n1", "rack2-n1,rack10-n1"},
		{"node1.site2.org,node2.site2.org", "node1.site2.org node2.site2.org", "node[1-2].site2.org"},
		{"a1,b1,a2", "a1 a2 b1", "a[1-2],b1"},
		{"a1-ib,a1,a2-ib,a2", "a1 a1-ib a2 a2-ib", "a[1-2],a[1-2]-ib"},
		{"node,node0,node1", "node node0 node1", "node,node[0-1]"},
		{"node[5]", "node5", "node5"},
		{"1node,2node", "1node 2node", "1node,2node"},
		{"n[1, 3 - 4]", "n1 n3 n4", "n[1,3-4]"},
		{"n1[0-2]", "n10 n11 n12", "n[10-12]"},
		{"[::1]:10001,fe80::2,fe80::1", "[::1]:10001 fe80::1 fe80::2", "[::1]:10001,fe80::1,fe80::2"},
		{"n12345678901234567890", "n12345678901234567890", "n12345678901234567890"},
	} {
		t.Run(c.text, func(t *testing.T) {
			is := is.New(t)
			s, err := hostlist.Parse(c.text)
			is.NoErr(err)
			is.Equal(strings.Join(s.Hosts(), " "), c.hosts)
			is.Equal(s.String(), c.folded)
			is.Equal(s.Len(), len(s.Hosts()))
			for _, h := range s.Hosts() {
				is.True(s.Contains(h))
			}
			is.True(!s.Contains("elsewhere"))
			again, err := hostlist.Parse(s.String())
			is.NoErr(err)
			is.Equal(again.Hosts(), s.Hosts())
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[1-3]", `range without a name before it at position 1: "[1-3]"`},
		{"a,12", `name made of digits only at position 3: "12"`},
		{"12:10001", `name made of digits only at position 1`},
		{"1[2-3]", `name made of digits only in the range at position 3: "1[2-3]"`},
		{"n[3-1]", `range that ends before it starts at position 3: "3-1"`},
		{"ok1,n[0-16385]", `range above 16384 values at position 7: "0-16385"`},
		{"n[1-2", `[ without ] at position 2: "[1-2"`},
		{"n1]", `] without [ at position 3: "]"`},
		{"n]1[", `] without [ at position 2`},
		{"n[]", `missing number at position 3: ""`},
		{"n[1,,2]", `missing number at position 5: ""`},
		{"n[1,x]", `not a number or range at position 5: "x"`},
		{"n[1-2-3]", `not a number or range at position 3: "1-2-3"`},
		{"n[-3]", `missing number at position 3: "-3"`},
		{"n[1[2]]", `bracket inside a bracket at position 4`},
		{"n[1-2]m[3-4]", `second bracket in a name at position 8: "[3-4]"`},
		{"n[1234567890123456789]", `number with more than 18 digits at position 3`},
		{"a/b", `character that no host name has at position 1: "a/b"`},
		{"a\x01", `character that no host name has`},
		{":10001", `port without a name`},
		{"a:b:c", `neither a name with a port nor an IPv6 address`},
		{"[::x]:1", `address that is not IPv6 in brackets`},
		{"[::1]x", `text after ] that is not a port`},
		{strings.Repeat("a", 300), `name longer than 259 characters`},
		{strings.Repeat("n[0-16384],", 64), `more than 1048576 hosts`},
	} {
		t.Run(c.text[:min(20, len(c.text))], func(t *testing.T) {
			is := is.New(t)
			_, err := hostlist.Parse(c.text)
			is.True(err != nil)                            // refused
			is.Equal(fault.Of(err), fault.Usage)           // as a usage fault
			is.True(strings.Contains(err.Error(), c.want)) // position and part
			is.True(len(err.Error()) < 200)                // a line
			is.True(fault.HintOf(err) != "")
		})
	}
}

func TestLongRunsAreCutToWhatParseAccepts(t *testing.T) {
	is := is.New(t)
	s := hostlist.Of()
	names := make([]string, 40000)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
	}
	s.Add(names...)
	is.Equal(s.String(), "n[0-16384,16385-32769,32770-39999]")
	again, err := hostlist.Parse(s.String())
	is.NoErr(err)
	is.Equal(again.Hosts(), s.Hosts())
}

func TestRoundTrip(t *testing.T) {
	is := is.New(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	parts := []string{"n", "oss-", "rack1-node", "10.0.0.", "a.b", "-x", "1x", "_"}
	suffixes := []string{"", "", ":10001", "-ib", ".site2.org", ":1", "b2", "-3"}
	formats := []string{"%d", "%02d", "%03d", "%05d"}
	for range 500 {
		var names []string
		for range r.IntN(40) {
			number := fmt.Sprintf(formats[r.IntN(len(formats))], r.IntN(120))
			names = append(names, parts[r.IntN(len(parts))]+number+suffixes[r.IntN(len(suffixes))])
		}
		s := hostlist.Of(names...)
		again, err := hostlist.Parse(s.String())
		is.NoErr(err)
		is.Equal(again.Hosts(), s.Hosts()) // Parse(Of(h).String()) is Of(h)
		slices.Sort(names)
		names = slices.Compact(names)
		is.Equal(s.Len(), len(names))
		one := hostlist.Of()
		for _, name := range names {
			one.Add(name)
		}
		is.Equal(one.Hosts(), s.Hosts()) // order of adding does not matter
	}
}

func TestSetAlgebraAndJSON(t *testing.T) {
	is := is.New(t)
	s := hostlist.Of("n2:1", "n1:1", "n1:1", "n3:1")
	s.Remove("n2:1", "absent")
	is.Equal(s.String(), "n[1,3]:1")
	is.Equal(s.WithoutPorts().String(), "n[1,3]")
	data, err := json.Marshal(map[string]any{"hosts": s, "value": *s})
	is.NoErr(err)
	is.Equal(string(data), `{"hosts":"n[1,3]:1","value":"n[1,3]:1"}`)
	var back struct{ Hosts hostlist.Set }
	is.NoErr(json.Unmarshal(data, &back))
	is.Equal(back.Hosts.Hosts(), s.Hosts())
	is.True(json.Unmarshal([]byte(`"n[1"`), &back.Hosts) != nil)
	is.True(json.Unmarshal([]byte(`7`), &back.Hosts) != nil)
	var none *hostlist.Set
	is.Equal(none.String()+strings.Join(none.Hosts(), ""), "")
	is.Equal(none.Len(), 0)
	is.True(!none.Contains("a"))
	odd := hostlist.Of("a[1-2]", "b,c")
	is.Equal(odd.Len(), 2) // taken literally
	is.True(odd.Contains("a[1-2]"))
}

func TestPorts(t *testing.T) {
	is := is.New(t)
	for host, want := range map[string]string{
		"node1": "node1:10001", "node1:5": "node1:5", "10.0.0.1": "10.0.0.1:10001", "node1:": "node1:10001",
		"::1": "[::1]:10001", "[::1]": "[::1]:10001", "[::1]:7": "[::1]:7",
	} {
		is.Equal(hostlist.WithPort(host, 10001), want)
	}
	for host, want := range map[string]string{
		"node1": "node1", "node1:5": "node1", "[::1]:7": "::1", "[::1]": "::1", "::1": "::1", "": "",
	} {
		is.Equal(hostlist.StripPort(host), want)
	}
}

func TestLargeSetsFoldFast(t *testing.T) {
	is := is.New(t)
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("rack%d-node%d:10001", i/1000, i%1000)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	start := time.Now()
	text := hostlist.Of(names...).String()
	is.True(strings.HasPrefix(text, "rack0-node[0-999]:10001,rack1-node[0-999]:10001,"))
	is.True(time.Since(start) < 5*time.Second) // far from quadratic, on a busy machine too
}

func BenchmarkOf1M(b *testing.B) {
	names := make([]string, 1_000_000)
	for i := range names {
		names[i] = fmt.Sprintf("node%07d", i)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	b.ReportAllocs()
	for b.Loop() {
		hostlist.Of(names...)
	}
}

func BenchmarkFold1M(b *testing.B) {
	names := make([]string, 1_000_000)
	for i := range names {
		names[i] = fmt.Sprintf("node%07d", i)
	}
	s := hostlist.Of(names...)
	b.ReportAllocs()
	for b.Loop() {
		_ = s.String()
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"node[1-3,5]:10001,10.0.0.[1-4]", "n[01-10],n1", "[::1]:5", "a[1", "oss1-ib a-1b", "n[98-101,098-101]x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := hostlist.Parse(text)
		if err != nil {
			if fault.Of(err) != fault.Usage {
				t.Fatalf("%v is no usage fault", err)
			}
			return
		}
		again, err := hostlist.Parse(s.String())
		if err != nil {
			t.Fatalf("%q folds to %q: %v", text, s, err)
		}
		if !slices.Equal(again.Hosts(), s.Hosts()) {
			t.Fatalf("%q folds to %q, which reads as %q", text, s, again)
		}
	})
}
