package apitest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
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
	"github.com/edged-io/edged/edge/httpapi"
)

// outcome is what a call came to, whatever carried it.
type outcome struct {
	Code, Category string // as counted; empty: it succeeded
	Message        string
	Details        []map[string]string
	Answer         any
}

// item is a write, or an operation of a transaction.
type item struct {
	Key, Value, ETag, Operation string // Value is JSON
	Concurrency                 string
	Metadata                    map[string]string
}

// transport makes the calls that both APIs have.
type transport interface {
	get(store, key string) outcome
	save(store string, items ...item) outcome
	remove(store string, i item) outcome
	bulkGet(store string, keys ...string) outcome
	transact(store string, items ...item) outcome
	query(store, query string) outcome
	publish(pubsub, topic, contentType, data string, metadata map[string]string) outcome
	bulkPublish(pubsub, topic string, ids ...string) outcome
	secret(store, key string) outcome
	secrets(store string) outcome
	metadata() outcome
	setMetadata(key, value string) outcome
}

// parity are calls that must come to the same over HTTP and gRPC. What Dapr's two APIs say differently is named.
var parity = []struct {
	name    string
	call    func(t transport) outcome
	differs string // message, code, metadata
}{
	{name: "save", call: func(t transport) outcome { return t.save("mystore", item{Key: "a", Value: `"1"`}) }},
	{name: "get", call: func(t transport) outcome { return t.get("mystore", "a") }},
	{name: "get absent", call: func(t transport) outcome { return t.get("mystore", "absent") }},
	{name: "get odd key", call: func(t transport) outcome {
		t.save("mystore", item{Key: "a/b c+d%&?#ü", Value: `{"x":[1,2.50,"<&>"]}`})
		return t.get("mystore", "a/b c+d%&?#ü")
	}},
	{name: "get illegal key", call: func(t transport) outcome { return t.get("mystore", "a||b") }, differs: "message"},
	{name: "get unknown store", call: func(t transport) outcome { return t.get("nostore", "a") }, differs: "metadata"},
	{name: "save nothing", call: func(t transport) outcome { return t.save("mystore") }},
	{name: "save empty key", call: func(t transport) outcome { return t.save("mystore", item{Value: "1"}) }, differs: "code"},
	{name: "save illegal key", call: func(t transport) outcome { return t.save("mystore", item{Key: "a||b", Value: "1"}) }, differs: "message"},
	{name: "save unknown store", call: func(t transport) outcome { return t.save("nostore", item{Key: "a", Value: "1"}) }, differs: "metadata"},
	{name: "save bad ttl", call: func(t transport) outcome {
		return t.save("mystore", item{Key: "a", Value: "1", Metadata: map[string]string{"ttlInSeconds": "x"}})
	}, differs: "details"},
	{name: "save and get ttl", call: func(t transport) outcome {
		t.save("mystore", item{Key: "ttl", Value: "1", Metadata: map[string]string{"ttlInSeconds": "100"}})
		return t.get("mystore", "ttl")
	}},
	{name: "save wrong etag", call: func(t transport) outcome { return t.save("mystore", item{Key: "a", Value: "1", ETag: "999999"}) }, differs: "details"},
	{name: "save first-write over a value", call: func(t transport) outcome {
		return t.save("mystore", item{Key: "a", Value: "1", Concurrency: "first-write"})
	}, differs: "details"},
	{name: "save several, one wrong etag", call: func(t transport) outcome {
		return t.save("mystore", item{Key: "m1", Value: "1"}, item{Key: "a", Value: "2", ETag: "999999"})
	}, differs: "details"},
	{name: "the others of several stay", call: func(t transport) outcome { return t.get("mystore", "m1") }},
	{name: "remove", call: func(t transport) outcome { return t.remove("mystore", item{Key: "m1"}) }},
	{name: "removed", call: func(t transport) outcome { return t.get("mystore", "m1") }},
	{name: "remove absent", call: func(t transport) outcome { return t.remove("mystore", item{Key: "absent"}) }},
	{name: "remove wrong etag", call: func(t transport) outcome { return t.remove("mystore", item{Key: "a", ETag: "999999"}) }, differs: "details"},
	{name: "remove illegal key", call: func(t transport) outcome { return t.remove("mystore", item{Key: "a||b"}) }, differs: "message"},
	{name: "bulk get", call: func(t transport) outcome { return t.bulkGet("mystore", "a", "absent", "ttl") }},
	{name: "bulk get nothing", call: func(t transport) outcome { return t.bulkGet("mystore") }},
	{name: "bulk get illegal key", call: func(t transport) outcome { return t.bulkGet("mystore", "a||b") }, differs: "message"},
	{name: "bulk get unknown store", call: func(t transport) outcome { return t.bulkGet("nostore", "a") }, differs: "metadata"},
	{name: "transact", call: func(t transport) outcome {
		return t.transact("mystore", item{Operation: "upsert", Key: "t", Value: `{"t":1}`}, item{Operation: "delete", Key: "a"})
	}},
	{name: "transacted", call: func(t transport) outcome { return t.bulkGet("mystore", "t", "a") }},
	{name: "transact wrong etag", call: func(t transport) outcome {
		return t.transact("mystore", item{Operation: "upsert", Key: "u", Value: "1"}, item{Operation: "upsert", Key: "t", Value: "2", ETag: "999999"})
	}, differs: "details"},
	{name: "nothing of it stays", call: func(t transport) outcome { return t.get("mystore", "u") }},
	{name: "transact nothing", call: func(t transport) outcome { return t.transact("mystore") }},
	{name: "transact odd operation", call: func(t transport) outcome { return t.transact("mystore", item{Operation: "frob", Key: "t", Value: "1"}) }, differs: "details"},
	{name: "transact illegal key", call: func(t transport) outcome {
		return t.transact("mystore", item{Operation: "upsert", Key: "a||b", Value: "1"})
	}, differs: "message"},
	{name: "transact unknown store", call: func(t transport) outcome { return t.transact("nostore", item{Operation: "frob", Key: "t", Value: "1"}) }, differs: "metadata"},
	{name: "query unsupported", call: func(t transport) outcome { return t.query("mystore", `{"filter":{}}`) }},
	{name: "query unknown store", call: func(t transport) outcome { return t.query("nostore", `{}`) }},
	{name: "publish", call: func(t transport) outcome { return t.publish("mypubsub", "t", "text/plain", "x", nil) }},
	{name: "publish to a topic with slashes", call: func(t transport) outcome {
		return t.publish("mypubsub", "a/b/c", "application/json", "{}", map[string]string{"ttlInSeconds": "5"})
	}},
	{name: "publish raw", call: func(t transport) outcome {
		return t.publish("mypubsub", "t", "", "x", map[string]string{"rawPayload": "true"})
	}},
	{name: "publish unknown component", call: func(t transport) outcome { return t.publish("nopubsub", "t", "", "x", nil) }, differs: "metadata"},
	{name: "publish bad metadata", call: func(t transport) outcome {
		return t.publish("mypubsub", "t", "", "x", map[string]string{"rawPayload": "maybe"})
	}},
	{name: "publish no CloudEvent", call: func(t transport) outcome {
		return t.publish("mypubsub", "t", "application/cloudevents+json", "x", nil)
	}},
	{name: "publish forbidden", call: func(t transport) outcome { return t.publish("scoped", "t", "", "x", nil) }},
	{name: "publish allowed", call: func(t transport) outcome { return t.publish("scoped", "ok", "", "x", nil) }},
	{name: "bulk publish", call: func(t transport) outcome { return t.bulkPublish("mypubsub", "t", "1", "2") }},
	{name: "bulk publish nothing", call: func(t transport) outcome { return t.bulkPublish("mypubsub", "t") }},
	{name: "bulk publish same id", call: func(t transport) outcome { return t.bulkPublish("mypubsub", "t", "1", "1") }},
	{name: "bulk publish no id", call: func(t transport) outcome { return t.bulkPublish("mypubsub", "t", "") }},
	{name: "bulk publish forbidden", call: func(t transport) outcome { return t.bulkPublish("scoped", "t", "1") }},
	{name: "bulk publish unknown component", call: func(t transport) outcome { return t.bulkPublish("nopubsub", "t", "1") }, differs: "metadata"},
	{name: "secret", call: func(t transport) outcome { return t.secret("mysecrets", "key1") }},
	{name: "secret nested", call: func(t transport) outcome { return t.secret("mysecrets", "nested:a") }},
	{name: "secret absent", call: func(t transport) outcome { return t.secret("mysecrets", "absent") }},
	{name: "secret denied", call: func(t transport) outcome { return t.secret("mysecrets", "denied") }},
	{name: "secret unknown store", call: func(t transport) outcome { return t.secret("nosecrets", "key1") }},
	{name: "secrets", call: func(t transport) outcome { return t.secrets("mysecrets") }},
	{name: "secrets unknown store", call: func(t transport) outcome { return t.secrets("nosecrets") }},
	{name: "set metadata", call: func(t transport) outcome { return t.setMetadata("a b", "c/d") }},
	{name: "metadata", call: func(t transport) outcome { return t.metadata() }},
}

