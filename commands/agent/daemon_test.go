package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/config"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/drpctest"
	"daosbox/engine/drpc/pb"

	"github.com/matryer/is"
)

const (
	poolA   = "5de2d957-da38-43f2-a609-cc85e25f1a27"
	poolB   = "821486b3-d0a0-446b-8ec4-d1d51aaa2276"
	handle1 = "cab6fa3f-c3f8-4671-9f99-c45b68203d17"
	handle2 = "bb6ab800-85f2-404a-8108-10fd8277ee93"
	handle3 = "d3294d72-761e-4fc7-851e-ddfc92ee88da"
)

// Envelope statuses.
const (
	success, failure, unknownModule, unknownMethod, badCall, badPayload = 0, 2, 3, 4, 5, 6
)

func TestClientCalls(t *testing.T) {
	s := startService(t, true)
	agent := startAgent(t, s, nil)
	for name, framing := range framings {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			p := agent.dial(t, framing)

			reply, err := p.Call(2, 206, drpctest.Encode(drpctest.Bool(2, true)))
			is.NoErr(err)
			is.Equal(reply.Status, int64(success))
			checkAttach(t, reply.Fields())

			reply, err = p.Call(1, 101, nil)
			is.NoErr(err)
			is.Equal(reply.Status, int64(success))
			checkCredential(t, s, reply.Body)

			for _, method := range []int32{235, 236} {
				reply, err = p.Call(2, method, monitorBody(poolA, handle1))
				is.NoErr(err)
				is.Equal(reply.Status, int64(success))
				is.Equal(len(reply.Body), 0)
				is.Equal(reply.Sequence, p.Sequence-1) // echoed
			}
			reply, err = p.Call(2, 233, nil)
			is.NoErr(err)
			is.Equal(reply.Status, int64(success))

			reply, err = p.Call(2, 247, drpctest.Encode(drpctest.Text(2, "job"), drpctest.Int(3, 4711)))
			is.NoErr(err)
			is.Equal(reply.Status, int64(success))
			is.Equal(reply.Fields().Int(1), int64(drpc.StatusUninit)) // telemetry is off
		})
	}
}

func checkAttach(t *testing.T, f drpctest.Fields) {
	t.Helper()
	is := is.New(t)
	is.Equal(f.Int(1), int64(0)) // status
	ranks := f.All(2)
	is.Equal(len(ranks), 2)
	is.Equal(f.Numbers(3), []uint64{0, 1})
	hint := f.Sub(4)
	is.Equal(hint.Text(1), "ofi+tcp")
	is.Equal(hint.Text(2), "lo")
	is.Equal(hint.Text(3), "lo")
	is.Equal(hint.Uint(6), uint64(772))
	is.Equal(hint.Int(7), int64(1))
	is.Equal(f.Uint(5), uint64(0)) // data_version is not for clients
	is.Equal(f.Text(6), "daos_server")
	is.Equal(f.Sub(9).Uint(1), uint64(2))
	is.True(len(f.All(10)) > 0) // one entry per NUMA node
}

// checkCredential verifies a credential as a server would.
func checkCredential(t *testing.T, s *service, body []byte) {
	t.Helper()
	is := is.New(t)
	resp := new(pb.GetCredResp)
	is.NoErr(drpc.Unmarshal(body, resp))
	want, err := hostAccount(uint32(os.Getuid()), uint32(os.Getgid()))
	if err != nil {
		is.Equal(resp.GetStatus(), int32(drpc.StatusMisc)) // a user without a name
		return
	}
	is.Equal(resp.GetStatus(), int32(0))
	cred := resp.GetCred()
	is.Equal(cred.GetOrigin(), "agent")
	sys := new(pb.Sys)
	is.NoErr(drpc.Unmarshal(cred.GetToken().GetData(), sys))
	is.Equal(sys.GetUser(), want.user+"@")
	is.Equal(sys.GetGroup(), want.group+"@")
	is.Equal(len(sys.GetGroups()), len(want.groups))
	is.True(!strings.Contains(sys.GetMachinename(), ".")) // short name
	if s.certs == "" {
		is.Equal(drpc.VerifyCredential(cred, nil), drpc.StatusOK)
		return
	}
	id, err := pki.Load(s.files(pki.Agent), pki.Agent)
	is.NoErr(err)
	verify := func(data, sig []byte) error { return pki.Verify(id.Certificate(), data, sig) }
	is.Equal(drpc.VerifyCredential(cred, verify), drpc.StatusOK)
	cred.GetToken().GetData()[4] ^= 1
	is.Equal(drpc.VerifyCredential(cred, verify), drpc.StatusNoPerm) // changed on the way
}

