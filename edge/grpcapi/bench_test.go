package grpcapi_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/apitest"
)

var value256 = []byte(strings.Repeat("v", 256))

// echo is what the API is compared with: as little as a grpc-go server can do.
type echo struct {
	rtv1.UnimplementedDaprServer
}

func (echo) GetState(context.Context, *rtv1.GetStateRequest) (*rtv1.GetStateResponse, error) {
	return &rtv1.GetStateResponse{Data: value256, Etag: "1"}, nil
}

func (echo) SaveState(context.Context, *rtv1.SaveStateRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func echoClient(b *testing.B) rtv1.DaprClient {
	b.Helper()
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer()
	rtv1.RegisterDaprServer(s, echo{})
	go func() { _ = s.Serve(l) }()
	b.Cleanup(s.Stop)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return rtv1.NewDaprClient(conn)
}

func measure(b *testing.B, client rtv1.DaprClient, call func(context.Context, rtv1.DaprClient) error) {
	for name, parallel := range map[string]int{"c1": 0, "c32": 16} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			if parallel == 0 {
				for range b.N {
					if err := call(b.Context(), client); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.SetParallelism(parallel)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := call(b.Context(), client); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func get(ctx context.Context, c rtv1.DaprClient) error {
	_, err := c.GetState(ctx, &rtv1.GetStateRequest{StoreName: "mystore", Key: "k"})
	return err
}

func set(ctx context.Context, c rtv1.DaprClient) error {
	_, err := c.SaveState(ctx, &rtv1.SaveStateRequest{StoreName: "mystore", States: []*commonv1.StateItem{{Key: "k", Value: value256}}})
	return err
}

func publish(ctx context.Context, c rtv1.DaprClient) error {
	_, err := c.PublishEvent(ctx, &rtv1.PublishEventRequest{PubsubName: "mypubsub", Topic: "t", Data: value256, DataContentType: "text/plain"})
	return err
}

func client(b *testing.B) rtv1.DaprClient {
	c := rtv1.NewDaprClient(dial(b, options(apitest.Full(b))))
	if err := set(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkGRPCEchoGet(b *testing.B)  { measure(b, echoClient(b), get) }
func BenchmarkGRPCEchoSet(b *testing.B)  { measure(b, echoClient(b), set) }
func BenchmarkGRPCStateGet(b *testing.B) { measure(b, client(b), get) }
func BenchmarkGRPCStateSet(b *testing.B) { measure(b, client(b), set) }
func BenchmarkGRPCPublish(b *testing.B)  { measure(b, client(b), publish) }
