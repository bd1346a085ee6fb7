package emulator

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"daosbox/cluster/fault"
)

// levelEmit is above every mask: what must be in the log in any case.
const levelEmit = slog.Level(20)

// levelNames has the engine's log levels by increasing weight; the first name of
// a level is the one that is written.
var levelNames = []struct {
	name  string
	level slog.Level
}{
	{"DBUG", slog.LevelDebug}, {"DEBUG", slog.LevelDebug}, {"INFO", slog.LevelInfo}, {"NOTE", 2},
	{"WARN", slog.LevelWarn}, {"ERR", slog.LevelError}, {"ERROR", slog.LevelError},
	{"CRIT", 12}, {"ALRT", 14}, {"EMRG", 16}, {"FATAL", 16}, {"EMIT", levelEmit},
}

// masks are the levels of D_LOG_MASK: one for all and some by subsystem.
type masks struct {
	all  slog.Level
	subs map[string]slog.Level
}

// parseMasks reads LEVEL[,SUBSYSTEM=LEVEL...]; empty text means INFO.
func parseMasks(text string) (*masks, error) {
	m := &masks{all: slog.LevelInfo, subs: make(map[string]slog.Level)}
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		subsystem, name, ok := strings.Cut(part, "=")
		if !ok {
			subsystem, name = "", part
		}
		level, known := levelOf(name)
		switch {
		case !known:
			return nil, fault.New(fault.Usage, "cannot read log mask %q: unknown level %q", text, name)
		case subsystem == "":
			m.all = level
		default:
			m.subs[strings.ToLower(subsystem)] = level
		}
	}
	return m, nil
}

func levelOf(name string) (slog.Level, bool) {
	for _, row := range levelNames {
		if strings.EqualFold(row.name, name) {
			return row.level, true
		}
	}
	return 0, false
}

// logSink is the engine's log file; all handlers of an emulator share one.
type logSink struct {
	mu    sync.Mutex
	out   io.Writer
	host  string
	pid   int
	masks atomic.Pointer[masks]
}

// logHandler writes lines in the manner of an engine's log. The attribute
// "subsystem" of a logger selects its mask.
type logHandler struct {
	sink      *logSink
	subsystem string
	attrs     string
}

func (h logHandler) Enabled(_ context.Context, level slog.Level) bool {
	m := h.sink.masks.Load()
	limit, ok := m.subs[h.subsystem]
	if !ok {
		limit = m.all
	}
	return level >= limit
}

func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	name, reached := levelNames[0].name, levelNames[0].level
	for _, row := range levelNames {
		if r.Level >= row.level && row.level > reached {
			name, reached = row.name, row.level
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s DAOS[%d/-1/0] %-5s %-4s %s", r.Time.Format("2006/01/02-15:04:05.000000"),
		h.sink.host, h.sink.pid, h.subsystem, name, fault.OneLine(r.Message))
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(formatAttr(a))
		return true
	})
	b.WriteByte('\n')
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	_, err := io.WriteString(h.sink.out, b.String())
	return err
}

func formatAttr(a slog.Attr) string {
	value := fault.OneLine(a.Value.Resolve().String())
	if strings.ContainsAny(value, " =") {
		return fmt.Sprintf(" %s=%q", a.Key, value)
	}
	return " " + a.Key + "=" + value
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "subsystem" {
			h.subsystem = a.Value.String()
			continue
		}
		h.attrs += formatAttr(a)
	}
	return h
}

func (h logHandler) WithGroup(string) slog.Handler { return h }

// timestamp is the form in which engines give the time of an event: no colon in
// the zone.
func timestamp(t time.Time) string { return t.Format("2006-01-02T15:04:05.000000-0700") }
