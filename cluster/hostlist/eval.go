package hostlist

import (
	"bytes"
	"context"
	"io"

	"daosbox/cluster/fault"
)

// Limits of expressions, beside maxNodes.
const (
	// maxLine is the longest line of ReadNodes.
	maxLine = 64 << 20
	// maxWork bounds what the operators of one expression may do, in runs looked at,
	// before it is refused: well below a second.
	maxWork = 1 << 26
	// maxGroupDepth is how far groups may refer to groups.
	maxGroupDepth = 16
)

// Eval reads an expression: names with any number of brackets, "rack[1-4]node[01-20]",
// steps, "[0-10/2]", and groups, "@name", "@source:name", "@*", "@source:*",
// joined from left to right by "," (union), "!" (difference), "&" (intersection)
// and "^" (symmetric difference). Blanks round an operator do not matter; elsewhere
// they separate expressions, whose results are united. groups is nil when groups
// are not known. A text that cannot be read is a fault.Usage that names the part.
func Eval(ctx context.Context, text string, groups *Groups) (*Nodes, error) {
	e := evaluator{ctx: ctx, groups: groups}
	return e.eval([]byte(text))
}

// ReadNodes unites the expressions of all lines of r. What follows a # at the start
// of a line or after a blank is a comment. Memory is bounded by the longest line and
// by the result.
func ReadNodes(ctx context.Context, r io.Reader, groups *Groups) (*Nodes, error) {
	e := evaluator{ctx: ctx, groups: groups}
	buf := make([]byte, 1<<18)
	held := 0
	for {
		if held == len(buf) {
			if len(buf) >= maxLine {
				return nil, fault.New(fault.TooLarge, "cannot read host list: line longer than %d bytes", maxLine)
			}
			buf = append(buf, make([]byte, len(buf))...)
		}
		n, err := r.Read(buf[held:])
		whole := held + bytes.LastIndexByte(buf[held:held+n], '\n') + 1
		if whole == held {
			whole = 0
		}
		held += n
		if err == io.EOF {
			whole = held
		}
		if err := e.lines(buf[:whole]); err != nil {
			return nil, err
		}
		held = copy(buf, buf[whole:held])
		switch {
		case err == io.EOF:
			return e.result()
		case err != nil:
			return nil, fault.Wrap(fault.Unknown, err, "cannot read host list")
		case ctx.Err() != nil:
			return nil, fault.Wrap(fault.Canceled, ctx.Err(), "cannot read host list")
		}
	}
}

// evaluator unites the values of expressions.
type evaluator struct {
	ctx    context.Context
	groups *Groups
	// source is the group source that "@name" without one means; "" is the default.
	source string
	// within are the groups that are being looked up.
	within []string
	all    gatherer
	work   *uint64
}

func (e *evaluator) result() (*Nodes, error) {
	n, why := e.all.nodes()
	if why != "" {
		return nil, refuse(why, nil)
	}
	return n, nil
}

func (e *evaluator) eval(text []byte) (*Nodes, error) {
	if err := e.text(text); err != nil {
		return nil, err
	}
	return e.result()
}

func (e *evaluator) lines(text []byte) error {
	if bytes.IndexByte(text, '#') < 0 && !hasOperator(text) {
		return e.names(text)
	}
	for line := range bytes.Lines(text) {
		for i, c := range line {
			if c == '#' && (i == 0 || blank(line[i-1])) {
				line = line[:i]
				break
			}
		}
		if err := e.text(line); err != nil {
			return err
		}
	}
	return nil
}

func hasOperator(text []byte) bool {
	return bytes.IndexByte(text, '!') >= 0 || bytes.IndexByte(text, '&') >= 0 || bytes.IndexByte(text, '^') >= 0
}

// text adds the value of all expressions in a text.
func (e *evaluator) text(text []byte) error {
	if !hasOperator(text) {
		return e.names(text)
	}
	for {
		expression, rest := cutExpression(text)
		if len(expression) == 0 && len(rest) == 0 {
			return nil
		}
		var err error
		if hasOperator(expression) {
			err = e.expression(expression)
		} else {
			err = e.names(expression)
		}
		if err != nil {
			return err
		}
		text = rest
	}
}

