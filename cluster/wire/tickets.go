package wire

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// Bounds of a file of tickets, and of how many files a directory keeps.
const (
	maxTickets     = 8192
	maxTicketBytes = 32 << 20
	maxTicket      = 16 << 10
	maxTicketFiles = 8
	// ticketLife is shorter than what servers grant (a week): old ones would only
	// make a hello longer.
	ticketLife = 2 * 24 * time.Hour
)

// ticketMagic begins a file; its last byte is the version of the form.
const ticketMagic = "DAOSbox tickets\x01"

const ticketPrefix = "tickets-"

// Tickets are TLS sessions to resume, kept on disk between the runs of a command:
// what resumes one needs no signature, which are most of the cost of a connection
// with RSA keys. They belong to one identity, in a file of its own that only its
// user can read, since a ticket is as good as the key for as long as it lasts. The
// server checks role, validity and authority of the certificate behind a ticket
// again. Tickets is safe for concurrent use.
type Tickets struct {
	path  string
	owner [sha256.Size]byte
	now   func() time.Time

	mu      sync.Mutex
	byKey   map[string]ticket // guarded by mu, as all below
	changed bool
}

// ticket is one session; state holds secrets.
type ticket struct {
	at            int64 // Unix seconds
	ticket, state []byte
}

// OpenTickets reads the tickets that owner has in a directory (pki.Identity's
// Fingerprint). A file that is missing, damaged, another's or open to others is as
// good as none.
func OpenTickets(dir string, owner [sha256.Size]byte) *Tickets {
	t := &Tickets{path: filepath.Join(dir, ticketPrefix+hex.EncodeToString(owner[:16])), owner: owner, now: time.Now, byKey: make(map[string]ticket)}
	data, err := readPrivate(t.path)
	if err != nil {
		return t
	}
	if known, err := decodeTickets(data, owner, t.now()); err == nil {
		t.byKey = known
	}
	return t
}

// readPrivate reads a file of ours that nobody else can read or write.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || !own(info) || info.Size() > maxTicketBytes {
		return nil, fs.ErrPermission
	}
	return io.ReadAll(io.LimitReader(f, maxTicketBytes))
}

// Save writes the tickets for the next run, when there are new ones: aside, then
// renamed. The directory is made with mode 0700 when it is missing. Files of other
// identities go, the oldest first, above a small number.
func (t *Tickets) Save() error {
	t.mu.Lock()
	if !t.changed {
		t.mu.Unlock()
		return nil
	}
	t.changed = false
	data := encodeTickets(t.byKey, t.owner)
	t.mu.Unlock()
	dir := filepath.Dir(t.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Internal, err, "cannot keep TLS tickets")
	}
	f, err := os.CreateTemp(dir, ".new-"+ticketPrefix) // mode 0600
	if err != nil {
		return fault.Wrap(fault.Internal, err, "cannot keep TLS tickets")
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), t.path)
	}
	if err != nil {
		return fault.Wrap(fault.Internal, errors.Join(err, os.Remove(f.Name())), "cannot keep TLS tickets")
	}
	t.prune(dir)
	return nil
}

// prune removes what other identities, or writers that died, left behind.
func (t *Tickets) prune(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var others []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.Name() == filepath.Base(t.path) {
			continue
		}
		if strings.HasPrefix(e.Name(), ".new-"+ticketPrefix) && t.now().Sub(info.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		} else if strings.HasPrefix(e.Name(), ticketPrefix) {
			others = append(others, info)
		}
	}
	slices.SortFunc(others, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for i, info := range others {
		if i >= maxTicketFiles-1 || t.now().Sub(info.ModTime()) > ticketLife {
			_ = os.Remove(filepath.Join(dir, info.Name()))
		}
	}
}

// at is the part of the tickets for one server and service.
func (t *Tickets) at(addr, service string) tls.ClientSessionCache {
	return ticketsAt{t, service + " " + addr}
}

