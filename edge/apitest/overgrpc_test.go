package apitest_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/apitest"
	"github.com/edged-io/edged/edge/grpcapi"
)

type overGRPC struct {
	c    rtv1.DaprClient
	errs *errs
}

func newGRPC(t *testing.T, s *apitest.Services) *overGRPC {
	t.Helper()
	e := &errs{}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpcapi.New(grpcapi.Options{
		AppID: apitest.App, State: s.State, PubSub: s.PubSub, Secrets: s.Secrets, Metadata: s.Metadata, OnError: e.count,
	})
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &overGRPC{c: rtv1.NewDaprClient(conn), errs: e}
}

func (o *overGRPC) do(call func(ctx context.Context) error) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := call(ctx)
	var out outcome
	out.Code, out.Category = o.errs.take()
	if err == nil {
		return out
	}
	st := status.Convert(err)
	out.Message = st.Message()
	for _, d := range st.Details() {
		out.Details = append(out.Details, flatten(d))
	}
	return out
}

func flatten(detail any) map[string]string {
	m := map[string]string{}
	set := func(k, v string) {
		if v != "" && v != "map[]" {
			m[k] = strings.Trim(v, "[]")
		}
	}
	switch d := detail.(type) {
	case *errdetails.ErrorInfo:
		set("type", "ErrorInfo")
		set("domain", d.Domain)
		set("reason", d.Reason)
		set("metadata", fmt.Sprint(d.Metadata))
	case *errdetails.ResourceInfo:
		set("type", "ResourceInfo")
		set("resourcetype", d.ResourceType)
		set("resourcename", d.ResourceName)
		set("description", d.Description)
	case *errdetails.BadRequest:
		set("type", "BadRequest")
	case *errdetails.Help:
		set("type", "Help")
	}
	return m
}

func (o *overGRPC) get(store, key string) outcome {
	var got *rtv1.GetStateResponse
	out := o.do(func(ctx context.Context) (err error) {
		got, err = o.c.GetState(ctx, &rtv1.GetStateRequest{StoreName: store, Key: key})
		return err
	})
	out.Answer = string(got.GetData())
	return out
}

func (i item) proto() *commonv1.StateItem {
	// Over gRPC a value is bytes; as JSON it is stored as it is over HTTP.
	s := &commonv1.StateItem{Key: i.Key, Value: []byte(i.Value), Metadata: i.Metadata}
	if i.ETag != "" {
		s.Etag = &commonv1.Etag{Value: i.ETag}
	}
	if i.Concurrency == "first-write" {
		s.Options = &commonv1.StateOptions{Concurrency: commonv1.StateOptions_CONCURRENCY_FIRST_WRITE}
	}
	return s
}

func (o *overGRPC) save(store string, items ...item) outcome {
	in := &rtv1.SaveStateRequest{StoreName: store}
	for _, i := range items {
		in.States = append(in.States, i.proto())
	}
	return o.do(func(ctx context.Context) error { _, err := o.c.SaveState(ctx, in); return err })
}

func (o *overGRPC) remove(store string, i item) outcome {
	in := &rtv1.DeleteStateRequest{StoreName: store, Key: i.Key, Etag: i.proto().Etag}
	return o.do(func(ctx context.Context) error { _, err := o.c.DeleteState(ctx, in); return err })
}

func (o *overGRPC) bulkGet(store string, keys ...string) outcome {
	var got *rtv1.GetBulkStateResponse
	out := o.do(func(ctx context.Context) (err error) {
		got, err = o.c.GetBulkState(ctx, &rtv1.GetBulkStateRequest{StoreName: store, Keys: keys})
		return err
	})
	reads := []read{}
	for _, g := range got.GetItems() {
		r := read{Key: g.Key, Data: string(g.Data), HasETag: g.Etag != ""}
		for name := range g.Metadata {
			r.Metadata = append(r.Metadata, name)
		}
		reads = append(reads, r)
	}
	out.Answer = reads
	return out
}

func (o *overGRPC) transact(store string, items ...item) outcome {
	in := &rtv1.ExecuteStateTransactionRequest{StoreName: store}
	for _, i := range items {
		in.Operations = append(in.Operations, &rtv1.TransactionalStateOperation{OperationType: i.Operation, Request: i.proto()})
	}
	return o.do(func(ctx context.Context) error { _, err := o.c.ExecuteStateTransaction(ctx, in); return err })
}

func (o *overGRPC) query(store, query string) outcome {
	return o.do(func(ctx context.Context) error {
		_, err := o.c.QueryStateAlpha1(ctx, &rtv1.QueryStateRequest{StoreName: store, Query: query})
		return err
	})
}

func (o *overGRPC) publish(pubsub, topic, contentType, data string, metadata map[string]string) outcome {
	return o.do(func(ctx context.Context) error {
		_, err := o.c.PublishEvent(ctx, &rtv1.PublishEventRequest{
			PubsubName: pubsub, Topic: topic, DataContentType: contentType, Data: []byte(data), Metadata: metadata,
		})
		return err
	})
}

func (o *overGRPC) bulkPublish(pubsub, topic string, ids ...string) outcome {
	in := &rtv1.BulkPublishRequest{PubsubName: pubsub, Topic: topic}
	for _, id := range ids {
		in.Entries = append(in.Entries, &rtv1.BulkPublishRequestEntry{EntryId: id, Event: []byte("x"), ContentType: "text/plain"})
	}
	return o.do(func(ctx context.Context) error { _, err := o.c.BulkPublishEvent(ctx, in); return err })
}

func (o *overGRPC) secret(store, key string) outcome {
	var got *rtv1.GetSecretResponse
	out := o.do(func(ctx context.Context) (err error) {
		got, err = o.c.GetSecret(ctx, &rtv1.GetSecretRequest{StoreName: store, Key: key})
		return err
	})
	out.Answer = got.GetData()
	return out
}

func (o *overGRPC) secrets(store string) outcome {
	var got *rtv1.GetBulkSecretResponse
	out := o.do(func(ctx context.Context) (err error) {
		got, err = o.c.GetBulkSecret(ctx, &rtv1.GetBulkSecretRequest{StoreName: store})
		return err
	})
	var all map[string]map[string]string
	for name, s := range got.GetData() {
		if all == nil {
			all = map[string]map[string]string{}
		}
		all[name] = s.GetSecrets()
	}
	out.Answer = all
	return out
}

func (o *overGRPC) metadata() outcome {
	var got *rtv1.GetMetadataResponse
	out := o.do(func(ctx context.Context) (err error) {
		got, err = o.c.GetMetadata(ctx, &rtv1.GetMetadataRequest{})
		return err
	})
	r := report{
		ID: got.GetId(), Version: got.GetRuntimeVersion(), Protocol: got.GetAppConnectionProperties().GetProtocol(),
		Actors: got.GetActorRuntime().GetRuntimeStatus().String(), Placement: got.GetActorRuntime().GetPlacement(), Extended: got.GetExtendedMetadata(),
	}
	for _, c := range got.GetRegisteredComponents() {
		r.Components = append(r.Components, c.Name+" "+c.Type)
	}
	for _, s := range got.GetSubscriptions() {
		r.Subscriptions = append(r.Subscriptions, s.PubsubName+" "+s.Topic+" "+s.Type.String())
	}
	out.Answer = r
	return out
}

func (o *overGRPC) setMetadata(key, value string) outcome {
	return o.do(func(ctx context.Context) error {
		_, err := o.c.SetMetadata(ctx, &rtv1.SetMetadataRequest{Key: key, Value: value})
		return err
	})
}
