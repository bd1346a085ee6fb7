package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs, got:\n%s", name, got)
	}
}

// readFull reads the file that sets every key.
func readFull(t *testing.T) *Server {
	t.Helper()
	data, err := os.ReadFile("testdata/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	s, hints, err := CheckServer("full.yml", data, ServerOverrides{})
	if err != nil || len(hints) != 0 {
		t.Fatal(err, hints)
	}
	return s
}

func TestActive(t *testing.T) {
	is := is.New(t)
	for name, s := range map[string]*Server{"full": readFull(t), "builtin": NewServer()} {
		_, err := s.Resolve(ServerOverrides{})
		is.NoErr(err)
		text, err := s.Marshal()
		is.NoErr(err)
		golden(t, name+".active.yml", string(text))
		again, hints, err := CheckServer("active", text, ServerOverrides{})
		is.NoErr(err) // reads back
		is.Equal(len(hints), 0)
		second, err := again.Marshal()
		is.NoErr(err)
		is.Equal(string(second), string(text)) // as the same
		golden(t, name+".summary", s.Summary())
	}
}

// The order of the keys, as documented for the newest release, with control_addr
// and engine_binary of ours among them; the deprecated ones never appear.
func TestActiveKeyOrder(t *testing.T) {
	top := `port control_iface control_addr transport_config engines bdev_exclude disable_vfio disable_vmd disable_hotplug
		nr_hugepages system_ram_reserved disable_hugepages allow_numa_imbalance allow_thp control_log_mask control_log_file
		control_log_json helper_log_file fault_path telemetry_port core_dump_filter client_env_vars support_config name
		socket_dir provider fabric_iface fabric_iface_port bypass_health_chk crt_timeout secondary_provider_endpoints
		disable_srx fabric_auth_key mgmt_svc_replicas control_metadata kernel_config_path fault_cb hyperthreads
		disable_engine_auto_restart engine_auto_restart_min_delay engine_binary`
	engine := `modules targets nr_xs_helpers first_core log_mask log_file storage acceleration spdk_rpc_server
		bdev_auto_faulty spdk_iobuf provider fabric_iface fabric_iface_port bypass_health_chk crt_timeout
		secondary_provider_endpoints disable_srx fabric_auth_key env_vars env_pass_through pinned_numa_node engine_binary`
	tier := `class scm_mount scm_size scm_hugepages_disabled scm_list bdev_list bdev_number bdev_size bdev_busid_range bdev_roles`
	always := `port transport_config engines disable_vfio disable_vmd disable_hotplug nr_hugepages system_ram_reserved
		disable_hugepages allow_numa_imbalance allow_thp control_log_mask name socket_dir mgmt_svc_replicas fault_cb
		hyperthreads disable_engine_auto_restart`
	for name, c := range map[string]struct {
		zero          any
		order, always string
	}{
		"top":    {Server{}, top, always},
		"engine": {Engine{}, engine, "nr_xs_helpers storage"},
		"tier":   {Tier{}, tier, "class"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			is.Equal(tagOrder(c.zero, false), strings.Fields(c.order))
			is.Equal(tagOrder(c.zero, true), strings.Fields(c.always)) // also when zero
		})
	}
}

func TestWriteActive(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	s := readFull(t)
	for range 2 { // also over an old one
		is.NoErr(WriteActive(dir, s))
	}
	info, err := os.Stat(filepath.Join(dir, ".daos_server.active.yml"))
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), os.FileMode(0o644))
	entries, err := os.ReadDir(dir)
	is.NoErr(err)
	is.Equal(len(entries), 1) // nothing is left behind
	is.True(WriteActive(filepath.Join(dir, "missing"), s) != nil)
}

func TestClientSummaries(t *testing.T) {
	is := is.New(t)
	a, _, err := CheckAgent("f", []byte("cache_expiration: 30\ntelemetry_port: 9192\n"), AgentOverrides{Insecure: true})
	is.NoErr(err)
	c, _, err := OpenControl("", ControlOverrides{HostList: "n[1-3]"})
	is.NoErr(err)
	golden(t, "clients.summary", a.Summary()+"\n"+c.Summary())
}

func TestNearest(t *testing.T) {
	is := is.New(t)
	names := []string{"provider", "port", "name"}
	for word, want := range map[string]string{
		"provder": "provider", "proivder": "provider", "prot": "port", "nam": "name", "x": "", "": "", "unrelated": "",
	} {
		is.Equal(Nearest(word, names), want)
	}
	is.True(slices.IsSorted(sortedAddresses([]string{"0000:81:00.0", "0000:05:00.0"})))
	is.True(regexp.MustCompile(`^0x`).MatchString(BusRange{1, 2}.String()))
}

// tagOrder lists the yaml keys of a struct, or only those without omitempty.
func tagOrder(v any, alwaysOnly bool) []string {
	var keys []string
	t := reflect.TypeOf(v)
	for i := range t.NumField() {
		name, option, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name != "" && (!alwaysOnly || option != "omitempty") {
			keys = append(keys, name)
		}
	}
	return keys
}
