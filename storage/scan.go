package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// sysfsLimit bounds one attribute, listLimit the entries of one directory.
const (
	sysfsLimit = 64 << 10
	listLimit  = 65536
)

// Scan takes the inventory of the host from the kernel, reading only: SSDs that
// the nvme driver has, persistent memory, the mount points of the given layouts,
// memory. What is not there is an empty list.
func (h Host) Scan(ctx context.Context, layouts []Layout) (HostStorage, error) {
	var s HostStorage
	memory, err := h.Memory()
	if err != nil {
		return s, err
	}
	s.MemInfo = &memory
	if s.NVMeDevices, err = h.nvmeDevices(); err != nil {
		return s, err
	}
	if err := ctx.Err(); err != nil {
		return s, fault.Wrap(fault.Canceled, err, "cannot scan storage")
	}
	if s.SCMModules, err = h.scmModules(); err != nil {
		return s, err
	}
	if s.SCMNamespaces, err = h.scmNamespaces(); err != nil {
		return s, err
	}
	for _, l := range layouts {
		if m, ok := h.MountPoint(ctx, l); ok {
			s.SCMMountPoints = append(s.SCMMountPoints, m)
		}
	}
	s.Normalize()
	return s, nil
}

// MountPoint returns the SCM of an engine with its sizes, false when it is not
// there. The size of a directory is the configured one.
func (h Host) MountPoint(ctx context.Context, l Layout) (MountPoint, bool) {
	c, err := h.Check(ctx, l)
	if err != nil || !c.Present {
		return MountPoint{}, false
	}
	st, err := h.ops().Statfs(l.SCM.Mount)
	if err != nil {
		return MountPoint{}, false
	}
	m := newMountPoint(l.SCM)
	unit := uint64(st.Frsize)
	m.TotalBytes, m.AvailBytes = unit*st.Blocks, unit*st.Bavail
	if l.SCM.Class == Dir {
		m.TotalBytes = uint64(gib(l.SCM.SizeGiB))
		used := min(directoryBytes(ctx, l.SCM.Mount), m.TotalBytes)
		m.AvailBytes = min(m.AvailBytes, m.TotalBytes-used)
	}
	m.UsableBytes = m.AvailBytes - min(m.AvailBytes, engineReserve)
	return m, true
}

// engineReserve is what an engine keeps of its SCM for itself and no pool gets.
const engineReserve = 16 << 20

// directoryBytes adds up what the files below dir occupy or may come to occupy; files that come and go
// meanwhile are of no account.
func directoryBytes(ctx context.Context, dir string) (total uint64) {
	seen := 0
	filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if seen++; seen > listLimit || ctx.Err() != nil {
			return fs.SkipAll
		}
		if err != nil {
			return nil
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			// The files of pools are as large as what was promised to the pool, and
			// may have holes where nothing was written yet.
			total += max(allocated(info), uint64(info.Size()))
		}
		return nil
	})
	return total
}

// attribute reads a small text file of the kernel, "" when there is none.
func (h Host) attribute(parts ...string) string {
	data, err := readLimited(h.ops(), filepath.Join(parts...), sysfsLimit)
	if err != nil {
		return "" // attributes differ from kernel to kernel
	}
	return strings.TrimSpace(string(data))
}

func (h Host) number(parts ...string) (uint64, bool) {
	n, err := strconv.ParseUint(h.attribute(parts...), 0, 64)
	return n, err == nil
}

// list returns the sorted names in a directory of the kernel, none when it does
// not exist.
func (h Host) list(dir string) ([]string, error) {
	entries, err := h.ops().ReadDir(dir, listLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err, dir, "read "+dir)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	slices.Sort(names)
	return names, nil
}

