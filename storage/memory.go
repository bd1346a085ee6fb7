package storage

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"daosbox/cluster/fault"
)

// Memory reads the memory of the host and of each of its NUMA nodes.
func (h Host) Memory() (MemInfo, error) {
	path := filepath.Join(h.proc(), "meminfo")
	data, err := readLimited(h.ops(), path, sysfsLimit)
	if err != nil {
		return MemInfo{}, explain(err, path, "read "+path)
	}
	m := parseMeminfo(string(data))
	if m.TotalKiB == 0 {
		return MemInfo{}, fault.New(fault.Corrupt, "cannot read %s: no MemTotal in it", path)
	}
	m.NUMANodeIndex = -1 // the whole host
	dir := filepath.Join(h.sys(), "devices", "system", "node")
	names, err := h.list(dir)
	if err != nil {
		return MemInfo{}, err
	}
	m.NUMANodes = []MemInfo{}
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, "node")
		index, err := strconv.ParseInt(rest, 10, 32)
		if !ok || err != nil {
			continue
		}
		node := parseMeminfo(h.attribute(dir, name, "meminfo"))
		node.NUMANodeIndex, node.NUMANodes = int32(index), []MemInfo{}
		node.HugepageSizeKiB = m.HugepageSizeKiB // nodes do not say
		m.NUMANodes = append(m.NUMANodes, node)
	}
	slices.SortFunc(m.NUMANodes, func(a, b MemInfo) int { return int(a.NUMANodeIndex - b.NUMANodeIndex) })
	return m, nil
}

// parseMeminfo reads lines like "MemTotal: 16384 kB", also with the "Node 0 " of a
// NUMA node before them. What it does not know it leaves.
func parseMeminfo(text string) MemInfo {
	var m MemInfo
	fields := map[string]*uint64{
		"MemTotal": &m.TotalKiB, "MemFree": &m.FreeKiB, "MemAvailable": &m.AvailableKiB, "MemUsed": &m.UsedKiB,
		"HugePages_Total": &m.HugepagesTotal, "HugePages_Free": &m.HugepagesFree, "HugePages_Rsvd": &m.HugepagesReserved,
		"HugePages_Surp": &m.HugepagesSurplus, "Hugepagesize": &m.HugepageSizeKiB,
	}
	for _, line := range strings.Split(text, "\n") {
		name, value, ok := strings.Cut(line, ":")
		words := strings.Fields(value)
		if !ok || len(words) == 0 {
			continue
		}
		if at := strings.LastIndexByte(name, ' '); at >= 0 {
			name = name[at+1:]
		}
		if field := fields[name]; field != nil {
			if n, err := strconv.ParseUint(words[0], 10, 64); err == nil {
				*field = n
			}
		}
	}
	return m
}

// memoryFits refuses a RAM disk that the host has no memory for: less than nine
// tenths of its size available.
func (h Host) memoryFits(s Step) error {
	m, err := h.Memory()
	if err != nil {
		return err
	}
	if have, want := m.AvailableKiB, uint64(s.size)>>10; have < want/10*9 {
		return fault.New(codeLowMemory, "cannot mount a RAM disk of %d GiB on %s: only %.1f GiB of memory are available",
			s.size>>30, s.Path, float64(have)/(1<<20)).
			WithHint("free memory, or set scm_size, targets or system_ram_reserved lower")
	}
	return nil
}

// allocated is what a file occupies, which is less than its size when it is sparse.
func allocated(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Blocks) * 512
	}
	return uint64(info.Size())
}
