package dmg

import (
	"fmt"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine/drpc"

	"github.com/matryer/is"
)

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		text string
		want uint64
	}{
		{"0", 0}, {"512", 512}, {"512B", 512}, {"1k", 1000}, {"1 kB", 1000}, {"1Ki", 1024}, {"1KiB", 1024},
		{"1.5MB", 1500000}, {"1.5 MiB", 3 << 19}, {" 2g ", 2e9}, {"2GIB", 2 << 30}, {"1T", 1e12}, {"1TiB", 1 << 40},
		{"1P", 1e15}, {"1PiB", 1 << 50}, {"15.9EiB", 18331451923248866918}, {"18E", 18e18}, {".5k", 500}, {"1.k", 1000},
		{"0.9", 0}, {"18446744073709551615", 1<<64 - 1}, {"9007199254740993", 9007199254740993},
	} {
		got, err := parseSize(c.text)
		if err != nil || got != c.want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", "k", ".", "1..2", "1.2.3", "-1", "+1", "1e3", "0x10", "1_000", "1,000", "1X", "1iB", "1BB", "1KiKi",
		"16EiB", "18446744073709551616", strings.Repeat("9", 100), "nan", "inf", "5%", "１k"} {
		if got, err := parseSize(text); fault.Of(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("parseSize(%q) = %d, %v; want a usage error with a hint", text, got, err)
		}
	}
}

func TestParsePoolSize(t *testing.T) {
	is := is.New(t)
	size, err := parsePoolSize("50%")
	is.NoErr(err)
	is.Equal(size, poolSize{Percent: 50})
	size, err = parsePoolSize("1TB")
	is.NoErr(err)
	is.Equal(size, poolSize{Bytes: 1e12})
	for _, text := range []string{"0%", "101%", "1.5%", "-1%", "%", "0", "300%"} {
		_, err := parsePoolSize(text)
		is.Equal(fault.Of(err), fault.Usage)
	}
}

func TestParseRatio(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"6,94", "6.00%,94.00%"}, {"6", "6.00%,94.00%"}, {"6%", "6.00%,94.00%"}, {"100", "100.00%"}, {"0", "0.00%,100.00%"},
		{"33.333%,66.667", "33.33%,66.67%"}, {" 50 % , 50", "50.00%,50.00%"}, {"99,2", "99.00%,2.00%"}, {"50,49", "50.00%,49.00%"},
		{"0.004", "0.00%,100.00%"}, {"1,2,97", "1.00%,2.00%,97.00%"},
	} {
		got, err := parseRatio(c.text)
		if err != nil || got.String() != c.want {
			t.Errorf("parseRatio(%q) = %s, %v; want %s", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", ",", "6,", "6,93.9e0", "101", "-1", "nan", "50,48.99", "50,51.01", "1e1", "0x1p3", "6%%", "1_0", strings.Repeat("1,", 500)} {
		if got, err := parseRatio(text); fault.Of(err) != fault.Usage {
			t.Errorf("parseRatio(%q) = %s, %v; want a usage error", text, got, err)
		}
	}
}

func TestRatioOf(t *testing.T) {
	is := is.New(t)
	is.Equal(ratioOf([]uint64{6, 94}).String(), "6.00%,94.00%")
	is.Equal(ratioOf([]uint64{1, 0}).String(), "100.00%,0.00%")
	is.Equal(ratioOf([]uint64{0, 0}).String(), "0.00%,0.00%")
	is.Equal(ratioOf([]uint64{1<<64 - 1, 1<<64 - 1}).String(), "50.00%,50.00%")
	is.Equal(ratio{3300, 6600}.fractions(), []float64{1.0 / 3, 2.0 / 3})
}

func TestParseEntry(t *testing.T) {
	for _, text := range []string{"A::zoe@:rw", "A:G:lab@:r", "A::OWNER@:rwcdtTaAo", "A:G:GROUP@:", "A::EVERYONE@:", "A::zoe@site:r", "A::zoë@:r"} {
		e, err := parseEntry(text)
		if err != nil || e.String() != text {
			t.Errorf("parseEntry(%q) = %s, %v", text, e, err)
		}
	}
	for _, text := range []string{"", "A::zoe@", "A::zoe@:r:", "D::zoe@:r", "a::zoe@:r", "A:g:lab@:r", "A:GG:lab@:r", "A::zoe:r", "A::@:r", "A::a@b@:r",
		"A::zoe@:x", "A::zoe@:rr", "A::GROUP@:r", "A:G:OWNER@:r", "A:G:EVERYONE@:r", "A::a b@:r", "A::" + strings.Repeat("z", 255) + "@:r", "A::zoe@:R"} {
		if e, err := parseEntry(text); fault.Of(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("parseEntry(%q) = %s, %v; want a usage error with a hint", text, e, err)
		}
	}
}

func TestParseACL(t *testing.T) {
	is := is.New(t)
	entries, err := parseACL(strings.NewReader("# Owner: zoe@\n\n \tA::zoe@:rw \r\n#A::x@:r\nA:G:zoe@:r"), "f")
	is.NoErr(err)
	is.Equal(entries, []string{"A::zoe@:rw", "A:G:zoe@:r"}) // a user and a group of one name
	for _, c := range []struct{ text, want string }{
		{"", "f: it has no access control entry"},
		{"# nobody\n\n", "it has no access control entry"},
		{"A::zoe@:r\n\nbogus", "f:3: cannot read access control entry"},
		{"A::zoe@:r\nA::zoe@:rw", "f:2: line 1 has an entry for zoe@"},
		{strings.Repeat("#\n", maxACLFile), "larger than"},
		{strings.Repeat("#", 2*maxACLFile), "cannot read f"},
	} {
		_, err := parseACL(strings.NewReader(c.text), "f")
		is.Equal(fault.Of(err), fault.Usage)
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %s", err, c.want)
		}
	}
}

