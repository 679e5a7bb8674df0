package store_test

import (
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/pubsub/pubsubtest"
	"github.com/edged-io/edged/store"
)

func TestJournal(t *testing.T) {
	pubsubtest.RunJournal(t, func(t testing.TB, dir string, contracts []pubsub.Contract, clock func() time.Time) (pubsub.Journal, func()) {
		s, err := store.Open(dir, store.Options{Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		j, err := s.Journal("pubsub", contracts)
		if err != nil {
			t.Fatal(err)
		}
		return j, func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}, true)
}
