package pluggable_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	proto "github.com/dapr/dapr/pkg/proto/components/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pluggable"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/secret"
	"github.com/edged-io/edged/edge/state"
)

// process is a component's process: one gRPC server on a Unix socket, whose memory does not outlive it.
type process struct {
	proto.UnimplementedStateStoreServer
	proto.UnimplementedTransactionalStateStoreServer
	proto.UnimplementedTransactionalStoreMultiMaxSizeServer
	proto.UnimplementedQueriableStateStoreServer

	mu          sync.Mutex
	initialized map[string]map[string]string // instance -> properties
	early       int                          // calls before Init
	data        map[string][]byte
	fail        error
	query       *proto.QueryRequest
	refuse      error
}

func start(t *testing.T, socket string, register func(s *grpc.Server)) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Stop
	}()
	stop = func() { s.Stop(); <-done }
	t.Cleanup(stop)
	return stop
}

func (p *process) register(s *grpc.Server) {
	proto.RegisterStateStoreServer(s, p)
	proto.RegisterTransactionalStateStoreServer(s, p)
	proto.RegisterTransactionalStoreMultiMaxSizeServer(s, p)
	proto.RegisterQueriableStateStoreServer(s, p)
}

func instance(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return slices.Concat(md.Get("x-component-instance"), []string{""})[0]
}

func (p *process) Init(ctx context.Context, r *proto.InitRequest) (*proto.InitResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.initialized == nil {
		p.initialized, p.data = map[string]map[string]string{}, map[string][]byte{}
	}
	p.initialized[instance(ctx)] = r.GetMetadata().GetProperties()
	return &proto.InitResponse{}, p.refuse
}

func (p *process) Features(context.Context, *proto.FeaturesRequest) (*proto.FeaturesResponse, error) {
	return &proto.FeaturesResponse{Features: []string{"ETAG", "TRANSACTIONAL"}}, nil
}

func (p *process) called(ctx context.Context) error {
	if p.initialized[instance(ctx)] == nil {
		p.early++
	}
	return p.fail
}

func (p *process) Get(ctx context.Context, r *proto.GetRequest) (*proto.GetResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.called(ctx); err != nil {
		return nil, err
	}
	return &proto.GetResponse{Data: p.data[r.GetKey()]}, nil
}

func (p *process) Set(ctx context.Context, r *proto.SetRequest) (*proto.SetResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.called(ctx); err != nil {
		return nil, err
	}
	p.data[r.GetKey()] = r.GetValue()
	return &proto.SetResponse{}, nil
}

func (p *process) MultiMaxSize(context.Context, *proto.MultiMaxSizeRequest) (*proto.MultiMaxSizeResponse, error) {
	return &proto.MultiMaxSizeResponse{MaxSize: 1 << 40}, nil
}

func (p *process) Query(_ context.Context, r *proto.QueryRequest) (*proto.QueryResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.query = r
	return &proto.QueryResponse{Items: []*proto.QueryItem{{Key: "app||k", Data: []byte("1")}}, Token: "next"}, nil
}

func spec(name string) component.Spec {
	return component.Spec{Name: name, Type: "state.fake", Properties: map[string]string{"a": "b"}, Log: slog.New(slog.DiscardHandler)}
}

