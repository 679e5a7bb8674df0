package mqtt_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/edged-io/edged/mqtt"
)

func TestStamp(t *testing.T) {
	cases := []struct{ name, in, via string }{
		{"first", `{"id":"1","data":{"edgedvia":"inner"}}`, "gw17"},
		{"empty object", `{}`, "gw17"},
		{"white space", "\n { \"id\" : \"1\" }", "gw17"},
		{"second hop", `{"id":"1","edgedvia":"gw1","data":7}`, "gw1,gw17"},
		{"empty value", `{"edgedvia":"" , "id":"1"}`, "gw17"},
		{"in data only", `{"data":"\"edgedvia\""}`, "gw17"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out, err := mqtt.Stamp([]byte(c.in), "gw17", 8)
			if err != nil {
				t.Fatal(err)
			}
			var got, want map[string]any
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%s: %v", out, err)
			}
			if err := json.Unmarshal([]byte(c.in), &want); err != nil {
				t.Fatal(err)
			}
			want["edgedvia"] = c.via
			g, _ := json.Marshal(got)
			w, _ := json.Marshal(want)
			if string(g) != string(w) {
				t.Errorf("got %s, want %s", g, w)
			}
		})
	}
	for in, want := range map[string]error{`{"edgedvia":"gw1,gw17,gw2"}`: mqtt.ErrLoop, `{"edgedvia":"a,b,c,d,e,f,g,h"}`: mqtt.ErrHops} {
		if _, err := mqtt.Stamp([]byte(in), "gw17", 8); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", in, err, want)
		}
	}
	for _, in := range []string{"", "7", "[]", `"x"`, `{`, `{"edgedvia":7}`} {
		if _, err := mqtt.Stamp([]byte(in), "gw17", 8); err == nil {
			t.Errorf("%s is accepted", in)
		}
	}
}

func TestIsCloudEvent(t *testing.T) {
	if !mqtt.IsCloudEvent([]byte(` {"specversion":"1.0","id":"1","source":"s","type":"t"}`)) {
		t.Error("a CloudEvent is not recognised")
	}
	for _, in := range []string{"", "21.5", "{}", `{"specversion":"1.0","id":"1","source":"s"}`, `{"specversion":1,"id":"1","source":"s","type":"t"}`, "\x00\xff"} {
		if mqtt.IsCloudEvent([]byte(in)) {
			t.Errorf("%q is taken for a CloudEvent", in)
		}
	}
}

func FuzzStamp(f *testing.F) {
	f.Add([]byte(`{"id":"1","edgedvia":"gw1","data":{"edgedvia":"x"}}`))
	f.Add([]byte(`{"edgedvia" : "" }`))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := mqtt.Stamp(data, "gw17", 8)
		if err != nil || !json.Valid(data) {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q", data, out)
		}
		if _, err := mqtt.Stamp(out, "gw17", 8); !errors.Is(err, mqtt.ErrLoop) {
			t.Fatalf("%q became %q, which is not noticed when it comes back: %v", data, out, err)
		}
	})
}