func TestPrincipals(t *testing.T) {
	is := is.New(t)
	for text, want := range map[string]string{"u:zoe@": "u:zoe@", "g:lab": "g:lab@", "OWNER@": "OWNER@", "GROUP@": "GROUP@", "EVERYONE@": "EVERYONE@"} {
		got, err := parsePrincipal(text)
		is.NoErr(err)
		is.Equal(got, want)
	}
	for _, text := range []string{"", "zoe@", "owner@", "x:zoe@", "u:", "u:@", "u:a@b@", "g:a:b"} {
		_, err := parsePrincipal(text)
		is.Equal(fault.Of(err), fault.Usage)
	}
	owner, err := parseOwner("zoe")
	is.NoErr(err)
	is.Equal(owner, "zoe@")
	for _, text := range []string{"@", "@zoe", "a@b@", strings.Repeat("z", 255), "a b", "a:b"} {
		_, err := parseOwner(text)
		is.Equal(fault.Of(err), fault.Usage)
	}
}

func TestParsePairs(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a:b", "[{a b}]"}, {"a:b,c:d", "[{a b} {c d}]"}, {" a : b , c:d", "[{a b} {c d}]"}, {`a:'b,c'`, "[{a b,c}]"}, {`a:"b:c"`, "[{a b:c}]"},
		{`a:b\,c,d:e`, "[{a b,c} {d e}]"}, {`a\:b:c`, "[{a:b c}]"}, {"a:b:c", "[{a b:c}]"}, {`a:b;c`, "[{a b;c}]"}, {`a:"it's"`, "[{a it's}]"},
		{`'a,b':c`, "[{a,b c}]"}, {`a:\\`, `[{a \}]`},
	} {
		got, err := parsePairs(c.text)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("parsePairs(%q) = %v, %v; want %s", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", "a", "a:", ":b", "a:b,", ",a:b", "a:b,,c:d", `a:'b`, `a:"b'`, `a:b\`, "a:''", strings.Repeat("k", 512) + ":v", strings.Repeat("a:b,", 1025) + "a:b"} {
		if got, err := parsePairs(text); fault.Of(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("parsePairs(%q) = %v, %v; want a usage error with a hint", text, got, err)
		}
	}
}

