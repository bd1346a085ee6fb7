package dmg

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
)

// answer is what one host said.
type answer[T any] struct {
	host  string
	value T
}

// replies is what many hosts said, and why some said nothing.
type replies[T any] struct {
	answers []answer[T]
	failed  hostErrors
	asked   int
	via     ways
	some    bool // a host that failed did or told something all the same
}

// ways is hosts by the relays that their answers came through, nearest first;
// hosts that were asked directly are in none.
type ways map[string]*hostlist.Set

func (w ways) add(host string, via []string) {
	if len(via) == 0 {
		return
	}
	way := strings.Join(via, " ")
	if w[way] == nil {
		w[way] = hostlist.Of()
	}
	w[way].Add(host)
}

// fanOut asks every host of hosts (-l), or else every configured one, the same and
// returns when each has answered or run out of its time. Hosts that fail do not
// make it fail: they are in the replies. what names the command on the terminal.
func fanOut[Req, Resp any](ctx context.Context, a *app, what, hosts string, method control.Method[Req, Resp], req Req) (*replies[Resp], error) {
	client, err := a.client(hosts)
	if err != nil {
		return nil, err
	}
	return askHosts(ctx, a, client, what, client.Servers, method, req), nil
}

func askHosts[Req, Resp any](ctx context.Context, a *app, client *control.Client, what string, hosts []string, method control.Method[Req, Resp], req Req) *replies[Resp] {
	r := &replies[Resp]{failed: newHostErrors(), asked: len(hosts), via: make(ways)}
	p := newFanProgress(a.Env, what, hosts)
	defer p.clear()
	o := control.FanOutOptions{Relay: a.relay, Identity: a.identity, Parallel: a.fanout, Timeout: a.timeout, Report: p.step}
	control.FanOut(ctx, client, hosts, method, &req, o, func(got control.HostResult[Resp]) {
		p.done(got.Host, got.Err != nil)
		r.via.add(got.Host, got.Via)
		if got.Err != nil {
			r.failed.add(got.Host, a.explain(got.Err))
			return
		}
		r.answers = append(r.answers, answer[Resp]{got.Host, got.Value})
	})
	for way, hosts := range r.via {
		a.Log.Debug("answers came through a relay", "relay", way, "hosts", hosts)
	}
	slices.SortFunc(r.answers, func(x, y answer[Resp]) int { return strings.Compare(x.host, y.host) })
	return r
}

// fail makes a host that answered one that failed; its answer stays.
func (r *replies[T]) fail(host string, err error) { r.failed.add(host, err) }

// failPartly makes a host one that failed in what the faults tell; some says that
// it did, or told, something all the same.
func (r *replies[T]) failPartly(host string, faults []*fault.Error, some bool) {
	for _, e := range faults {
		r.fail(host, e)
	}
	r.some = r.some || len(faults) > 0 && some
}

// err is the error of the whole: partial when some hosts succeeded, else what kept
// them all from it.
func (r *replies[T]) err() error {
	if r.some {
		return r.failed.err(r.asked + 1)
	}
	return r.failed.err(r.asked)
}

// hostErrors gathers hosts by the text of their errors.
type hostErrors struct {
	hosts map[string]*hostlist.Set
	codes map[fault.Code]bool
	hints map[string]*hostlist.Set // by advice, with nobody for the host's name
	all   *hostlist.Set
}

func newHostErrors() hostErrors {
	return hostErrors{make(map[string]*hostlist.Set), make(map[fault.Code]bool), make(map[string]*hostlist.Set), hostlist.Of()}
}

func (e hostErrors) add(host string, err error) {
	// Hosts with the same trouble stand together, so their names leave the text; not
	// where it is the name that is wrong.
	text := fault.OneLine(err.Error())
	if fault.Of(err) != fault.Usage {
		text = strings.ReplaceAll(text, "host "+host, "host")
		text = strings.TrimPrefix(replaceName(text, host, "host"), "host: ")
	}
	if e.hosts[text] == nil {
		e.hosts[text] = hostlist.Of()
	}
	e.hosts[text].Add(host)
	e.all.Add(host)
	e.codes[fault.Of(err)] = true
	if hint := fault.HintOf(err); hint != "" {
		hint = replaceName(replaceName(hint, host, nobody), hostlist.StripPort(host), nobody)
		if e.hints[hint] == nil {
			e.hints[hint] = hostlist.Of()
		}
		e.hints[hint].Add(host)
	}
}

// nobody stands for the name of a host until all that share an advice are known.
const nobody = "\x00"

