package agent

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/config"
	"daosbox/commands/control"
	"daosbox/commands/fabric"
	"daosbox/engine/drpc/pb"
)

// device is a fabric interface as a client is told of it.
type device struct{ name, domain string }

// maxDeviceName is the longest name that libdaos takes, in bytes.
const maxDeviceName = 63

// devices are the interfaces that clients can be given under one hint of the
// servers. Of those of a node each client gets the next.
type devices struct {
	byNode [][]device // index is the NUMA node
	next   []atomic.Uint32
	other  atomic.Uint32 // turn of clients on nodes without a device
	// carries tells of every interface of the host whether it has the provider;
	// nil when the configuration lists the interfaces.
	carries map[string]bool
	domains map[string]string // of the interfaces that carry it
}

func newDevices(nodes int) *devices {
	return &devices{byNode: make([][]device, nodes), next: make([]atomic.Uint32, nodes), domains: make(map[string]string)}
}

// pick chooses for a client that runs on the node: what it wishes, else the next
// device of the node, else the next of any other.
func (d *devices) pick(node int, wish device) (device, error) {
	if wish.name != "" {
		return d.wished(wish)
	}
	if node < len(d.byNode) && len(d.byNode[node]) > 0 {
		own := d.byNode[node]
		return own[int((d.next[node].Add(1)-1)%uint32(len(own)))], nil
	}
	all := slices.Concat(d.byNode...)
	if len(all) == 0 {
		return device{}, fault.New(fault.NotFound, "cannot choose a fabric interface: none of this host has an address and the provider and device class of the servers").
			WithHint("compare `daos_agent net-scan` with fabric_iface and provider of the servers, or list interfaces in fabric_ifaces")
	}
	return all[int((d.other.Add(1)-1)%uint32(len(all)))], nil
}

func (d *devices) wished(wish device) (device, error) {
	if has, known := d.carries[wish.name]; known && !has {
		return device{}, fault.New(fault.NotFound, "cannot give the client interface %q: it does not have the provider of the servers", wish.name).
			WithHint("`daos_agent net-scan` lists what it has; unset D_INTERFACE to have one chosen")
	}
	wish.domain = cmp.Or(wish.domain, d.domains[wish.name], wish.name)
	return wish, nil
}

// message lists the devices for clients that choose by themselves.
func (d *devices) message(provider string) []*pb.FabricInterfaces {
	all := make([]*pb.FabricInterfaces, len(d.byNode))
	for node, own := range d.byNode {
		all[node] = &pb.FabricInterfaces{NumaNode: uint32(node)}
		for _, one := range own {
			all[node].Ifaces = append(all[node].Ifaces, &pb.FabricInterface{
				NumaNode: uint32(node), Interface: one.name, Domain: one.domain, Provider: provider})
		}
	}
	return all
}

// chooser finds the devices. What it found stays until forget: an interface that
// comes up later is no reason to look at each client's start.
type chooser struct {
	sysfs            string
	include, exclude []string
	listed           []*config.NUMAFabric
	uncached         bool
	addressed        func(name string) bool

	mu    sync.Mutex
	found map[network]*devices
}

// network is what the servers' hint says of the devices clients need.
type network struct {
	provider string
	class    uint32
}

func newChooser(cfg *config.Agent) *chooser {
	return &chooser{sysfs: "/sys", include: cfg.IncludeFabricIfaces, exclude: cfg.ExcludeFabricIfaces,
		listed: cfg.FabricIfaces, addressed: addressed}
}

// addressed reports whether an interface has an IP address.
func addressed(name string) bool {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return false
	}
	addrs, err := iface.Addrs()
	return err == nil && len(addrs) > 0
}

func (c *chooser) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = nil
}

// scanPause is the time between two looks at a host whose interfaces are not up.
const scanPause = time.Second

// devices returns what suits the hint. While the host has no interface at all it
// waits for one, as after a boot.
func (c *chooser) devices(ctx context.Context, hint control.NetHint) (*devices, error) {
	want := network{hint.Provider, hint.NetDevClass}
	for {
		found, err := c.look(want)
		if err == nil || !errors.Is(err, fault.Kind(fault.NotFound)) {
			return found, err
		}
		timer := time.NewTimer(scanPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

func (c *chooser) look(want network) (*devices, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.found[want]; found != nil && !c.uncached {
		return found, nil
	}
	found, err := c.scan(want)
	if err != nil {
		return nil, err
	}
	if c.found == nil || len(c.found) >= maxVariants {
		c.found = make(map[network]*devices)
	}
	c.found[want] = found
	return found, nil
}

func (c *chooser) scan(want network) (*devices, error) {
	if len(c.listed) > 0 {
		return fromConfig(c.listed), nil
	}
	host, err := fabric.Scan(c.sysfs, "all")
	if err != nil {
		return nil, err
	}
	// None that carries it is no error here: a client may know better.
	able, err := fabric.Scan(c.sysfs, want.provider)
	if err != nil && !errors.Is(err, fault.Kind(fault.NotFound)) {
		return nil, err
	}
	nodes := int(host.NumaCount)
	for _, i := range host.Interfaces {
		nodes = max(nodes, int(i.NumaNode)+1)
	}
	d := newDevices(nodes)
	d.carries = make(map[string]bool)
	for _, i := range host.Interfaces {
		d.carries[i.Device] = false
	}
	for _, i := range able.Interfaces {
		domain := domainOf(c.sysfs, i.Device, want.provider)
		d.carries[i.Device], d.domains[i.Device] = true, domain
		if i.NetDevClass == want.class && c.allowed(i.Device) && c.addressed(i.Device) {
			d.byNode[i.NumaNode] = append(d.byNode[i.NumaNode], device{i.Device, domain})
		}
	}
	return d, nil
}

func (c *chooser) allowed(name string) bool {
	if len(c.include) > 0 {
		return slices.Contains(c.include, name)
	}
	return !slices.Contains(c.exclude, name)
}

// fromConfig takes the interfaces of the configuration as they are.
func fromConfig(listed []*config.NUMAFabric) *devices {
	nodes := 1
	for _, l := range listed {
		nodes = max(nodes, min(l.NUMANode+1, maxNodes))
	}
	d := newDevices(nodes)
	for _, l := range listed {
		if l.NUMANode >= maxNodes {
			continue
		}
		for _, one := range l.Devices {
			domain := cmp.Or(one.Domain, one.Iface)
			d.byNode[l.NUMANode] = append(d.byNode[l.NUMANode], device{one.Iface, domain})
			d.domains[one.Iface] = domain
		}
	}
	return d
}

// domainOf is the name under which a provider knows an interface: that of the
// card for verbs and cxi, its own otherwise.
func domainOf(sysfs, name, provider string) string {
	class := ""
	switch {
	case strings.Contains(provider, "verbs"):
		class = "infiniband"
	case strings.Contains(provider, "cxi"):
		class = "cxi"
	default:
		return name
	}
	cards, err := os.ReadDir(filepath.Join(sysfs, "class", "net", name, "device", class))
	if err != nil || len(cards) == 0 {
		return name
	}
	return cards[0].Name()
}
