package state_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
)

// services returns a Service over in-memory stores with the given metadata, by component name.
func services(t *testing.T, specs map[string]map[string]string, opts ...state.ServiceOption) (*state.Service, map[string]*state.Memory) {
	t.Helper()
	var set component.Set[state.Store]
	stores := map[string]*state.Memory{}
	for name, properties := range specs {
		stores[name] = state.NewMemory(state.MemoryOptions{})
		set.Put(component.Instance[state.Store]{Spec: component.Spec{Name: name, Properties: properties}, Value: stores[name]})
	}
	return state.NewService(&set, slog.New(slog.DiscardHandler), opts...), stores
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantFault checks both forms of an API error.
func wantFault(t *testing.T, err error, code string, status int, grpc fault.Code, message string) *fault.Error {
	t.Helper()
	var e *fault.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v", err)
	}
	if e.ErrorCode != code || e.HTTP != status || e.ForGRPC().GRPC != grpc || !strings.Contains(e.ForGRPC().Message, message) {
		t.Fatalf("fault is %s %d, gRPC %v %q\nwant %s %d, gRPC %v %q",
			e.ErrorCode, e.HTTP, e.ForGRPC().GRPC, e.ForGRPC().Message, code, status, grpc, message)
	}
	return e
}

func save(t *testing.T, s *state.Service, store string, w ...state.Write) {
	t.Helper()
	must(t, s.Save(t.Context(), "app", store, w))
}

func get(t *testing.T, s *state.Service, store, key string) state.Read {
	t.Helper()
	r, err := s.Get(t.Context(), "app", store, key, nil)
	must(t, err)
	if r.Key != key {
		t.Fatalf("key is %q, want %q", r.Key, key)
	}
	return r
}

func TestService_Stores(t *testing.T) {
	none, _ := services(t, nil)
	err := none.Save(t.Context(), "app", "mystore", []state.Write{{Value: []byte("v")}})
	e := wantFault(t, err, "ERR_STATE_STORE_NOT_CONFIGURED", 500, fault.FailedPrecondition, "state store mystore is not configured")
	if e.Reason != "DAPR_STATE_NOT_CONFIGURED" || e.Metadata["appID"] != "app" || e.ForGRPC().Metadata != nil {
		t.Errorf("details %+v", e)
	}
	s, _ := services(t, map[string]map[string]string{"mystore": nil})
	for name, call := range map[string]func() error{
		"Check":      func() error { return s.Check("app", "other") },
		"Get":        func() error { _, err := s.Get(t.Context(), "app", "other", "k", nil); return err },
		"BulkGet":    func() error { _, err := s.BulkGet(t.Context(), "app", "other", nil, nil); return err },
		"Save":       func() error { return s.Save(t.Context(), "app", "other", nil) },
		"Delete":     func() error { return s.Delete(t.Context(), "app", "other", state.Write{Key: "k"}) },
		"BulkDelete": func() error { return s.BulkDelete(t.Context(), "app", "other", nil) },
		"Transact":   func() error { return s.Transact(t.Context(), "app", "other", nil, nil) },
		"Query":      func() error { _, err := s.Query(t.Context(), "app", "other", []byte("{}"), nil); return err },
	} {
		e := wantFault(t, call(), "ERR_STATE_STORE_NOT_FOUND", 400, fault.InvalidArgument, "state store other is not found")
		if (e.Metadata["appID"] == "app") == (name == "Query") {
			t.Errorf("%s: metadata %v", name, e.Metadata)
		}
	}
	must(t, s.Check("app", "mystore"))
}

func TestService_KeyPrefix(t *testing.T) {
	s, stores := services(t, map[string]map[string]string{
		"default": nil, "appid": {"keyPrefix": "appid"}, "name": {"keyprefix": "name"}, "none": {"keyPrefix": "none"},
		"namespace": {"KEYPREFIX": "namespace"}, "literal": {"keyPrefix": "Shared"},
	}, state.Namespace("prod"))
	for store, want := range map[string]string{
		"default": "app||k", "appid": "app||k", "name": "name||k", "none": "k", "namespace": "prod.app||k", "literal": "shared||k",
	} {
		save(t, s, store, state.Write{Key: "k", Value: []byte("v")})
		got, err := stores[store].Get(t.Context(), want)
		must(t, err)
		if !got[0].Found || string(get(t, s, store, "k").Value) != "v" {
			t.Errorf("%s: %s is not there", store, want)
		}
	}
	err := state.CheckSpec(component.Spec{Name: "bad", Properties: map[string]string{"keyPrefix": "a||b"}})
	wantFault(t, err, "ERR_MALFORMED_REQUEST", 400, fault.InvalidArgument, "input key/keyPrefix 'a||b' can't contain '||'")
}

