package hostlist

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// hole marks in a shape where a number stands. It sorts before all that names are
// made of.
const hole = '\x01'

// literals are the texts round the numbers, one more than there are numbers.
func literals(shape string) []string { return strings.Split(shape, string(rune(hole))) }

// pieces are a name taken apart.
type pieces struct {
	// shape is the name with a hole for each number.
	shape []byte
	codes []code
	// start and end of the last number within the name.
	start, end int
}

// split takes a name apart; why is "" when it is one. Every run of digits is a
// number, except in IPv6 addresses and where it is longer than maxDigits.
func (p *pieces) split(name []byte) (why string) {
	p.shape, p.codes = p.shape[:0], p.codes[:0]
	if len(name) > maxName {
		return "name longer than " + strconv.Itoa(maxName) + " characters"
	}
	colons := 0
	for i := 0; i < len(name); {
		c := name[i]
		switch classes[c] {
		case isDigit:
			start := i
			n := uint64(0)
			for i < len(name) && classes[name[i]] == isDigit {
				n = n*10 + uint64(name[i]-'0')
				i++
			}
			if i-start > maxDigits {
				p.shape = append(p.shape, name[start:i]...)
				continue
			}
			p.start, p.end = start, i
			p.shape = append(p.shape, hole)
			p.codes = append(p.codes, encode(n, i-start))
			continue
		case isColon:
			colons++
		case isOther:
			if name[0] != '[' {
				return "character that no host name has"
			}
			return p.bracketed(name)
		}
		p.shape = append(p.shape, c)
		i++
	}
	if colons > 1 {
		return p.literal(name, name, "")
	}
	return p.body()
}

// body says what is wrong with a shape.
func (p *pieces) body() string {
	body, _, _ := bytes.Cut(p.shape, []byte{':'})
	switch {
	case len(body) == 0:
		return "port without a name"
	case len(body) == 1 && body[0] == hole || len(digits(string(body))) == len(body):
		return "name made of digits only"
	}
	return ""
}

// bracketed takes "[address]" or "[address]:port".
func (p *pieces) bracketed(name []byte) string {
	inner, suffix, ok := bytes.Cut(name[1:], []byte{']'})
	if !ok {
		return "[ without ]"
	}
	return p.literal(name, inner, string(suffix))
}

// literal takes an IPv6 address as it is: its digits are hexadecimal.
func (p *pieces) literal(name, address []byte, suffix string) string {
	if !isIPv6(string(address)) {
		return "neither a name with a port nor an IPv6 address"
	}
	port := strings.TrimPrefix(suffix, ":")
	if suffix != "" && (len(port) == len(suffix) || port == "" || len(digits(port)) != len(port) || len(port) > 5) {
		return "text after ] that is not a port"
	}
	p.shape, p.codes = append(p.shape[:0], name...), p.codes[:0]
	return ""
}

func isIPv6(text string) bool {
	address, err := netip.ParseAddr(text)
	return err == nil && address.Is6() && plain(text)
}

// class is what a byte is in a name.
type class byte

const (
	isOther class = iota
	isLetter
	isDigit
	isColon
)

var classes = func() (all [256]class) {
	for c := range all {
		switch {
		case digit(byte(c)):
			all[c] = isDigit
		case c == ':':
			all[c] = isColon
		case nameByte(byte(c)):
			all[c] = isLetter
		}
	}
	return all
}()