func TestBadCalls(t *testing.T) {
	agent := startAgent(t, startService(t, false), nil)
	garbage := []byte{0xff, 0xff, 0xff}
	tests := []struct {
		name           string
		module, method int32
		body           []byte
		status         int64
		bodyStatus     drpc.Status
	}{
		{"unknown module", 5, 501, nil, unknownModule, 0},
		{"module of daos_server", 3, 301, nil, unknownModule, 0},
		{"unknown method", 2, 299, nil, unknownMethod, 0},
		{"method of an engine", 2, 207, nil, unknownMethod, 0},
		{"attach info that cannot be decoded", 2, 206, garbage, badPayload, 0},
		{"connect that cannot be decoded", 2, 235, garbage, badPayload, 0},
		{"disconnect that cannot be decoded", 2, 236, garbage, badPayload, 0},
		{"telemetry that cannot be decoded", 2, 247, garbage, badPayload, 0},
		{"telemetry without job", 2, 247, drpctest.Encode(drpctest.Int(3, 1)), failure, 0},
		{"telemetry without key", 2, 247, drpctest.Encode(drpctest.Text(2, "j")), failure, 0},
		{"connect without handle", 2, 235, nil, success, 0},
		{"connect with a handle that is none", 2, 235, monitorBody(poolA, "x"), failure, 0},
		{"another system", 2, 206, drpctest.Encode(drpctest.Text(1, "other")), success, drpc.StatusInval},
		{"an endless interface", 2, 206, drpctest.Encode(drpctest.Text(3, strings.Repeat("x", 64))), success, drpc.StatusInval},
	}
	for name, framing := range framings {
		p := agent.dial(t, framing)
		for _, test := range tests {
			t.Run(name+" "+test.name, func(t *testing.T) {
				is := is.New(t)
				reply, err := p.Call(test.module, test.method, test.body)
				is.NoErr(err)
				is.Equal(reply.Status, test.status)
				is.Equal(reply.Fields().Int(1), int64(test.bodyStatus))
			})
		}
		t.Run(name+" call that cannot be decoded", func(t *testing.T) {
			is := is.New(t)
			p := agent.dial(t, framing)
			// A first datagram like a call, so that its framing shows.
			is.NoErr(p.Send([]byte{0x08, 0x02, 0xff}))
			reply, err := p.RecvReply()
			is.NoErr(err)
			is.Equal(reply.Sequence, int64(-1))
			is.Equal(reply.Status, int64(badCall))
			reply, err = p.Call(2, 233, nil) // the session goes on
			is.NoErr(err)
			is.Equal(reply.Status, int64(success))
		})
	}
}

func TestClientWishesInterface(t *testing.T) {
	is := is.New(t)
	agent := startAgent(t, startService(t, false), nil)
	f := agent.attach(t, drpctest.Text(3, "ib7"), drpctest.Text(4, "mlx5_7")) // not of this host: the client knows best
	is.Equal(f.Sub(4).Text(2), "ib7")
	is.Equal(f.Sub(4).Text(3), "mlx5_7")
	f = agent.attach(t, drpctest.Text(3, "lo"))
	is.Equal(f.Sub(4).Text(3), "lo")
	f = agent.attach(t, drpctest.Text(1, "daos_server"))
	is.Equal(f.Sub(4).Text(2), "lo")
}

func TestSocketModeAndSecondAgent(t *testing.T) {
	is := is.New(t)
	s := startService(t, false)
	agent := startAgent(t, s, nil)
	info, err := os.Stat(agent.socket)
	is.NoErr(err)
	is.Equal(info.Mode().Type(), os.ModeSocket)
	is.Equal(info.Mode().Perm(), os.FileMode(0o666))

	dir := strings.TrimSuffix(agent.socket, "/daos_agent.sock")
	var errs buffer
	code := Run(t.Context(), testEnv(io.Discard, &errs, dir, nil), "daos_agent", []string{"start", "-o", s.config(dir)})
	is.Equal(code, cli.Failed)
	is.True(strings.Contains(errs.String(), "another process uses it"))
	is.True(strings.Contains(errs.String(), "HINT"))

	is.Equal(agent.stop(), cli.OK)
	_, err = os.Stat(agent.socket)
	is.True(os.IsNotExist(err)) // removed
}

func TestServedFromMemoryWhileTheServiceIsAway(t *testing.T) {
	is := is.New(t)
	s := startService(t, true)
	agent := startAgent(t, s, nil)
	checkAttach(t, agent.attach(t))
	s.stop()
	for range 3 {
		checkAttach(t, agent.attach(t))
	}
	_, whole := s.counts()
	is.Equal(whole, 1)
}

func TestServiceAwayFromTheBeginning(t *testing.T) {
	is := is.New(t)
	s := startService(t, true)
	s.stop()
	agent := startAgent(t, s, nil)
	is.Equal(agent.attach(t).Int(1), int64(drpc.StatusUnreach))
	s.start()
	var reply drpctest.Fields
	eventually(t, "the map comes with the service", func() bool { reply = agent.attach(t); return reply.Int(1) == 0 })
	checkAttach(t, reply)
}

