package app_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"

	"github.com/edged-io/edged/edge/app"
)

// FuzzMembers holds the scan of an event against encoding/json: of a valid object it finds the same members, and
// whatever it is given it neither panics nor leaves the input.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{
		envelope, `{}`, ` { "a" : 1 , "b\n":"c\"d\\" , "e":[{"f":"}"},[]],"g":null } `, `{"a":{"b":1}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `[`, `{"":"\\\""}`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got := map[string]string{}
		err := app.Members(in, func(key, value []byte) bool {
			var k string // as encoding/json sees the key: invalid UTF-8 replaced
			_ = json.Unmarshal(app.AppendString(nil, string(key)), &k)
			got[k] = string(value)
			if s, ok := app.StringValue(value); ok && json.Valid(value) {
				var want string
				if err := json.Unmarshal(value, &want); err != nil || s != want {
					t.Fatalf("string %s: got %q, want %q", value, s, want)
				}
			}
			return true
		})
		var want map[string]json.RawMessage
		if json.Unmarshal(in, &want) != nil || want == nil {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: got %v", in, got)
		}
		for k, v := range want {
			if got[k] != string(v) {
				t.Fatalf("member %q of %s: got %s, want %s", k, in, got[k], v)
			}
		}
	})
}

func FuzzAppendString(f *testing.F) {
	f.Add("plain")
	f.Add("a\"b\\c\n\x00é\xff<>&")
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var a, b string
		got := app.AppendString([]byte("x"), s)
		if json.Unmarshal(got[1:], &a) != nil || json.Unmarshal(want, &b) != nil || a != b || !bytes.HasPrefix(got, []byte("x")) {
			t.Errorf("%q: got %s", s, got)
		}
	})
}

func FuzzRequestTarget(f *testing.F) {
	for _, s := range []string{"/orders", "orders/", "/a/../b", "//x", "/a b?c=d#e", "/%zz", "? é", "\x00", "http://x/y"} {
		f.Add(s)
	}
	valid := regexp.MustCompile(`^/[!-~]*$`)
	f.Fuzz(func(t *testing.T, route string) {
		target, err := app.RequestTarget(route)
		if err == nil && !valid.MatchString(target) {
			t.Errorf("%q: got %q", route, target)
		}
	})
}

func TestNewID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	a, b := app.NewID(), app.NewID()
	if !form.MatchString(a) || a == b {
		t.Error(a, b)
	}
}

func TestTraceBin_NoTrace(t *testing.T) {
	for _, s := range []string{"", "00-", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bx-01", "00x4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} {
		if got := app.TraceBin(s); got != "" {
			t.Errorf("%s: got %x", s, got)
		}
	}
}
