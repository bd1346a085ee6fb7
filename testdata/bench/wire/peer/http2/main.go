// Command http2 is net/http in the benchmark, HTTP/2 with TLS and without.
package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"

	"daosbox/testdata/bench/wire/peer"
)

func main() { peer.Main(stack{}) }

type stack struct{}

func (stack) Serve(ln net.Listener, o peer.Options) error {
	cfg, err := o.ServerTLS()
	if err != nil {
		return err
	}
	s := &http.Server{TLSConfig: cfg, Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body)
	})}
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	if cfg != nil {
		return s.ServeTLS(ln, "", "")
	}
	return s.Serve(ln)
}

func (stack) Client(o peer.Options) (peer.Client, error) { return client{o}, nil }

type client struct{ o peer.Options }

// Dial makes a transport, and thereby a connection, of its own.
func (c client) Dial(_ context.Context, addr string) (peer.Conn, error) {
	cfg, err := c.o.ClientTLS()
	if err != nil {
		return nil, err
	}
	t := &http.Transport{TLSClientConfig: cfg, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP2(cfg != nil)
	t.Protocols.SetUnencryptedHTTP2(cfg == nil)
	scheme := "http://"
	if cfg != nil {
		scheme = "https://"
	}
	return conn{t, scheme + addr + "/echo"}, nil
}

func (client) Close() error { return nil }

type conn struct {
	t   *http.Transport
	url string
}

func (c conn) Call(ctx context.Context, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (c conn) Close() error { c.t.CloseIdleConnections(); return nil }