func openState(t *testing.T, socket string) *pluggable.StateStore {
	t.Helper()
	s, err := pluggable.NewStateStore(t.Context(), spec("mystore"), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// eventually polls until ok or a deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

func set(s state.Store, key, value string) error {
	return s.Apply(context.Background(), []state.Op{{Key: key, Value: []byte(value)}})
}

func TestSocket(t *testing.T) {
	folder := t.TempDir()
	start(t, filepath.Join(folder, "redis.sock"), func(*grpc.Server) {})
	if got, ok := pluggable.Socket(folder, "state.redis"); !ok || got != filepath.Join(folder, "redis.sock") {
		t.Errorf("Socket = %q, %v", got, ok)
	}
	for _, other := range []string{"state.other", "state", ""} {
		if got, ok := pluggable.Socket(folder, other); ok {
			t.Errorf("Socket(%q) = %q", other, got)
		}
	}
}

func TestStateStore(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	p := &process{}
	start(t, socket, p.register)
	s := openState(t, socket)

	t.Run("InitGetsPropertiesOfInstance", func(t *testing.T) {
		if got := p.initialized["mystore"]["a"]; got != "b" || len(p.initialized) != 1 {
			t.Errorf("initialized %v", p.initialized)
		}
		if !slices.Equal(s.Features(), []string{"ETAG", "TRANSACTIONAL"}) {
			t.Errorf("features %v", s.Features())
		}
	})
	t.Run("WritesAndReads", func(t *testing.T) {
		if err := set(s, "k", "v"); err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(t.Context(), "k", "absent")
		if err != nil || string(got[0].Value) != "v" || !got[0].Found || got[1].Found {
			t.Errorf("Get = %+v, %v", got, err)
		}
	})
	t.Run("LimitFitsAnInt", func(t *testing.T) {
		if n := s.MaxTransaction(); n != 1<<31-1 {
			t.Errorf("MaxTransaction = %d", n)
		}
	})
	t.Run("QueryIsTranslated", func(t *testing.T) {
		r, err := s.Query(t.Context(), []byte(`{"filter":{"EQ":{"a":"b"}},"sort":[{"key":"x","order":"DESC"}],"page":{"limit":3,"token":"t"}}`), nil)
		if err != nil || len(r.Results) != 1 || r.Token != "next" || r.Results[0].Key != "app||k" {
			t.Fatalf("Query = %+v, %v", r, err)
		}
		q := p.query.GetQuery()
		if string(q.GetFilter()["EQ"].GetValue()) != `{"a":"b"}` || q.GetSort()[0].GetOrder() != proto.Sorting_DESC || q.GetPagination().GetLimit() != 3 {
			t.Errorf("asked %v", q)
		}
	})
}

func withDetail(t *testing.T, c codes.Code, detail *errdetails.BadRequest_FieldViolation, info *errdetails.ErrorInfo) error {
	t.Helper()
	s := status.New(c, "said")
	var err error
	if info != nil {
		s, err = s.WithDetails(info)
	} else {
		s, err = s.WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{detail}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func TestStateStore_Errors(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	p := &process{}
	start(t, socket, p.register)
	s := openState(t, socket)
	say := func(err error) error {
		p.mu.Lock()
		p.fail = err
		p.mu.Unlock()
		return set(s, "k", "v")
	}
	etag := &errdetails.BadRequest_FieldViolation{Field: "etag", Description: "why"}
	if err := say(withDetail(t, codes.FailedPrecondition, etag, nil)); !errors.Is(err, state.ErrETagMismatch) {
		t.Errorf("mismatch: %v", err)
	}
	if err := say(withDetail(t, codes.InvalidArgument, etag, nil)); !errors.Is(err, state.ErrETagInvalid) {
		t.Errorf("invalid: %v", err)
	}
	other := &errdetails.BadRequest_FieldViolation{Field: "key", Description: "why"}
	if err := say(withDetail(t, codes.InvalidArgument, other, nil)); errors.Is(err, state.ErrETagInvalid) {
		t.Errorf("another field: %v", err)
	}
	info := &errdetails.ErrorInfo{Reason: "R", Domain: "D", Metadata: map[string]string{"kit_error": "true", "http_code": "506", "tag": "T"}}
	var f *fault.Error
	if err := say(withDetail(t, codes.DataLoss, nil, info)); !errors.As(err, &f) || f.HTTP != 506 || f.GRPC != fault.DataLoss || f.ErrorCode != "T" || f.Reason != "R" || f.Domain != "D" {
		t.Errorf("chosen: %+v", f)
	}
	f = nil
	info.Metadata["http_code"] = "many"
	if err := say(withDetail(t, codes.DataLoss, nil, info)); err == nil || errors.As(err, &f) {
		t.Errorf("broken detail: %v", err)
	}
}

func TestOpen(t *testing.T) {
	t.Run("ErrRefusedMetadata", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "s.sock")
		start(t, socket, (&process{refuse: status.Error(codes.InvalidArgument, "no host")}).register)
		if _, err := pluggable.NewStateStore(t.Context(), spec("s"), socket); err == nil {
			t.Error("a refused component was made")
		}
	})
	t.Run("ErrOtherKind", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "s.sock")
		start(t, socket, (&process{}).register)
		if _, err := pluggable.NewSecretStore(t.Context(), spec("s"), socket); err == nil {
			t.Error("a state store was made a secret store")
		}
	})
	t.Run("ComesLater", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "s.sock")
		s := openState(t, socket)
		if err := set(s, "k", "v"); !errors.Is(err, pluggable.ErrAway) {
			t.Fatalf("before: %v", err)
		}
		start(t, socket, (&process{}).register)
		eventually(t, "component is used", func() bool { return set(s, "k", "v") == nil })
	})
}

