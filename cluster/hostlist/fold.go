package hostlist

import (
	"slices"
	"strconv"
	"strings"
)

// run is a range in the making: the numbers low to high, written with at least
// width digits.
type run struct {
	low, high uint64
	width     int
	padded    bool
}

// takes says that h continues the run: its number is the next one, and the run's
// padding writes it as h has it.
func (r *run) takes(h host) bool {
	if h.number != r.high+1 || h.number-r.low > maxSpan {
		return false
	}
	if h.padded() {
		return r.padded && r.width == h.width()
	}
	return r.width <= h.width()
}

func (r *run) append(out []byte) []byte {
	out = append(out, pad(r.low, r.width)...)
	if r.high > r.low {
		out = append(append(out, '-'), pad(r.high, r.width)...)
	}
	return out
}

// group collects the runs of the hosts that share prefix and suffix.
type group struct {
	prefix, suffix string
	runs           []run
	open           []int // indices of runs that may still grow
}

// add takes the next host in order. More than one run is open only where the same
// numbers occur with several paddings.
func (g *group) add(h host) {
	g.open = slices.DeleteFunc(g.open, func(i int) bool { return g.runs[i].high+1 < h.number })
	for _, i := range g.open {
		if g.runs[i].takes(h) {
			g.runs[i].high = h.number
			return
		}
	}
	g.open = append(g.open, len(g.runs))
	g.runs = append(g.runs, run{low: h.number, high: h.number, width: h.width(), padded: h.padded()})
}

func (g *group) append(out []byte) []byte {
	out = append(out, g.prefix...)
	switch {
	case len(g.runs) == 0: // a name without number
	case len(g.runs) == 1 && g.runs[0].low == g.runs[0].high:
		out = g.runs[0].append(out)
	default:
		for i := range g.runs {
			out = append(out, "[,"[min(i, 1)])
			out = g.runs[i].append(out)
		}
		out = append(out, ']')
	}
	return append(out, g.suffix...)
}

// fold writes sorted hosts in ranged form. Hosts of one prefix stand together;
// their suffixes, usually one, each get a group in order of appearance.
func fold(hosts []host) string {
	var out []byte
	var groups []*group
	bySuffix := make(map[string]*group)
	flush := func() {
		for _, g := range groups {
			if len(out) > 0 {
				out = append(out, ',')
			}
			out = g.append(out)
		}
		groups = groups[:0]
		clear(bySuffix)
	}
	var last *group
	for _, h := range hosts {
		if len(groups) > 0 && groups[0].prefix != h.prefix() {
			flush()
			last = nil
		}
		if h.width() == 0 {
			groups = append(groups, &group{prefix: h.prefix()})
			continue
		}
		if suffix := h.suffix(); last == nil || last.suffix != suffix {
			last = bySuffix[suffix]
			if last == nil {
				last = &group{prefix: h.prefix(), suffix: suffix}
				bySuffix[suffix] = last
				groups = append(groups, last)
			}
		}
		last.add(h)
	}
	flush()
	return string(out)
}

// WithPort appends a port to a host that has none: "node1", "10.0.0.1", "[::1]" or
// "::1".
func WithPort(host string, port int) string {
	name, old := cutPort(host)
	if old == "" {
		old = strconv.Itoa(port)
	}
	if strings.IndexByte(name, ':') >= 0 {
		name = "[" + name + "]"
	}
	return name + ":" + old
}

// StripPort cuts the port, and the brackets of an IPv6 address, off a host.
func StripPort(host string) string {
	name, _ := cutPort(host)
	return name
}

// cutPort separates a host from its port, "" when there is none.
func cutPort(host string) (name, port string) {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if address, rest, ok := strings.Cut(inner, "]"); ok {
			return address, strings.TrimPrefix(rest, ":")
		}
	}
	if strings.Count(host, ":") != 1 {
		return host, ""
	}
	name, port, _ = strings.Cut(host, ":")
	return name, port
}
