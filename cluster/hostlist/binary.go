package hostlist

// MarshalBinary writes the folded form; CBOR, which control requests travel as,
// carries it as a byte string.
func (s Set) MarshalBinary() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalBinary reads the folded form and replaces the set by it.
func (s *Set) UnmarshalBinary(data []byte) error {
	read, err := Parse(string(data))
	if err != nil {
		return err
	}
	*s = *read
	return nil
}

// MarshalBinary writes the ranged form, as Set does.
func (s RankSet) MarshalBinary() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalBinary reads the ranged form and replaces the set by it.
func (s *RankSet) UnmarshalBinary(data []byte) error {
	read, err := ParseRanks(string(data))
	if err != nil {
		return err
	}
	*s = *read
	return nil
}
