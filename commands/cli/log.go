package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Log levels beyond slog's own. The configuration's names map to them:
// TRACE, DEBUG, INFO, NOTICE, ERROR, DISABLED.
const (
	LevelTrace    = slog.LevelDebug - 4
	LevelNotice   = slog.LevelInfo + 2
	LevelDisabled = slog.LevelError + 100
)

// ParseLevel maps a control_log_mask (case-insensitive) to a level.
func ParseLevel(mask string) (slog.Level, error) {
	switch strings.ToUpper(mask) {
	case "TRACE":
		return LevelTrace, nil
	case "DEBUG":
		return slog.LevelDebug, nil
	case "", "INFO":
		return slog.LevelInfo, nil
	case "NOTICE":
		return LevelNotice, nil
	case "ERROR":
		return slog.LevelError, nil
	case "DISABLED":
		return LevelDisabled, nil
	}
	return 0, fmt.Errorf("log level %q is none of DISABLED, ERROR, NOTICE, INFO, DEBUG, TRACE", mask)
}

func levelName(level slog.Level) string {
	switch {
	case level < slog.LevelDebug:
		return "TRACE"
	case level < slog.LevelInfo:
		return "DEBUG"
	case level < LevelNotice:
		return "INFO"
	case level < slog.LevelWarn:
		return "NOTICE"
	case level < slog.LevelError:
		return "WARN"
	}
	return "ERROR"
}

// DaemonLog makes the logger of a long-running process: one line each with time,
// level, message and attributes; JSON objects when asJSON is set.
func DaemonLog(out io.Writer, level slog.Leveler, asJSON bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.LevelKey && len(groups) == 0 {
			if l, ok := a.Value.Any().(slog.Level); ok {
				return slog.String(slog.LevelKey, levelName(l))
			}
		}
		return a
	}}
	if asJSON {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// lineHandler writes what a one-shot command has to say beside its data:
// "LEVEL: name: message key=value" on standard error.
type lineHandler struct {
	mu    sync.Mutex
	out   io.Writer
	name  string
	level slog.Leveler
	attrs []slog.Attr
}

func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var line bytes.Buffer
	fmt.Fprintf(&line, "%s: %s: %s", levelName(r.Level), h.name, r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	line.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.out.Write(line.Bytes())
	return err
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{out: h.out, name: h.name, level: h.level, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h *lineHandler) WithGroup(string) slog.Handler { return h }
