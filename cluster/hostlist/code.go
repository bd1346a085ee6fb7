package hostlist

import "strconv"

// A code stands for a number as it is written: "7", "07" and "007" have different
// codes. Codes order numbers by how many digits they are written with and then by
// value, which is the order of names in a Nodes. Numbers of equal length that
// follow each other have codes that follow each other; between the last number of
// one length and the first of the next a code is left out, so that a run of codes
// never mixes lengths.
type code = uint64

// powers are the powers of ten up to the longest number.
var powers = func() (p [maxDigits + 1]uint64) {
	p[0] = 1
	for i := 1; i <= maxDigits; i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// firstCodes has the code of 0 written with that many digits.
var firstCodes = func() (c [maxDigits + 2]code) {
	for i := 1; i <= maxDigits; i++ {
		c[i+1] = c[i] + powers[i] + 1
	}
	return c
}()

// encode returns the code of n written with length digits, 1 to maxDigits; n has
// no more digits than that.
func encode(n uint64, length int) code { return firstCodes[length] + n }

func decode(c code) (n uint64, length int) {
	length = 1
	for length < maxDigits && firstCodes[length+1] <= c {
		length++
	}
	return c - firstCodes[length], length
}

// appendCode writes the number as it was written.
func appendCode(out []byte, c code) []byte {
	n, length := decode(c)
	for n < powers[length-1] && length > 1 {
		out = append(out, '0')
		length--
	}
	return strconv.AppendUint(out, n, 10)
}

// span is a run of codes, both ends in it.
type span struct{ low, high code }

func (s span) size() uint64 { return s.high - s.low + 1 }

// continues says that text writes next as the continuation of s over a change of
// length: 8-9 and 10-11 are 8-11, 08-99 and 100 are not (the padding would have to
// be kept).
func (s span) continues(next span) bool {
	last, length := decode(s.high)
	if length == maxDigits || last != powers[length]-1 || next.low != encode(powers[length], length+1) {
		return false
	}
	first, _ := decode(s.low)
	return length == 1 || first >= powers[length-1]
}

// appendSpans writes ascending spans as ranges separated by commas.
func appendSpans(out []byte, spans []span) []byte {
	for i := 0; i < len(spans); {
		last := i
		for last+1 < len(spans) && spans[last].continues(spans[last+1]) {
			last++
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = appendCode(out, spans[i].low)
		if spans[i].low != spans[last].high {
			out = appendCode(append(out, '-'), spans[last].high)
		}
		i = last + 1
	}
	return out
}