func TestService_IllegalKey(t *testing.T) {
	s, _ := services(t, map[string]map[string]string{"mystore": nil})
	w := []state.Write{{Key: "good"}, {Key: "ke||y"}}
	_, getErr := s.Get(t.Context(), "app", "mystore", "ke||y", nil)
	_, bulkErr := s.BulkGet(t.Context(), "app", "mystore", []string{"good", "ke||y"}, nil)
	for name, err := range map[string]error{
		"Get": getErr, "BulkGet": bulkErr, "Save": s.Save(t.Context(), "app", "mystore", w),
		"Delete": s.Delete(t.Context(), "app", "mystore", w[1]), "BulkDelete": s.BulkDelete(t.Context(), "app", "mystore", w),
		"Transact": s.Transact(t.Context(), "app", "mystore", w, nil),
	} {
		t.Run(name, func(t *testing.T) {
			e := wantFault(t, err, "ERR_MALFORMED_REQUEST", 400, fault.InvalidArgument, "input key/keyPrefix 'ke||y' can't contain '||'")
			if e.Reason != "DAPR_STATE_ILLEGAL_KEY" || e.Resource == nil || e.Resource.Name != "mystore" || e.Fields[0].Field != "ke||y" {
				t.Errorf("details %+v", e)
			}
		})
	}
	if get(t, s, "mystore", "good").Found {
		t.Error("a part of a refused request was saved")
	}
	err := s.Save(t.Context(), "app", "mystore", []state.Write{{Key: "good"}, {Value: []byte("v")}})
	e := wantFault(t, err, "ERR_MALFORMED_REQUEST", 400, fault.InvalidArgument, "state key cannot be empty")
	if e.Message != `"key" is a required field` {
		t.Errorf("over HTTP: %q", e.Message)
	}
}

func TestService_Save(t *testing.T) {
	s, _ := services(t, map[string]map[string]string{"mystore": nil})
	for name, c := range map[string]struct {
		w    state.Write
		want string
	}{
		"Bytes":       {state.Write{Value: []byte(" {\"a\": 1} ")}, ` {"a": 1} `},
		"JSON":        {state.Write{JSON: true, Value: []byte(`{"a" : [1, 2], "b":"x \" y: z"}`)}, `{"a":[1,2],"b":"x \" y: z"}`},
		"CompactJSON": {state.Write{JSON: true, Value: []byte(`{"a":"b c"}`)}, `{"a":"b c"}`},
		"String":      {state.Write{JSON: true, Value: []byte(`"value1"`)}, `"value1"`},
		"Null":        {state.Write{JSON: true, Value: []byte(`null`)}, `null`},
		"ContentType": {state.Write{Value: []byte("{ }"), Metadata: map[string]string{"contentType": "application/json"}}, `{}`},
		"BigNumber":   {state.Write{JSON: true, Value: []byte(`12345678901234567890`)}, `12345678901234567890`},
	} {
		t.Run(name, func(t *testing.T) {
			c.w.Key = name
			save(t, s, "mystore", c.w)
			if got := get(t, s, "mystore", name); string(got.Value) != c.want {
				t.Errorf("got %q, want %q", got.Value, c.want)
			}
		})
	}
	t.Run("ErrNotJSON", func(t *testing.T) {
		err := s.Save(t.Context(), "app", "mystore", []state.Write{{Key: "bad", Value: []byte("{"), Metadata: map[string]string{"contentType": "application/json"}}})
		wantFault(t, fault.From(err), "ERROR", 500, fault.Unknown, "unexpected end of JSON input")
	})
	t.Run("SameKeys", func(t *testing.T) {
		save(t, s, "mystore", state.Write{Key: "k1", Value: []byte("1")}, state.Write{Key: "k2"}, state.Write{Key: "k1", Value: []byte("2")})
		if got := get(t, s, "mystore", "k1"); string(got.Value) != "2" {
			t.Errorf("got %q", got.Value)
		}
	})
	t.Run("Nothing", func(t *testing.T) { save(t, s, "mystore") })
	for words, o := range map[string]state.Options{
		"unrecognized concurrency model 'x'": {Concurrency: "x"}, "unrecognized consistency model 'y'": {Consistency: "y"},
	} {
		err := s.Save(t.Context(), "app", "mystore", []state.Write{{Key: "k", Options: o}})
		wantFault(t, err, "ERR_STATE_SAVE", 500, fault.Internal, "failed saving state in state store mystore: "+words)
		err = s.Delete(t.Context(), "app", "mystore", state.Write{Key: "k", Options: o})
		wantFault(t, err, "ERR_STATE_DELETE", 500, fault.Internal, "failed deleting state with key k: "+words)
	}
}

