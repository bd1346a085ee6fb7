// Command ours is package wire in the benchmark.
package main

import (
	"context"
	"net"
	"path/filepath"

	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/testdata/bench/wire/peer"
)

func main() { peer.Main(stack{}) }

type stack struct{}

func identity(o peer.Options, role pki.Role) (*pki.Identity, error) {
	return pki.Load(pki.Files{CA: filepath.Join(o.Certs, "daosCA.crt"), Cert: filepath.Join(o.Certs, string(role)+".crt"),
		Key: filepath.Join(o.Certs, string(role)+".key")}, role)
}

func (stack) Serve(ln net.Listener, o peer.Options) error {
	cfg := wire.ServerConfig{Handler: func(_ context.Context, req *wire.Request, out wire.Sender) error { return out.Send(req.Body) }}
	if o.Certs != "" {
		id, err := identity(o, pki.Server)
		if err != nil {
			return err
		}
		cfg.TLS = id.ServerTLS()
	}
	return wire.NewServer(cfg).Serve(context.Background(), ln)
}

func (stack) Client(o peer.Options) (peer.Client, error) {
	d := &wire.Dialer{}
	if o.Certs != "" {
		id, err := identity(o, pki.Admin)
		if err != nil {
			return nil, err
		}
		d.TLS = id.ClientTLS()
		if o.Tickets != "" {
			d.Tickets = wire.OpenTickets(o.Tickets, id.Fingerprint())
		}
	}
	return client{d}, nil
}

type client struct{ d *wire.Dialer }

func (c client) Dial(ctx context.Context, addr string) (peer.Conn, error) {
	one, err := c.d.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return conn{one}, nil
}

func (c client) Close() error {
	if c.d.Tickets == nil {
		return nil
	}
	return c.d.Tickets.Save()
}

type conn struct{ *wire.Conn }

func (c conn) Call(ctx context.Context, body []byte) ([]byte, error) {
	return c.Conn.Call(ctx, "echo", body)
}
