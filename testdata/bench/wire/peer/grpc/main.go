// Command grpc is grpc-go in the benchmark.
package main

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"daosbox/testdata/bench/wire/peer"
)

func main() { peer.Main(stack{}) }

type stack struct{}

type echo interface {
	Echo(context.Context, *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)
}

type echoer struct{}

func (echoer) Echo(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return in, nil
}

// service is what protoc would generate for one unary method.
var service = grpc.ServiceDesc{ServiceName: "bench.Echo", HandlerType: (*echo)(nil), Methods: []grpc.MethodDesc{{MethodName: "Echo",
	Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.BytesValue)
		if err := dec(in); err != nil {
			return nil, err
		}
		return srv.(echo).Echo(ctx, in)
	}}}}

func (stack) Serve(ln net.Listener, o peer.Options) error {
	var options []grpc.ServerOption
	cfg, err := o.ServerTLS()
	if err != nil {
		return err
	}
	if cfg != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg)))
	}
	s := grpc.NewServer(options...)
	s.RegisterService(&service, echoer{})
	return s.Serve(ln)
}

func (stack) Client(o peer.Options) (peer.Client, error) {
	cfg, err := o.ClientTLS()
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(cfg)
	}
	return client{creds}, nil
}

type client struct {
	creds credentials.TransportCredentials
}

func (c client) Dial(_ context.Context, addr string) (peer.Conn, error) {
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(c.creds))
	if err != nil {
		return nil, err
	}
	return conn{cc}, nil
}

func (client) Close() error { return nil }

type conn struct{ *grpc.ClientConn }

func (c conn) Call(ctx context.Context, body []byte) ([]byte, error) {
	out := new(wrapperspb.BytesValue)
	if err := c.Invoke(ctx, "/bench.Echo/Echo", &wrapperspb.BytesValue{Value: body}, out); err != nil {
		return nil, err
	}
	return out.Value, nil
}
