package control

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"

	"github.com/fxamacker/cbor/v2"
)

// Caller is who calls a method.
type Caller struct {
	Role   pki.Role // empty when the connection is insecure
	Addr   net.Addr
	Secure bool
	// Cert is the certificate that Role is from. Of a relayed request it is the
	// administrator's, while Addr is the server that passed it on.
	Cert *x509.Certificate
}

// Mux serves the control API: it checks the role on the method's row, decodes the
// request, checks the system's name and calls the handler.
type Mux struct {
	system   string
	insecure bool
	log      *slog.Logger
	handlers map[string]handler
}

type handler struct {
	row  Row
	call func(ctx context.Context, caller Caller, body []byte, out wire.Sender) error
}

// NewMux makes an empty table for the system. With insecure set, callers without
// a certificate may call everything, as allow_insecure promises.
func NewMux(system string, insecure bool, log *slog.Logger) *Mux {
	return &Mux{system: system, insecure: insecure, log: log, handlers: make(map[string]handler)}
}

// Handle sets the function that serves a method.
func Handle[Req, Resp any](m *Mux, method Method[Req, Resp], serve func(context.Context, Caller, *Req, Report) (Resp, error)) {
	m.handlers[method.Name] = handler{row: method.row(), call: func(ctx context.Context, caller Caller, body []byte, out wire.Sender) error {
		req := new(Req)
		if err := decode(body, req); err != nil {
			return fault.Wrap(fault.Usage, err, "cannot decode the request of %s", method.Name)
		}
		if err := m.checkSystem(req); err != nil {
			return err
		}
		report := func(Progress) {}
		if method.Progress {
			report = func(p Progress) { _ = send(out, streamed[Resp]{Progress: &p}) }
		}
		resp, err := serve(ctx, caller, req, report)
		if err != nil {
			return err
		}
		if method.Progress {
			return send(out, streamed[Resp]{Result: &resp})
		}
		return send(out, resp)
	}}
}

// Missing lists the methods of the API that have no handler.
func (m *Mux) Missing() []string {
	var names []string
	for _, row := range Rows() {
		if _, ok := m.handlers[row.Name]; !ok {
			names = append(names, row.Name)
		}
	}
	return names
}

// Serve answers one request of the wire; it is a wire.Handler.
func (m *Mux) Serve(ctx context.Context, req *wire.Request, out wire.Sender) error {
	h, ok := m.handlers[req.Method]
	if !ok {
		return fault.New(fault.Unimplemented, "unknown method %q", req.Method).
			WithHint("this server may be older than the tool that calls it; compare `version` on both")
	}
	caller, err := m.authorize(h.row, req.Peer)
	if err != nil {
		m.log.Warn("refused a call", "method", req.Method, "peer", req.Peer.Addr, "error", err)
		return err
	}
	err = h.call(ctx, caller, req.Body, out)
	if err != nil {
		m.log.Debug("a call failed", "method", req.Method, "peer", req.Peer.Addr, "error", err)
	}
	return err
}

func (m *Mux) authorize(row Row, peer wire.Peer) (Caller, error) {
	caller := Caller{Addr: peer.Addr, Secure: peer.Secure}
	if peer.Cert == nil {
		if m.insecure {
			return caller, nil
		}
		return caller, fault.New(fault.Permission, "cannot call %s without a certificate", row.Name)
	}
	role, err := pki.RoleOf(peer.Cert)
	if err != nil {
		return caller, err
	}
	caller.Role, caller.Cert = role, peer.Cert
	if !slices.Contains(row.Roles, role) {
		return caller, fault.New(fault.Permission, "cannot call %s with the certificate of role %q: it is for %s", row.Name, role, roleList(row.Roles)).
			WithHint("use the certificate of role %s (transport_config: cert, key)", roleList(row.Roles))
	}
	return caller, nil
}

func roleList(roles []pki.Role) string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = fmt.Sprintf("%q", role)
	}
	return strings.Join(names, " or ")
}

func (m *Mux) checkSystem(req any) error {
	t, ok := req.(interface{ target() *Target })
	if !ok {
		return nil
	}
	asked, _, _ := strings.Cut(t.target().System, "/")
	if asked == "" || asked == m.system {
		return nil
	}
	return fault.New(fault.WrongSystem, "cannot serve system %q: this server belongs to %q", asked, m.system).
		WithHint("set `name: %s` in the configuration, or ask a server of %q", m.system, asked)
}

// encoding is deterministic, decoding is bounded: depth and counts are limited,
// duplicate keys refused.
var (
	encoding = func() cbor.EncMode {
		mode, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano, NilContainers: cbor.NilContainerAsEmpty}.EncMode()
		if err != nil {
			panic(err)
		}
		return mode
	}()
	decoding = func() cbor.DecMode {
		mode, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 24, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 16}.DecMode()
		if err != nil {
			panic(err)
		}
		return mode
	}()
)

func decode(body []byte, into any) error {
	if len(body) == 0 {
		return errors.New("empty body")
	}
	return decoding.Unmarshal(body, into)
}

func send(out wire.Sender, message any) error {
	body, err := encoding.Marshal(message)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "cannot encode the reply")
	}
	return out.Send(body)
}