// replaceName replaces a name where it is no part of a longer one.
func replaceName(text, name, by string) string {
	inName := func(c byte) bool {
		return c == '-' || c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	var out strings.Builder
	for {
		i := strings.Index(text, name)
		if i < 0 || name == "" {
			out.WriteString(text)
			return out.String()
		}
		end := i + len(name)
		// A dot may also end a sentence.
		longer := end < len(text) && inName(text[end]) && (text[end] != '.' || end+1 < len(text) && inName(text[end+1]))
		out.WriteString(text[:i])
		if longer || i > 0 && inName(text[i-1]) {
			out.WriteString(name)
		} else {
			out.WriteString(by)
		}
		text = text[end:]
	}
}

// MarshalJSON writes an object: error text to ranged hosts.
func (e hostErrors) MarshalJSON() ([]byte, error) { return json.Marshal(e.hosts) }

func (e hostErrors) err(asked int) error {
	count := e.all.Len()
	if count == 0 {
		return nil
	}
	code := fault.Partial
	if count >= asked {
		code = e.cause()
	}
	return fault.New(code, "%d host(s) had errors", count).WithHint("%s", e.hint())
}

// maxHints is how much advice is told at once.
const maxHints = 3

// hint is the advice for all that failed.
func (e hostErrors) hint() string {
	var hints []string
	for hint, hosts := range e.hints {
		hints = append(hints, strings.ReplaceAll(hint, nobody, hosts.WithoutPorts().String()))
	}
	slices.Sort(hints)
	return strings.ReplaceAll(strings.Join(hints[:min(len(hints), maxHints)], "; "), "?; ", "? ")
}

// cause is a code that says as much as all failures have in common: that of the
// first when all deserve the same exit status. Silence and refusal to connect are
// both unreachability.
func (e hostErrors) cause() fault.Code {
	codes := make([]fault.Code, 0, len(e.codes))
	for code := range e.codes {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	other := func(code fault.Code) bool { return cli.ExitOf(fault.Kind(code)) != cli.ExitOf(fault.Kind(codes[0])) }
	switch {
	case !slices.ContainsFunc(codes, other):
		return codes[0]
	case slices.Equal(codes, []fault.Code{fault.Unreachable, fault.Timeout}):
		return fault.Unreachable
	}
	return fault.Unknown
}

// print shows the errors as a table, nothing when there are none.
func (e hostErrors) print(w io.Writer) {
	if len(e.hosts) == 0 {
		return
	}
	rows := make([][]string, 0, len(e.hosts))
	for text, hosts := range e.hosts {
		rows = append(rows, []string{hosts.WithoutPorts().String(), text})
	}
	slices.SortFunc(rows, func(a, b []string) int {
		return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1])
	})
	fmt.Fprintln(w, "Errors:")
	cli.Table(w, "  ", []string{"Hosts", "Error"}, rows)
	fmt.Fprintln(w)
}

// group is hosts that gave the same answer.
type group[T any] struct {
	hosts *hostlist.Set
	value T // of the first host
	hash  string
}

// title is the hosts as people see them.
func (g group[T]) title() string { return g.hosts.WithoutPorts().String() }

// gather groups answers by content. same reduces an answer to what must agree.
func gather[T any](answers []answer[T], same func(T) any) ([]group[T], error) {
	byHash := make(map[uint64]*group[T])
	for _, one := range answers {
		data, err := json.Marshal(same(one.value))
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "cannot compare the answers of hosts")
		}
		h := fnv.New64a()
		_, _ = h.Write(data)
		sum := h.Sum64()
		if byHash[sum] == nil {
			byHash[sum] = &group[T]{hosts: hostlist.Of(), value: one.value, hash: strconv.FormatUint(sum, 10)}
		}
		byHash[sum].hosts.Add(one.host)
	}
	groups := make([]group[T], 0, len(byHash))
	for _, g := range byHash {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b group[T]) int { return strings.Compare(a.hosts.String(), b.hosts.String()) })
	return groups, nil
}

// header prints the hosts of a group between dashes.
func header(w io.Writer, title string) {
	dashes := strings.Repeat("-", len(title))
	fmt.Fprintf(w, "%s\n%s\n%s\n", dashes, title, dashes)
}

// fanProgress tells on a terminal which hosts are still awaited.
type fanProgress struct {
	*progress
	what string

	mu       sync.Mutex
	pending  *hostlist.Set
	total    int
	failures int
	host     string // whose step is shown
	last     string
}

func newFanProgress(env *cli.Env, what string, hosts []string) *fanProgress {
	p := &fanProgress{progress: newProgress(env), what: what, total: len(hosts)}
	if p.watched() {
		p.pending = hostlist.Of(hosts...)
		p.tell()
	}
	return p
}

func (p *fanProgress) done(host string, failed bool) {
	if !p.watched() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending.Remove(host)
	if p.host == host {
		p.last = ""
	}
	if failed {
		p.failures++
	}
	p.tell()
}

func (p *fanProgress) step(host string, at control.Progress) {
	if !p.watched() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.host = host
	p.last = "; " + hostlist.StripPort(host) + ": " + stepText(control.Progress{Text: at.Text, Done: at.Done, Total: at.Total})
	p.tell()
}

// tell shows the line: "storage scan: 3/64 done, 1 failed, pending node[7-66]".
func (p *fanProgress) tell() {
	left := p.pending.Len()
	text := fmt.Sprintf("%s: %d/%d done", p.what, p.total-left, p.total)
	if p.failures > 0 {
		text += fmt.Sprintf(", %d failed", p.failures)
	}
	if left > 0 {
		text += ", pending " + p.pending.WithoutPorts().String()
	}
	p.show(text + p.last)
}
