package server

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/drpctest"

	"github.com/matryer/is"
)

// captured are the exchanges in which somebody calls daos_server.
type captured struct {
	name           string
	asked          []byte // the whole Call
	module, method int32
	body           []byte
	answered       bool
	status         int64
	reply          []byte
}

// captures reads the recorded calls to daos_server. Each is one datagram both ways.
func captures(t *testing.T) []captured {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "drpc", "*-server-*.hex"))
	if err != nil {
		t.Fatal(err)
	}
	var all []captured
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".hex")
		if parts := strings.Split(name, "-"); parts[2] != "server" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := captured{name: name}
		for line := range strings.Lines(string(data)) {
			direction, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			raw, err := hex.DecodeString(text)
			if err != nil || len(raw) < 24 {
				t.Fatalf("%s: bad line", file)
			}
			if direction == ">" {
				c.asked = append(c.asked, raw[24:]...)
				continue
			}
			fields, err := drpctest.Parse(raw[24:])
			if err != nil {
				t.Fatal(err)
			}
			c.answered, c.status, c.reply = true, fields.Int(2), fields.Bytes(3)
		}
		if fields, err := drpctest.Parse(c.asked); err == nil {
			c.module, c.method, c.body = int32(fields.Int(1)), int32(fields.Int(2)), fields.Bytes(4)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		t.Skip("no recorded exchanges in testdata/drpc")
	}
	return all
}

// Envelope statuses.
const (
	success       = 0
	failure       = 2
	unknownMethod = 4
)

// knownPools puts the pool of this system into a recorded call.
func knownPools(c captured, uuid string) []byte {
	switch {
	case strings.Contains(c.name, "nonexist"), strings.Contains(c.name, "unmarshal"):
		return c.body
	case c.method == int32(drpc.MethodGetPoolSvc):
		return drpctest.Encode(drpctest.Text(1, uuid))
	case c.method == int32(drpc.MethodPoolFindByLabel):
		return drpctest.Encode(drpctest.Text(1, "demo-pool"))
	}
	return c.body
}

// TestRecordedUpcalls feeds a server with what engines sent to one of 2.8.0, in
// both framings, and compares its answers with those.
func TestRecordedUpcalls(t *testing.T) {
	all := captures(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("secure=%t", secure), func(t *testing.T) {
			sys := newTestSystem(t, 1, 1)
			admin := sys.client(pki.Admin)
			if !secure {
				sys.edit(0, "transport_config:\n", "transport_config:\n  allow_insecure: true\n")
				admin = sys.insecureClient()
			}
			sys.start(0)
			sys.formatWith(admin, 0)
			sys.joinedWith(admin, 1)
			is := is.New(t)
			pool, err := control.Ask(context.Background(), admin, control.PoolCreate, createReq("demo-pool", 8<<30), nil)
			is.NoErr(err)
			for _, framing := range []drpctest.Framing{drpctest.Datagram, drpctest.Chunked} {
				for _, c := range all {
					if strings.Contains(c.name, "certificates") != secure && c.method == 401 {
						continue
					}
					t.Run(c.name+"/"+strconv.Itoa(int(framing)), func(t *testing.T) {
						replay(t, sys, framing, c, pool.UUID)
					})
				}
			}
			sys.joinedWith(admin, 1)
			is.Equal(sys.stop(0), cli.OK)
		})
	}
}

func replay(t *testing.T, sys *testSystem, framing drpctest.Framing, c captured, pool string) {
	is := is.New(t)
	socket := filepath.Join(sys.hosts[0].dir, "run", "daos_server.sock")
	peer, err := drpctest.Dial(socket, framing)
	is.NoErr(err)
	defer peer.Close()
	if c.method == 0 { // what is no call at all
		is.NoErr(peer.Send(c.asked))
		reply, err := peer.RecvReply()
		is.NoErr(err)
		is.Equal(reply.Status, c.status)
		return
	}
	clients := filepath.Join(sys.certs, "clients")
	switch {
	case strings.Contains(c.name, "no-cert"):
		sys.clientCert(t, "")
	case strings.Contains(c.name, "no-perm"):
		own, err := os.ReadFile(filepath.Join(clients, "admin.crt"))
		is.NoErr(err)
		sys.clientCert(t, string(own))
	case strings.Contains(c.name, "certificates"):
		recorded, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "corpus", "drpc", "agent.crt"))
		if err != nil {
			t.Skip("no recorded agent.crt")
		}
		sys.clientCert(t, string(recorded))
	}
	reply, err := peer.Call(c.module, c.method, knownPools(c, pool))
	is.NoErr(err)
	is.Equal(reply.Sequence, int64(1))
	switch drpc.Method(c.method) {
	case drpc.MethodNotifyReady: // of processes that this server did not start
		is.Equal(reply.Status, int64(failure))
	case drpc.MethodCheckRegPool, drpc.MethodCheckDeregPool, drpc.MethodCheckReport: // the checker is not served
		is.Equal(reply.Status, int64(unknownMethod))
	case drpc.MethodListPools, drpc.MethodCheckListPool:
		is.Equal(reply.Status, c.status)
		message := map[int32]string{310: "srv.ListPoolsResp", 306: "shared.CheckListPoolResp"}[c.method]
		got, err := drpctest.Messages().Decode(message, reply.Body)
		is.NoErr(err)
		is.Equal(len(got["pools"].([]any)), 1)
		first := got["pools"].([]any)[0].(map[string]any)
		is.Equal(first["uuid"], pool)
		is.Equal(first["label"], "demo-pool")
		is.Equal(first["svcreps"], []any{uint64(0)})
	case drpc.MethodGetPoolSvc, drpc.MethodPoolFindByLabel:
		if c.status != success {
			is.Equal(reply.Status, c.status)
			return
		}
		is.Equal(reply.Status, c.status)
		is.Equal(reply.Fields().Int(1), mustParse(t, c.reply).Int(1)) // -1005 or 0
	case drpc.MethodClusterEvent:
		if c.answered {
			is.Equal(reply.Status, c.status)
		} else {
			is.Equal(reply.Status, int64(success))
		}
		is.Equal(reply.Body, c.reply)
	default: // byte for byte
		is.Equal(reply.Status, c.status)
		is.Equal(hex.EncodeToString(reply.Body), hex.EncodeToString(c.reply))
	}
}

