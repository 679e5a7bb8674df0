package grpcapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/edged-io/edged/edge/apitest"
	"github.com/edged-io/edged/edge/grpcapi"
)

// recorded is a call and what daprd 1.18.2 answered. testdata/daprd.json was recorded from three running daprd: "full"
// with state.in-memory, pubsub.in-memory (one with publishing scopes) and secretstores.local.file, "bare" without any
// component, "tok" with an API token and a body limit of 1 KiB.
type recorded struct {
	On      string            `json:"on"`
	Call    string            `json:"call"`
	Token   string            `json:"token"`
	Request json.RawMessage   `json:"request"`
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details"`
	Answer  json.RawMessage   `json:"answer"`
}

// deliberate are the calls, by the beginning of name and request, whose message may differ from daprd's.
var deliberate = map[string]string{
	`SaveState {"storeName": "mystore", "states": [{"key": "k1"`:                                 "our store words a lost race itself",
	`DeleteState {"storeName": "mystore", "key": "missing", "etag"`:                              "our store words a lost race itself",
	`DeleteState {"storeName": "mystore", "key": "k6"`:                                           "our store words a lost race itself",
	`DeleteBulkState {"storeName": "mystore", "states": [{"key": "k1", "etag"`:                   "our store words a lost race itself",
	`ExecuteStateTransaction {"storeName": "mystore", "operations": [{"operationType": "upsert"`: "our store words a lost race itself",
	`InvokeService`: "how the target could not be found",
	`PublishEvent {"pubsubName": "mypubsub", "topic": "t", "data": "eyI="`:                                   "wording of a syntax error",
	`BulkPublishEvent {"pubsubName": "mypubsub", "topic": "t", "entries": [{"entryId": "1", "event": "eyI="`: "wording of a syntax error",
}

// refused are calls that daprd takes while the block is off, and edged does not.
var refused = map[string]string{
	"SubscribeActorEventsAlpha1": "daprd opens the stream and never uses it",
}

func TestAPI_AsDaprd(t *testing.T) {
	data, err := os.ReadFile("testdata/daprd.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []recorded
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	token := options(apitest.Bare())
	token.APIToken, token.MaxBodySize = "tok", 1024
	conns := map[string]*grpc.ClientConn{
		"full": dial(t, options(apitest.Full(t))), "bare": dial(t, options(apitest.Bare())), "tok": dial(t, token),
	}
	called := map[string]bool{}
	for _, c := range cases {
		called[c.Call] = true
		t.Run(c.On+" "+c.Call, func(t *testing.T) { replay(t, conns[c.On], c) })
	}
	methods := daprService(t).Methods()
	for i := range methods.Len() {
		// daprd would have stopped while it was recorded; all alpha workflow calls are alike.
		if name := string(methods.Get(i).Name()); !called[name] && name != "Shutdown" && !strings.HasSuffix(name, "WorkflowAlpha1") {
			t.Errorf("no recorded call of %s", name)
		}
	}
}

func options(s *apitest.Services) grpcapi.Options {
	return grpcapi.Options{
		AppID: apitest.App, Namespace: "default",
		State: s.State, PubSub: s.PubSub, Secrets: s.Secrets, Metadata: s.Metadata, Invoke: s.Invoke,
	}
}

// dial serves o on a Unix socket and connects to it.
func dial(t testing.TB, o grpcapi.Options) *grpc.ClientConn {
	t.Helper()
	_, conn := start(t, o)
	return conn
}

func start(t testing.TB, o grpcapi.Options) (*grpcapi.Server, *grpc.ClientConn) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpcapi.New(o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return s, conn
}

func daprService(t testing.TB) protoreflect.ServiceDescriptor {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName("dapr.proto.runtime.v1.Dapr")
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.ServiceDescriptor)
}

func newMessage(t testing.TB, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return mt.New().Interface()
}

func replay(t *testing.T, conn *grpc.ClientConn, c recorded) {
	m := daprService(t).Methods().ByName(protoreflect.Name(c.Call))
	in, out := newMessage(t, m.Input()), newMessage(t, m.Output())
	request := strings.ReplaceAll(string(c.Request), "BIG2000", strings.Repeat("x", 2000))
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(request), in); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if c.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "dapr-api-token", c.Token)
	}
	st := status.Convert(call(ctx, conn, m, in, out))
	if why := refused[c.Call]; why != "" {
		if st.Code().String() == "OK" {
			t.Errorf("accepted")
		}
		return
	}
	free := false
	for start := range deliberate {
		free = free || strings.HasPrefix(c.Call+" "+string(c.Request), start)
	}
	if st.Code().String() != c.Code || st.Message() != c.Message && !free {
		t.Errorf("got   %s: %s\ndaprd %s: %s", st.Code(), st.Message(), c.Code, c.Message)
	}
	details := st.Proto().GetDetails()
	if len(details) != len(c.Details) {
		t.Fatalf("details %v, daprd %s", details, c.Details)
	}
	for i, d := range details {
		same(t, d, c.Details[i], free)
	}
	if c.Answer != nil && st.Code().String() == "OK" {
		same(t, out, c.Answer, false)
	}
}

// call makes the call; of a stream it takes the first answer.
func call(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, in, out proto.Message) error {
	name := "/dapr.proto.runtime.v1.Dapr/" + string(m.Name())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, name, in, out)
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name)
	if err != nil {
		return err
	}
	if err := s.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !m.IsStreamingClient() {
		if err := s.CloseSend(); err != nil {
			return err
		}
	}
	return s.RecvMsg(out)
}

var (
	etags = regexp.MustCompile(`"etag": ?"[^"]*"`)
	times = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
)

func same(t *testing.T, got proto.Message, want json.RawMessage, free bool) {
	t.Helper()
	text, err := protojson.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	text = times.ReplaceAll(etags.ReplaceAll(text, []byte(`"etag":"<etag>"`)), []byte("<time>"))
	var g, w any
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if free {
		for _, v := range []any{g, w} {
			if m, ok := v.(map[string]any)["metadata"].(map[string]any); ok {
				delete(m, "error")
			}
		}
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got   %s\ndaprd %s", text, want)
	}
}
