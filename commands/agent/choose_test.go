package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/commands/config"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// host makes a sysfs with two NUMA nodes: Ethernet eth0 and InfiniBand ib0, ib1 on
// node 0 and 1, bare (without an address) on node 1, and the loopback.
func host(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string) { put(t, filepath.Join(root, path), text) }
	interfaces := []struct{ name, kind, node, card string }{
		{"lo", "772", "", ""}, {"eth0", "1", "0", ""}, {"ib0", "32", "0", "mlx5_0"}, {"ib1", "32", "1", "mlx5_1"}, {"bare", "32", "1", "mlx5_2"},
	}
	for _, i := range interfaces {
		dir := filepath.Join("class/net", i.name)
		write(filepath.Join(dir, "type"), i.kind)
		write(filepath.Join(dir, "operstate"), "up")
		if i.node != "" {
			write(filepath.Join("devices", i.name, "numa_node"), i.node)
			link(t, filepath.Join(root, "devices", i.name), filepath.Join(root, dir, "device"))
		}
		if i.card != "" {
			write(filepath.Join("devices", i.name, "infiniband", i.card, "ports/1/state"), "4: ACTIVE")
			write(filepath.Join("devices", i.name, "net", i.name, "type"), i.kind)
			link(t, filepath.Join(root, "devices", i.name), filepath.Join(root, "class/infiniband", i.card, "device"))
		}
	}
	write("devices/system/node/node0/cpulist", "0-3,8-11")
	write("devices/system/node/node1/cpulist", "4-7")
	write("devices/system/node/node2/cpulist", "") // memory only
	return root
}

func put(t *testing.T, path, text string) {
	t.Helper()
	is := is.New(t)
	is.NoErr(os.MkdirAll(filepath.Dir(path), 0o755))
	is.NoErr(os.WriteFile(path, []byte(text+"\n"), 0o644))
}

func link(t *testing.T, target, path string) {
	t.Helper()
	is := is.New(t)
	is.NoErr(os.MkdirAll(filepath.Dir(path), 0o755))
	is.NoErr(os.Symlink(target, path))
}

func newTestChooser(t *testing.T) *chooser {
	return &chooser{sysfs: host(t), addressed: func(name string) bool { return name != "bare" }}
}

func TestChoice(t *testing.T) {
	verbs := control.NetHint{Provider: "ofi+verbs;ofi_rxm", NetDevClass: 32}
	tcp := control.NetHint{Provider: "ofi+tcp", NetDevClass: 1}
	tests := []struct {
		name   string
		change func(*chooser)
		hint   control.NetHint
		node   int
		wish   device
		want   string // "interface domain", or a part of the error after "!"
	}{
		{"the node's own", nil, verbs, 1, device{}, "ib1 mlx5_1"},
		{"another node's own", nil, verbs, 0, device{}, "ib0 mlx5_0"},
		{"by the class of the servers", nil, tcp, 0, device{}, "eth0 eth0"},
		{"of another node, where the own has none", nil, tcp, 1, device{}, "eth0 eth0"},
		{"on a node that nobody knows", nil, tcp, 9, device{}, "eth0 eth0"},
		{"excluded", func(c *chooser) { c.exclude = []string{"ib1"} }, verbs, 1, device{}, "ib0 mlx5_0"},
		{"included", func(c *chooser) { c.include = []string{"ib1"} }, verbs, 0, device{}, "ib1 mlx5_1"},
		{"none of the class", nil, control.NetHint{Provider: "ofi+tcp", NetDevClass: 5}, 0, device{}, "!none of this host"},
		{"a wish", nil, verbs, 1, device{"ib0", ""}, "ib0 mlx5_0"},
		{"a wish with domain", nil, verbs, 1, device{"ib0", "mlx5_9"}, "ib0 mlx5_9"},
		{"a wish of another class", nil, tcp, 1, device{"ib0", ""}, "ib0 ib0"},
		{"a wish for the unknown", nil, verbs, 1, device{"ib9", ""}, "ib9 ib9"},
		{"a wish without the provider", nil, verbs, 1, device{"eth0", ""}, "!does not have the provider"},
		{"listed in the configuration", func(c *chooser) {
			c.listed = []*config.NUMAFabric{{NUMANode: 1, Devices: []*config.FabricDevice{{Iface: "hsn0", Domain: "cxi0"}}}}
		}, verbs, 1, device{}, "hsn0 cxi0"},
		{"listed without domain, for a wish too", func(c *chooser) {
			c.listed = []*config.NUMAFabric{{Devices: []*config.FabricDevice{{Iface: "hsn0"}}}}
		}, verbs, 0, device{"eth0", ""}, "eth0 eth0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			is := is.New(t)
			c := newTestChooser(t)
			if test.change != nil {
				test.change(c)
			}
			d, err := c.devices(t.Context(), test.hint)
			is.NoErr(err)
			got, err := d.pick(test.node, test.wish)
			if part, bad := strings.CutPrefix(test.want, "!"); bad {
				is.True(err != nil && strings.Contains(err.Error(), part))
				is.True(fault.HintOf(err) != "")
				return
			}
			is.NoErr(err)
			is.Equal(got.name+" "+got.domain, test.want)
		})
	}
}