func TestParity(t *testing.T) {
	for where, services := range map[string]func() *apitest.Services{
		"full": func() *apitest.Services { return apitest.Full(t) },
		"bare": apitest.Bare,
	} {
		// Each transport has services of its own, made alike, so that writes through one do not show in the other.
		overHTTP, overGRPC := newHTTP(t, services()), newGRPC(t, services())
		for _, p := range parity {
			t.Run(where+" "+p.name, func(t *testing.T) {
				agree(t, p.call(overHTTP), p.call(overGRPC), p.differs)
			})
		}
	}
}

// revisions are ETags that a message names; they differ from store to store.
var revisions = regexp.MustCompile(`\d{9,}`)

func agree(t *testing.T, a, b outcome, differs string) {
	t.Helper()
	if (a.Code == "") != (b.Code == "") {
		t.Fatalf("HTTP %+v\ngRPC %+v", a, b)
	}
	if a.Code == "ERR_STATE_STORE_NOT_CONFIGURED" || a.Code == "ERR_PUBSUB_NOT_FOUND" {
		differs = "metadata" // whatever else is wrong with the call
	}
	switch differs {
	case "code": // the same refusal in other words
		a.Code, a.Category, a.Message, a.Details = b.Code, b.Category, b.Message, b.Details
	case "message": // HTTP wraps it once more
		a.Message = strings.TrimPrefix(a.Message, "api error: code = InvalidArgument desc = ")
		a.Details, b.Details = nil, nil
	case "details": // over gRPC only
		if len(a.Details) > 0 || a.Code != "" && len(b.Details) != 1 {
			t.Errorf("HTTP details %v, gRPC %v", a.Details, b.Details)
		}
		b.Details = nil
	case "metadata": // HTTP names the application or the request's metadata
		for _, d := range append(a.Details, b.Details...) {
			delete(d, "metadata")
		}
	}
	a.Message, b.Message = revisions.ReplaceAllString(a.Message, "n"), revisions.ReplaceAllString(b.Message, "n")
	if !reflect.DeepEqual(a, b) {
		t.Errorf("HTTP %+v\ngRPC %+v", a, b)
	}
}