func TestService_ETag(t *testing.T) {
	s, _ := services(t, map[string]map[string]string{"mystore": nil})
	save(t, s, "mystore", state.Write{Key: "k", Value: []byte("1")})
	etag := get(t, s, "mystore", "k").ETag
	stale := state.Write{Key: "k", ETag: etag + "1", HasETag: true}
	const mismatch = "possible etag mismatch. error from state store: "

	err := s.Save(t.Context(), "app", "mystore", []state.Write{stale})
	wantFault(t, err, "ERR_STATE_SAVE", 409, fault.Aborted, "failed saving state in state store mystore: "+mismatch)
	if !errors.Is(err, state.ErrETagMismatch) {
		t.Error("the cause is lost")
	}
	err = s.Delete(t.Context(), "app", "mystore", stale)
	wantFault(t, err, "ERR_STATE_DELETE", 409, fault.Aborted, "failed deleting state with key k: "+mismatch)
	err = s.BulkDelete(t.Context(), "app", "mystore", []state.Write{stale})
	wantFault(t, err, "ERR_STATE_BULK_DELETE", 409, fault.Aborted, "failed deleting state in state store mystore: "+mismatch)
	err = s.Transact(t.Context(), "app", "mystore", []state.Write{{Key: "other"}, stale}, nil)
	wantFault(t, err, "ERR_STATE_TRANSACTION", 500, fault.Internal, "error while executing state transaction: "+mismatch)

	err = s.Save(t.Context(), "app", "mystore", []state.Write{{Key: "k2", Value: []byte("kept")}, stale, stale})
	wantFault(t, err, "ERR_STATE_SAVE", 409, fault.Aborted, mismatch+mismatch)
	if string(get(t, s, "mystore", "k2").Value) != "kept" || get(t, s, "mystore", "other").Found || string(get(t, s, "mystore", "k").Value) != "1" {
		t.Error("the others did not go their own way")
	}
	first := state.Write{Key: "k", Options: state.Options{Concurrency: "first-write"}}
	err = s.Save(t.Context(), "app", "mystore", []state.Write{first})
	wantFault(t, err, "ERR_STATE_SAVE", 409, fault.Aborted, mismatch)
	first.ETag, first.HasETag = etag, true
	save(t, s, "mystore", first)
	save(t, s, "mystore", state.Write{Key: "k", HasETag: true}) // an empty ETag is none
}

func TestService_TTL(t *testing.T) {
	s, _ := services(t, map[string]map[string]string{"mystore": nil})
	ttl := func(text string) state.Write {
		return state.Write{Key: "k", Value: []byte("v"), Metadata: map[string]string{"ttlInSeconds": text}}
	}
	save(t, s, "mystore", ttl("100"))
	at, err := time.Parse(time.RFC3339, get(t, s, "mystore", "k").Metadata["ttlExpireTime"])
	must(t, err)
	if left := time.Until(at); left < 98*time.Second || left > 101*time.Second {
		t.Errorf("expires in %v", left)
	}
	for _, forever := range []string{"-1", "0", ""} {
		save(t, s, "mystore", ttl(forever))
		if r := get(t, s, "mystore", "k"); !r.Found || r.Metadata != nil {
			t.Errorf("ttlInSeconds %q: %+v", forever, r)
		}
	}
	for _, bad := range []string{"soon", "1.5", "99999999999999999999", "4000000000"} {
		err := s.Save(t.Context(), "app", "mystore", []state.Write{ttl(bad)})
		wantFault(t, err, "ERR_STATE_SAVE", 500, fault.Internal, "failed saving state in state store mystore: ")
		err = s.Transact(t.Context(), "app", "mystore", []state.Write{ttl(bad)}, nil)
		wantFault(t, err, "ERR_STATE_TRANSACTION", 500, fault.Internal, "error while executing state transaction: ")
	}
}

