package agent

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// maxNodes bounds NUMA node numbers; kernels have at most 1024.
const maxNodes = 1024

// maxStatus bounds what is read of a file in /proc or /sys.
const maxStatus = 64 << 10

// numa tells on which NUMA node a process runs. The nodes of a host do not change.
type numa struct {
	proc, sysfs string
	nodes       func() map[int]cpus
}

func newNUMA(proc, sysfs string) *numa {
	n := &numa{proc: proc, sysfs: sysfs}
	n.nodes = sync.OnceValue(n.read)
	return n
}

func (n *numa) read() map[int]cpus {
	nodes := make(map[int]cpus)
	paths, _ := filepath.Glob(filepath.Join(n.sysfs, "devices", "system", "node", "node*", "cpulist"))
	for _, path := range paths {
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "node"))
		if err != nil || number < 0 || number >= maxNodes {
			continue
		}
		if list := parseCPUs(readSmall(path)); len(list) > 0 { // memory only otherwise
			nodes[number] = list
		}
	}
	return nodes
}

// node is where the process may run. One that may run on several counts for the
// one it was last seen on. Node 0 when nothing is known, as for a process of
// another pid namespace.
func (n *numa) node(pid int32) int {
	nodes := n.nodes()
	if len(nodes) < 2 || pid <= 0 {
		return 0
	}
	dir := filepath.Join(n.proc, strconv.Itoa(int(pid)))
	allowed := parseCPUs(statusField(readSmall(filepath.Join(dir, "status")), "Cpus_allowed_list"))
	lowest, several := -1, false
	for number, own := range nodes {
		if !own.meets(allowed) {
			continue
		}
		several = several || lowest >= 0
		if lowest < 0 || number < lowest {
			lowest = number
		}
	}
	if several {
		if cpu, ok := lastCPU(readSmall(filepath.Join(dir, "stat"))); ok {
			for number, own := range nodes {
				if own.has(cpu) {
					return number
				}
			}
		}
	}
	return max(lowest, 0)
}

// cpus is a list of ranges of processors, ends included.
type cpus [][2]int

// parseCPUs reads a list such as "0-3,8"; what it cannot read it leaves out.
func parseCPUs(text string) cpus {
	var list cpus
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		low, high, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(low)
		last := first
		if isRange && err == nil {
			last, err = strconv.Atoi(high)
		}
		if err == nil && first >= 0 && first <= last {
			list = append(list, [2]int{first, last})
		}
	}
	return list
}

func (c cpus) has(cpu int) bool { return c.meets(cpus{{cpu, cpu}}) }

func (c cpus) meets(other cpus) bool {
	for _, a := range c {
		for _, b := range other {
			if a[0] <= b[1] && b[0] <= a[1] {
				return true
			}
		}
	}
	return false
}

// statusField is the value of a field in the text of /proc/PID/status.
func statusField(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Fields of /proc/PID/stat behind the command's name, counted from the state.
const (
	statStart = 19 // start time, in clock ticks since boot
	statCPU   = 36 // processor last run on
)

// statValue is a field of /proc/PID/stat; the name before them may hold anything.
func statValue(text string, field int) (string, bool) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return "", false
	}
	fields := strings.Fields(text[end+1:])
	if field >= len(fields) {
		return "", false
	}
	return fields[field], true
}

func lastCPU(stat string) (int, bool) {
	value, ok := statValue(stat, statCPU)
	cpu, err := strconv.Atoi(value)
	return cpu, ok && err == nil
}

// readSmall returns the beginning of a kernel's file, "" when there is none.
func readSmall(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxStatus))
	if err != nil {
		return ""
	}
	return string(text)
}
