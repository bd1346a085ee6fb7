package emulator

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// misbehaviour is one entry of DAOS_EMULATOR_FAULTS.
type misbehaviour struct {
	action string        // hang, slow, crash, exit, status, fail
	delay  time.Duration // slow
	status int32         // status
	left   int           // passes that still misbehave, negative for all
}

// faults are the misbehaviours by point.
type faults struct {
	mu     sync.Mutex
	points map[string]*misbehaviour
	die    func(syscall.Signal)
}

// parseFaults reads the comma list described in the package comment; known tells
// whether a name is a point.
func parseFaults(text string, known func(point string) bool) (map[string]*misbehaviour, error) {
	points := make(map[string]*misbehaviour)
	for _, entry := range strings.Split(text, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		point, m, why := parseFault(entry)
		if why == "" && !known(point) {
			why = "there is no point " + strconv.Quote(point)
		}
		if why == "" && points[point] != nil {
			why = "the point has an entry already"
		}
		if why == "" && !known(methodPoint+point) && (m.action == "status" || m.action == "fail") {
			why = "only methods answer with a status"
		}
		if why != "" {
			return nil, fault.New(fault.Usage, "cannot read DAOS_EMULATOR_FAULTS entry %q: %s", entry, why).
				WithHint("entries are point:action[@count], for example pool_create:status=-1007 or set_up:slow=2s@1")
		}
		points[point] = m
	}
	return points, nil
}

// methodPoint is the prefix with which parseFaults asks whether a point is a
// method's.
const methodPoint = "method "

func parseFault(entry string) (point string, m *misbehaviour, why string) {
	point, action, ok := strings.Cut(entry, ":")
	if !ok {
		return "", nil, "no action"
	}
	m = &misbehaviour{left: -1}
	action, count, counted := strings.Cut(action, "@")
	if counted {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return "", nil, "the count is not a positive number"
		}
		m.left = n
	}
	name, value, valued := strings.Cut(action, "=")
	m.action = name
	var err error
	switch name {
	case "hang", "crash", "exit", "fail":
		if valued {
			return "", nil, name + " takes no value"
		}
	case "slow":
		m.delay, err = time.ParseDuration(value)
	case "status":
		var n int64
		n, err = strconv.ParseInt(value, 10, 32)
		m.status = int32(n)
	default:
		return "", nil, "there is no action " + strconv.Quote(name)
	}
	if err != nil {
		return "", nil, "cannot read its value " + strconv.Quote(value)
	}
	return point, m, ""
}

// pass is called at a point. It returns at once when nothing is asked there;
// else it delays, hangs until ctx ends, or kills the process. What the caller has
// to do itself (exit, status, fail) is returned.
func (f *faults) pass(ctx context.Context, point string) *misbehaviour {
	f.mu.Lock()
	m := f.points[point]
	if m == nil || m.left == 0 {
		f.mu.Unlock()
		return nil
	}
	if m.left > 0 {
		m.left--
	}
	f.mu.Unlock()
	switch m.action {
	case "hang":
		<-ctx.Done()
	case "slow":
		timer := time.NewTimer(m.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	case "crash":
		f.die(syscall.SIGSEGV)
	case "exit", "status", "fail":
		return m
	}
	return nil
}
