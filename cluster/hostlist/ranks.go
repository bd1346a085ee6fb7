package hostlist

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// Rank is the number of an engine within its system.
type Rank uint32

// NilRank is no rank; it never appears in a RankSet.
const NilRank Rank = 1<<32 - 1

// RankSet is a set of ranks. The zero value is empty and ready; a nil *RankSet
// reads as empty.
type RankSet struct {
	ranks []Rank // ascending, no two equal
}

// Ranks makes a set of ranks; NilRank is left out.
func Ranks(ranks ...Rank) *RankSet {
	s := new(RankSet)
	s.Add(ranks...)
	return s
}

// ParseRanks reads "3", "0,2,4-8" or "[0-3,9]"; spaces round separators do not
// matter. An empty text and "[]" are the empty set. Anything else that is not a
// rank or a range of ranks is a fault.Usage that names position, counted from 1,
// and part.
func ParseRanks(text string) (*RankSet, error) {
	start, end := 0, len(text)
	for start < end && blank(text[start]) {
		start++
	}
	for end > start && blank(text[end-1]) {
		end--
	}
	if end-start >= 2 && text[start] == '[' && text[end-1] == ']' {
		start, end = start+1, end-1
	}
	s := new(RankSet)
	if strings.TrimSpace(text[start:end]) == "" {
		return s, nil
	}
	var ranks []Rank
	for at := start; at <= end; {
		part, _, _ := strings.Cut(text[at:end], ",")
		low, high, why := rankRange(part)
		if why == "" && int(high-low) >= maxSize-len(ranks) {
			why = "more than " + strconv.Itoa(maxSize) + " ranks"
		}
		if why != "" {
			return nil, fault.New(fault.Usage, "cannot read rank set: %s at position %d: %q", why, at+1, short(part)).
				WithHint("write ranks and ranges separated by commas, like 0-3,9")
		}
		for r := low; r <= high; r++ {
			ranks = append(ranks, r)
		}
		at += len(part) + 1
	}
	s.Add(ranks...)
	return s, nil
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// rankRange reads "4" or "4-8"; why is "" when it can.
func rankRange(part string) (low, high Rank, why string) {
	from, to, ranged := strings.Cut(part, "-")
	if !ranged {
		to = from
	}
	bounds := [2]Rank{}
	for i, bound := range [2]string{strings.TrimSpace(from), strings.TrimSpace(to)} {
		switch n, err := strconv.ParseUint(bound, 10, 32); {
		case bound == "":
			return 0, 0, "missing rank"
		case len(digits(bound)) != len(bound):
			return 0, 0, "not a rank or range of ranks"
		case err != nil || Rank(n) == NilRank:
			return 0, 0, "rank above " + strconv.FormatUint(uint64(NilRank-1), 10)
		default:
			bounds[i] = Rank(n)
		}
	}
	if bounds[1] < bounds[0] {
		return 0, 0, "range that ends before it starts"
	}
	return bounds[0], bounds[1], ""
}

// Add puts ranks into the set, except NilRank.
func (s *RankSet) Add(ranks ...Rank) {
	s.ranks = append(s.ranks, ranks...)
	if !slices.IsSorted(s.ranks) {
		slices.Sort(s.ranks)
	}
	s.ranks = slices.Compact(s.ranks)
	if n := len(s.ranks); n > 0 && s.ranks[n-1] == NilRank {
		s.ranks = s.ranks[:n-1]
	}
}

// Remove takes ranks out of the set; absent ones do not matter.
func (s *RankSet) Remove(ranks ...Rank) {
	gone := Ranks(ranks...)
	s.ranks = slices.DeleteFunc(s.ranks, gone.Contains)
}

// Slice returns the ranks, ascending.
func (s *RankSet) Slice() []Rank {
	if s == nil {
		return nil
	}
	return slices.Clone(s.ranks)
}

// Len returns the number of ranks.
func (s *RankSet) Len() int {
	if s == nil {
		return 0
	}
	return len(s.ranks)
}

// Contains reports whether the set holds r.
func (s *RankSet) Contains(r Rank) bool {
	if s == nil {
		return false
	}
	_, found := slices.BinarySearch(s.ranks, r)
	return found
}

// String returns the ranged form without brackets: "0-2,5".
func (s *RankSet) String() string {
	if s == nil {
		return ""
	}
	var out []byte
	for i := 0; i < len(s.ranks); {
		last := i
		for last+1 < len(s.ranks) && s.ranks[last+1] == s.ranks[last]+1 {
			last++
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(s.ranks[i]), 10)
		if last > i {
			out = strconv.AppendUint(append(out, '-'), uint64(s.ranks[last]), 10)
		}
		i = last + 1
	}
	return string(out)
}

// Bracketed returns the ranged form as system tables show it: "[0-2,5]" for more
// than one rank, "5" for one, "" for none.
func (s *RankSet) Bracketed() string {
	if s.Len() < 2 {
		return s.String()
	}
	return "[" + s.String() + "]"
}

// MarshalJSON writes an array of numbers.
func (s RankSet) MarshalJSON() ([]byte, error) {
	if s.ranks == nil {
		return []byte("[]"), nil
	}
	return json.Marshal(s.ranks)
}

// UnmarshalJSON reads an array of numbers or a ranged string and replaces the set
// by it.
func (s *RankSet) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err == nil && len(data) > 0 && data[0] == '"' {
		read, err := ParseRanks(text)
		if err != nil {
			return err
		}
		*s = *read
		return nil
	}
	var ranks []Rank
	if err := json.Unmarshal(data, &ranks); err != nil {
		return err
	}
	if slices.Contains(ranks, NilRank) {
		return fault.New(fault.Usage, "cannot read rank set: %d is not a rank", uint64(NilRank))
	}
	*s = *Ranks(ranks...)
	return nil
}
