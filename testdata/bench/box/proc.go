package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// usage is what a process has used so far, as /proc tells.
type usage struct {
	rss     int64 // bytes that are resident now
	cpu     time.Duration
	wakeups int64 // times that a thread of it went to sleep, and so woke up
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on all of Linux.
const tick = 10 * time.Millisecond

func usageOf(pid int) (usage, error) {
	var u usage
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, err
	}
	kib, err := field(status, "VmRSS:")
	if err != nil {
		return u, err
	}
	u.rss = kib << 10
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, err
	}
	// The name in parentheses may hold spaces; utime and stime are the 12th and
	// 13th fields after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return u, fmt.Errorf("cannot read %s/stat", dir)
	}
	for _, text := range fields[11:13] {
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return u, fmt.Errorf("cannot read %s/stat: %w", dir, err)
		}
		u.cpu += time.Duration(n) * tick
	}
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "status"))
	if err != nil {
		return u, err
	}
	for _, name := range threads {
		status, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // a thread that ended meanwhile
		}
		if err != nil {
			return u, err
		}
		n, err := field(status, "voluntary_ctxt_switches:")
		if err != nil {
			return u, err
		}
		u.wakeups += n
	}
	return u, nil
}

// field is the number behind a name in a file of lines.
func field(data []byte, name string) (int64, error) {
	for line := range bytes.Lines(data) {
		if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
			words := bytes.Fields(value)
			if len(words) == 0 {
				break
			}
			return strconv.ParseInt(string(words[0]), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %q here", name)
}
