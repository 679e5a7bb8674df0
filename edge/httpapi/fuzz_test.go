package httpapi_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/httpapi"
	"github.com/edged-io/edged/edge/state"
)

var saves = []string{
	``, `[]`, `null`, `[null]`, `[{}]`, `{}`, `foobar`, `[{"key":"k","value":"v"}]`, `[{"key":"k","value":"v"},]`,
	` [ { "key" : "k" , "value" : { "b" : [ 1 , 2.5e-3 , true , null ] } } ] trailing`,
	`[{"KEY":"k","Value":1,"ETag":"7","metaData":{"ttlInSeconds":"5","x":null},"options":{"Concurrency":"first-write","consistency":null}}]`,
	`[{"key":"k\u0041\n","value":"\ud83d\ude00","contentType":"x"}]`, `[{"key":null,"etag":null,"metadata":null,"options":null}]`,
	`[{"key":"k","key":"l","value":1,"value":2,"metadata":{"a":"1"},"metadata":{"b":"2"}}]`, `[{"key":"k","value":-0.0,"unknown":{"a":[{}]}}]`,
	`[{"key":5}]`, `[{"key":"k","etag":123}]`, `[{"key":"k","metadata":{"a":1}}]`, "[{\"key\":\"\xff\",\"value\":\"\xff\"}]", `[{"\u006bey":"k"}]`, `[{"ſey":"k"}]`,
	"[{\"key\":\"a\tb\"}]", `[{"key":"k","value":01}]`, `[{"key":"k","value":+1}]`, `[{"key":"k","value":.5}]`, `[{"key":"k","value":1.}]`, `[{"key":"12345678\"abcdefgh\\"}]`,
}

func sameWrites(t *testing.T, got, want []state.Write) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d writes, encoding/json %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if !bytes.Equal(httpapi.Compact(g.Value), httpapi.Compact(w.Value)) || !maps.Equal(g.Metadata, w.Metadata) {
			t.Fatalf("write %d: got %+v (value %s), encoding/json %+v (value %s)", i, g, g.Value, w, w.Value)
		}
		g.Value, w.Value, g.Metadata, w.Metadata = nil, nil, nil, nil
		if !reflect.DeepEqual(g, w) {
			t.Fatalf("write %d: got %+v, encoding/json %+v", i, g, w)
		}
		if !got[i].Delete && !json.Valid(got[i].Value) {
			t.Fatalf("write %d: value %q is not JSON", i, got[i].Value)
		}
	}
}

func FuzzDecodeSave(f *testing.F) {
	for _, s := range saves {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		over := func() map[string]string { return map[string]string{"over": "1"} }
		got, err := httpapi.DecodeSave(body, over())
		want, wantErr := httpapi.SlowSave(body, over())
		if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
			t.Fatalf("error %v, encoding/json %v", err, wantErr)
		}
		if err == nil {
			sameWrites(t, got, want)
		}
	})
}

