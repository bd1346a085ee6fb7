package hostlist

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// product reads a name with brackets; why is "" when it can. The rows of all
// numbers are made from the last to the first, each level shared by the one above.
func product(text []byte) (shape string, t *tree, why string) {
	out, axes, why := axesOf(text)
	if why == "" {
		p := pieces{shape: out}
		if bytes.Count(out, []byte{':'}) > 1 {
			why = "range within an IPv6 address"
		} else {
			why = p.body()
		}
	}
	if why != "" {
		return "", nil, why
	}
	t, why = grow(out, axes)
	return string(out), t, why
}

// grow makes the tree of all rows that axes allow.
func grow(shape []byte, axes [][]span) (t *tree, why string) {
	length := len(shape) - len(axes)
	rows := uint64(1)
	for _, spans := range axes {
		_, digits := decode(spans[len(spans)-1].high)
		length += digits
		size := uint64(0)
		for _, s := range spans {
			size += s.size()
		}
		if rows *= size; rows > maxNodes {
			return nil, tooMany
		}
	}
	if length > maxName {
		return nil, "name longer than " + strconv.Itoa(maxName) + " characters"
	}
	t = unit
	for _, spans := range slices.Backward(axes) {
		level := &tree{spans: spans}
		if t != unit {
			level.below = slices.Repeat([]*tree{t}, len(spans))
		}
		t = level.seal()
	}
	return t, ""
}

// axesOf takes a bracketed name apart. Digits that touch a bracket belong to its
// numbers: n1[0-2] are n10, n11, n12.
func axesOf(text []byte) (shape []byte, axes [][]span, why string) {
	touching := false // the last thing read is a number,
	ranged := false   // with a bracket in it
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case digit(c):
			end := i
			for end < len(text) && digit(text[end]) {
				end++
			}
			number := text[i:end]
			i = end
			if touching {
				last := len(axes) - 1
				if axes[last], why = appendDigits(axes[last], number); why != "" {
					return nil, nil, why
				}
				continue
			}
			if len(number) > maxDigits {
				if end < len(text) && text[end] == '[' {
					return nil, nil, tooLong
				}
				shape = append(shape, number...)
				continue
			}
			n := encode(value(string(number)), len(number))
			shape, axes, touching = append(shape, hole), append(axes, []span{{n, n}}), true
			if end < len(text) && text[end] == '[' {
				ranged = false
				continue // the bracket takes it in
			}
			touching = false
		case c == '[':
			length := bytes.IndexByte(text[i:], ']')
			if length < 0 {
				return nil, nil, "[ without ]"
			}
			if touching && ranged {
				return nil, nil, "brackets without text between them"
			}
			spans, problem := ranges(text[i+1 : i+length])
			if problem != "" {
				return nil, nil, problem
			}
			i += length + 1
			ranged = true
			if touching {
				last := len(axes) - 1
				if axes[last], why = prependDigits(axes[last][0].low, spans); why != "" {
					return nil, nil, why
				}
				continue
			}
			shape, axes, touching = append(shape, hole), append(axes, spans), true
		case c == ']':
			return nil, nil, "] without ["
		case classes[c] == isOther:
			return nil, nil, "character that no host name has"
		default:
			shape = append(shape, c)
			touching = false
			i++
		}
	}
	return shape, axes, ""
}

var tooLong = "number with more than " + strconv.Itoa(maxDigits) + " digits"

// prependDigits puts the digits of one number before all of spans.
func prependDigits(first code, spans []span) ([]span, string) {
	n, before := decode(first)
	out := make([]span, 0, len(spans))
	for _, s := range spans {
		low, length := decode(s.low)
		if length+before > maxDigits {
			return nil, tooLong
		}
		c := encode(n*powers[length]+low, length+before)
		out = append(out, span{c, c + (s.high - s.low)})
	}
	return out, ""
}

// appendDigits puts digits after all numbers of spans.
func appendDigits(spans []span, digits []byte) ([]span, string) {
	size := uint64(0)
	for _, s := range spans {
		size += s.size()
	}
	if size > maxNodes {
		return nil, tooMany
	}
	out := make([]span, 0, size)
	for _, s := range spans {
		n, length := decode(s.low)
		if length+len(digits) > maxDigits {
			return nil, tooLong
		}
		for i := range s.size() {
			c := encode((n+i)*powers[len(digits)]+value(string(digits)), length+len(digits))
			out = append(out, span{c, c})
		}
	}
	return out, ""
}

// ranges reads what stands in brackets: "1-4,7,10-20/2".
func ranges(inner []byte) (spans []span, why string) {
	for part := range bytes.SplitSeq(inner, []byte{','}) {
		if spans, why = appendRange(spans, string(bytes.TrimSpace(part))); why != "" {
			return nil, why
		}
		if len(spans) > maxNodes {
			return nil, tooMany
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.low, b.low) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.low <= out[n-1].high+1 {
			out[n-1].high = max(out[n-1].high, s.high)
			continue
		}
		out = append(out, s)
	}
	return out, ""
}

// appendRange adds one number or range with or without a step. The lower bound sets
// the zero padding, as in Parse.
func appendRange(spans []span, part string) ([]span, string) {
	low, high, step, why := bounds(part)
	if why != "" {
		return nil, why
	}
	n, end := value(low), value(high)
	switch {
	case end < n:
		return nil, "range that ends before it starts"
	case (end-n)/step >= maxNodes:
		return nil, tooMany
	}
	for n <= end {
		length := len(low)
		for length < maxDigits && n >= powers[length] {
			length++
		}
		last := end
		if step > 1 {
			last = n
		} else if length < maxDigits {
			last = min(end, powers[length]-1)
		}
		spans = append(spans, span{encode(n, length), encode(last, length)})
		if step > 1 {
			n += step
		} else {
			n = last + 1
		}
	}
	return spans, ""
}

// bounds takes "1", "1-4" or "1-9/2" apart.
func bounds(part string) (low, high string, step uint64, why string) {
	span, every, stepped := cut(part, '/')
	low, high, ranged := cut(span, '-')
	if !ranged {
		high = low
	}
	words := []string{low, high}
	if stepped {
		words = append(words, every)
	}
	for _, word := range words {
		switch {
		case word == "":
			return "", "", 0, "missing number"
		case len(digits(word)) != len(word):
			return "", "", 0, "not a number or range"
		case len(word) > maxDigits:
			return "", "", 0, tooLong
		}
	}
	step = 1
	if stepped {
		if step = value(every); step == 0 {
			return "", "", 0, "step of 0"
		}
	}
	return low, high, step, ""
}

// cut cuts at a byte and trims both sides.
func cut(text string, at byte) (before, after string, found bool) {
	before, after, found = strings.Cut(text, string(rune(at)))
	return strings.TrimSpace(before), strings.TrimSpace(after), found
}
