package hostlist

import (
	"net/netip"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// Limits of reading. The first is the inherited limit of one range; the others
// bound what a short text can make this process allocate.
const (
	// maxSpan is how far the end of one range of hosts may be above its start.
	maxSpan = 16384
	// maxSize is the number of hosts or ranks that one text may name.
	maxSize = 1 << 20
	// maxName is the length of a DNS name and a port.
	maxName = 253 + len(":65535")
)

// Parse reads a host list: names separated by commas, spaces or tabs, each with at
// most one bracketed range, "node[1-3,5]:10001,10.0.0.[1-4]". A range's lower
// bound sets the zero padding. An empty text is an empty set. A text that cannot
// be read is a fault.Usage that names the position, counted from 1, and the part.
func Parse(text string) (*Set, error) {
	p := parser{text: text}
	for i := 0; i < len(text); {
		if separator(text[i]) {
			i++
			continue
		}
		end := tokenEnd(text, i)
		if err := p.token(i, text[i:end]); err != nil {
			return nil, err
		}
		i = end
	}
	s := new(Set)
	s.merge(p.hosts)
	return s, nil
}

func separator(c byte) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// tokenEnd finds the separator after the token at start; within brackets commas
// separate ranges, not tokens.
func tokenEnd(text string, start int) int {
	inside := false
	for i := start; i < len(text); i++ {
		switch c := text[i]; {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case !inside && separator(c):
			return i
		}
	}
	return len(text)
}

type parser struct {
	text  string
	hosts []host
}

// fail makes the error for the part of the text that starts at byte at.
func (p *parser) fail(at int, part, why string) error {
	return fault.New(fault.Usage, "cannot read host list: %s at position %d: %q", why, at+1, short(part)).
		WithHint("write names separated by commas, with ranges like node[1-8,12]:10001")
}

// short cuts a quoted part to what fits an error line.
func short(part string) string {
	const room = 48
	if len(part) <= room {
		return part
	}
	return part[:room] + "..."
}

// token reads one name or bracketed range that starts at byte at.
func (p *parser) token(at int, token string) error {
	open := strings.IndexByte(token, '[')
	if closing := strings.IndexByte(token, ']'); closing >= 0 && (open < 0 || closing < open) {
		return p.fail(at+closing, token[closing:], "] without [")
	}
	if open < 0 {
		return p.name(at, token)
	}
	length := strings.IndexByte(token[open:], ']')
	if length < 0 {
		return p.fail(at+open, token[open:], "[ without ]")
	}
	inner, suffix := token[open+1:open+length], token[open+length+1:]
	if open == 0 {
		if strings.IndexByte(inner, ':') >= 0 {
			return p.ipv6(at, token, inner, suffix)
		}
		return p.fail(at, token, "range without a name before it")
	}
	if i := strings.IndexAny(inner, "["); i >= 0 {
		return p.fail(at+open+1+i, inner[i:], "bracket inside a bracket")
	}
	if i := strings.IndexAny(suffix, "[]"); i >= 0 {
		return p.fail(at+open+length+1+i, suffix[i:], "second bracket in a name")
	}
	return p.ranges(at+open+1, token[:open], inner, suffix)
}

// name takes a name without brackets.
func (p *parser) name(at int, name string) error {
	if why := bad(name); why != "" {
		return p.fail(at, name, why)
	}
	return p.take(at, name)
}

// bad says what is wrong with a name, "" when nothing is.
func bad(name string) string {
	switch {
	case len(name) > maxName:
		return "name longer than " + strconv.Itoa(maxName) + " characters"
	case !plain(name):
		return "character that no host name has"
	}
	body, _, _ := strings.Cut(name, ":")
	if strings.Count(name, ":") > 1 {
		if _, err := netip.ParseAddr(name); err != nil {
			return "neither a name with a port nor an IPv6 address"
		}
		return ""
	}
	switch {
	case body == "":
		return "port without a name"
	case len(digits(body)) == len(body):
		return "name made of digits only"
	}
	return ""
}

// ipv6 takes "[address]" or "[address]:port", which is no range.
func (p *parser) ipv6(at int, token, address, suffix string) error {
	if _, err := netip.ParseAddr(address); err != nil {
		return p.fail(at, token, "address that is not IPv6 in brackets")
	}
	port := strings.TrimPrefix(suffix, ":")
	if suffix != "" && (len(port) == len(suffix) || port == "" || len(digits(port)) != len(port) || len(port) > 5) {
		return p.fail(at, token, "text after ] that is not a port")
	}
	return p.take(at, token)
}

func (p *parser) take(at int, name string) error {
	if len(p.hosts) >= maxSize {
		return p.fail(at, name, "more than "+strconv.Itoa(maxSize)+" hosts")
	}
	p.hosts = append(p.hosts, split(name))
	return nil
}

// ranges expands what stands in the brackets of prefix[inner]suffix.
func (p *parser) ranges(at int, prefix, inner, suffix string) error {
	for {
		part, rest, more := strings.Cut(inner, ",")
		if err := p.expand(at, prefix, part, suffix); err != nil {
			return err
		}
		if !more {
			return nil
		}
		at += len(part) + 1
		inner = rest
	}
}

// expand takes the names of one range or number.
func (p *parser) expand(at int, prefix, part, suffix string) error {
	from, to, ranged := strings.Cut(part, "-")
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	if !ranged {
		to = from
	}
	for _, bound := range []string{from, to} {
		switch {
		case bound == "":
			return p.fail(at, part, "missing number")
		case len(digits(bound)) != len(bound):
			return p.fail(at, part, "not a number or range")
		case len(bound) > maxDigits:
			return p.fail(at, part, "number with more than "+strconv.Itoa(maxDigits)+" digits")
		}
	}
	low, high := value(from), value(to)
	switch {
	case high < low:
		return p.fail(at, part, "range that ends before it starts")
	case high-low > maxSpan:
		return p.fail(at, part, "range above "+strconv.Itoa(maxSpan)+" values")
	}
	width := len(from)
	if why := bad(prefix + pad(high, width) + suffix); why != "" {
		return p.fail(at, prefix+"["+part+"]"+suffix, why+" in the range")
	}
	for n := low; n <= high; n++ {
		if err := p.take(at, prefix+pad(n, width)+suffix); err != nil {
			return err
		}
	}
	return nil
}

// value reads at most maxDigits digits.
func value(digits string) uint64 {
	n := uint64(0)
	for _, c := range []byte(digits) {
		n = n*10 + uint64(c-'0')
	}
	return n
}

// pad writes n with at least width digits.
func pad(n uint64, width int) string {
	text := strconv.FormatUint(n, 10)
	if len(text) >= width {
		return text
	}
	return strings.Repeat("0", width-len(text)) + text
}
