package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/edge/state/statetest"
	"github.com/edged-io/edged/store"
)

// open opens a data folder for a test and checks and closes it afterwards.
func open(t testing.TB, dir string, opts store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("check: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestState(t *testing.T) {
	statetest.Run(t, func(t *testing.T, clock func() time.Time) state.Store {
		return open(t, t.TempDir(), store.Options{Clock: clock}).State("s")
	})
}
