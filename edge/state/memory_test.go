package state_test

import (
	"testing"
	"time"

	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/edge/state/statetest"
)

func TestMemory(t *testing.T) {
	statetest.Run(t, func(t *testing.T, clock func() time.Time) state.Store {
		m := state.NewMemory(state.MemoryOptions{Clock: clock})
		t.Cleanup(func() { _ = m.Close() }) // never fails
		return m
	})
}
