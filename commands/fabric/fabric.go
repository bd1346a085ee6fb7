// Package fabric finds the network interfaces that engines and clients can talk
// over, and which fabric providers each can carry. It asks the kernel's sysfs
// only, so it needs neither libfabric nor hwloc nor the hardware's own tools: TCP
// goes over every IP interface, verbs over those with an RDMA device beside them,
// cxi over those of a Slingshot card.
//
// The server answers 'network scan' with it, the agent chooses the interface for
// a client by it.
package fabric

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// The hardware types of interfaces (ARPHRD in the kernel) that can carry a fabric.
const (
	Ethernet   uint32 = 1
	InfiniBand uint32 = 32
	Loopback   uint32 = 772
)

// Interface is one network interface with one provider it carries.
type Interface struct {
	Provider string
	Device   string
	NumaNode uint32
	// Priority among the providers of an interface; 0 is the best.
	Priority    uint32
	NetDevClass uint32
}

// Host is the fabric of a host, with the JSON keys of 'network scan'.
type Host struct {
	Interfaces []Interface
	// Providers are those that some interface carries.
	Providers []string
	// NumaCount is the number of NUMA nodes, CoresPerNuma the physical cores of
	// each.
	NumaCount    uint32
	CoresPerNuma uint32
}

// WithoutLoopback leaves the loopback interface out, as 'network scan' does; an
// engine may still be configured to use it.
func (h Host) WithoutLoopback() Host {
	kept := make([]Interface, 0, len(h.Interfaces))
	for _, i := range h.Interfaces {
		if i.NetDevClass != Loopback {
			kept = append(kept, i)
		}
	}
	h.Interfaces = kept
	h.Providers = providersOf(kept)
	return h
}

// carriers are the providers by the kind of transport below them, best first.
var carriers = []struct {
	provider string
	needs    transport
}{
	{"ofi+cxi", overCXI},
	{"ofi+verbs;ofi_rxm", overRDMA},
	{"ofi+tcp", overIP},
	{"ofi+tcp;ofi_rxm", overIP},
	{"ofi+sockets", overIP},
	{"ucx+tcp", overIP},
}

type transport uint8

const (
	overIP transport = 1 << iota
	overRDMA
	overCXI
)

// Scan lists the interfaces that are up, sorted by NUMA node, name and priority.
// The sysfs folder is /sys when empty. A provider restricts the answer to the
// interfaces that carry it; of a list as "ofi+verbs,tcp" all must be carried.
// Empty and "all" do not restrict. No interface left is fault.NotFound.
func Scan(sysfs, provider string) (Host, error) {
	s := scanner{root: cmp.Or(sysfs, "/sys")}
	var h Host
	h.NumaCount, h.CoresPerNuma = s.cores()
	devices, err := s.devices()
	if err != nil {
		return Host{}, err
	}
	h.Interfaces = []Interface{}
	for _, d := range devices {
		h.Interfaces = append(h.Interfaces, d.carried(provider)...)
	}
	h.Providers = providersOf(h.Interfaces)
	if len(h.Interfaces) == 0 {
		return h, nothingCarries(provider, devices)
	}
	return h, nil
}

func nothingCarries(provider string, devices []device) error {
	var all []Interface
	for _, d := range devices {
		all = append(all, d.carried("")...)
	}
	if len(all) == 0 {
		return fault.New(fault.NotFound, "cannot find a fabric interface: no network interface is up").
			WithHint("configure an interface with an IP address, see 'ip address'")
	}
	return fault.New(fault.NotFound, "cannot find a fabric interface for provider %s: none carries it", provider).
		WithHint("this host has %s", strings.Join(providersOf(all), ", "))
}

func providersOf(interfaces []Interface) []string {
	names := []string{}
	for _, c := range carriers {
		if slices.ContainsFunc(interfaces, func(i Interface) bool { return i.Provider == c.provider }) {
			names = append(names, c.provider)
		}
	}
	for _, i := range interfaces { // a provider list that was asked for
		if !slices.Contains(names, i.Provider) {
			names = append(names, i.Provider)
		}
	}
	return names
}

// device is a network interface with what lies below it.
type device struct {
	name  string
	class uint32
	numa  uint32
	over  transport
}

// carried returns the device once for each provider, or once for the wanted one.
func (d device) carried(want string) []Interface {
	entry := Interface{Device: d.name, NumaNode: d.numa, NetDevClass: d.class}
	if want != "" && want != "all" {
		priority, ok := d.carries(want)
		if !ok {
			return nil
		}
		entry.Provider, entry.Priority = want, priority
		return []Interface{entry}
	}
	var all []Interface
	for _, c := range carriers {
		if d.over&c.needs != 0 {
			entry.Provider, entry.Priority = c.provider, uint32(len(all))
			all = append(all, entry)
		}
	}
	return all
}

// carries reports whether the device has every provider of a comma list, the
// later ones of which may lack the prefix, and the priority of the first.
func (d device) carries(want string) (priority uint32, ok bool) {
	prefix, rest, found := strings.Cut(want, "+")
	if !found {
		return 0, false
	}
	for i, name := range strings.Split(rest, ",") {
		name = prefix + "+" + strings.TrimPrefix(name, prefix+"+")
		if name == "ofi+verbs" {
			name = "ofi+verbs;ofi_rxm"
		}
		rank, found := d.rank(name)
		if !found {
			return 0, false
		}
		if i == 0 {
			priority = rank
		}
	}
	return priority, true
}

