package control

import (
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"daosbox/cluster/fault"
)

// sparseLog writes one line for each kind of refusal and peer a minute, so that
// whoever sends bad requests cannot fill a disk.
type sparseLog struct {
	mu   sync.Mutex
	seen map[refusal]time.Time
}

// refusal is a kind of error, by its code and its words without numbers.
type refusal struct {
	code fault.Code
	what string
	host string
}

const (
	logEvery = time.Minute
	logKinds = 1024 // remembered; above it all others are one
)

func (l *sparseLog) warn(to *slog.Logger, now time.Time, peer net.Addr, err error) {
	text := fault.OneLine(err.Error())
	key := refusal{code: fault.Of(err), what: strings.Map(noDigit, text[:min(len(text), 96)])}
	if peer != nil {
		key.host, _, _ = net.SplitHostPort(peer.String())
	}
	if l.admit(key, now) {
		to.Warn("refused a relayed request", "peer", peer, "error", text)
	}
}

func (l *sparseLog) admit(key refusal, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) >= logKinds {
		for k, at := range l.seen {
			if now.Sub(at) >= logEvery {
				delete(l.seen, k)
			}
		}
		if len(l.seen) >= logKinds {
			key = refusal{}
		}
	}
	if at, ok := l.seen[key]; ok && now.Sub(at) < logEvery {
		return false
	}
	if l.seen == nil {
		l.seen = make(map[refusal]time.Time)
	}
	l.seen[key] = now
	return true
}

func noDigit(r rune) rune {
	if r >= '0' && r <= '9' {
		return -1
	}
	return r
}