// errs notes the last error that an API counted.
type errs struct{ code, category string }

func (e *errs) count(code, category string) { e.code, e.category = code, category }

func (e *errs) take() (code, category string) {
	code, category = e.code, e.category
	*e = errs{}
	return code, category
}

type overHTTP struct {
	h    http.Handler
	errs *errs
}

func newHTTP(t *testing.T, s *apitest.Services) *overHTTP {
	t.Helper()
	e := &errs{}
	return &overHTTP{errs: e, h: httpapi.New(httpapi.Options{
		AppID: apitest.App, State: s.State, PubSub: s.PubSub, Secrets: s.Secrets, Metadata: s.Metadata, OnError: e.count,
	})}
}

// do makes a call. answer, if not nil, takes a 200's JSON.
func (o *overHTTP) do(method, path, body string, header map[string]string, answer any) outcome {
	r := httptest.NewRequest(method, "http://x"+path, strings.NewReader(body))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	o.h.ServeHTTP(w, r)
	var out outcome
	out.Code, out.Category = o.errs.take()
	if w.Code == http.StatusOK && answer != nil {
		if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
			panic(err)
		}
	}
	if w.Code < 300 {
		return out
	}
	var e struct {
		ErrorCode, Message string
		Details            []map[string]any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.ErrorCode != out.Code {
		panic(fmt.Sprintf("%s %s: %d %s counted as %s", method, path, w.Code, w.Body, out.Code))
	}
	out.Message = e.Message
	for _, d := range e.Details {
		flat := map[string]string{}
		for k, v := range d {
			if s := strings.Trim(fmt.Sprint(v), "[]"); s != "" && s != "map" && s != "<nil>" {
				flat[strings.ReplaceAll(strings.TrimPrefix(k, "@"), "_", "")] = s
			}
		}
		flat["type"] = d["@type"].(string)[len("type.googleapis.com/google.rpc."):]
		out.Details = append(out.Details, flat)
	}
	return out
}

