package pubsub_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/edged-io/edged/edge/pubsub"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func attributes() pubsub.Attributes {
	return pubsub.Attributes{ID: "1", Source: "orders", Topic: "new", PubSub: "ps", Time: noon,
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "a=b"}
}

func TestEnvelope_Golden(t *testing.T) {
	const tail = `"id":"1","pubsubname":"ps","source":"orders","specversion":"1.0","time":"2026-03-01T12:00:00Z","topic":"new",` +
		`"traceid":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"a=b","type":"com.dapr.event.sent"}`
	for _, c := range []struct{ name, contentType, data, want string }{
		{"JSON", "application/json; charset=utf-8", ` {"a": [1, 2.50, "<x>"]} `, `{"data":{"a": [1, 2.50, "<x>"]},"datacontenttype":"application/json; charset=utf-8",` + tail},
		{"JSONBigNumber", "Application/JSON", `123456789012345678901234567890`, `{"data":123456789012345678901234567890,"datacontenttype":"Application/JSON",` + tail},
		{"JSONFirstValueOnly", "application/json", `{"a":1} rest`, `{"data":{"a":1},"datacontenttype":"application/json",` + tail},
		{"JSONNull", "application/json", `null`, `{"data":null,"datacontenttype":"application/json",` + tail},
		{"NotReallyJSON", "application/json", `{"a":`, `{"data":"{\"a\":","datacontenttype":"application/json",` + tail},
		{"EmptyJSON", "application/json", ``, `{"data":"","datacontenttype":"application/json",` + tail},
		{"Text", "", "a\"b\\\n\x01é", `{"data":"a\"b\\\n\u0001é","datacontenttype":"text/plain",` + tail},
		{"Other", "foo/bar", `{"a":1}`, `{"data":"{\"a\":1}","datacontenttype":"foo/bar",` + tail},
		{"Binary", "application/octet-stream", "\xde\xad", `{"data_base64":"3q0=","datacontenttype":"application/octet-stream",` + tail},
		{"BinaryTextKeepsItsBytes", "image/png", "\x89PNG", `{"data_base64":"iVBORw==","datacontenttype":"image/png",` + tail},
		{"ProtobufCloudEvent", "application/cloudevents+protobuf", "x", `{"data_base64":"eA==","datacontenttype":"application/cloudevents+protobuf",` + tail},
		{"ProtobufThatIsOne", "application/x-protobuf", "\x0a\x01i\x12\x01s\x1a\x031.0\x22\x01t", `{"data_base64":"CgFpEgFzGgMxLjAiAXQ=","datacontenttype":"application/x-protobuf",` + tail},
		{"ProtobufThatIsNot", "application/x-protobuf", "\x0a\x01i", `{"data":"\n\u0001i","datacontenttype":"application/x-protobuf",` + tail},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attributes()
			a.DataContentType = c.contentType
			if got := string(pubsub.NewEnvelope(a, nil, []byte(c.data))); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("Overrides", func(t *testing.T) {
		a := attributes()
		a.Expires = noon.Add(time.Minute)
		got := string(pubsub.NewEnvelope(a, map[string]string{"cloudevent.id": "over", "CloudEvent.Source": "me", "cloudevent.type": "t",
			"cloudevent.subject": "sub", "cloudevent.traceid": "x", "cloudevent.traceparent": "p", "cloudevent.tracestate": "s", "ignored": "y", "cloudevent.": "z"}, []byte("d")))
		want := `{"data":"d","datacontenttype":"text/plain","expiration":"2026-03-01T12:01:00Z","id":"over","pubsubname":"ps","source":"me","specversion":"1.0","subject":"sub","time":"2026-03-01T12:00:00Z","topic":"new","traceid":"p","traceparent":"p","tracestate":"s","type":"t"}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("Defaults", func(t *testing.T) {
		got := decode(t, pubsub.NewEnvelope(pubsub.Attributes{Time: noon}, nil, nil))
		if got["source"] != "Dapr" || got["type"] != "com.dapr.event.sent" || got["traceid"] != "" || got["data"] != "" || !uuid.MatchString(got["id"].(string)) {
			t.Errorf("got %v", got)
		}
	})
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := pubsub.NewID()
		if !uuid.MatchString(id) || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

func TestCompleteEnvelope(t *testing.T) {
	t.Run("KeepsAndCompletes", func(t *testing.T) {
		got, err := pubsub.CompleteEnvelope(attributes(), []byte(` {"id":"A","data":{"x":1e2},"source":null,"custom":[true],"topic":"other","pubsubname":7} `))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"id": "A", "data": map[string]any{"x": 100.0}, "source": "Dapr", "type": "com.dapr.event.sent", "specversion": "1.0",
			"custom": []any{true}, "topic": "new", "pubsubname": "ps", "time": "2026-03-01T12:00:00Z", "traceid": attributes().TraceParent,
			"traceparent": attributes().TraceParent, "tracestate": "a=b"}
		if m := decode(t, got); !reflect.DeepEqual(m, want) {
			t.Errorf("got %v, want %v", m, want)
		}
	})
	t.Run("KeepsWhatThePublisherSet", func(t *testing.T) {
		in := `{"time":"t","traceid":"i","tracestate":"s","source":"x","type":"y","specversion":"0.3"}`
		got, err := pubsub.CompleteEnvelope(attributes(), []byte(in))
		if err != nil {
			t.Fatal(err)
		}
		want := decode(t, []byte(in))
		want["topic"], want["pubsubname"] = "new", "ps"
		if m := decode(t, got); !reflect.DeepEqual(m, want) {
			t.Errorf("got %v, want %v", m, want)
		}
	})
	t.Run("OwnTraceParentAndTTL", func(t *testing.T) {
		a := attributes()
		a.Expires = noon
		got, err := pubsub.CompleteEnvelope(a, []byte(`{"traceparent":"mine","expiration":"old"}`))
		if err != nil {
			t.Fatal(err)
		}
		if m := decode(t, got); m["traceid"] != "mine" || m["traceparent"] != "mine" || m["expiration"] != "2026-03-01T12:00:00Z" {
			t.Errorf("got %v", m)
		}
	})
	for _, bad := range []string{``, `{"}`, `null`, `"x"`, `[1]`, `{"a":}`, `{"a":1,}`} {
		if got, err := pubsub.CompleteEnvelope(attributes(), []byte(bad)); err == nil {
			t.Errorf("%q became %s", bad, got)
		}
	}
}

func TestWrapRaw(t *testing.T) {
	got := string(pubsub.WrapRaw("1", "a", "ps", map[string]string{"traceid": "i", "traceparent": "p", "tracestate": "s"}, []byte("x")))
	want := `{"data_base64":"eA==","datacontenttype":"application/octet-stream","id":"1","pubsubname":"ps","source":"Dapr","specversion":"1.0","topic":"a","traceid":"p","traceparent":"p","tracestate":"s","type":"com.dapr.event.sent"}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if m := decode(t, pubsub.WrapRaw("1", "a", "ps", nil, nil)); m["traceid"] != nil || m["data_base64"] != "" {
		t.Errorf("without trace: %v", m)
	}
}

func TestTimeToLive(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       time.Duration
		ok         bool
	}{
		{"ttlInSeconds", "60", time.Minute, true}, {"TTLINSECONDS", "1", time.Second, true}, {"ttl", "90s", 90 * time.Second, true},
		{"ttlInSeconds", "0", 0, false}, {"ttlInSeconds", "-1", 0, false}, {"ttlInSeconds", "x", 0, false}, {"other", "5", 0, false},
		{"ttlInSeconds", "9223372036854775807", time.Duration(1<<63-1) / time.Second * time.Second, true},
	} {
		if d, ok := pubsub.TimeToLive(map[string]string{c.key: c.value}); d != c.want || ok != c.ok {
			t.Errorf("%s=%s: %v, %v", c.key, c.value, d, ok)
		}
	}
}

func TestParseCloudEvent(t *testing.T) {
	for _, c := range []struct{ name, contentType, data, want string }{
		{"JSON", "application/json", `{"a":1}`, `{"a":1}`},
		{"Text", "text/plain", "foo\n", "foo\n"},
		{"OtherTypesCarryNoData", "foo/bar", "foo", ""},
		{"Binary", "application/octet-stream", "\x00\xff", "\x00\xff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attributes()
			a.DataContentType = c.contentType
			e, err := pubsub.ParseCloudEvent(pubsub.NewEnvelope(a, nil, []byte(c.data)))
			if err != nil {
				t.Fatal(err)
			}
			if string(e.Data) != c.want || e.ID != "1" || e.Source != "orders" || e.Type != "com.dapr.event.sent" || e.SpecVersion != "1.0" || e.DataContentType != c.contentType {
				t.Errorf("got %+v", e)
			}
			want := map[string]any{"pubsubname": "ps", "topic": "new", "time": "2026-03-01T12:00:00Z", "traceid": a.TraceParent, "traceparent": a.TraceParent, "tracestate": "a=b"}
			if !reflect.DeepEqual(e.Extensions, want) {
				t.Errorf("extensions %v", e.Extensions)
			}
		})
	}
	for _, bad := range []string{`[]`, `{"data_base64":"*"}`, `{"data_base64":1}`, `{"data":1,"datacontenttype":"text/plain"}`} {
		if e, err := pubsub.ParseCloudEvent([]byte(bad)); err == nil {
			t.Errorf("%s became %+v", bad, e)
		}
	}
}

func decode(t testing.TB, b []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return m
}

// FuzzJSON holds the hand-written JSON against encoding/json.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e+3,true,null,"\u00e9\n"]}`, ` [ ] x`, `01`, `"`, `-`, `1.`, `{"a" : {} , "b":"\ud800"}`, "\"\xff\"", `tru`, `{"a":1,}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if strings.Count(string(b), "[")+strings.Count(string(b), "{") >= 999 {
			t.Skip("deeper than is followed")
		}
		if got, want := pubsub.Valid(b), json.Valid(b); got != want {
			t.Fatalf("valid %v, encoding/json says %v: %q", got, want, b)
		}
		var raw json.RawMessage
		err := json.NewDecoder(bytes.NewReader(b)).Decode(&raw)
		got, ok := pubsub.FirstValue(b)
		if ok != (err == nil) || ok && !bytes.Equal(got, raw) {
			t.Fatalf("first value %q, %v; encoding/json says %q, %v", got, ok, raw, err)
		}
		var s string
		if err := json.Unmarshal(pubsub.AppendString(string(b)), &s); err != nil || s != strings.ToValidUTF8(expand(b), "\ufffd") {
			t.Fatalf("string %q came back as %q, %v", b, s, err)
		}
	})
}

// expand makes each byte that is not UTF-8 a rune of its own, as encoding/json does.
func expand(b []byte) string {
	var sb strings.Builder
	for _, r := range string(b) {
		sb.WriteRune(r)
	}
	return sb.String()
}

// FuzzEnvelope checks that every envelope is valid JSON and carries exactly what was published.
func FuzzEnvelope(f *testing.F) {
	f.Add("application/json", []byte(`{"a":1}`), "new", "id", "v")
	f.Add("text/plain", []byte("x\"\\"), "t", "", "")
	f.Add("application/octet-stream", []byte{0, 255}, "a/b", "\x00", "é")
	f.Add("image/png", []byte{0x89}, "a", "b", "c")
	f.Add("application/cloudevents+json", []byte(`{"id":"x","topic":"y"}`), "a", "b", "c")
	f.Fuzz(func(t *testing.T, contentType string, data []byte, topic, id, override string) {
		a := pubsub.Attributes{ID: id, Source: override, Topic: topic, PubSub: "ps", DataContentType: contentType, Time: noon}
		checkCompleted(t, a, data)
		b := pubsub.NewEnvelope(a, map[string]string{"cloudevent.subject": override}, data)
		if !json.Valid(b) || !utf8.Valid(b) {
			t.Fatalf("not valid: %q", b)
		}
		m := decode(t, b)
		if m["topic"] != expand([]byte(topic)) || m["specversion"] != "1.0" || id != "" && m["id"] != expand([]byte(id)) {
			t.Fatalf("attributes: %v", m)
		}
		if encoded, ok := m["data_base64"].(string); ok {
			back, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil || !bytes.Equal(back, data) {
				t.Fatalf("data %q came back as %q, %v", data, back, err)
			}
		} else if s, ok := m["data"].(string); ok && s != string(data) {
			var want string
			if json.NewDecoder(bytes.NewReader(data)).Decode(&want) != nil || s != want {
				t.Fatalf("data %q came back as %q", data, s)
			}
		}
		if _, err := pubsub.ParseCloudEvent(b); err != nil && !strings.HasPrefix(strings.ToLower(contentType), "text/") && contentType != "" {
			t.Fatalf("parse: %v: %q", err, b)
		}
	})
}

func checkCompleted(t *testing.T, a pubsub.Attributes, event []byte) {
	t.Helper()
	b, err := pubsub.CompleteEnvelope(a, event)
	var in map[string]any
	if json.Unmarshal(event, &in) == nil && in != nil && err != nil {
		t.Fatalf("refused %q: %v", event, err)
	}
	if err != nil {
		return
	}
	if !json.Valid(b) || !utf8.Valid(b) {
		t.Fatalf("not valid: %q", b)
	}
	if m := decode(t, b); m["topic"] != expand([]byte(a.Topic)) || m["source"] == nil || m["time"] == nil && in["time"] != nil {
		t.Fatalf("completed: %v", m)
	}
}

func BenchmarkEnvelope(b *testing.B) {
	data := []byte(`{"sensor":"` + strings.Repeat("x", 230) + `"}`)
	a := attributes()
	a.DataContentType, a.ID = "application/json", ""
	b.Run("Build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pubsub.NewEnvelope(a, nil, data)
		}
	})
	envelope := pubsub.NewEnvelope(a, nil, data)
	b.Run("Parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := pubsub.ParseCloudEvent(envelope); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Complete", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := pubsub.CompleteEnvelope(a, envelope); err != nil {
				b.Fatal(err)
			}
		}
	})
}
