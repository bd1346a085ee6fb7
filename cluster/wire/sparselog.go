package wire

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// sparseLog writes one line per kind and peer address a minute, so that a hostile
// peer cannot fill a disk. The next line says how many were left out.
type sparseLog struct {
	to  *slog.Logger
	now func() time.Time
	// count hears of every line, written or not; nil for nobody.
	count func(kind string)

	mu   sync.Mutex
	seen map[logKey]*logLine
}

type logKey struct{ kind, host string }

type logLine struct {
	at     time.Time
	missed int
}

const (
	logEvery = time.Minute
	logKeys  = 1024 // addresses remembered; above it all further ones share a line
)

func newSparseLog(to *slog.Logger) *sparseLog {
	return &sparseLog{to: to, now: time.Now, seen: make(map[logKey]*logLine)}
}

func (s *sparseLog) warn(kind string, addr net.Addr, text string, err error) {
	if s.count != nil {
		s.count(kind)
	}
	host := hostOf(addr.String())
	missed, ok := s.admit(logKey{kind, host})
	if !ok {
		return
	}
	attrs := []any{"peer", addr.String(), "error", fault.OneLine(err.Error())}
	if missed > 0 {
		attrs = append(attrs, "unlogged", missed)
	}
	s.to.Warn(text, attrs...)
}

// admit says whether a line may be written and how many were not.
func (s *sparseLog) admit(key logKey) (missed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.seen[key] == nil && len(s.seen) >= logKeys {
		for k, l := range s.seen {
			if now.Sub(l.at) >= logEvery {
				delete(s.seen, k)
			}
		}
		if len(s.seen) >= logKeys {
			key.host = "others"
		}
	}
	l := s.seen[key]
	if l == nil {
		s.seen[key] = &logLine{at: now}
		return 0, true
	}
	if now.Sub(l.at) < logEvery {
		l.missed++
		return 0, false
	}
	missed = l.missed
	*l = logLine{at: now}
	return missed, true
}

// handshake logs why a connection was not served. A peer that only connects and
// leaves is a port check, not worth a warning.
func (s *sparseLog) handshake(addr net.Addr, err error) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		s.to.Debug("connection closed before its preface", "peer", addr.String())
	case isTimeout(err):
		s.warn("slow", addr, "connection refused", fault.New(fault.Timeout, "the handshake took too long"))
	default:
		s.warn(fmt.Sprintf("handshake %d", fault.Of(err)), addr, "connection refused", err)
	}
}
