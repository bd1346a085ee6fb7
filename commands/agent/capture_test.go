package agent

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"daosbox/engine/drpc/drpctest"

	"github.com/matryer/is"
)

// captures are exchanges of clients with an agent of release 2.8.0.
const captures = "../../testdata/drpc"

// capture is one of them: the datagrams of the call and the response.
type capture struct {
	file, reply string // reply is the message in the body
	sent        [][]byte
	answer      drpctest.Fields
}

// agentCaptures reads those to an agent that collects no telemetry.
func agentCaptures(t *testing.T) []capture {
	t.Helper()
	is := is.New(t)
	index, err := os.ReadFile(filepath.Join(captures, "index.tsv"))
	is.NoErr(err)
	var all []capture
	for line := range strings.Lines(string(index)) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if !strings.Contains(cells[0], "-agent-") || withTelemetry(cells[0]) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(captures, cells[0]))
		is.NoErr(err)
		c := capture{file: cells[0], reply: cells[3]}
		var answer []byte
		for line := range strings.Lines(string(text)) {
			b, err := hex.DecodeString(strings.TrimSpace(line[1:]))
			is.NoErr(err)
			if line[0] == '>' {
				c.sent = append(c.sent, b)
			} else {
				answer = append(answer, b[24:]...) // behind the header
			}
		}
		c.answer, err = drpctest.Parse(answer)
		is.NoErr(err)
		all = append(all, c)
	}
	is.Equal(len(all), 18)
	return all
}

// withTelemetry tells the two exchanges with an agent that collects telemetry.
func withTelemetry(file string) bool {
	return strings.HasPrefix(file, "147-") || strings.HasPrefix(file, "148-")
}

// TestCapturedClientsAreAnsweredAlike sends what real clients sent, byte for byte,
// and compares with what the real agent said: envelope, statuses and the fields
// there are; of the map also the values, since the service has the same one.
func TestCapturedClientsAreAnsweredAlike(t *testing.T) {
	table := drpctest.Messages()
	agents := map[bool]*daemonRun{true: startAgent(t, startService(t, true), nil), false: startAgent(t, startService(t, false), nil)}
	for _, c := range agentCaptures(t) {
		t.Run(c.file, func(t *testing.T) {
			is := is.New(t)
			p := agents[strings.Contains(c.file, "certificates")].dial(t, drpctest.Chunked)
			for _, datagram := range c.sent {
				is.NoErr(p.SendDatagram(datagram))
			}
			reply, err := p.RecvReply()
			is.NoErr(err)
			is.Equal(reply.Sequence, c.answer.Int(1)) // sequence
			is.Equal(reply.Status, c.answer.Int(2))   // envelope
			if c.reply == "-" {
				is.True(bytes.Equal(reply.Body, c.answer.Bytes(3))) // empty
				return
			}
			got, err := table.Decode(c.reply, reply.Body)
			is.NoErr(err)
			want, err := table.Decode(c.reply, c.answer.Bytes(3))
			is.NoErr(err)
			is.Equal(got["status"], want["status"])
			if c.reply == "auth.GetCredResp" {
				sameCredential(t, table, got, want)
				return
			}
			sameMap(t, c.file, got, want)
		})
	}
}

// sameMap compares replies with the map; the number of NUMA nodes is the host's.
func sameMap(t *testing.T, file string, got, want map[string]any) {
	t.Helper()
	is := is.New(t)
	if strings.HasPrefix(file, "135-") { // of another system, with one rank
		is.Equal(keys(got), keys(want))
		return
	}
	for _, m := range []map[string]any{got, want} {
		if uris, ok := m["rank_uris"].([]any); ok {
			slices.SortFunc(uris, func(a, b any) int {
				return cmp.Compare(a.(map[string]any)["uri"].(string), b.(map[string]any)["uri"].(string))
			})
		}
		if ranks, ok := m["ms_ranks"].([]any); ok {
			slices.SortFunc(ranks, func(a, b any) int { return cmp.Compare(a.(uint64), b.(uint64)) })
		}
		if nodes, ok := m["numa_fabric_interfaces"].([]any); ok {
			m["numa_fabric_interfaces"] = nodes[0] // that of the loopback
		}
	}
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s: %v instead of %v", name, got[name], want[name])
		}
	}
	is.Equal(keys(got), keys(want))
}

// sameCredential compares the fields of credentials: who it is for differs.
func sameCredential(t *testing.T, table drpctest.Table, got, want map[string]any) {
	t.Helper()
	if _, err := hostAccount(uint32(os.Getuid()), uint32(os.Getgid())); err != nil {
		t.Skip("this user has no name: ", err)
	}
	is := is.New(t)
	is.Equal(keys(got), keys(want))
	cred, wanted := got["cred"].(map[string]any), want["cred"].(map[string]any)
	is.Equal(keys(cred), keys(wanted))
	is.Equal(cred["origin"], wanted["origin"])
	for _, part := range []string{"token", "verifier"} {
		one, other := cred[part].(map[string]any), wanted[part].(map[string]any)
		is.Equal(keys(one), keys(other))
		is.Equal(one["flavor"], other["flavor"])
	}
	sys, err := table.Decode("auth.Sys", cred["token"].(map[string]any)["data"].([]byte))
	is.NoErr(err)
	wantedSys, err := table.Decode("auth.Sys", wanted["token"].(map[string]any)["data"].([]byte))
	is.NoErr(err)
	delete(sys, "secctx") // of the host
	is.Equal(keys(sys), keys(wantedSys))
}

// keys are the names of the fields that are there.
func keys(m map[string]any) string {
	var all []string
	for name := range m {
		all = append(all, strconv.Quote(name))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
