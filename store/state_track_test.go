package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/store"
)

// After a restart writes and Track meet, some in one commit: every write of a matching key leaves a mark that Dirty shows.
func TestState_TrackMeetsWrites(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	matching := func(key string) bool { return strings.HasPrefix(key, "in") }
	for round := range 20 {
		s, err := store.Open(dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		st := s.State("statestore")
		if round == 0 {
			if err := st.Track(t.Context(), matching); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				for n := range 5 {
					key := fmt.Sprintf("%s||%d-%d-%d", []string{"in", "out"}[w%2], round, w, n)
					if err := st.Apply(context.Background(), []state.Op{{Key: key, Value: []byte("v")}}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			if err := st.Track(context.Background(), matching); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		dirty, err := st.Dirty(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(dirty) != 40 {
			t.Fatalf("round %d: %d marks of 40 writes", round, len(dirty))
		}
		if err := st.Clean(t.Context(), dirty); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