// TestPropTable: the table is sorted and every property of the engines is in it,
// but for those that have no key on command lines.
func TestPropTable(t *testing.T) {
	is := is.New(t)
	named := make(map[string]bool)
	last := ""
	for _, p := range poolPropTable() {
		is.True(last < p.name)
		last = p.name
		named[p.name] = true
		row, ok := drpc.PoolPropByName(p.name)
		is.True(ok)
		is.True(p.about != "")
		if p.words != nil || p.size || p.share { // what a new pool has must be writable
			m, err := p.parse(row, p.text(row, control.PoolProperty{Number: row.Number, Value: &row.Default}))
			is.NoErr(err)
			is.Equal(m.GetNumval(), row.Default)
		}
	}
	for _, name := range []string{"acl", "owner", "owner_group", "obj_version"} {
		named[name] = true
	}
	for _, row := range drpc.PoolProps() {
		if !named[row.Name] {
			t.Errorf("property %s is in no table", row.Name)
		}
	}
	for old, now := range propAliases {
		p, _, err := findProp(old)
		is.NoErr(err)
		is.Equal(p.name, now)
	}
}

func TestParseProp(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       uint64
	}{
		{"reclaim", "disabled", 0}, {"reclaim", "Lazy", 1}, {"reclaim", "time", 4}, {"self_heal", "none", 0}, {"self_heal", "rebuild;exclude", 3},
		{"self_heal", "delay_rebuild;exclude", 5}, {"space_rb", "10%", 10}, {"space_rb", "0", 0}, {"ec_cell_sz", "64KiB", 64 << 10},
		{"ec_cell_sz", "1MiB", 1 << 20}, {"rd_fac", "4", 4}, {"rf", "2", 2}, {"ec_pda", "1", 1}, {"perf_domain", "group", 200},
		{"data_thresh", "0", 0}, {"data_thresh", "4k", 4000}, {"svc_rf", "0", 0}, {"scrub", "timed", 2}, {"scrub-freq", "60", 60},
		{"checkpoint", "lazy", 2}, {"checkpoint_freq", "1048576", 1 << 20}, {"checkpoint_thresh", "75", 75}, {"reintegration", "incremental", 2},
		{"svc_ops_enabled", "1", 1}, {"svc_ops_entry_age", "600", 600},
	} {
		p, err := parseProp(c.key, c.value, true)
		if err != nil || p.Value == nil || *p.Value != c.want {
			t.Errorf("%s:%s: %v, %v; want %d", c.key, c.value, p, err, c.want)
		}
	}
	for _, c := range []struct{ key, value string }{
		{"reclaim", "snapshot"}, {"reclaim", "batch"}, {"reclaim", ""}, {"self_heal", "rebuild;delay_rebuild"}, {"self_heal", "exclude;exclude"},
		{"self_heal", "all"}, {"space_rb", "101"}, {"space_rb", "1.5"}, {"ec_cell_sz", "4095"}, {"ec_cell_sz", "4100"}, {"ec_cell_sz", "2MiB"},
		{"rd_fac", "5"}, {"ec_pda", "-1"}, {"ec_pda", "0"}, {"rp_pda", "4294967296"}, {"perf_domain", "rack"}, {"data_thresh", "5GiB"}, {"svc_rf", "5"},
		{"scrub", "on"}, {"checkpoint_freq", "0"}, {"checkpoint_thresh", "9"}, {"reintegration", "sync"}, {"svc_ops_enabled", "2"},
		{"svc_ops_entry_age", "59"}, {"label", blueID}, {"label", "a b"}, {"global_version", "3"}, {"upgrade_status", "failed"}, {"svc_list", "0"},
		{"acl", "x"}, {"owner", "zoe@"}, {"bogus", "1"}, {"policy", "x"}, {"Reclaim", "lazy"},
	} {
		if p, err := parseProp(c.key, c.value, true); fault.Of(err) != fault.Usage {
			t.Errorf("%s:%s: %v, %v; want a usage error", c.key, c.value, p, err)
		}
	}
}

