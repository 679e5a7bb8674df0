package component_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/component"
)

func TestSet(t *testing.T) {
	var s component.Set[int]
	if s.Any("") || len(s.All("")) != 0 {
		t.Error("an empty set holds something")
	}
	put := func(name string, value int, scopes ...string) (component.Instance[int], bool) {
		return s.Put(component.Instance[int]{Spec: component.Spec{Name: name, Scopes: scopes}, Value: value})
	}
	put("b", 1, "app1")
	put("a", 2, "app1", "app2")
	if !s.Any("app1") || s.Any("app3") || !s.Any("") {
		t.Error("Any does not follow scopes")
	}
	if old, replaced := put("b", 3); !replaced || old.Value != 1 {
		t.Errorf("replaced %v %v", old, replaced)
	}
	if i, ok := s.Get("app2", "b"); !ok || i.Value != 3 {
		t.Errorf("got %v %v", i, ok)
	}
	if _, ok := s.Get("app3", "a"); ok {
		t.Error("a component is visible outside its scopes")
	}
	if all := s.All("app2"); len(all) != 2 || all[0].Spec.Name != "a" {
		t.Errorf("got %v", all)
	}
	if _, ok := s.Remove("a"); !ok || len(s.All("")) != 1 {
		t.Error("not removed")
	}
	if _, ok := s.Remove("a"); ok {
		t.Error("removed twice")
	}
}

func TestRegistry_New(t *testing.T) {
	broken := errors.New("broken")
	r := component.Registry[string]{
		"kind.good": func(_ context.Context, spec component.Spec) (string, error) { return spec.Name, nil },
		"kind.bad":  func(context.Context, component.Spec) (string, error) { return "x", broken },
	}
	if v, err := r.New(t.Context(), component.Spec{Name: "n", Type: "kind.good"}); v != "n" || err != nil {
		t.Error(v, err)
	}
	if v, err := r.New(t.Context(), component.Spec{Name: "n", Type: "kind.bad"}); v != "" || !errors.Is(err, broken) || !strings.Contains(err.Error(), "component n") {
		t.Error(v, err)
	}
	_, err := r.New(t.Context(), component.Spec{Name: "n", Type: "kind.none"})
	if !errors.Is(err, component.ErrUnknownType) || !strings.Contains(err.Error(), "kind.bad, kind.good") {
		t.Error(err)
	}
}

func TestProperties(t *testing.T) {
	var log bytes.Buffer
	p := component.Spec{Name: "c", Log: slog.New(slog.NewTextHandler(&log, nil)), Properties: map[string]string{
		"URL": "tcp://x", "retained": "Yes", "qos": "1", "timeout": "30s", "seconds": "5", "mode": "FAST", "old": "alias", "empty": "", "typo": "x", "others": "y",
	}}.Read()
	got := []any{
		p.Required("url"), p.Bool(false, "retained"), p.Int(0, 0, 2, "qos"), p.Duration(0, time.Second, "timeout"), p.Duration(0, time.Second, "seconds"),
		p.OneOf("slow", []string{"slow", "fast"}, "mode"), p.String("d", "new", "old"), p.String("d", "empty"), p.Bool(true, "absent"),
	}
	want := []any{"tcp://x", true, 1, 30 * time.Second, 5 * time.Second, "fast", "alias", "d", true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p.Known("Others")
	if err := p.Err(); err != nil || strings.Contains(log.String(), "others") || !strings.Contains(log.String(), "typo") {
		t.Errorf("%v, log %s", err, &log)
	}

	p = component.Spec{Properties: map[string]string{
		"b": "maybe", "i": "x", "range": "9", "d": "-1s", "n": "-1", "huge": "9223372036854775807", "mode": "odd",
	}}.Read()
	p.Bool(false, "b")
	p.Int(0, 0, 2, "i")
	p.Int(0, 0, 2, "range")
	p.Duration(0, time.Second, "d")
	p.Duration(0, time.Second, "n")
	p.Duration(0, time.Second, "huge")
	p.OneOf("", []string{"slow"}, "mode")
	p.Required("missing")
	p.Fail("x", errors.New("is bad"))
	if n := strings.Count(p.Err().Error(), "\n") + 1; n != 9 {
		t.Errorf("%d errors, want 9:\n%v", n, p.Err())
	}
}
