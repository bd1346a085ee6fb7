package hostlist_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"

	"github.com/matryer/is"
)

func TestParseRanks(t *testing.T) {
	for _, c := range []struct {
		text, ranged, bracketed string
		ranks                   []hostlist.Rank
	}{
		{"", "", "", nil},
		{"[]", "", "", nil},
		{" 3 ", "3", "3", []hostlist.Rank{3}},
		{"[3]", "3", "3", []hostlist.Rank{3}},
		{"0,2,4-8", "0,2,4-8", "[0,2,4-8]", []hostlist.Rank{0, 2, 4, 5, 6, 7, 8}},
		{"[0-3,9]", "0-3,9", "[0-3,9]", []hostlist.Rank{0, 1, 2, 3, 9}},
		{"2 , 1, 1 - 2 ,0", "0-2", "[0-2]", []hostlist.Rank{0, 1, 2}},
		{"4294967294", "4294967294", "4294967294", []hostlist.Rank{4294967294}},
	} {
		t.Run(c.text, func(t *testing.T) {
			is := is.New(t)
			s, err := hostlist.ParseRanks(c.text)
			is.NoErr(err)
			is.Equal(s.Slice(), c.ranks)
			is.Equal(s.String(), c.ranged)
			is.Equal(s.Bracketed(), c.bracketed)
			is.Equal(s.Len(), len(c.ranks))
		})
	}
}

func TestParseRanksRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"1,,2", `missing rank at position 3`},
		{",", `missing rank at position 1`},
		{"1,", `missing rank at position 3`},
		{"[1,x]", `not a rank or range of ranks at position 4: "x"`},
		{"-1", `missing rank`},
		{"+1", `not a rank`},
		{"[1", `not a rank`},
		{"3-1", `range that ends before it starts at position 1: "3-1"`},
		{"4294967295", `rank above 4294967294`},
		{"99999999999999999999", `rank above 4294967294`},
		{"0-4294967294", `more than 1048576 ranks`},
		{"0-1048575,0", `more than 1048576 ranks at position 11`},
	} {
		t.Run(c.text, func(t *testing.T) {
			is := is.New(t)
			_, err := hostlist.ParseRanks(c.text)
			is.Equal(fault.Of(err), fault.Usage)
			is.True(strings.Contains(err.Error(), c.want))
		})
	}
}

func TestRankSetAlgebraAndJSON(t *testing.T) {
	is := is.New(t)
	s := hostlist.Ranks(5, 1, 0, 1, hostlist.NilRank, 2)
	is.Equal(s.String(), "0-2,5")
	is.True(s.Contains(5))
	is.True(!s.Contains(4))
	s.Remove(1, 7)
	data, err := json.Marshal([]any{s, *s, hostlist.Ranks()})
	is.NoErr(err)
	is.Equal(string(data), "[[0,2,5],[0,2,5],[]]")
	var back hostlist.RankSet
	for _, text := range []string{"[5,0,2]", `"[0,2,5]"`, `"0,2,5"`} {
		is.NoErr(json.Unmarshal([]byte(text), &back))
		is.Equal(back.Slice(), s.Slice())
	}
	for _, text := range []string{`"x"`, `[4294967295]`, `[-1]`, `{}`} {
		is.True(json.Unmarshal([]byte(text), &back) != nil)
	}
	var none *hostlist.RankSet
	is.Equal(none.String()+none.Bracketed(), "")
	is.Equal(none.Len()+len(none.Slice()), 0)
	is.True(!none.Contains(0))
}

func FuzzParseRanks(f *testing.F) {
	for _, seed := range []string{"0,2,4-8", "[0-3,9]", " 1 - 2 , 3", "[", "4294967294-4294967295"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := hostlist.ParseRanks(text)
		if err != nil {
			return
		}
		for _, ranged := range []string{s.String(), s.Bracketed()} {
			again, err := hostlist.ParseRanks(ranged)
			if err != nil || !slices.Equal(again.Slice(), s.Slice()) {
				t.Fatalf("%q writes %q, which reads as %v, %v", text, ranged, again, err)
			}
		}
	})
}
