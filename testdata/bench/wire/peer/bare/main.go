// Command bare is the floor of the benchmark: length and body over TLS or TCP, one
// call at a time, no deadline, nothing else.
package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"

	"daosbox/testdata/bench/wire/peer"
)

func main() { peer.Main(stack{}) }

type stack struct{}

func classical(cfg *tls.Config) *tls.Config {
	if cfg != nil {
		cfg.CurvePreferences = []tls.CurveID{tls.X25519}
		cfg.SessionTicketsDisabled = true
	}
	return cfg
}

func (stack) Serve(ln net.Listener, o peer.Options) error {
	cfg, err := o.ServerTLS()
	if err != nil {
		return err
	}
	if cfg != nil {
		ln = tls.NewListener(ln, classical(cfg))
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for {
				body, err := read(c)
				if err != nil || write(c, body) != nil {
					return
				}
			}
		}()
	}
}

func read(c net.Conn) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(n[:])&0xffff)
	_, err := io.ReadFull(c, body)
	return body, err
}

func write(c net.Conn, body []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

func (stack) Client(o peer.Options) (peer.Client, error) {
	cfg, err := o.ClientTLS()
	return client{classical(cfg)}, err
}

type client struct{ cfg *tls.Config }

func (c client) Dial(ctx context.Context, addr string) (peer.Conn, error) {
	if c.cfg == nil {
		one, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		return conn{one, make(chan struct{}, 1)}, err
	}
	one, err := (&tls.Dialer{Config: c.cfg}).DialContext(ctx, "tcp", addr)
	return conn{one, make(chan struct{}, 1)}, err
}

func (client) Close() error { return nil }

type conn struct {
	net.Conn
	turn chan struct{}
}

func (c conn) Call(_ context.Context, body []byte) ([]byte, error) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if err := write(c, body); err != nil {
		return nil, err
	}
	return read(c)
}
