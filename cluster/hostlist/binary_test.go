package hostlist_test

import (
	"testing"

	"daosbox/cluster/hostlist"

	"github.com/fxamacker/cbor/v2"
	"github.com/matryer/is"
)

// Sets must survive the encoding of control requests, not only JSON.
func TestCBOR(t *testing.T) {
	is := is.New(t)
	type message struct {
		Hosts *hostlist.Set     `json:"hosts,omitempty"`
		Ranks *hostlist.RankSet `json:"ranks,omitempty"`
	}
	for _, m := range []message{
		{},
		{hostlist.Of(), hostlist.Ranks()},
		{hostlist.Of("node1:10001", "node2:10001", "[::1]:10001"), hostlist.Ranks(0, 1, 2, 7)},
	} {
		data, err := cbor.Marshal(m)
		is.NoErr(err)
		var back message
		is.NoErr(cbor.Unmarshal(data, &back))
		is.Equal(back.Hosts.Hosts(), m.Hosts.Hosts())
		is.Equal(back.Ranks.Slice(), m.Ranks.Slice())
		is.Equal(back.Hosts == nil, m.Hosts == nil)
	}
	var s hostlist.Set
	is.True(cbor.Unmarshal([]byte("\x42[1"), &s) != nil)
	var r hostlist.RankSet
	is.True(cbor.Unmarshal([]byte("\x411x"), &r) != nil)
}
