package fabric

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// tree makes the sysfs that testdata/<name>.txt lists, a line for each file
// ("path content") or link ("path -> target").
func tree(t *testing.T, name string) string {
	t.Helper()
	is := is.New(t)
	text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	is.NoErr(err)
	root := t.TempDir()
	for _, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		path, content, _ := strings.Cut(line, " ")
		path = filepath.Join(root, path)
		is.NoErr(os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			is.NoErr(os.Symlink(target, path))
			continue
		}
		is.NoErr(os.WriteFile(path, []byte(content+"\n"), 0o644))
	}
	return root
}

func rows(h Host) (rows []string) {
	for _, i := range h.Interfaces {
		rows = append(rows, fmt.Sprintf("%s %s numa %d priority %d class %d", i.Device, i.Provider, i.NumaNode, i.Priority, i.NetDevClass))
	}
	return rows
}

func TestScan(t *testing.T) {
	for _, c := range []struct {
		tree, provider string
		want           []string
	}{
		{"rdma", "ofi+tcp", []string{
			"lo ofi+tcp numa 0 priority 0 class 772",
			"eth0 ofi+tcp numa 1 priority 0 class 1",
			"eth0.7 ofi+tcp numa 1 priority 0 class 1",
			"ib0 ofi+tcp numa 1 priority 1 class 32",
		}},
		{"rdma", "ofi+verbs;ofi_rxm", []string{"ib0 ofi+verbs;ofi_rxm numa 1 priority 0 class 32"}},
		{"rdma", "ofi+verbs", []string{"ib0 ofi+verbs numa 1 priority 0 class 32"}},
		{"rdma", "ofi+tcp,verbs", []string{"ib0 ofi+tcp,verbs numa 1 priority 1 class 32"}},
		{"slingshot", "ofi+cxi", []string{"hsn0 ofi+cxi numa 0 priority 0 class 1"}},
		{"container", "all", []string{
			"eth0 ofi+tcp numa 0 priority 0 class 1",
			"eth0 ofi+tcp;ofi_rxm numa 0 priority 1 class 1",
			"eth0 ofi+sockets numa 0 priority 2 class 1",
			"eth0 ucx+tcp numa 0 priority 3 class 1",
			"lo ofi+tcp numa 0 priority 0 class 772",
			"lo ofi+tcp;ofi_rxm numa 0 priority 1 class 772",
			"lo ofi+sockets numa 0 priority 2 class 772",
			"lo ucx+tcp numa 0 priority 3 class 772",
		}},
	} {
		t.Run(c.tree+" "+c.provider, func(t *testing.T) {
			is := is.New(t)
			h, err := Scan(tree(t, c.tree), c.provider)
			is.NoErr(err)
			is.Equal(rows(h), c.want)
		})
	}
}

func TestScanCountsCores(t *testing.T) {
	for _, c := range []struct {
		tree         string
		nodes, cores uint32
	}{
		{"rdma", 2, 2},      // threads of a core count once
		{"container", 1, 2}, // no NUMA, no topology, one processor offline
		{"slingshot", 1, 1},
	} {
		t.Run(c.tree, func(t *testing.T) {
			is := is.New(t)
			h, err := Scan(tree(t, c.tree), "")
			is.NoErr(err)
			is.Equal(h.NumaCount, c.nodes)
			is.Equal(h.CoresPerNuma, c.cores)
		})
	}
}

func TestScanWithoutLoopback(t *testing.T) {
	is := is.New(t)
	h, err := Scan(tree(t, "container"), "ofi+tcp")
	is.NoErr(err)
	is.Equal(rows(h.WithoutLoopback()), []string{"eth0 ofi+tcp numa 0 priority 0 class 1"})
	is.Equal(len(h.Interfaces), 2) // the original keeps it
}

func TestScanFindsNothing(t *testing.T) {
	is := is.New(t)
	_, err := Scan(tree(t, "container"), "ofi+verbs")
	is.Equal(fault.Of(err), fault.NotFound)
	is.Equal(fault.HintOf(err), "this host has ofi+tcp, ofi+tcp;ofi_rxm, ofi+sockets, ucx+tcp")
	_, err = Scan(tree(t, "container"), "tcp") // a provider has its class before it
	is.Equal(fault.Of(err), fault.NotFound)
	_, err = Scan(t.TempDir(), "all")
	is.Equal(fault.Of(err), fault.NotFound)
	is.True(strings.Contains(err.Error(), "no network interface is up"))
}

func TestScanThisHost(t *testing.T) {
	is := is.New(t)
	h, err := Scan("", "")
	if fault.Of(err) == fault.NotFound {
		t.Skip("no network interface is up here")
	}
	is.NoErr(err)
	is.True(h.NumaCount >= 1)
	is.True(h.CoresPerNuma >= 1)
	data, err := json.Marshal(h.Interfaces[0])
	is.NoErr(err)
	var keys map[string]any
	is.NoErr(json.Unmarshal(data, &keys))
	for _, key := range []string{"Provider", "Device", "NumaNode", "Priority", "NetDevClass"} {
		_, ok := keys[key]
		is.True(ok) // key of 'network scan'
	}
}