func TestService_BulkGet(t *testing.T) {
	s, _ := services(t, map[string]map[string]string{"mystore": nil})
	save(t, s, "mystore", state.Write{Key: "a", Value: []byte("1")})
	got, err := s.BulkGet(t.Context(), "app", "mystore", []string{"none", "a"}, nil)
	must(t, err)
	if len(got) != 2 || got[0].Key != "none" || got[0].Found || got[1].Key != "a" || string(got[1].Value) != "1" || got[1].ETag == "" {
		t.Errorf("got %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.BulkGet(ctx, "app", "mystore", []string{"a"}, nil)
	wantFault(t, err, "ERR_STATE_BULK_GET", 500, fault.Canceled, "canceled")
}

// partial fails to read one key, cannot do transactions, or only small ones.
type partial struct {
	state.Store
	features []string
	limit    int
}

func (p partial) Features() []string  { return p.features }
func (p partial) MaxTransaction() int { return p.limit }

func (p partial) Get(ctx context.Context, keys ...string) ([]state.Entry, error) {
	for _, k := range keys {
		if k == "app||broken" {
			return nil, errors.New("damaged")
		}
	}
	return p.Store.Get(ctx, keys...)
}

func TestService_PartialStores(t *testing.T) {
	var set component.Set[state.Store]
	for name, features := range map[string][]string{"plain": {"ETAG"}, "small": {"ETAG", "TRANSACTIONAL"}} {
		set.Put(component.Instance[state.Store]{
			Spec: component.Spec{Name: name}, Value: partial{state.NewMemory(state.MemoryOptions{}), features, 1},
		})
	}
	s := state.NewService(&set, slog.New(slog.DiscardHandler))
	save(t, s, "plain", state.Write{Key: "ok", Value: []byte("v")})
	got, err := s.BulkGet(t.Context(), "app", "plain", []string{"ok", "broken"}, nil)
	must(t, err)
	if string(got[0].Value) != "v" || got[0].Err != nil || got[1].Err == nil || got[1].Key != "broken" {
		t.Errorf("got %+v", got)
	}
	_, err = s.Get(t.Context(), "app", "plain", "broken", nil)
	wantFault(t, err, "ERR_STATE_GET", 500, fault.Internal, "fail to get broken from state store plain: damaged")

	err = s.Transact(t.Context(), "app", "plain", []state.Write{{Key: "a"}}, nil)
	wantFault(t, err, "ERR_STATE_STORE_NOT_SUPPORTED", 500, fault.Unimplemented, "state store plain doesn't support transactions")
	err = s.Transact(t.Context(), "app", "small", []state.Write{{Key: "a"}, {Key: "b", Delete: true}}, nil)
	wantFault(t, err, "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS", 400, fault.InvalidArgument,
		"the transaction contains 2 operations, which is more than what the state store supports: 1")
	must(t, s.Transact(t.Context(), "app", "small", []state.Write{{Key: "a"}}, nil))
	must(t, s.Transact(t.Context(), "app", "small", nil, nil))
}

func TestService_Query(t *testing.T) {
	s, _ := services(t, map[string]map[string]string{"mystore": nil})
	_, err := s.Query(t.Context(), "app", "mystore", []byte(`{"filter":{"EQ":{"state":"CA"}}}`), nil)
	e := wantFault(t, err, "ERR_STATE_STORE_NOT_SUPPORTED", 500, fault.Internal, "state store does not support querying")
	if e.Reason != "DAPR_STATE_QUERYING_NOT_SUPPORTED" {
		t.Errorf("reason %s", e.Reason)
	}
}

func TestService_Encryption(t *testing.T) {
	const one, two = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	s, stores := services(t, map[string]map[string]string{"mystore": {"primaryEncryptionKey": one}, "clear": nil})
	save(t, s, "mystore", state.Write{Key: "key1", JSON: true, Value: []byte(`"value1"`)}, state.Write{Key: "json", JSON: true, Value: []byte(`{"a": 1}`)})
	must(t, s.Transact(t.Context(), "app", "mystore", []state.Write{{Key: "bytes", Value: []byte("\x00\xff")}, {Key: "empty"}}, nil))
	for key, want := range map[string]string{"key1": "value1", "json": `{"a":1}`, "bytes": "\x00\xff", "empty": ""} {
		if got := get(t, s, "mystore", key); string(got.Value) != want || !got.Found {
			t.Errorf("%s: got %q, want %q", key, got.Value, want)
		}
	}
	raw, err := stores["mystore"].Get(t.Context(), "app||key1")
	must(t, err)
	if strings.Contains(string(raw[0].Value), "value1") || !strings.Contains(string(raw[0].Value), "||") {
		t.Errorf("stored as %q", raw[0].Value)
	}

	// The key is rotated: what was written under the old one can be read, and what was not encrypted is an error.
	var set component.Set[state.Store]
	set.Put(component.Instance[state.Store]{Spec: component.Spec{Name: "mystore", Properties: map[string]string{
		"primaryEncryptionKey": two, "secondaryEncryptionKey": one}}, Value: stores["mystore"]})
	rotated := state.NewService(&set, slog.New(slog.DiscardHandler))
	save(t, rotated, "mystore", state.Write{Key: "new", Value: []byte("new")})
	if string(get(t, rotated, "mystore", "key1").Value) != "value1" || string(get(t, rotated, "mystore", "new").Value) != "new" {
		t.Error("rotation lost a value")
	}
	_, err = s.Get(t.Context(), "app", "mystore", "new", nil)
	wantFault(t, err, "ERR_STATE_GET", 500, fault.Internal, "fail to get new from state store mystore: decrypt")
	must(t, stores["mystore"].Apply(t.Context(), []state.Op{{Key: "app||plain", Value: []byte("plain")}}))
	got, err := s.BulkGet(t.Context(), "app", "mystore", []string{"plain", "key1"}, nil)
	must(t, err)
	if got[0].Err == nil || got[0].Value != nil || string(got[1].Value) != "value1" {
		t.Errorf("bulk %+v", got)
	}
	for _, bad := range []string{"no hex", "0011"} {
		if state.CheckSpec(component.Spec{Properties: map[string]string{"primaryEncryptionKey": bad}}) == nil {
			t.Errorf("key %q was accepted", bad)
		}
	}
	// A component that is made anew under the same name is asked anew.
	_, err = s.Query(t.Context(), "app", "mystore", []byte("{}"), nil)
	wantFault(t, err, "ERR_STATE_STORE_NOT_SUPPORTED", 500, fault.Internal, "")
}

func TestService_Observe(t *testing.T) {
	var seen []string
	s, _ := services(t, map[string]map[string]string{"mystore": nil}, state.Observe(func(app, store, operation string, ok bool, elapsed time.Duration) {
		if app != "app" || store != "mystore" || elapsed < 0 {
			t.Errorf("observed %s %s %v", app, store, elapsed)
		}
		if !ok {
			operation += "!"
		}
		seen = append(seen, operation)
	}))
	save(t, s, "mystore", state.Write{Key: "k"})
	get(t, s, "mystore", "k")
	_ = s.Delete(t.Context(), "app", "mystore", state.Write{Key: "k", ETag: "1", HasETag: true}) // fails, as wanted
	_, err := s.BulkGet(t.Context(), "app", "mystore", []string{"k"}, nil)
	must(t, err)
	must(t, s.BulkDelete(t.Context(), "app", "mystore", []state.Write{{Key: "k"}}))
	must(t, s.Transact(t.Context(), "app", "mystore", []state.Write{{Key: "k"}}, nil))
	if got := strings.Join(seen, " "); got != "set get delete! bulk_get bulk_delete transaction" {
		t.Error(got)
	}
}
