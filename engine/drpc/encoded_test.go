package drpc

import (
	"context"
	"testing"

	"github.com/matryer/is"
	"google.golang.org/protobuf/proto"

	"daosbox/engine/drpc/pb"
)

func TestEncodedReplyIsTheWholeMessage(t *testing.T) {
	is := is.New(t)
	shared, err := proto.Marshal(&pb.GetAttachInfoResp{
		Sys: "daos_server", MsRanks: []uint32{0, 1},
		RankUris: []*pb.GetAttachInfoResp_RankUri{{Rank: 1, Uri: "ofi+tcp://127.0.0.1:31600", NumCtxs: 3}},
	})
	is.NoErr(err)
	reply, err := Encode(&pb.GetAttachInfoResp{ClientNetHint: &pb.ClientNetHint{Provider: "ofi+tcp", Interface: "lo"}}, shared)
	is.NoErr(err)
	path := serve(t, ServerConfig{Handler: func(context.Context, *Call) (proto.Message, error) { return reply, nil }})
	for _, f := range bothFramings {
		resp := new(pb.GetAttachInfoResp)
		is.NoErr(Invoke(t.Context(), path, f, MethodGetAttachInfo, &pb.GetAttachInfoReq{}, resp))
		is.Equal(resp.GetSys(), "daos_server")
		is.Equal(resp.GetMsRanks(), []uint32{0, 1})
		is.Equal(resp.GetRankUris()[0].GetUri(), "ofi+tcp://127.0.0.1:31600")
		is.Equal(resp.GetClientNetHint().GetInterface(), "lo")
	}
}

func TestEncodeRefusesWhatCannotBeEncoded(t *testing.T) {
	is := is.New(t)
	_, err := Encode(&pb.GetAttachInfoResp{Sys: "\xff"}, nil)
	is.True(err != nil) // text that is no UTF-8
}