// names adds operands that are joined by separators only.
func (e *evaluator) names(text []byte) error {
	for i := 0; i < len(text); {
		if i += e.all.expected(text[i:]); i == len(text) {
			break
		}
		if separator(text[i]) {
			i++
			continue
		}
		end := operandEnd(text, i)
		if err := e.operand(text[i:end]); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// operandEnd finds the separator or operator after the operand at start.
func operandEnd(text []byte, start int) int {
	inside := false
	for i := start; i < len(text); i++ {
		switch c := text[i]; {
		case classes[c] != isOther:
		case c == '\n': // also within brackets: what a line is does not depend on its text
			return i
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case !inside && (separator(c) || isOperator(c)):
			return i
		}
	}
	return len(text)
}

func isOperator(c byte) bool { return c == '!' || c == '&' || c == '^' || c == ',' }

// cutExpression cuts at the first blank that is neither in brackets nor beside an
// operator.
func cutExpression(text []byte) (expression, rest []byte) {
	text = bytes.TrimLeft(text, " \t\r\n")
	inside := false
	operator := true // nothing, or an operator, stands before
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '[':
			inside, operator = true, false
		case c == ']':
			inside, operator = false, false
		case inside && c == '\n':
			return text[:i], text[i:]
		case inside:
		case isOperator(c):
			operator = true
		case blank(c):
			next := bytes.TrimLeft(text[i:], " \t\r\n")
			if !operator && (len(next) == 0 || !isOperator(next[0])) {
				return text[:i], next
			}
		default:
			operator = false
		}
	}
	return text, nil
}

// term is an operand and the operator before it.
type term struct {
	op      operator
	operand []byte
}

// terms takes an expression apart; the first operator is a union. Superfluous
// commas are skipped, as host lists always allowed.
func terms(text []byte) ([]term, error) {
	var all []term
	op := union
	for at := 0; ; at++ {
		for at < len(text) && blank(text[at]) {
			at++
		}
		end := operandEnd(text, at)
		operand := text[at:end]
		for end < len(text) && blank(text[end]) {
			end++
		}
		next := union
		if end < len(text) {
			next = operator(text[end])
		}
		switch {
		case len(operand) > 0:
			all = append(all, term{op, operand})
		case op != union:
			return nil, refuse("missing name after "+string(rune(op)), text)
		case next != union:
			return nil, refuse("missing name before "+string(rune(next)), text)
		}
		if end == len(text) {
			if next != union && len(operand) > 0 {
				return nil, refuse("missing name after "+string(rune(next)), text)
			}
			return all, nil
		}
		at, op = end, next
	}
}

// expression adds the value of operands joined by operators, from left to right.
// Operands that are united or taken away one after the other are united first, so
// that long lists cost one operation.
func (e *evaluator) expression(text []byte) error {
	all, err := terms(text)
	if err != nil {
		return err
	}
	value := new(Nodes)
	for i := 0; i < len(all); {
		op := all[i].op
		part := e.part()
		for first := i; i == first || i < len(all) && all[i].op == op && (op == union || op == difference); i++ {
			if err := part.operand(all[i].operand); err != nil {
				return err
			}
		}
		n, err := part.result()
		if err != nil {
			return err
		}
		if err := e.spend(value.cells()+n.cells(), text); err != nil {
			return err
		}
		value = value.apply(n, op)
	}
	if why := e.all.addAll(value); why != "" {
		return refuse(why, text)
	}
	return nil
}

// part is an evaluator for a part of an expression, on the same account.
func (e *evaluator) part() *evaluator {
	return &evaluator{ctx: e.ctx, groups: e.groups, source: e.source, within: e.within, work: e.account()}
}

func (e *evaluator) account() *uint64 {
	if e.work == nil {
		e.work = new(uint64)
	}
	return e.work
}

// spend puts work on the account.
func (e *evaluator) spend(cells uint64, text []byte) error {
	used := e.account()
	if *used += cells; *used > maxWork {
		return refuse("too much work", text)
	}
	if e.ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, e.ctx.Err(), "cannot read host expression")
	}
	return nil
}

func (n *Nodes) cells() uint64 {
	total := uint64(0)
	for _, t := range n.shapes {
		total += t.cells
	}
	return total
}

// operand adds one name, bracketed name or group.
func (e *evaluator) operand(text []byte) error {
	why := ""
	switch open := bytes.IndexByte(text, '['); {
	case text[0] == '@':
		return e.group(text)
	case open < 0, open == 0 && bytes.IndexByte(text, ':') > 0 && isAddress(text):
		why = e.all.name(text)
	default:
		shape, t, problem := product(text)
		if why = problem; why == "" {
			if err := e.spend(t.cells, text); err != nil {
				return err
			}
			why = e.all.add(shape, t)
		}
	}
	if why != "" {
		return refuse(why, text)
	}
	return nil
}

// isAddress says that what stands in the brackets that text starts with is meant to
// be an IPv6 address.
func isAddress(text []byte) bool {
	inner, _, _ := bytes.Cut(text[1:], []byte{']'})
	return bytes.IndexByte(inner, ':') >= 0
}