func mustParse(t *testing.T, b []byte) drpctest.Fields {
	t.Helper()
	fields, err := drpctest.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// clientCert makes a certificate the agent's at the servers; none when empty.
func (s *testSystem) clientCert(t *testing.T, pem string) {
	t.Helper()
	path := filepath.Join(s.certs, "clients", "agent.crt")
	before, err := os.ReadFile(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err == nil && pem != "" {
		err = os.WriteFile(path, []byte(pem), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Remove(path)
		if err := os.WriteFile(path, before, 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

// TestStrangerReportsReady reports an engine ready from another process than the
// one that was started.
func TestStrangerReportsReady(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	sys.engineEnv(0, "DAOS_EMULATOR_FAULTS=notify_ready:slow=2s@1")
	sys.start(0, "--auto-format")
	h := sys.hosts[0]
	eventually(t, "the engine is started", func() error {
		if !strings.Contains(h.log.String(), "engine is started") {
			return fmt.Errorf("not started")
		}
		return nil
	})
	socket := filepath.Join(h.dir, "run", "mine.sock")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	is.NoErr(err)
	defer ln.Close()
	notify := func(path string, index int64) int64 {
		peer, err := drpctest.Dial(filepath.Join(h.dir, "run", "daos_server.sock"), drpctest.Chunked)
		is.NoErr(err)
		defer peer.Close()
		reply, err := peer.Call(3, 301, drpctest.Encode(drpctest.Text(1, "ofi+tcp://127.0.0.1:1"), drpctest.Int(2, 1),
			drpctest.Text(3, path), drpctest.Int(4, index), drpctest.Int(5, 1), drpctest.Int(6, 7)))
		is.NoErr(err)
		return reply.Status
	}
	is.Equal(notify(socket, 0), int64(failure))                       // not the process
	is.Equal(notify(socket, 1), int64(failure))                       // no such engine
	is.Equal(notify(filepath.Join(h.dir, "none"), 0), int64(failure)) // no such socket
	is.True(strings.Contains(h.log.String(), "reports it ready, but process"))
	sys.waitJoined(1) // the real one is let in
}

// TestCredentials calls the security module by hand without certificates.
func TestCredentials(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	sys.edit(0, "transport_config:\n", "transport_config:\n  allow_insecure: true\n")
	sys.start(0)
	h := sys.hosts[0]
	socket := filepath.Join(h.dir, "run", "daos_server.sock")
	eventually(t, "the socket", func() error { _, err := os.Stat(socket); return err })
	token := drpctest.Encode(drpctest.Int(1, 1), drpctest.Bytes(2, []byte("someone")))
	sum := sha512.Sum512(token)
	validate := func(fields ...drpctest.Field) int64 {
		peer, err := drpctest.Dial(socket, drpctest.Datagram)
		is.NoErr(err)
		defer peer.Close()
		reply, err := peer.Call(4, 401, drpctest.Encode(drpctest.Bytes(1, drpctest.Encode(fields...))))
		is.NoErr(err)
		is.Equal(reply.Status, int64(success))
		return int64(int32(reply.Fields().Int(1)))
	}
	proof := func(data []byte) drpctest.Field {
		return drpctest.Bytes(2, drpctest.Encode(drpctest.Int(1, 1), drpctest.Bytes(2, data)))
	}
	is.Equal(validate(drpctest.Bytes(1, token), proof(sum[:]), drpctest.Text(3, "agent")), int64(0))
	sum[0] ^= 1
	is.Equal(validate(drpctest.Bytes(1, token), proof(sum[:]), drpctest.Text(3, "agent")), int64(-1001)) // forged
	is.Equal(validate(drpctest.Bytes(1, token), drpctest.Text(3, "agent")), int64(-1003))                // no proof
}