// nvmeDevices lists the controllers on PCIe that the kernel's driver holds.
func (h Host) nvmeDevices() ([]NVMeController, error) {
	class := filepath.Join(h.sys(), "class", "nvme")
	names, err := h.list(class)
	if err != nil {
		return nil, err
	}
	devices := []NVMeController{}
	for _, name := range names {
		dir := filepath.Join(class, name)
		if transport := h.attribute(dir, "transport"); transport != "" && transport != "pcie" {
			continue
		}
		d := NVMeController{Model: h.attribute(dir, "model"), Serial: h.attribute(dir, "serial"),
			FWRev: h.attribute(dir, "firmware_rev"), PCIAddr: h.attribute(dir, "address"),
			VendorID: h.attribute(dir, "device", "vendor"), PCIType: h.attribute(dir, "device", "class"),
			SocketID: -1, DevState: "UNKNOWN", LEDState: "NA", SMDDevices: []SMDDevice{}}
		if state := h.attribute(dir, "state"); state == "live" {
			d.DevState = "NORMAL"
		}
		if d.PCIAddr == "" {
			if target, err := os.Readlink(filepath.Join(dir, "device")); err == nil {
				d.PCIAddr = filepath.Base(target)
			}
		}
		if node, err := strconv.ParseInt(h.attribute(dir, "device", "numa_node"), 10, 32); err == nil {
			d.SocketID = int32(node)
		}
		if d.Namespaces, err = h.nvmeNamespaces(dir, name); err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// nvmeNamespaces finds nvme0n1, or nvme0c0n1 where the kernel joins paths, below
// the controller nvme0.
func (h Host) nvmeNamespaces(dir, controller string) ([]NVMeNamespace, error) {
	names, err := h.list(dir)
	if err != nil {
		return nil, err
	}
	namespaces := []NVMeNamespace{}
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, controller)
		at := strings.LastIndexByte(rest, 'n')
		if !ok || at < 0 || (at > 0 && rest[0] != 'c') {
			continue
		}
		id, err := strconv.ParseUint(rest[at+1:], 10, 32)
		if err != nil {
			continue // hwmon and partitions
		}
		if nsid, ok := h.number(dir, name, "nsid"); ok {
			id = nsid
		}
		sectors, _ := h.number(dir, name, "size") // of 512 bytes, whatever the SSD has
		namespaces = append(namespaces, NVMeNamespace{ID: uint32(id), Size: sectors * 512})
	}
	return namespaces, nil
}

// scmModules lists the modules of the nvdimm bus. What the kernel does not say
// (capacity, part number) needs the vendor's library and stays empty.
func (h Host) scmModules() ([]SCMModule, error) {
	bus := filepath.Join(h.sys(), "bus", "nd", "devices")
	names, err := h.list(bus)
	if err != nil {
		return nil, err
	}
	modules := []SCMModule{}
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, "nmem"); !ok || !isNumber(rest) {
			continue
		}
		dir := filepath.Join(bus, name)
		m := SCMModule{UID: h.attribute(dir, "nfit", "id"), HealthState: "Unknown"}
		if n, ok := h.number(dir, "nfit", "phys_id"); ok {
			m.PhysicalID = uint32(n)
		}
		// The handle has, from the right, 4 bits each of slot, channel, memory
		// controller and socket.
		if n, ok := h.number(dir, "nfit", "handle"); ok {
			m.ChannelPosition, m.ChannelID = uint32(n&15), uint32(n>>4&15)
			m.ControllerID, m.SocketID = uint32(n>>8&15), uint32(n>>12&15)
		}
		modules = append(modules, m)
	}
	return modules, nil
}

func (h Host) scmNamespaces() ([]SCMNamespace, error) {
	bus := filepath.Join(h.sys(), "bus", "nd", "devices")
	names, err := h.list(bus)
	if err != nil {
		return nil, err
	}
	namespaces := []SCMNamespace{}
	for _, name := range names {
		if !strings.HasPrefix(name, "namespace") {
			continue
		}
		dir := filepath.Join(bus, name)
		blocks, err := h.list(filepath.Join(dir, "block"))
		if err != nil {
			return nil, err
		}
		if len(blocks) == 0 {
			continue // a seed: no namespace yet
		}
		n := SCMNamespace{UUID: h.attribute(dir, "uuid"), Name: name, BlockDevice: blocks[0]}
		if sectors, ok := h.number(dir, "block", blocks[0], "size"); ok {
			n.Size = sectors * 512
		}
		if node, ok := h.number(dir, "numa_node"); ok {
			n.NumaNode = uint32(node)
		}
		namespaces = append(namespaces, n)
	}
	return namespaces, nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
