package sandbox

import (
	"fmt"
	"io"

	"daosbox/commands/cli"
)

// progressLine is one line on a terminal that says what the run waits for. Where
// nobody watches it does nothing.
type progressLine struct {
	out   io.Writer
	width int
}

func newProgressLine(env *cli.Env) progressLine {
	if !env.StderrTTY {
		return progressLine{}
	}
	p := progressLine{env.Stderr, env.Width}
	if p.width <= 0 {
		p.width = 80
	}
	return p
}

func (p progressLine) show(format string, args ...any) {
	if p.out == nil {
		return
	}
	text := []rune(fmt.Sprintf(format, args...))
	if len(text) >= p.width {
		text = text[:p.width-1]
	}
	fmt.Fprintf(p.out, "\r\x1b[K%s", string(text))
}

func (p progressLine) clear() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
