package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
)

// write makes the files of a sandbox that are missing. What is there stays, since
// users edit configurations; only the files that list the hosts follow a growth.
func write(l layout, m manifest, executable string, links []string) error {
	if err := l.mkdirs(m); err != nil {
		return err
	}
	if err := linkAll(l, executable, links); err != nil {
		return err
	}
	if !m.Insecure {
		if err := pki.Init(l.certs(), pki.InitOptions{CAName: "DAOS sandbox CA"}); err != nil && !errors.Is(err, fault.Kind(fault.Exists)) {
			return err
		}
	}
	for host := 1; host <= m.Hosts; host++ {
		if err := writeMissing(l.serverConfig(host), serverConfig(l, m, host)); err != nil {
			return err
		}
	}
	if err := writeMissing(l.agentConfig(), agentConfig(l, m)); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join("agent", "daos_agent.yml"), l.agentLink()); err != nil && !errors.Is(err, fs.ErrExist) {
		return unwritten(l.agentLink(), err)
	}
	if err := writeMissing(l.controlConfig(), controlConfig(l, m)); err != nil {
		return err
	}
	return writeMissing(l.envScript(), envScript(l))
}

func writeMissing(path, text string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return writeFile(path, []byte(text), 0o644)
}

// linkAll makes the names in bin lead to the executable, also after it moved.
func linkAll(l layout, executable string, links []string) error {
	if _, err := os.Stat(executable); err != nil {
		return fault.Wrap(fault.Internal, err, "cannot find this executable").WithHint("it was replaced while it ran; run it again")
	}
	for _, name := range links {
		path := filepath.Join(l.bin(), name)
		if target, err := os.Readlink(path); err == nil && target == executable {
			continue
		}
		aside := path + ".new"
		_ = os.Remove(aside)
		if err := errors.Join(os.Symlink(executable, aside), os.Rename(aside, path)); err != nil {
			return unwritten(path, err)
		}
	}
	return nil
}

// quoted is a YAML string: double-quoted scalars are read as JSON's.
func quoted(text string) string { return fmt.Sprintf("%q", text) }

func quotedList(texts []string) string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = quoted(text)
	}
	return "[" + strings.Join(all, ", ") + "]"
}

const editable = "# Made by `daosbox sandbox up`. Edit it while the sandbox is down; it stays as it is.\n"

func serverConfig(l layout, m manifest, host int) string {
	var b bytes.Buffer
	b.WriteString(editable)
	fmt.Fprintf(&b, "name: %s\n", quoted(m.System))
	fmt.Fprintf(&b, "port: %d\n", m.Port)
	fmt.Fprintf(&b, "control_addr: %s\n", hostAddress(host))
	fmt.Fprintf(&b, "mgmt_svc_replicas: %s\n", quotedList(m.replicas()))
	fmt.Fprintf(&b, "socket_dir: %s\n", quoted(l.serverRun(host)))
	fmt.Fprintf(&b, "control_log_file: %s\n", quoted(l.serverLog(host)))
	fmt.Fprintf(&b, "fault_path: /%s\n", hostName(host))
	b.WriteString("provider: ofi+tcp\n")
	b.WriteString("engine_binary: emulator\n")
	b.WriteString("disable_hugepages: true\n")
	b.WriteString("disable_vfio: true\n")
	b.WriteString("system_ram_reserved: 1\n")
	transport(&b, l, m, "server")
	b.WriteString("engines:\n")
	for engine := range m.RanksPerHost {
		fmt.Fprintf(&b, "- targets: %d\n", m.Targets)
		b.WriteString("  nr_xs_helpers: 0\n")
		b.WriteString("  fabric_iface: lo\n")
		fmt.Fprintf(&b, "  fabric_iface_port: %d\n", m.fabricPort(host, engine))
		fmt.Fprintf(&b, "  log_file: %s\n", quoted(l.engineLog(host, engine)))
		fmt.Fprintf(&b, "  env_vars: [DAOS_BS_CLUSTER_MB=%d] # pools get whole clusters of NVMe; the engine's own 1024 would waste much of so little\n", clusterMiB)
		b.WriteString("  storage:\n")
		b.WriteString("  - class: dir\n")
		fmt.Fprintf(&b, "    scm_mount: %s\n", quoted(l.scm(host, engine)))
		fmt.Fprintf(&b, "    scm_size: %d\n", m.SCMGiB)
		b.WriteString("  - class: file\n")
		fmt.Fprintf(&b, "    bdev_list: %s\n", quotedList([]string{l.nvme(host, engine)}))
		fmt.Fprintf(&b, "    bdev_size: %d\n", m.NVMeGiB)
	}
	return b.String()
}

func agentConfig(l layout, m manifest) string {
	var b bytes.Buffer
	b.WriteString(editable)
	fmt.Fprintf(&b, "name: %s\n", quoted(m.System))
	fmt.Fprintf(&b, "port: %d\n", m.Port)
	fmt.Fprintf(&b, "access_points: %s\n", quotedList(m.replicas()))
	fmt.Fprintf(&b, "runtime_dir: %s\n", quoted(l.agentRun()))
	fmt.Fprintf(&b, "log_file: %s\n", quoted(l.agentLog()))
	b.WriteString("fabric_ifaces: # the engines are on loopback, which is not chosen by itself\n- numa_node: 0\n  devices:\n  - iface: lo\n    domain: lo\n")
	transport(&b, l, m, "agent")
	return b.String()
}

func controlConfig(l layout, m manifest) string {
	var b bytes.Buffer
	b.WriteString(editable)
	fmt.Fprintf(&b, "name: %s\n", quoted(m.System))
	fmt.Fprintf(&b, "port: %d\n", m.Port)
	fmt.Fprintf(&b, "hostlist: %s\n", quotedList(m.controls(m.Hosts)))
	transport(&b, l, m, "admin")
	return b.String()
}

func transport(b *bytes.Buffer, l layout, m manifest, role string) {
	b.WriteString("transport_config:\n")
	if m.Insecure {
		b.WriteString("  allow_insecure: true\n")
		return
	}
	file := func(key, name string) { fmt.Fprintf(b, "  %s: %s\n", key, quoted(filepath.Join(l.certs(), name))) }
	b.WriteString("  allow_insecure: false\n")
	if role == "server" {
		file("client_cert_dir", "clients")
	}
	file("ca_cert", "daosCA.crt")
	file("cert", role+".crt")
	file("key", role+".key")
}

// envScript is for a shell that works in the sandbox.
func envScript(l layout) string {
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	return "# Source this file: dmg, daos_agent and daosbox are then those of this sandbox.\n" +
		"PATH=" + quote(l.bin()) + ":$PATH\n" +
		"DAOS_AGENT_DRPC_DIR=" + quote(l.agentRun()) + "\n" +
		"export PATH DAOS_AGENT_DRPC_DIR\n"
}
