package storage

import (
	"path/filepath"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// mount is one line of mountinfo.
type mount struct {
	target string
	fstype string
	nosuid bool
}

const mountinfoLimit = 16 << 20

// mounts reads the mount table of this process.
func (h Host) mounts() ([]mount, error) {
	path := filepath.Join(h.proc(), "self", "mountinfo")
	data, err := readLimited(h.ops(), path, mountinfoLimit)
	if err != nil {
		return nil, explain(err, path, "read the mount table "+path)
	}
	return parseMountinfo(string(data))
}

// parseMountinfo takes the text of /proc/<pid>/mountinfo apart (proc(5)): six
// fields, optional ones, a hyphen, then type, source and super options.
func parseMountinfo(text string) ([]mount, error) {
	var all []mount
	for number, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if line == "" {
			continue
		}
		left, right, ok := strings.Cut(line, " - ")
		front, back := strings.Split(left, " "), strings.Split(right, " ")
		if !ok || len(front) < 6 || len(back) < 2 {
			return nil, fault.New(fault.Corrupt, "cannot read the mount table: line %d is not understood: %.80q", number+1, line)
		}
		m := mount{target: unescapeOctal(front[4]), fstype: back[0]}
		for _, option := range strings.Split(front[5], ",") {
			m.nosuid = m.nosuid || option == "nosuid"
		}
		all = append(all, m)
	}
	return all, nil
}

// unescapeOctal turns \040 and the like, by which the kernel hides blanks in
// paths, back.
func unescapeOctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountedAt returns the mounts whose target is dir, the visible one last.
func mountedAt(all []mount, dir string) []mount {
	var at []mount
	for _, m := range all {
		if m.target == dir {
			at = append(at, m)
		}
	}
	return at
}

// realPath is dir with its symbolic links followed, since that is how the mount
// table names it; dir itself when it does not exist.
func realPath(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// mountOf returns the mount that path lies on.
func mountOf(all []mount, path string) (mount, bool) {
	var best mount
	found := false
	for _, m := range all {
		inside := m.target == "/" || path == m.target || strings.HasPrefix(path, m.target+"/")
		if inside && len(m.target) >= len(best.target) {
			best, found = m, true
		}
	}
	return best, found
}