type ticketsAt struct {
	all *Tickets
	key string
}

// Get takes the ticket out: one that two connections show would link them.
func (t ticketsAt) Get(string) (*tls.ClientSessionState, bool) {
	t.all.mu.Lock()
	one, ok := t.all.byKey[t.key]
	if ok {
		delete(t.all.byKey, t.key)
		t.all.changed = true
	}
	t.all.mu.Unlock()
	if !ok || one.expired(t.all.now()) {
		return nil, false
	}
	state, err := tls.ParseSessionState(one.state)
	if err != nil {
		return nil, false
	}
	session, err := tls.NewResumptionState(one.ticket, state)
	return session, err == nil
}

// Put keeps what the server sent last, nil for nothing.
func (t ticketsAt) Put(_ string, session *tls.ClientSessionState) {
	var one ticket
	if session != nil {
		name, state, err := session.ResumptionState()
		if err != nil || state == nil {
			return
		}
		if one.state, err = state.Bytes(); err != nil {
			return
		}
		one.ticket = name
	}
	now := t.all.now()
	one.at = now.Unix()
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	t.all.changed = true
	if session == nil || len(one.ticket) > maxTicket || len(one.state) > maxTicket {
		delete(t.all.byKey, t.key)
		return
	}
	if len(t.all.byKey) >= maxTickets {
		t.all.evict()
	}
	t.all.byKey[t.key] = one
}

// evict makes room by the older half; t.mu must be held.
func (t *Tickets) evict() {
	ages := make([]int64, 0, len(t.byKey))
	for _, one := range t.byKey {
		ages = append(ages, one.at)
	}
	slices.Sort(ages)
	middle := ages[len(ages)/2]
	left := len(ages) / 2
	for key, one := range t.byKey {
		if one.at < middle || one.at == middle && left > 0 {
			delete(t.byKey, key)
			left--
		}
	}
}

func (t ticket) expired(now time.Time) bool {
	age := now.Unix() - t.at
	return age < 0 || age > int64(ticketLife/time.Second)
}

// encodeTickets writes magic, owner, then per ticket the time (8 bytes) and key,
// ticket and state, each after its length (2 bytes), and the SHA-256 of all that.
func encodeTickets(all map[string]ticket, owner [sha256.Size]byte) []byte {
	b := append([]byte(ticketMagic), owner[:]...)
	for key, one := range all {
		if len(b)+len(key)+len(one.ticket)+len(one.state) > maxTicketBytes-1024 {
			break
		}
		b = binary.BigEndian.AppendUint64(b, uint64(one.at))
		for _, part := range [][]byte{[]byte(key), one.ticket, one.state} {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(part))), part...)
		}
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeTickets reads what encodeTickets wrote for the same owner, without tickets
// that are too old. The parts lie in b.
func decodeTickets(b []byte, owner [sha256.Size]byte, now time.Time) (map[string]ticket, error) {
	bad := fault.New(fault.Corrupt, "cannot use tickets: the file is damaged or another's")
	end := len(b) - sha256.Size
	start := len(ticketMagic) + sha256.Size
	if end < start || string(b[:start]) != ticketMagic+string(owner[:]) || sha256.Sum256(b[:end]) != [sha256.Size]byte(b[end:]) {
		return nil, bad
	}
	all := make(map[string]ticket)
	for b = b[start:end]; len(b) > 0; {
		if len(b) < 8 || len(all) >= maxTickets {
			return nil, bad
		}
		one := ticket{at: int64(binary.BigEndian.Uint64(b))}
		b = b[8:]
		var parts [3][]byte
		for i := range parts {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				return nil, bad
			}
			n := 2 + int(binary.BigEndian.Uint16(b))
			parts[i], b = b[2:n:n], b[n:]
		}
		if one.ticket, one.state = parts[1], parts[2]; !one.expired(now) {
			all[string(parts[0])] = one
		}
	}
	return all, nil
}

// own reports whether a file is this user's.
func own(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
