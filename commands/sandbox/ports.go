package sandbox

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// Sandboxes of one machine differ in their ports. The usual ones come first.
const (
	firstPort       = 10001
	portStep        = 10
	firstFabricPort = 31416
	// lowestFabricPort bounds the search, which goes down, away from the ports
	// that the kernel gives to clients.
	lowestFabricPort = 12000
	searches         = 100
)

// choosePorts picks ports that are free on all addresses of the sandbox; a port
// that is set already is kept.
func choosePorts(m *manifest) error {
	if m.Port == 0 {
		for i := range searches {
			m.Port = firstPort + i*portStep
			if busyControl(*m, 1, m.Hosts) == "" {
				break
			}
			m.Port = 0
		}
		if m.Port == 0 {
			return fault.New(fault.Exists, "cannot find a free control port between %d and %d", firstPort, firstPort+searches*portStep).
				WithHint("stop other sandboxes, or choose one with --port")
		}
	}
	size := (m.ranks() + 31) / 32 * 32
	for base := firstFabricPort; base >= lowestFabricPort; base -= size {
		m.FabricPort = base
		if busyFabric(*m, 1, m.Hosts) == "" {
			return nil
		}
	}
	return fault.New(fault.Exists, "cannot find %d free ports in a row for the engines", m.ranks()).WithHint("stop other sandboxes")
}

// busyControl returns the first control address of hosts first to last that is
// taken, empty when none is.
func busyControl(m manifest, first, last int) string {
	for host := first; host <= last; host++ {
		if !free(m.control(host)) {
			return m.control(host)
		}
	}
	return ""
}

// busyFabric is busyControl for the engines' ports; the emulated fabric uses TCP
// and UDP of the loopback interface's first address.
func busyFabric(m manifest, first, last int) string {
	for port := m.fabricPort(first, 0); port <= m.fabricPort(last, m.RanksPerHost-1); port++ {
		addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
		if port > 65535 || !free(addr.String()) || !freeUDP(addr) {
			return addr.String()
		}
	}
	return ""
}

func free(addr string) bool {
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		return false
	}
	_ = ln.Close()
	return true
}

func freeUDP(addr *net.TCPAddr) bool {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: addr.IP, Port: addr.Port})
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// portsName is bound while a sandbox chooses ports and opens them. It is an
// abstract socket: it exists once in the network namespace, as the ports do, and
// nothing of it stays behind.
const portsName = "@daosbox-sandbox-ports"

// portsWait bounds the wait for another sandbox that comes up. A name is no
// permission: somebody who holds it for ever only costs this time, and a port that
// is taken after all is told when the server opens it.
const portsWait = time.Minute

// lockPorts keeps other sandboxes from choosing ports until unlock is called.
func lockPorts(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, portsWait)
	defer cancel()
	for {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: portsName, Net: "unixgram"})
		if err == nil {
			return func() { _ = conn.Close() }, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return func() {}, nil // e.g. forbidden by a profile: go on without
		}
		if wait(ctx, poll) != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, canceled(ctx)
			}
			return func() {}, nil
		}
	}
}

// wait sleeps, or returns early when ctx ends.
func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// canceled is the error of a run that was interrupted or whose time is over.
func canceled(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.New(fault.Timeout, "cannot finish in time")
	}
	return fault.New(fault.Canceled, "interrupted")
}
