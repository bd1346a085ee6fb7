package server

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"daosbox/cluster/fault"
	"daosbox/commands/config"

	"golang.org/x/sys/unix"
)

// resolveAll turns the replicas of the configuration into ip:port, the form in
// which servers know one another.
func resolveAll(ctx context.Context, replicas []string) ([]string, error) {
	var all []string
	for _, replica := range replicas {
		addr, err := resolve(ctx, replica)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	return all, nil
}

// codeBadReplica is the number of the inherited table for a replica that cannot
// be used.
const codeBadReplica fault.Code = 705

// resolve prefers IPv4, lowest address first, so that all servers agree.
func resolve(ctx context.Context, hostport string) (string, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", fault.Wrap(codeBadReplica, err, "cannot use replica %q", hostport)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", fault.Wrap(codeBadReplica, err, "cannot resolve replica %q", hostport).
			WithHint("correct mgmt_svc_replicas, or the name service of this host")
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortFunc(found, func(a, b netip.Addr) int {
		if a.Is4() != b.Is4() {
			if a.Is4() {
				return -1
			}
			return 1
		}
		return a.Compare(b)
	})
	return net.JoinHostPort(found[0].String(), port), nil
}

// listenAddress is where the control port is opened: one address when the
// configuration names it, all of IPv4 otherwise.
func listenAddress(cfg *config.Server) string {
	host := "0.0.0.0"
	switch {
	case cfg.ControlAddr != "":
		host = cfg.ControlAddr
	case cfg.ControlIface != "":
		if addr, err := interfaceAddress(cfg.ControlIface); err == nil {
			host = addr
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(cfg.Port))
}

// controlAddress is the address that others use for this server: the one it
// listens on when that is a single one, else its entry among the replicas, else
// the first address of the host that is no loopback.
func controlAddress(cfg *config.Server, replicas []string) (string, error) {
	port := strconv.Itoa(cfg.Port)
	if cfg.ControlAddr != "" {
		return net.JoinHostPort(cfg.ControlAddr, port), nil
	}
	if cfg.ControlIface != "" {
		addr, err := interfaceAddress(cfg.ControlIface)
		return net.JoinHostPort(addr, port), err
	}
	own, err := ownAddresses()
	if err != nil {
		return "", err
	}
	for _, replica := range replicas {
		host, replicaPort, _ := net.SplitHostPort(replica)
		if replicaPort == port && slices.Contains(own, host) {
			return replica, nil
		}
	}
	for _, addr := range own {
		if ip, err := netip.ParseAddr(addr); err == nil && !ip.IsLoopback() {
			return net.JoinHostPort(addr, port), nil
		}
	}
	return net.JoinHostPort("127.0.0.1", port), nil
}

func ownAddresses() ([]string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot list the addresses of this host")
	}
	return ipv4Of(addrs), nil
}

func ipv4Of(addrs []net.Addr) []string {
	var found []netip.Addr
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && prefix.Addr().Unmap().Is4() {
			found = append(found, prefix.Addr().Unmap())
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	texts := make([]string, len(found))
	for i, ip := range found {
		texts[i] = ip.String()
	}
	return texts
}

// codeBadInterface is the number of the inherited table for control_iface.
const codeBadInterface fault.Code = 739

func interfaceAddress(name string) (string, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return "", fault.Wrap(codeBadInterface, err, "cannot use control_iface %q", name).
			WithHint("`ip address` lists the interfaces of this host")
	}
	addrs, err := iface.Addrs()
	if err != nil {
		return "", fault.Wrap(codeBadInterface, err, "cannot use control_iface %q", name)
	}
	if own := ipv4Of(addrs); len(own) > 0 {
		return own[0], nil
	}
	return "", fault.New(codeBadInterface, "cannot use control_iface %q: it has no IPv4 address", name)
}

// checkSocketDir tells early what the dRPC socket would fail of.
func checkSocketDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Config, "cannot use socket_dir %s: it does not exist", dir).
			WithHint("make it (mkdir -p %s) and give it to the user of daos_server; systemd does so with RuntimeDirectory", dir)
	case err != nil:
		return fault.Wrap(fault.Config, err, "cannot use socket_dir %s", dir)
	case !info.IsDir():
		return fault.New(fault.Config, "cannot use socket_dir %s: it is no directory", dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot write socket_dir %s", dir).
			WithHint("give it to the user that runs daos_server, or set another socket_dir")
	}
	return nil
}

// removeSockets takes away what engines of a former life left.
func (s *server) removeSockets() {
	stale, _ := filepath.Glob(filepath.Join(s.cfg.SocketDir, "daos_engine*.sock"))
	for _, path := range stale {
		_ = os.Remove(path)
	}
}