// TestStateStore_Restart has writers at work while the component's process is started again and again: none of their
// calls may reach a process that was not initialized.
func TestStateStore_Restart(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	p := &process{}
	stop := start(t, socket, p.register)
	s := openState(t, socket)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
					_ = set(s, "k", "v") // fails while the process is away
				}
			}
		})
	}
	for range 5 {
		stop()
		p = &process{}
		stop = start(t, socket, p.register)
		eventually(t, "component is used again", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.data["k"] != nil
		})
		p.mu.Lock()
		if p.early > 0 {
			t.Errorf("%d calls came before Init", p.early)
		}
		p.mu.Unlock()
	}
	close(quit)
	wg.Wait()
}

type secrets struct {
	proto.UnimplementedSecretStoreServer
}

func (secrets) Init(context.Context, *proto.SecretStoreInitRequest) (*proto.SecretStoreInitResponse, error) {
	return &proto.SecretStoreInitResponse{}, nil
}

func (secrets) Features(context.Context, *proto.FeaturesRequest) (*proto.FeaturesResponse, error) {
	return &proto.FeaturesResponse{}, nil
}

func (secrets) Get(_ context.Context, r *proto.GetSecretRequest) (*proto.GetSecretResponse, error) {
	if r.GetKey() != "k" {
		return nil, status.Error(codes.NotFound, "nothing")
	}
	return &proto.GetSecretResponse{Data: map[string]string{"k": "v"}}, nil
}

func (secrets) BulkGet(context.Context, *proto.BulkGetSecretRequest) (*proto.BulkGetSecretResponse, error) {
	return &proto.BulkGetSecretResponse{Data: map[string]*proto.SecretResponse{"k": {Secrets: map[string]string{"k": "v"}}}}, nil
}

