package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// Bodies of raw calls, in CBOR.
var (
	emptyMap    = []byte{0xa0}
	otherSystem = append([]byte{0xa1, 0x63}, "sys\x69elsewhere"...) // {"sys": "elsewhere"}
)

// rawCall makes a call without the types of its method.
func rawCall(conn *wire.Conn, method string, body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := conn.Stream(ctx, method, body)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// TestRoles calls every method of the control API with every role.
func TestRoles(t *testing.T) {
	sys := newTestSystem(t, 1, 1)
	sys.up()
	for _, role := range []pki.Role{pki.Admin, pki.Agent, pki.Server} {
		conn, err := sys.client(role).Dialer.Dial(context.Background(), sys.hosts[0].addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, row := range control.Rows() {
			t.Run(fmt.Sprintf("%s/%s", role, row.Name), func(t *testing.T) {
				is := is.New(t)
				if !slices.Contains(row.Roles, role) {
					err := rawCall(conn, row.Name, emptyMap)
					is.Equal(fault.Of(err), fault.Permission)                       // a wrong role
					is.True(strings.Contains(err.Error(), fmt.Sprintf("%q", role))) // which one
					is.True(fault.HintOf(err) != "")                                // and what to use
					return
				}
				// Meant for another system, so that nothing is done.
				err := rawCall(conn, row.Name, otherSystem)
				is.True(fault.Of(err) != fault.Permission)
				is.True(fault.Of(err) != fault.Unimplemented)
			})
		}
		t.Run(string(role)+"/raft", func(t *testing.T) {
			is := is.New(t)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			raft, err := sys.client(role).Dialer.DialService(ctx, sys.hosts[0].addr, raftService)
			if role == pki.Server {
				is.NoErr(err)
				is.NoErr(raft.Close())
				return
			}
			is.Equal(fault.Of(err), fault.Permission) // replicas only
		})
	}
	is.New(t).NoErr(func() error { sys.waitJoined(1); return nil }()) // all that did no harm
}

func TestForeignPeers(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	sys.start(0)
	admin := sys.client(pki.Admin)
	eventually(t, "the server listens", func() error {
		_, err := control.Call(context.Background(), admin, sys.hosts[0].addr, control.NetworkScan, &control.NetworkScanReq{}, nil)
		return err
	})

	// A client that speaks plain text.
	plain := &control.Client{Dialer: new(wire.Dialer), System: "test"}
	_, err := control.Call(context.Background(), plain, sys.hosts[0].addr, control.NetworkScan, &control.NetworkScanReq{}, nil)
	is.True(err != nil)
	is.True(strings.Contains(err.Error(), "requires TLS")) // is told what is wrong
	is.True(fault.HintOf(err) != "")                       // and what to do

	// A certificate that expired: the client's own program says so first; one that
	// does not care is refused by the server, which says which and since when.
	expired := filepath.Join(sys.dir, "expired")
	start := time.Now().AddDate(0, 0, -30)
	issued, err := pki.Issue(sys.certs, pki.Admin, pki.IssueOptions{Out: expired, Start: start, Days: 2})
	is.NoErr(err)
	since := start.AddDate(0, 0, 2).UTC().Format("2006-01-02")
	_, err = pki.Load(pki.Files{CA: sys.certs + "/daosCA.crt", Cert: issued.Cert, Key: issued.Key}, pki.Admin)
	is.True(strings.Contains(err.Error(), since))
	pair, err := tls.LoadX509KeyPair(issued.Cert, issued.Key)
	is.NoErr(err)
	careless := &control.Client{Dialer: &wire.Dialer{TLS: &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}, System: "test"}
	_, err = control.Call(context.Background(), careless, sys.hosts[0].addr, control.NetworkScan, &control.NetworkScanReq{}, nil)
	is.True(err != nil)
	eventually(t, "the server tells", func() error {
		for line := range strings.Lines(sys.hosts[0].log.String()) {
			if strings.Contains(line, "admin") && strings.Contains(line, "expired") && strings.Contains(line, since) {
				return nil
			}
		}
		return errors.New("no line about the expired certificate of admin")
	})
}

// TestForeignServersStayOut starts servers that do not belong to the system.
func TestForeignServersStayOut(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 3, 1)
	foreign := filepath.Join(sys.dir, "foreign")
	is.NoErr(pki.Init(foreign, pki.InitOptions{}))
	for _, name := range []string{"daosCA.crt", "server.crt", "server.key"} {
		sys.edit(1, sys.certs+"/"+name, foreign+"/"+name)
	}
	sys.edit(2, sys.certs+"/server.crt", sys.certs+"/agent.crt", sys.certs+"/server.key", sys.certs+"/agent.key")

	sys.start(0)
	sys.format(0)
	sys.waitJoined(1)
	sys.start(1, "--auto-format")
	eventually(t, "the join is refused", func() error {
		if log := sys.hosts[1].log.String(); !strings.Contains(log, "engine did not start") || !strings.Contains(log, "certificate") {
			return errors.New("no word about the certificate")
		}
		return nil
	})
	sys.waitJoined(1)
	is.Equal(sys.stop(1), cli.OK)

	sys.start(2) // with the certificate of an agent
	is.Equal(<-sys.hosts[2].done, cli.Permission)
	sys.hosts[2].cancel()
	sys.hosts[2].cancel = nil
	is.True(strings.Contains(sys.hosts[2].log.String(), "agent"))
	is.Equal(len(sys.waitJoined(1).Members), 1)
}