func (d device) rank(provider string) (rank uint32, ok bool) {
	for _, c := range carriers {
		if d.over&c.needs == 0 {
			continue
		}
		if c.provider == provider {
			return rank, true
		}
		rank++
	}
	return 0, false
}

// scanner reads below one sysfs folder.
type scanner struct{ root string }

// limits against a sysfs that is none
const (
	attributeLimit = 4096
	entriesLimit   = 4096
)

func (s scanner) attribute(parts ...string) string {
	f, err := os.Open(filepath.Join(parts...))
	if err != nil {
		return "" // attributes differ from driver to driver
	}
	defer f.Close()
	text := make([]byte, attributeLimit)
	n, _ := f.Read(text) // sysfs gives an attribute in one read
	return strings.TrimSpace(string(text[:n]))
}

func (s scanner) list(parts ...string) ([]string, error) {
	dir, err := os.Open(filepath.Join(parts...))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(entriesLimit)
	slices.Sort(names)
	if errors.Is(err, io.EOF) {
		err = nil // an empty folder
	}
	return names, err
}

func (s scanner) devices() ([]device, error) {
	class := filepath.Join(s.root, "class", "net")
	names, err := s.list(class)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "cannot list network interfaces")
	}
	rdma, cxi := s.netDevices("infiniband"), s.netDevices("cxi")
	var devices []device
	for _, name := range names {
		dir := filepath.Join(class, name)
		kind, err := strconv.ParseUint(s.attribute(dir, "type"), 10, 32)
		d := device{name: name, class: uint32(kind), over: overIP}
		if err != nil || !slices.Contains([]uint32{Ethernet, InfiniBand, Loopback}, d.class) || !s.up(dir, d.class) {
			continue
		}
		physical := s.physical(class, name)
		d.numa = s.numa(filepath.Join(class, physical))
		if rdma[name] || rdma[physical] {
			d.over |= overRDMA
		}
		if cxi[name] || cxi[physical] {
			d.over |= overCXI
		}
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b device) int {
		return cmp.Or(cmp.Compare(a.numa, b.numa), cmp.Compare(a.name, b.name))
	})
	return devices, nil
}

// netDevices are the interfaces of the cards in a device class such as infiniband.
func (s scanner) netDevices(class string) map[string]bool {
	has := make(map[string]bool)
	cards, err := s.list(s.root, "class", class)
	if err != nil {
		return has
	}
	for _, card := range cards {
		names, err := s.list(s.root, "class", class, card, "device", "net")
		if err != nil {
			continue
		}
		for _, name := range names {
			has[name] = true
		}
	}
	return has
}

// up reports whether an interface can carry traffic. Drivers without a link, the
// loopback first, say "unknown" while they work; of InfiniBand a port must be
// active, whatever IP over it says.
func (s scanner) up(dir string, class uint32) bool {
	if class == InfiniBand {
		if states := s.portStates(dir); len(states) > 0 {
			return slices.ContainsFunc(states, func(state string) bool { return strings.HasPrefix(state, "4") })
		}
	}
	switch s.attribute(dir, "operstate") {
	case "up", "unknown":
		return true
	}
	return false
}

func (s scanner) portStates(dir string) (states []string) {
	paths, err := filepath.Glob(filepath.Join(dir, "device", "infiniband", "*", "ports", "*", "state"))
	if err != nil {
		return nil
	}
	for _, path := range paths {
		states = append(states, s.attribute(path))
	}
	return states
}

// physical is the interface that a virtual one (VLAN, bond, bridge) stands on, one
// level down; the name itself when it has a device or nothing below.
func (s scanner) physical(class, name string) string {
	if _, err := os.Stat(filepath.Join(class, name, "device")); err == nil {
		return name
	}
	names, err := s.list(class, name)
	if err != nil {
		return name
	}
	for _, entry := range names {
		if lower, ok := strings.CutPrefix(entry, "lower_"); ok {
			return lower
		}
	}
	return name
}

// numa looks for numa_node at the device and above: that of a virtio card is at
// its PCI function, one level up. Node 0 when nobody says, as with one node.
func (s scanner) numa(dir string) uint32 {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return 0
	}
	top, err := filepath.EvalSymlinks(s.root)
	if err != nil {
		return 0
	}
	for strings.HasPrefix(real, top+"/") {
		if node, err := strconv.ParseInt(s.attribute(real, "numa_node"), 10, 32); err == nil {
			return uint32(max(node, 0))
		}
		real = filepath.Dir(real)
	}
	return 0
}

// cores counts NUMA nodes and the physical cores of each; threads of a core
// count once. A kernel without NUMA has one node.
func (s scanner) cores() (nodes, perNode uint32) {
	names, _ := s.list(s.root, "devices", "system", "node")
	for _, name := range names {
		if numbered(name, "node") {
			nodes++
		}
	}
	nodes = max(nodes, 1)
	type core struct{ pkg, id string }
	seen := make(map[core]bool)
	cpus, _ := s.list(s.root, "devices", "system", "cpu")
	for _, cpu := range cpus {
		if !numbered(cpu, "cpu") {
			continue
		}
		dir := filepath.Join(s.root, "devices", "system", "cpu", cpu, "topology")
		c := core{s.attribute(dir, "physical_package_id"), s.attribute(dir, "core_id")}
		if c.id == "" {
			if s.attribute(filepath.Dir(dir), "online") == "0" {
				continue
			}
			c.id = cpu // no topology: every processor is a core
		}
		seen[c] = true
	}
	return nodes, uint32(len(seen)) / nodes
}

func numbered(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	_, err := strconv.ParseUint(rest, 10, 32)
	return ok && err == nil
}