func TestDevicesOfANodeTakeTurns(t *testing.T) {
	is := is.New(t)
	c := newTestChooser(t)
	c.listed = []*config.NUMAFabric{{Devices: []*config.FabricDevice{{Iface: "a"}, {Iface: "b"}}}, {NUMANode: 1, Devices: []*config.FabricDevice{{Iface: "c"}}}}
	d, err := c.devices(t.Context(), control.NetHint{})
	is.NoErr(err)
	var names []string
	for range 4 {
		got, err := d.pick(0, device{})
		is.NoErr(err)
		names = append(names, got.name)
	}
	is.Equal(names, []string{"a", "b", "a", "b"})
	names = nil
	for range 3 {
		got, err := d.pick(5, device{})
		is.NoErr(err)
		names = append(names, got.name)
	}
	is.Equal(names, []string{"a", "b", "c"}) // of all nodes
	is.Equal(len(d.message("p")), 2)
	is.Equal(d.message("p")[1].GetIfaces()[0].GetInterface(), "c")
}

func TestInterfacesAreLookedForOnce(t *testing.T) {
	is := is.New(t)
	c := newTestChooser(t)
	hint := control.NetHint{Provider: "ofi+tcp", NetDevClass: 1}
	first, err := c.devices(t.Context(), hint)
	is.NoErr(err)
	put(t, filepath.Join(c.sysfs, "class/net/eth1/type"), "1")
	put(t, filepath.Join(c.sysfs, "class/net/eth1/operstate"), "up")
	again, err := c.devices(t.Context(), hint)
	is.NoErr(err)
	is.Equal(first, again)
	c.forget()
	fresh, err := c.devices(t.Context(), hint)
	is.NoErr(err)
	is.Equal(len(fresh.byNode[0]), 2)
}

func TestNodeOfAProcess(t *testing.T) {
	sysfs := host(t)
	proc := t.TempDir()
	const stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1 1 1 1 1 1 1 0 0 0 0 0 0 0 17 "
	tests := []struct {
		name, allowed, cpu string
		node               int
	}{
		{"bound to node 0", "1", "1", 0},
		{"bound to node 1", "4,6-7", "6", 1},
		{"bound to both, runs on 1", "0-11", "5", 1},
		{"bound to both, runs on 0", "0-11", "9", 0},
		{"bound to what no node has", "64", "64", 0},
		{"unreadable", "", "", 0},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pid := int32(100 + i)
			dir := filepath.Join(proc, "10"+string(rune('0'+i)))
			put(t, filepath.Join(dir, "status"), "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t"+test.allowed)
			put(t, filepath.Join(dir, "stat"), stat+test.cpu+" 0 0 0 0 0 0 0 0 0 0 0 0 0")
			is.New(t).Equal(newNUMA(proc, sysfs).node(pid), test.node)
		})
	}
	is := is.New(t)
	n := newNUMA(proc, sysfs)
	is.Equal(n.node(0), 0)     // of another pid namespace
	is.Equal(n.node(99999), 0) // gone
	is.Equal(newNUMA(proc, t.TempDir()).node(101), 0)
	start, ok := statValue(stat, statStart)
	is.True(ok)
	is.Equal(start, "12345") // the name holds brackets
}

func FuzzParseCPUs(f *testing.F) {
	for _, text := range []string{"0-3,8-11", "", "5", "3-1", ",,", "99999999999999999999", "-1", "0-"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range parseCPUs(text) {
			if r[0] < 0 || r[1] < r[0] {
				t.Fatal(r)
			}
		}
		statValue(text, statCPU)
	})
}
