package emulator

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
)

// Limits of the emulated fabric. A group map of 10000 ranks takes about 1 MiB.
const (
	maxFabricMessage = 8 << 20
	maxFabricConns   = 256
	fabricTimeout    = 10 * time.Second
)

// request is one call between emulators. The frame around it is a 32-bit length,
// most significant byte first, and JSON.
type request struct {
	System string          `json:"sys"`
	Op     string          `json:"op"`
	To     uint32          `json:"to"` // rank that must answer
	Body   json.RawMessage `json:"body,omitempty"`
}

// response answers a request.
type response struct {
	Status int32           `json:"status,omitempty"`
	Why    string          `json:"why,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
}

// operation serves one kind of request.
type operation func(ctx context.Context, body json.RawMessage) (any, error)

// fabric is this engine's endpoint: a TCP listener for requests, and a UDP socket
// of the same port that the failure detector uses.
type fabric struct {
	system string
	uri    string
	log    *slog.Logger
	tcp    *net.TCPListener
	udp    *net.UDPConn
	ops    map[string]operation
	self   func() (rank uint32, ok bool)
}

// openFabric binds the endpoint to the address of the interface. Port 0 lets the
// kernel choose.
func openFabric(provider, iface string, port int, system string, log *slog.Logger) (*fabric, error) {
	if provider == "" {
		return nil, fault.New(fault.Config, "cannot open the fabric: D_PROVIDER is not set")
	}
	ip, err := interfaceAddr(iface)
	if err != nil {
		return nil, err
	}
	tcp, udp, err := bindBoth(ip, port)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot open the fabric on %s port %d", iface, port).
			WithHint("choose another fabric_iface_port for this engine, or stop the process that uses it")
	}
	provider, _, _ = strings.Cut(provider, ",")
	addr := tcp.Addr().(*net.TCPAddr)
	return &fabric{
		system: system, log: log, tcp: tcp, udp: udp,
		uri: provider + "://" + net.JoinHostPort(ip.String(), strconv.Itoa(addr.Port)),
	}, nil
}

// bindBoth binds TCP and UDP to one port; a port of the kernel's choice may be
// taken for UDP, then the next is tried.
func bindBoth(ip net.IP, port int) (*net.TCPListener, *net.UDPConn, error) {
	var failed error
	for range 16 {
		tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: ip, Port: port})
		if err != nil {
			return nil, nil, err
		}
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip, Port: tcp.Addr().(*net.TCPAddr).Port})
		if err == nil {
			return tcp, udp, nil
		}
		failed = err
		_ = tcp.Close()
		if port != 0 {
			break
		}
	}
	return nil, nil, failed
}

// interfaceAddr is the first IPv4 address of an interface.
func interfaceAddr(name string) (net.IP, error) {
	name, _, _ = strings.Cut(name, ",")
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot use fabric interface %q", name).
			WithHint("set fabric_iface to an interface of this host")
	}
	addrs, err := iface.Addrs()
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot use fabric interface %q", name)
	}
	for _, addr := range addrs {
		if ipnet, ok := addr.(*net.IPNet); ok && ipnet.IP.To4() != nil {
			return ipnet.IP.To4(), nil
		}
	}
	return nil, fault.New(fault.Config, "cannot use fabric interface %q: it has no IPv4 address", name)
}

// hostPort takes the address out of a URI.
func hostPort(uri string) (string, error) {
	_, addr, ok := strings.Cut(uri, "://")
	if !ok {
		return "", fmt.Errorf("%w: %q is no fabric URI", drpc.StatusInval, uri)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", fmt.Errorf("%w: %q is no fabric URI", drpc.StatusInval, uri)
	}
	return addr, nil
}

// serve answers requests until ctx ends.
func (f *fabric) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = f.tcp.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	free := make(chan struct{}, maxFabricConns)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := f.tcp.Accept()
		if err != nil {
			<-free
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			f.log.Warn("cannot accept fabric connection", "err", err)
			wait(ctx, 50*time.Millisecond)
			continue
		}
		conns.Go(func() {
			defer func() { <-free }()
			f.session(ctx, c)
		})
	}
}

// session serves the one request of a connection.
func (f *fabric) session(ctx context.Context, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(fabricTimeout))
	var in request
	if err := readFrame(c, &in); err != nil {
		f.log.Debug("fabric request refused", "peer", c.RemoteAddr().String(), "err", err)
		return
	}
	// A request may take longer than its bytes: upcalls and other ranks.
	_ = c.SetDeadline(time.Time{})
	var out response
	if body, err := f.dispatch(ctx, &in); err != nil {
		out.Status, out.Why = statusOf(err), err.Error()
	} else if body != nil {
		if out.Body, err = json.Marshal(body); err != nil {
			out.Status, out.Why = int32(drpc.StatusMisc), err.Error()
		}
	}
	_ = c.SetWriteDeadline(time.Now().Add(fabricTimeout))
	if err := writeFrame(c, &out); err != nil {
		f.log.Debug("cannot answer fabric request", "op", in.Op, "err", err)
	}
}

func (f *fabric) dispatch(ctx context.Context, in *request) (any, error) {
	rank, ok := f.self()
	switch op := f.ops[in.Op]; {
	case in.System != f.system || !ok || rank != in.To:
		return nil, fmt.Errorf("%w: rank %d of %s is not here", drpc.StatusOOG, in.To, in.System)
	case op == nil:
		return nil, fmt.Errorf("%w: %q", drpc.StatusUnreach, in.Op)
	default:
		return op(ctx, in.Body)
	}
}

// call asks the rank at to. A rank that cannot be reached gives -1006, one that
// does not answer before ctx ends -1011, a refusal its status.
func (f *fabric) call(ctx context.Context, to member, op string, in, out any) error {
	addr, err := hostPort(to.URI)
	if err != nil {
		return err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp4", addr)
	if err != nil {
		return callError(ctx, to, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var reply response
	if err := writeFrame(c, &request{System: f.system, Op: op, To: to.Rank, Body: body}); err != nil {
		return callError(ctx, to, err)
	}
	if err := readFrame(c, &reply); err != nil {
		return callError(ctx, to, err)
	}
	if reply.Status != 0 {
		return fmt.Errorf("%w (rank %d: %s)", drpc.Status(reply.Status), to.Rank, fault.OneLine(reply.Why))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Body, out); err != nil {
		return fmt.Errorf("%w: rank %d: %w", drpc.StatusProto, to.Rank, err)
	}
	return nil
}

func callError(ctx context.Context, to member, err error) error {
	status := drpc.StatusUnreach
	if ctx.Err() != nil {
		status = drpc.StatusTimedOut
	}
	return fmt.Errorf("%w: rank %d at %s: %w", status, to.Rank, to.URI, err)
}

// refused reports whether err says that nobody listens there, or somebody else:
// the process that was there is gone.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED)
}

func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFabricMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", size, maxFabricMessage)
	}
	// Read as the bytes come: a length alone takes no memory.
	data, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return err
	}
	if len(data) != int(size) {
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(data, v)
}

func writeFrame(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(data) > maxFabricMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", len(data), maxFabricMessage)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// statusOf is the engine's return code of an error, -1025 when it has none.
func statusOf(err error) int32 {
	var status drpc.Status
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int32(status)
	case fault.StatusOf(err) != 0:
		return fault.StatusOf(err)
	}
	return int32(drpc.StatusMisc)
}

// wait pauses, and reports false when ctx ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// close gives the endpoint up before it was served.
func (f *fabric) close() {
	_ = f.tcp.Close()
	_ = f.udp.Close()
}
