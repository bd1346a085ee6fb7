package engine

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
)

const (
	maxLine   = 4096 // bytes of one line of output that are kept
	tailLines = 50   // lines of output that are kept
	truncated = " [truncated]"
)

// tail keeps the last lines of a process. It is safe for concurrent use.
type tail struct {
	mu    sync.Mutex
	lines []string
	next  int // where the next line goes once the ring is full
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) < tailLines {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next] = line
	t.next = (t.next + 1) % tailLines
}

// list returns the lines, oldest first.
func (t *tail) list() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Concat(t.lines[t.next:], t.lines[:t.next])
}

// lineWriter cuts a stream into lines of bounded length, for the log and the
// tail. One goroutine writes.
type lineWriter struct {
	line   []byte
	long   bool // the line is over its limit: drop until its end
	logger *slog.Logger
	level  slog.Level
	prefix string
	tail   *tail
}

func newLineWriter(logger *slog.Logger, level slog.Level, index int, tail *tail) *lineWriter {
	return &lineWriter{
		logger: logger, level: level, tail: tail,
		// The prefix is the one that tools reading server logs look for.
		prefix: "daos_engine:" + strconv.Itoa(index) + " ",
	}
}

func (w *lineWriter) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte{'\n'})
		if room := maxLine - len(w.line); len(part) > room {
			part, w.long = part[:room], true
		}
		w.line = append(w.line, part...)
		if ended {
			w.flush()
		}
		p = rest
	}
	return written, nil
}

// flush ends the line that is under way, if any.
func (w *lineWriter) flush() {
	line := string(bytes.TrimRight(w.line, "\r"))
	if w.long {
		line += truncated
	}
	w.line, w.long = w.line[:0], false
	if line == "" {
		return
	}
	w.tail.add(line)
	w.logger.Log(context.Background(), w.level, w.prefix+line)
}