func TestSelfHealNotes(t *testing.T) {
	is := is.New(t)
	all := "exclude;pool_exclude;pool_rebuild"
	is.Equal(len(selfHealNotes(all, "exclude;rebuild")), 0)
	is.Equal(len(selfHealNotes(all, "exclude;delay_rebuild")), 0)
	is.Equal(selfHealNotes(all, "none"), []string{"exclude disabled on pool due to [pool] policies", "rebuild disabled on pool due to [pool] policies"})
	is.Equal(selfHealNotes("none", "exclude;rebuild"), []string{"exclude disabled on pool due to [system] policies", "rebuild disabled on pool due to [system] policies"})
	is.Equal(selfHealNotes("exclude", "rebuild"), []string{"exclude disabled on pool due to [system pool] policies", "rebuild disabled on pool due to [system] policies"})
}

func TestPoolName(t *testing.T) {
	is := is.New(t)
	is.Equal(poolName(&control.PoolInfo{UUID: greenID}), "1c2d3e4f")
	is.Equal(poolName(&control.PoolInfo{UUID: greenID, Label: "x"}), "x")
	is.Equal(rankText([]hostlist.Rank{5, 2, 1, 0}), "0-2,5")
}

func FuzzParseSize(f *testing.F) {
	for _, text := range []string{"1.5TiB", "100 GB", "0", "50%", "18446744073709551615"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := parseSize(text)
		if err != nil {
			return
		}
		again, err := parseSize(fmt.Sprint(size)) // bytes are always a size
		if err != nil || again != size {
			t.Fatalf("%q is %d, that is %d, %v", text, size, again, err)
		}
		_, _ = parsePoolSize(text)
	})
}

func FuzzParseRatio(f *testing.F) {
	for _, text := range []string{"6,94", "6%", "100", "33.33,66.67"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRatio(text)
		if err != nil {
			return
		}
		sum := 0.0
		for _, part := range r.fractions() {
			sum += part
		}
		if sum < 0.999999 || sum > 1.000001 {
			t.Fatalf("%q: parts of %s sum to %v", text, r, sum)
		}
		if again, err := parseRatio(r.String()); err != nil || again.String() != r.String() {
			t.Fatalf("%q is %s, that is %s, %v", text, r, again, err)
		}
	})
}

func FuzzParseACL(f *testing.F) {
	f.Add("# Owner: zoe@\nA::OWNER@:rw\nA:G:GROUP@:r\nA::zoe@:\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseACL(strings.NewReader(text), "f")
		if err != nil {
			return
		}
		var printed strings.Builder // what is printed is a file with the same entries
		printACL(&printed, control.ACL{Entries: entries, Owner: "zoe@", Group: "lab@"}, true)
		again, err := parseACL(strings.NewReader(printed.String()), "f")
		if err != nil || strings.Join(again, "\n") != strings.Join(entries, "\n") {
			t.Fatalf("%q became %q, %v", entries, again, err)
		}
	})
}

func FuzzParseProps(f *testing.F) {
	for _, text := range []string{"self_heal:'exclude;rebuild',space_rb:5%", "label:blue,ec_cell_sz:64KiB", `scrub:timed,rf:2`, `a\:b:"c"`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		properties, err := parseProps([]string{text}, true)
		if err != nil {
			if fault.Of(err) != fault.Usage {
				t.Fatalf("%q: %v is no usage error", text, err)
			}
			return
		}
		for _, property := range properties {
			p, row, ok := findPropNumber(property.Number)
			if !ok || row.Check(propMessage(property)) != nil || p.text(row, property) == "" {
				t.Fatalf("%q made %v", text, property)
			}
		}
	})
}