func TestSecretStore(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	start(t, socket, func(s *grpc.Server) { proto.RegisterSecretStoreServer(s, secrets{}) })
	s, err := pluggable.NewSecretStore(t.Context(), spec("s"), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if got, err := s.Get(t.Context(), "k", nil); err != nil || got["k"] != "v" {
		t.Errorf("Get = %v, %v", got, err)
	}
	if _, err := s.Get(t.Context(), "absent", nil); !errors.Is(err, secret.ErrNotFound) {
		t.Errorf("Get absent: %v", err)
	}
	if got, err := s.BulkGet(t.Context(), nil); err != nil || got["k"]["k"] != "v" {
		t.Errorf("BulkGet = %v, %v", got, err)
	}
}

// queue is a broker's process: one topic, redelivering what was nak'ed or not acked when a stream ended.
type queue struct {
	proto.UnimplementedPubSubServer
	todo  chan *proto.PullMessagesResponse
	acked chan *proto.PullMessagesRequest
	bulk  func(*proto.BulkPublishRequest) (*proto.BulkPublishResponse, error)
	sent  chan *proto.PublishRequest
}

func newQueue() *queue {
	return &queue{todo: make(chan *proto.PullMessagesResponse, 16), acked: make(chan *proto.PullMessagesRequest, 16), sent: make(chan *proto.PublishRequest, 16)}
}

func (q *queue) Init(context.Context, *proto.PubSubInitRequest) (*proto.PubSubInitResponse, error) {
	return &proto.PubSubInitResponse{}, nil
}

func (q *queue) Features(context.Context, *proto.FeaturesRequest) (*proto.FeaturesResponse, error) {
	return &proto.FeaturesResponse{}, nil
}

func (q *queue) Publish(_ context.Context, r *proto.PublishRequest) (*proto.PublishResponse, error) {
	q.sent <- r
	return &proto.PublishResponse{}, nil
}

func (q *queue) BulkPublish(_ context.Context, r *proto.BulkPublishRequest) (*proto.BulkPublishResponse, error) {
	if q.bulk == nil {
		return nil, status.Error(codes.Unimplemented, "no bulk")
	}
	return q.bulk(r)
}

func (q *queue) PullMessages(stream proto.PubSub_PullMessagesServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			q.acked <- r
		}
	}()
	for {
		select {
		case m := <-q.todo:
			if err := stream.Send(m); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func openPubSub(t *testing.T, socket string) *pluggable.PubSub {
	t.Helper()
	p, err := pluggable.NewPubSub(t.Context(), spec("bus"), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func (q *queue) ack(t *testing.T) *proto.PullMessagesRequest {
	t.Helper()
	select {
	case a := <-q.acked:
		return a
	case <-time.After(15 * time.Second):
		t.Fatal("no ack in time")
		return nil
	}
}

func TestPubSub_Publish(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	q := newQueue()
	start(t, socket, func(s *grpc.Server) { proto.RegisterPubSubServer(s, q) })
	p := openPubSub(t, socket)
	two := []pubsub.Event{{Topic: "t", Data: []byte("1")}, {Topic: "t", Data: []byte("2")}}

	t.Run("OneByOneWithoutBulk", func(t *testing.T) {
		if err := p.Publish(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		for _, want := range two {
			if got := <-q.sent; got.GetPubsubName() != "bus" || got.GetTopic() != "t" || string(got.GetData()) != string(want.Data) {
				t.Errorf("sent %v", got)
			}
		}
	})
	t.Run("ErrPartial", func(t *testing.T) {
		q.bulk = func(*proto.BulkPublishRequest) (*proto.BulkPublishResponse, error) {
			return &proto.BulkPublishResponse{FailedEntries: []*proto.BulkPublishResponseFailedEntry{{EntryId: "1", Error: "full"}}}, nil
		}
		var partial *pubsub.PartialError
		if err := p.Publish(t.Context(), two); !errors.As(err, &partial) || len(partial.Failed) != 1 || partial.Failed[1] == nil {
			t.Errorf("Publish: %v", err)
		}
	})
}

func TestPubSub_Subscribe(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	q := newQueue()
	register := func(s *grpc.Server) { proto.RegisterPubSubServer(s, q) }
	stop := start(t, socket, register)
	p := openPubSub(t, socket)
	var mu sync.Mutex
	var seen []string
	unreachable := 1
	sub, err := p.Subscribe(t.Context(), pubsub.Consumer{Name: "c", Filter: "t"}, func(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
		mu.Lock()
		defer mu.Unlock()
		if string(events[0].Data) == "away" && unreachable > 0 {
			unreachable--
			return nil, errors.New("not there")
		}
		seen = append(seen, string(events[0].Data))
		switch string(events[0].Data) {
		case "again":
			return []pubsub.Verdict{pubsub.Nak}, nil
		case "drop":
			return []pubsub.Verdict{pubsub.Drop}, nil
		}
		return []pubsub.Verdict{pubsub.Ack}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	for _, name := range []string{"ok", "again", "drop", "away"} {
		q.todo <- &proto.PullMessagesResponse{Id: name, Data: []byte(name), TopicName: "t"}
		if a := q.ack(t); a.GetAckMessageId() != name || (a.GetAckError() != nil) != (name == "again") {
			t.Errorf("ack of %s: %v", name, a)
		}
	}
	stop()
	start(t, socket, register)
	q.todo <- &proto.PullMessagesResponse{Id: "after", Data: []byte("after")}
	if a := q.ack(t); a.GetAckMessageId() != "after" {
		t.Errorf("after a restart: %v", a)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(seen, []string{"ok", "again", "drop", "away", "after"}) {
		t.Errorf("seen %v", seen)
	}
}

func TestPubSub_SubscribeInBatches(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	q := newQueue()
	start(t, socket, func(s *grpc.Server) { proto.RegisterPubSubServer(s, q) })
	p := openPubSub(t, socket)
	sizes := make(chan int, 4)
	sub, err := p.Subscribe(t.Context(), pubsub.Consumer{Name: "c", Filter: "t", MaxBatch: 3, MaxWait: time.Minute}, func(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
		sizes <- len(events)
		return make([]pubsub.Verdict, len(events)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "2", "3", "4"} {
		q.todo <- &proto.PullMessagesResponse{Id: id}
	}
	for range 3 {
		q.ack(t)
	}
	if n := <-sizes; n != 3 {
		t.Errorf("batch of %d", n)
	}
	eventually(t, "the last is taken", func() bool { return len(q.todo) == 0 })
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
}