func FuzzDecodeTransaction(f *testing.F) {
	for _, s := range saves {
		list := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
		f.Add([]byte(`{"operations":[{"operation":"upsert","request":` + list + `},{"request":` + list + `,"operation":"delete"}],"metadata":{"m":"1"}}`))
	}
	for _, s := range []string{``, `null`, `{}`, `[]`, `{"operations":null}`, `{"operations":[null]}`, `{"operations":[{"operation":"frob"}]}`, `{"operations":[],"operations":[{}]}`, `{"OPERATIONS":[{"Operation":"upsert","Request":null}]} x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, metadata, err := httpapi.DecodeTransaction(body, nil)
		want, wantMetadata, wantErr := httpapi.SlowTransaction(body, nil)
		if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
			t.Fatalf("error %v, encoding/json %v", err, wantErr)
		}
		if err == nil {
			sameWrites(t, got, want)
			if !maps.Equal(metadata, wantMetadata) {
				t.Fatalf("metadata %v, encoding/json %v", metadata, wantMetadata)
			}
		}
	})
}

func FuzzDecodeBulkGet(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"keys":["a","b"]}`, `{"keys":[null]}`, `{"Keys":["a"],"parallelism":5,"metadata":{"a":"b"}}`, `{"keys":["a"],"keys":["b"]}`, `{"keys":5}`, `[]`, `null`, `{"parallelism":1.5}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, metadata, err := httpapi.DecodeBulkGet(body)
		var want struct {
			Metadata    map[string]string
			Keys        []string
			Parallelism int
		}
		wantErr := json.NewDecoder(bytes.NewReader(body)).Decode(&want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, encoding/json %v", err, wantErr)
		}
		if err == nil && (strings.Join(keys, "\x00") != strings.Join(want.Keys, "\x00") || len(keys) != len(want.Keys) || !maps.Equal(metadata, want.Metadata)) {
			t.Fatalf("got %q %v, encoding/json %+v", keys, metadata, want)
		}
	})
}

func FuzzDecodeEntries(f *testing.F) {
	for _, s := range []string{
		``, `[]`, `null`, `{}`, `[{"entryId":"1","event":"x","contentType":"text/plain"}]`, `[{"entryId":"1","event":{"a": 1},"contentType":"application/json; charset=utf-8","metadata":{"a":"b"}}]`,
		`[{"entryId":"1","event":"aGk=","contentType":"application/octet-stream"}]`, `[{"entryId":"1","event":"!!","contentType":"application/octet-stream"}]`, `[{"event":null,"contentType":"application/json"}]`, `[{"contentType":"application/cloudevents+json"}]`, `[{"event":5,"contentType":"text/plain"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		entries, err := httpapi.DecodeEntries(body)
		if err != nil {
			return
		}
		for _, e := range entries {
			if strings.HasPrefix(strings.ToLower(e.ContentType), "application/json") && !json.Valid(e.Data) {
				t.Fatalf("entry %q: %q is not JSON", e.ID, e.Data)
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "metadata.a=b", "metadata.a=b&metadata.a=c&x=y", "metadata.a%20b=c+d", "%6detadata.a=b", "metadata.a=%zz", "a;metadata.b=c", "metadata.=x", "metadata.a", "&&=&appid=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		r := &http.Request{URL: &url.URL{RawQuery: raw}}
		values := r.URL.Query()
		want := map[string]string{}
		for k, v := range values {
			if name, ok := strings.CutPrefix(k, "metadata."); ok {
				want[name] = v[0]
			}
		}
		if got := httpapi.MetadataOf(r); !maps.Equal(got, want) {
			t.Fatalf("%q: got %v, net/url %v", raw, got, want)
		}
		if got, ok := httpapi.QueryValue(r, "appid"); got != values.Get("appid") || ok != values.Has("appid") {
			t.Fatalf("%q: appid %q %v", raw, got, ok)
		}
	})
}

func FuzzAppendFault(f *testing.F) {
	f.Add("ERR_X", "plain", "DAPR_X", "k", "v")
	f.Add("", "<b>&\"\\\u2028\xff\x00", "R", "", "")
	f.Fuzz(func(t *testing.T, code, message, reason, key, value string) {
		if got := httpapi.AppendString(nil, message); string(got) != marshal(t, message) {
			t.Fatalf("%q: got %s, encoding/json %s", message, got, marshal(t, message))
		}
		e := &fault.Error{
			ErrorCode: code, Message: message, Reason: reason, Metadata: map[string]string{key: value, "z": code},
			Resource: &fault.Resource{Type: key, Name: value}, Fields: []fault.FieldViolation{{Field: key, Description: value}, {}},
			Help: []fault.Link{{URL: value}},
		}
		var got struct {
			ErrorCode, Message string
			Details            []map[string]any
		}
		if err := json.Unmarshal(httpapi.AppendFault(nil, e), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(message, "\ufffd"); len(got.Message) < len(want) && strings.ToValidUTF8(message, "") == message {
			t.Fatalf("message %q, want %q", got.Message, want)
		}
		if n := len(got.Details); reason != "" && n != 4 || reason == "" && n != 0 {
			t.Fatalf("%d details", n)
		}
	})
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
