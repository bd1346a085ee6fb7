package wire

import (
	"path/filepath"
	"testing"
	"time"

	"daosbox/cluster/pki"
)

func benchSetups(b *testing.B, run func(b *testing.B, s *running, d *Dialer)) {
	b.Run("plain", func(b *testing.B) { run(b, serve(b, ServerConfig{}), &Dialer{}) })
	b.Run("mtls", func(b *testing.B) {
		a := newAuthority(b)
		s := serve(b, ServerConfig{TLS: a.server()})
		run(b, s, &Dialer{TLS: a.client(a.issue("admin", time.Now().Add(time.Hour)))})
	})
}

// BenchmarkCold is what a command costs per host: connect, call, close.
func BenchmarkCold(b *testing.B) {
	benchSetups(b, func(b *testing.B, s *running, d *Dialer) {
		body := make([]byte, 100)
		b.ReportAllocs()
		for b.Loop() {
			c, err := d.Dial(b.Context(), s.addr)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.Call(b.Context(), "echo", body); err != nil {
				b.Fatal(err)
			}
			_ = c.Close()
		}
	})
}

// BenchmarkWarm is a call on a connection that stands.
func BenchmarkWarm(b *testing.B) {
	benchSetups(b, func(b *testing.B, s *running, d *Dialer) {
		c := dial(b, d, s.addr)
		body := make([]byte, 100)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Call(b.Context(), "echo", body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkWarmParallel is many calls at a time on one connection.
func BenchmarkWarmParallel(b *testing.B) {
	benchSetups(b, func(b *testing.B, s *running, d *Dialer) {
		c := dial(b, d, s.addr)
		body := make([]byte, 100)
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := c.Call(b.Context(), "echo", body); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkColdIdentity is BenchmarkCold with certificates of the project.
func BenchmarkColdIdentity(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "certs")
	if err := pki.Init(dir, pki.InitOptions{}); err != nil {
		b.Fatal(err)
	}
	s := serve(b, ServerConfig{TLS: identity(b, dir, pki.Server).ServerTLS()})
	d := &Dialer{TLS: identity(b, dir, pki.Admin).ClientTLS()}
	body := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		c, err := d.Dial(b.Context(), s.addr)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Call(b.Context(), "echo", body); err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