func (o *overHTTP) get(store, key string) outcome {
	var value json.RawMessage
	out := o.do("GET", "/v1.0/state/"+store+"/"+url.QueryEscape(key), "", nil, &value)
	out.Answer = string(value)
	return out
}

func (i item) json() string {
	m := map[string]any{"key": i.Key, "value": json.RawMessage(i.Value)}
	if i.Value == "" {
		delete(m, "value")
	}
	if i.ETag != "" {
		m["etag"] = i.ETag
	}
	if i.Concurrency != "" {
		m["options"] = map[string]string{"concurrency": i.Concurrency}
	}
	if i.Metadata != nil {
		m["metadata"] = i.Metadata
	}
	return text(m)
}

func text(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

func (o *overHTTP) save(store string, items ...item) outcome {
	var list []string
	for _, i := range items {
		list = append(list, i.json())
	}
	return o.do("POST", "/v1.0/state/"+store, "["+strings.Join(list, ",")+"]", nil, nil)
}

func (o *overHTTP) remove(store string, i item) outcome {
	header := map[string]string{}
	if i.ETag != "" {
		header["If-Match"] = i.ETag
	}
	return o.do("DELETE", "/v1.0/state/"+store+"/"+url.QueryEscape(i.Key), "", header, nil)
}

type read struct {
	Key, Data string
	HasETag   bool
	Metadata  []string
}

func (o *overHTTP) bulkGet(store string, keys ...string) outcome {
	var got []struct {
		Key, ETag string
		Data      json.RawMessage
		Metadata  map[string]string
	}
	out := o.do("POST", "/v1.0/state/"+store+"/bulk", text(map[string]any{"keys": keys}), nil, &got)
	reads := []read{}
	for _, g := range got {
		r := read{Key: g.Key, Data: string(g.Data), HasETag: g.ETag != ""}
		for name := range g.Metadata {
			r.Metadata = append(r.Metadata, name)
		}
		reads = append(reads, r)
	}
	out.Answer = reads
	return out
}

func (o *overHTTP) transact(store string, items ...item) outcome {
	var list []string
	for _, i := range items {
		list = append(list, `{"operation":`+text(i.Operation)+`,"request":`+i.json()+`}`)
	}
	return o.do("POST", "/v1.0/state/"+store+"/transaction", `{"operations":[`+strings.Join(list, ",")+"]}", nil, nil)
}

func (o *overHTTP) query(store, query string) outcome {
	return o.do("POST", "/v1.0-alpha1/state/"+store+"/query", query, nil, nil)
}

func params(metadata map[string]string) string {
	q := url.Values{}
	for k, v := range metadata {
		q.Set("metadata."+k, v)
	}
	return "?" + q.Encode()
}

func (o *overHTTP) publish(pubsub, topic, contentType, data string, metadata map[string]string) outcome {
	return o.do("POST", "/v1.0/publish/"+pubsub+"/"+topic+params(metadata), data, map[string]string{"Content-Type": contentType}, nil)
}

func (o *overHTTP) bulkPublish(pubsub, topic string, ids ...string) outcome {
	var list []string
	for _, id := range ids {
		list = append(list, `{"entryId":`+text(id)+`,"event":"x","contentType":"text/plain"}`)
	}
	return o.do("POST", "/v1.0/publish/bulk/"+pubsub+"/"+topic, "["+strings.Join(list, ",")+"]", nil, nil)
}

func (o *overHTTP) secret(store, key string) outcome {
	var got map[string]string
	out := o.do("GET", "/v1.0/secrets/"+store+"/"+key, "", nil, &got)
	out.Answer = got
	return out
}

func (o *overHTTP) secrets(store string) outcome {
	var got map[string]map[string]string
	out := o.do("GET", "/v1.0/secrets/"+store+"/bulk", "", nil, &got)
	out.Answer = got
	return out
}

// report is what both metadata answers say.
type report struct {
	ID, Version, Protocol, Actors, Placement string
	Extended                                 map[string]string
	Components, Subscriptions                []string
}

func (o *overHTTP) metadata() outcome {
	var got struct {
		ID, RuntimeVersion      string
		Extended                map[string]string
		Components              []struct{ Name, Type string }
		Subscriptions           []struct{ PubSubName, Topic, Type string }
		AppConnectionProperties struct{ Protocol string }
		ActorRuntime            struct{ RuntimeStatus, Placement string }
	}
	out := o.do("GET", "/v1.0/metadata", "", nil, &got)
	r := report{
		ID: got.ID, Version: got.RuntimeVersion, Protocol: got.AppConnectionProperties.Protocol,
		Actors: got.ActorRuntime.RuntimeStatus, Placement: got.ActorRuntime.Placement, Extended: got.Extended,
	}
	for _, c := range got.Components {
		r.Components = append(r.Components, c.Name+" "+c.Type)
	}
	for _, s := range got.Subscriptions {
		r.Subscriptions = append(r.Subscriptions, s.PubSubName+" "+s.Topic+" "+s.Type)
	}
	out.Answer = r
	return out
}

func (o *overHTTP) setMetadata(key, value string) outcome {
	return o.do("PUT", "/v1.0/metadata/"+url.PathEscape(key), value, nil, nil)
}

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

// TestParity_Stored checks that what one API stored, the other reads.
func TestParity_Stored(t *testing.T) {
	s := apitest.Full(t)
	h, g := newHTTP(t, s), newGRPC(t, s)
	for i, value := range []string{`"text"`, `{"a":[1,2.5,null]}`, `12345678901234567890`, `"<&>ü\u2028"`, `null`} {
		for name, pair := range map[string][2]transport{"HTTP to gRPC": {h, g}, "gRPC to HTTP": {g, h}} {
			key := fmt.Sprint(name, i)
			if out := pair[0].save("mystore", item{Key: key, Value: value}); out.Code != "" {
				t.Fatal(out)
			}
			if out := pair[1].get("mystore", key); out.Answer != value {
				t.Errorf("%s: stored %s, read %v", name, value, out.Answer)
			}
		}
	}
	if out := g.save("mystore", item{Key: "bytes", Value: "no \xffJSON"}); out.Code != "" {
		t.Fatal(out)
	}
	out := h.bulkGet("mystore", "bytes") // bytes that are no JSON are a string there
	if reads := out.Answer.([]read); !bytes.Contains([]byte(reads[0].Data), []byte("JSON")) {
		t.Fatal(reads)
	}
}
