package dmg

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"daosbox/commands/cli"
	"daosbox/commands/control"
)

// progress is one line on a terminal that says how far a command is and is gone
// when it ends. Where nobody watches standard error it does nothing.
type progress struct {
	out   io.Writer // nil: nobody watches
	width int

	mu    sync.Mutex
	shown string
	ended bool
}

const defaultWidth = 80

func newProgress(env *cli.Env) *progress {
	p := &progress{width: env.Width}
	if p.width <= 0 {
		p.width = defaultWidth
	}
	if env.StderrTTY {
		p.out = env.Stderr
	}
	return p
}

// watched says whether the line is seen at all.
func (p *progress) watched() bool { return p.out != nil }

// show replaces the line, cut to the terminal's width so that it stays one.
func (p *progress) show(text string) {
	if !p.watched() {
		return
	}
	text = cut(text, p.width-1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || text == p.shown {
		return
	}
	p.shown = text
	fmt.Fprintf(p.out, "\r\x1b[K%s", text)
}

// clear takes the line away for good; what a late reporter has to say is dropped.
func (p *progress) clear() {
	if !p.watched() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.shown != "" {
		p.shown = ""
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// cut shortens text to at most n characters, ending in an ellipsis.
func cut(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

// stepText is one step of a long operation: "2/8 stopping ranks of node3".
func stepText(p control.Progress) string {
	text := p.Text
	if p.Subject != "" && !strings.Contains(text, p.Subject) {
		text += " (" + p.Subject + ")"
	}
	if p.Total > 0 {
		return fmt.Sprintf("%d/%d %s", p.Done, p.Total, text)
	}
	return text
}
