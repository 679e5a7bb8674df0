package state_test

import (
	"log/slog"
	"testing"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/state"
)

// BenchmarkService measures what the API's meaning costs above a store that costs next to nothing.
func BenchmarkService(b *testing.B) {
	var set component.Set[state.Store]
	set.Put(component.Instance[state.Store]{
		Spec: component.Spec{Name: "mystore", Properties: map[string]string{"keyPrefix": "appid"}}, Value: state.NewMemory(state.MemoryOptions{}),
	})
	s := state.NewService(&set, slog.New(slog.DiscardHandler))
	writes := []state.Write{{Key: "key1", JSON: true, Value: make([]byte, 256)}}
	for i := range writes[0].Value {
		writes[0].Value[i] = 'x'
	}
	b.Run("Save", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(b, s.Save(b.Context(), "app", "mystore", writes))
		}
	})
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r, err := s.Get(b.Context(), "app", "mystore", "key1", nil); err != nil || !r.Found {
				b.Fatal(r, err)
			}
		}
	})
}
