package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/cluster/wire"

	"github.com/matryer/is"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if certs := os.Getenv(benchClient); certs != "" {
		if err := runBenchClient(certs, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serve runs a plain server with the handlers that set puts into its table.
func serve(t *testing.T, set func(*Mux)) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := NewMux("test", true, slog.New(slog.DiscardHandler))
	set(mux)
	srv := wire.NewServer(wire.ServerConfig{Handler: mux.Serve})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return ln.Addr().String()
}

func newClient(t *testing.T, servers ...string) *Client {
	c := &Client{Dialer: &wire.Dialer{}, System: "test", Servers: servers, Keep: true}
	t.Cleanup(c.Close)
	return c
}

func leading(answer string) func(*Mux) {
	return func(m *Mux) {
		Handle(m, LeaderQuery, func(context.Context, Caller, *LeaderQueryReq, Report) (LeaderQueryResp, error) {
			return LeaderQueryResp{CurrentLeader: answer}, nil
		})
		Handle(m, SystemQuery, func(context.Context, Caller, *SystemQueryReq, Report) (SystemQueryResp, error) {
			return SystemQueryResp{Leader: answer}, nil
		})
	}
}

func refusing(err error) func(*Mux) {
	return func(m *Mux) {
		Handle(m, SystemQuery, func(context.Context, Caller, *SystemQueryReq, Report) (SystemQueryResp, error) {
			return SystemQueryResp{}, err
		})
	}
}

// deadAddress is where nobody listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestAskFollowsToTheLeader(t *testing.T) {
	is := is.New(t)
	leader := serve(t, leading("me"))
	follower := serve(t, refusing(fault.New(fault.NotLeader, "not the leader").WithData("leader", leader).WithData("replicas", leader)))
	outsider := serve(t, refusing(fault.New(fault.NotReplica, "no replica").WithData("replicas", follower)))
	for _, servers := range [][]string{{leader}, {follower}, {outsider}, {deadAddress(t), outsider}} {
		resp, err := Ask(context.Background(), newClient(t, servers...), SystemQuery, &SystemQueryReq{}, nil)
		is.NoErr(err)
		is.Equal(resp.Leader, "me")
	}
}

func TestAskTellsWhatWentWrong(t *testing.T) {
	is := is.New(t)
	dead := deadAddress(t)
	_, err := Ask(context.Background(), newClient(t, dead), SystemQuery, &SystemQueryReq{}, nil)
	is.Equal(fault.Of(err), fault.Unreachable) // nobody there, long before the deadline
	is.True(strings.Contains(err.Error(), dead))

	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	none := serve(t, refusing(fault.New(fault.NotLeader, "no leader known")))
	outsider := serve(t, refusing(fault.New(fault.NotReplica, "no replica here").WithData("replicas", none)))
	c := newClient(t, outsider)
	var waited error
	c.Waiting = func(since time.Duration, why error) { waited = why }
	_, err = Ask(ctx, c, SystemQuery, &SystemQueryReq{}, nil)
	is.Equal(fault.Of(err), fault.NoLeader)                            // replicas that elect nobody
	is.True(strings.Contains(err.Error(), "no leader known"))          // which tells more than a server without one
	is.True(strings.Contains(fault.HintOf(err), "("+none+") must be")) // replicas only
	is.Equal(waited.Error(), "no leader known")

	foreign := serve(t, refusing(fault.New(fault.Protocol, "this server requires TLS")))
	_, err = Ask(context.Background(), newClient(t, foreign, dead), SystemQuery, &SystemQueryReq{}, nil)
	is.Equal(fault.Of(err), fault.Protocol) // was reached, after all

	denied := serve(t, refusing(fault.New(fault.Permission, "not you")))
	_, err = Ask(context.Background(), newClient(t, denied), SystemQuery, &SystemQueryReq{}, nil)
	is.Equal(fault.Of(err), fault.Permission) // is final

	other := serve(t, leading("me"))
	_, err = Ask(context.Background(), newClient(t, other), SystemQuery, &SystemQueryReq{Target: Target{System: "other"}}, nil)
	is.Equal(fault.Of(err), fault.WrongSystem)
}

func TestAServerThatStopsAnsweringIsLeft(t *testing.T) {
	is := is.New(t)
	// It accepts and reads, as a paused process's kernel does, and says nothing.
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	is.NoErr(err)
	defer ln.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	c := newClient(t, ln.Addr().String())
	began := time.Now()
	_, err = Call(context.Background(), c, ln.Addr().String(), SystemQuery, &SystemQueryReq{}, nil)
	is.Equal(fault.Of(err), fault.Unreachable)
	is.True(time.Since(began) < time.Minute) // far below the method's five minutes
	ln.Close()
	for conn := range accepted {
		conn.Close()
	}
}

func TestProgressComesBeforeTheResult(t *testing.T) {
	is := is.New(t)
	addr := serve(t, func(m *Mux) {
		Handle(m, SystemStop, func(_ context.Context, _ Caller, req *SystemStopReq, report Report) (SystemRanksResp, error) {
			report(Progress{Text: "half", Done: 1, Total: 2})
			return SystemRanksResp{Results: []RankResult{{Rank: 3, Msg: req.OpID}}}, nil
		})
	})
	var told []Progress
	resp, err := Call(context.Background(), newClient(t), addr, SystemStop, &SystemStopReq{}, func(p Progress) { told = append(told, p) })
	is.NoErr(err)
	is.Equal(told, []Progress{{Text: "half", Done: 1, Total: 2}})
	is.Equal(len(resp.Results), 1)
	is.True(resp.Results[0].Msg != "") // the client gave the operation an id
}

func TestUnknownMethodAndBadBody(t *testing.T) {
	is := is.New(t)
	addr := serve(t, leading("me"))
	conn, err := (&wire.Dialer{}).Dial(context.Background(), addr)
	is.NoErr(err)
	defer conn.Close()
	_, err = conn.Call(context.Background(), "no.such", nil)
	is.Equal(fault.Of(err), fault.Unimplemented)
	for _, body := range [][]byte{nil, {0xff}, bytes.Repeat([]byte{0x81}, 4096), {0xa1, 0x63, 's', 'y', 's', 0x01}} {
		_, err = conn.Call(context.Background(), SystemQuery.Name, body)
		is.Equal(fault.Of(err), fault.Usage) // refused, and the connection lives
	}
}

// forAgents is all that a client node may call.
var forAgents = []string{"system.attach-info", "pool.evict", "system.cleanup"}

func TestRowsAreWhole(t *testing.T) {
	is := is.New(t)
	seen := make(map[string]bool)
	for _, row := range Rows() {
		is.True(!seen[row.Name]) // names are unique
		seen[row.Name] = true
		is.True(len(row.Roles) > 0) // nobody may call a method that no role may
		is.True(strings.Count(row.Name, ".") == 1)
		for _, role := range row.Roles {
			is.True(role.Known())
		}
		is.True(!slices.Contains(row.Roles, pki.Agent) || slices.Contains(forAgents, row.Name)) // agents get no more by accident
	}
}

func FuzzDecode(f *testing.F) {
	seed, _ := encoding.Marshal(PoolCreateReq{UUID: "u", TierBytes: []uint64{1}})
	f.Add(seed)
	f.Fuzz(func(t *testing.T, body []byte) {
		var req PoolCreateReq
		if decode(body, &req) != nil {
			return
		}
		again, err := encoding.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		var second PoolCreateReq
		if err := decode(again, &second); err != nil {
			t.Fatal(err)
		}
	})
}
