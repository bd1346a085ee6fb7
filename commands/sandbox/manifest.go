package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"daosbox/cluster/fault"
)

// manifest is sandbox.json: what was decided when the sandbox was made. It marks
// the directory as one that down may remove.
type manifest struct {
	Version      int    `json:"version"`
	Dir          string `json:"dir"`
	System       string `json:"system"`
	Hosts        int    `json:"hosts"`
	RanksPerHost int    `json:"ranks_per_host"`
	Replicas     int    `json:"replicas"`
	Insecure     bool   `json:"insecure"`
	// Port is the control port of all hosts, each on an address of its own.
	Port int `json:"port"`
	// FabricPort is that of the first engine; all share an address, so each
	// engine has the next.
	FabricPort int `json:"fabric_port"`
	// SCMGiB and NVMeGiB are the sizes of one engine's tiers.
	SCMGiB  int `json:"scm_gib"`
	NVMeGiB int `json:"nvme_gib"`
	Targets int `json:"targets"`
	// Agent is set when the last up started one.
	Agent bool `json:"agent"`
}

const (
	manifestVersion = 1
	systemName      = "daos_server"
	// maxManifest bounds what is read of a file that claims to be a manifest.
	maxManifest = 1 << 16
	// nvmeGiB is sparse: it costs what is written.
	nvmeGiB       = 16
	targetsOfRank = 2
	// clusterMiB is the unit in which a target's NVMe is given to pools. An engine's
	// usual GiB would double pools whose targets want a little more than one.
	clusterMiB = 32
	// poolGB is a pool's share of a rank that suits these tiers: an engine wants
	// at least 1 GiB of NVMe for each target.
	poolGB = 4
)

// poolSize is the size of a pool to begin with.
func poolSize(ranks int) string { return fmt.Sprintf("%dGB", poolGB*ranks) }

func (m manifest) ranks() int { return m.Hosts * m.RanksPerHost }

func (m manifest) control(host int) string {
	return net.JoinHostPort(hostAddress(host), strconv.Itoa(m.Port))
}

func (m manifest) fabricPort(host, engine int) int {
	return m.FabricPort + (host-1)*m.RanksPerHost + engine
}

// controls lists the control addresses of the first n hosts.
func (m manifest) controls(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = m.control(i + 1)
	}
	return all
}

func (m manifest) replicas() []string { return m.controls(m.Replicas) }

// The bounds of a sandbox: hosts share 127.0.0.0/24, engines the loopback's ports.
const (
	maxHosts        = 250
	maxRanksPerHost = 16
)

func (m manifest) check() error {
	switch {
	case m.Hosts < 1 || m.Hosts > maxHosts:
		return fault.New(fault.Usage, "cannot make a sandbox of %d hosts", m.Hosts).WithHint("--hosts takes 1 to %d", maxHosts)
	case m.RanksPerHost < 1 || m.RanksPerHost > maxRanksPerHost:
		return fault.New(fault.Usage, "cannot make a sandbox of %d ranks per host", m.RanksPerHost).WithHint("--ranks-per-host takes 1 to %d", maxRanksPerHost)
	case m.Replicas < 1 || m.Replicas > m.Hosts:
		return fault.New(fault.Usage, "cannot make %d replicas on %d host(s)", m.Replicas, m.Hosts).WithHint("--replicas takes an odd number up to that of the hosts")
	case m.Replicas%2 == 0:
		return fault.New(fault.Usage, "cannot make an even number of replicas (%d)", m.Replicas).
			WithHint("an odd number survives as many failures with one replica less")
	case m.SCMGiB < 1 || m.SCMGiB > 1024:
		return fault.New(fault.Usage, "cannot make an SCM of %d GiB", m.SCMGiB).WithHint("--scm-size takes 1 to 1024")
	case m.Port < 0 || m.Port > 65535:
		return fault.New(fault.Usage, "cannot use port %d", m.Port).WithHint("--port takes 1 to 65535, or 0 for a free one")
	}
	return nil
}

// readManifest reads the manifest of a sandbox; a directory without one is
// fault.NotFound.
func readManifest(l layout) (manifest, error) {
	var m manifest
	data, err := os.ReadFile(l.manifest())
	if errors.Is(err, fs.ErrNotExist) {
		return m, fault.Wrap(fault.NotFound, err, "cannot use %s: it is no sandbox", l.dir).
			WithHint("make one with `daosbox sandbox up --dir %s`", l.dir)
	}
	if err != nil {
		return m, fault.Wrap(fault.Permission, err, "cannot read the sandbox")
	}
	if len(data) > maxManifest {
		return m, corrupt(l, fmt.Errorf("it has %d bytes", len(data)))
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, corrupt(l, err)
	}
	if m.Version != manifestVersion {
		return m, corrupt(l, fmt.Errorf("it is of version %d, this is version %d", m.Version, manifestVersion))
	}
	if err := m.check(); err != nil {
		return m, corrupt(l, err)
	}
	if m.Dir != l.dir {
		return m, fault.New(fault.Refused, "cannot use %s: this sandbox was made as %s, and its files name that path", l.dir, m.Dir).
			WithHint("move it back, or make a new one")
	}
	return m, nil
}

func corrupt(l layout, err error) error {
	return fault.Wrap(fault.Corrupt, err, "cannot use %s", l.manifest()).
		WithHint("put it back as it was; or `daosbox sandbox down --dir %s` stops what runs, and with --purge --force removes the sandbox", l.dir)
}

func writeManifest(l layout, m manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode the manifest: %w", err)
	}
	return writeFile(l.manifest(), append(data, '\n'), 0o644)
}

// writeFile writes aside, syncs and renames.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return unwritten(path, err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return unwritten(path, err)
	}
	return nil
}

func unwritten(path string, err error) error {
	return fault.Wrap(fault.Permission, err, "cannot write %s", path).WithHint("is the directory writable, and is there space?")
}

// emptyOrNew reports whether a directory may become a sandbox: it holds nothing,
// or it does not exist yet.
func emptyOrNew(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Usage, err, "cannot use %s as a sandbox", dir)
	}
	for _, entry := range entries {
		if entry.Name() != "sandbox.lock" {
			return fault.New(fault.Refused, "cannot make a sandbox in %s: it holds other files (%s)", dir, entry.Name()).
				WithHint("use a new directory")
		}
	}
	return nil
}
