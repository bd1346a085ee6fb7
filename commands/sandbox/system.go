package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"
)

// box is one run on one sandbox.
type box struct {
	*cli.Tool
	layout
	manifest

	client *control.Client
	line   progressLine
}

// connectTime bounds a connection on the loopback interface.
const connectTime = 3 * time.Second

// openBox prepares a run on an existing sandbox.
func openBox(t *cli.Tool, l layout) (*box, error) {
	m, err := readManifest(l)
	if err != nil {
		return nil, err
	}
	b := &box{Tool: t, layout: l, manifest: m, line: newProgressLine(t.Env)}
	return b, nil
}

// connect makes the client with the administrator's certificate, once.
func (b *box) connect() error {
	if b.client != nil {
		return nil
	}
	dialer := &wire.Dialer{Timeout: connectTime, Logger: b.Log}
	if !b.Insecure {
		identity, err := pki.Load(pki.Files{
			CA: filepath.Join(b.certs(), "daosCA.crt"), Cert: filepath.Join(b.certs(), "admin.crt"), Key: filepath.Join(b.certs(), "admin.key"),
		}, pki.Admin)
		if err != nil {
			return err
		}
		dialer.TLS = identity.ClientTLS()
	}
	b.client = &control.Client{Dialer: dialer, System: b.System, Servers: b.replicas(), Log: b.Log}
	return nil
}

// answers reports whether the server of a host serves the control API.
func (b *box) answers(ctx context.Context, host int) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := b.client.Dialer.Dial(ctx, b.control(host))
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Ping(ctx)
}

// members asks the management service for all ranks.
func (b *box) members(ctx context.Context, limit time.Duration) ([]cluster.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := control.Ask(ctx, b.client, control.SystemQuery, &control.SystemQueryReq{}, nil)
	return resp.Members, err
}

func (b *box) leader(ctx context.Context, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := control.Ask(ctx, b.client, control.LeaderQuery, &control.LeaderQueryReq{}, nil)
	return resp.CurrentLeader, err
}

// formatted reports whether an engine has a superblock.
func (b *box) formatted(host, engine int) bool {
	_, err := storage.ReadSuperblock(b.superblock(host, engine))
	return !errors.Is(err, fs.ErrNotExist) // a damaged one is the server's to tell
}

// rankOf is the rank of an engine; false before its first join.
func (b *box) rankOf(host, engine int) (hostlist.Rank, bool) {
	superblock, err := storage.ReadSuperblock(b.superblock(host, engine))
	if err != nil || superblock.Rank == nil || !superblock.ValidRank {
		return hostlist.NilRank, false
	}
	return hostlist.Rank(*superblock.Rank), true
}

// engineOf finds the engine of a rank.
func (b *box) engineOf(rank hostlist.Rank) (host, engine int, err error) {
	for host := 1; host <= b.Hosts; host++ {
		for engine := range b.RanksPerHost {
			if r, ok := b.rankOf(host, engine); ok && r == rank {
				return host, engine, nil
			}
		}
	}
	return 0, 0, fault.New(fault.NotFound, "cannot find rank %d in the sandbox", rank).WithHint("`dmg system query` lists the ranks")
}