func TestStatusOfRefusals(t *testing.T) {
	for _, test := range []struct {
		err    error
		status drpc.Status
	}{
		{fault.New(fault.WrongSystem, "wrong"), drpc.StatusControlIncompat},
		{fault.New(fault.CertificateInvalid, "bad"), drpc.StatusBadCert},
	} {
		t.Run(test.status.String(), func(t *testing.T) {
			s := startService(t, false)
			s.set(func(s *service) { s.fail = test.err })
			agent := startAgent(t, s, nil)
			is.New(t).Equal(agent.attach(t).Int(1), int64(test.status))
		})
	}
}

func TestEveryClientAsksWithoutCache(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"disable_caching: true": nil,
		"":                      {"DAOS_AGENT_DISABLE_CACHE": "true"},
	} {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			is := is.New(t)
			s := startService(t, false)
			agent := startAgent(t, s, vars, name)
			for range 3 {
				checkAttach(t, agent.attach(t))
			}
			asked, whole := s.counts()
			is.Equal(asked, 3)
			is.Equal(whole, 1) // the others were told that it is current
		})
	}
}

func TestHandlesOfAKilledClientAreEvicted(t *testing.T) {
	is := is.New(t)
	s := startService(t, true)
	agent := startAgent(t, s, nil)
	killed, stays := startClient(t, agent.socket), startClient(t, agent.socket)
	killed.connect(t, poolA, handle1)
	killed.connect(t, poolA, handle2)
	stays.connect(t, poolB, handle3)
	killed.kill()
	eventually(t, "the handles of the dead client are evicted", func() bool { return len(s.handles(poolA)) == 2 })
	is.Equal(s.handles(poolA), []string{handle2, handle1})
	s.set(func(s *service) { is.Equal(s.evicts, 1) }) // together
	is.Equal(len(s.handles(poolB)), 0)

	is.Equal(agent.stop(), cli.OK) // and with the agent those that are left
	is.Equal(s.handles(poolB), []string{handle3})
}

func TestHandlesSurviveTheAgent(t *testing.T) {
	is := is.New(t)
	s := startService(t, false)
	agent := startAgent(t, s, nil, "disable_auto_evict: true")
	startClient(t, agent.socket).connect(t, poolA, handle1)
	is.Equal(agent.stop(), cli.OK)
	is.Equal(len(s.handles(poolA)), 0)
}

func TestFarewellAndDisconnect(t *testing.T) {
	is := is.New(t)
	s := startService(t, false)
	agent := startAgent(t, s, nil)
	p := agent.dial(t, drpctest.Chunked)
	call := func(method int32, body []byte) {
		reply, err := p.Call(2, method, body)
		is.NoErr(err)
		is.Equal(reply.Status, int64(success))
	}
	call(235, monitorBody(poolA, handle1))
	call(235, monitorBody(poolA, handle2))
	call(236, monitorBody(poolA, handle1))
	call(233, nil) // with a handle left
	eventually(t, "the handle is evicted", func() bool { return len(s.handles(poolA)) == 1 })
	is.Equal(s.handles(poolA), []string{handle2})
}

func TestSignals(t *testing.T) {
	is := is.New(t)
	s := startService(t, true)
	agent := startAgent(t, s, nil)
	startClient(t, agent.socket).connect(t, poolA, handle1)
	is.NoErr(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	eventually(t, "SIGUSR1 evicts", func() bool { return len(s.handles(poolA)) == 1 })

	checkAttach(t, agent.attach(t))
	_, before := s.counts()
	is.NoErr(syscall.Kill(os.Getpid(), syscall.SIGUSR2))
	eventually(t, "SIGUSR2 fetches the whole map", func() bool { _, whole := s.counts(); return whole > before })
}

// BenchmarkAttachInfo is one client's start: a connection, a call, the map of 2048
// ranks.
func BenchmarkAttachInfo(b *testing.B) {
	info := captured()
	for rank := range 2048 {
		info.RankURIs = append(info.RankURIs, control.RankURI{Rank: hostlist.Rank(rank), URI: "ofi+tcp://10.10.10.10:31416", Contexts: 17})
	}
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cfg := config.NewAgent()
	cfg.RuntimeDir, cfg.AccessPoints, cfg.Transport.AllowInsecure = dir, []string{"127.0.0.1:1"}, true
	d := newDaemon(testEnv(io.Discard, io.Discard, dir, nil), cfg, nil, quiet())
	d.cache.ask = func(context.Context, uint64) (control.AttachInfoResp, error) { return info, nil }
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	socket := filepath.Join(dir, "daos_agent.sock")
	for {
		if p, err := drpctest.Dial(socket, drpctest.Chunked); err == nil {
			_ = p.Close()
			break
		}
	}
	call := drpctest.Datagrams(drpctest.Chunked, drpctest.CallBytes(2, 206, 0, nil))[0]
	buf := make([]byte, 1<<17) // of libdaos, one datagram
	var took []time.Duration
	for b.Loop() {
		started := time.Now()
		c, err := net.Dial("unixpacket", socket)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Write(call); err != nil {
			b.Fatal(err)
		}
		if n, err := c.Read(buf); err != nil || n < 2048*30 {
			b.Fatal(err, n)
		}
		_ = c.Close()
		took = append(took, time.Since(started))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "us-p50")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
