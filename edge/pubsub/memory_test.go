package pubsub_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/pubsub/pubsubtest"
)

func TestMemoryJournal(t *testing.T) {
	pubsubtest.RunJournal(t, func(_ testing.TB, _ string, contracts []pubsub.Contract, clock func() time.Time) (pubsub.Journal, func()) {
		j := pubsub.NewMemoryJournal(pubsub.MemoryOptions{Contracts: contracts, Clock: clock})
		return j, func() { _ = j.Close() }
	}, false)
}

func TestMemoryJournal_Bounds(t *testing.T) {
	t.Run("DefaultLaneIsBounded", func(t *testing.T) {
		j := pubsub.NewMemoryJournal(pubsub.MemoryOptions{})
		for range 40 {
			if err := j.Append(t.Context(), []pubsub.Event{{Topic: "a", Data: make([]byte, 1<<20)}}); err != nil {
				t.Fatal(err)
			}
		}
		s := j.Lanes("a")[0].Stat()
		if s.Bytes > pubsub.DefaultMemoryContract().MaxBytes || s.Dropped["bytes"] == 0 {
			t.Errorf("stat: %+v", s)
		}
		if g := j.Gaps(1); len(g) != 1 || g[0].Events != s.Dropped["bytes"] {
			t.Errorf("gaps: %+v", g)
		}
	})
	t.Run("GapsAreBounded", func(t *testing.T) {
		j := pubsub.NewMemoryJournal(pubsub.MemoryOptions{Contracts: []pubsub.Contract{
			{Match: "a", MaxEvents: 1, WhenFull: pubsub.DropOldest}, {Match: "b", MaxEvents: 1, WhenFull: pubsub.DropOldest}}})
		for i := range 2000 {
			if err := j.Append(t.Context(), []pubsub.Event{{Topic: string(rune('a' + i%2)), Data: fmt.Append(nil, i)}}); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(j.Gaps(10000)); n == 0 || n > 300 {
			t.Errorf("%d gap records", n)
		}
	})
	t.Run("ErrClosed", func(t *testing.T) {
		j := pubsub.NewMemoryJournal(pubsub.MemoryOptions{})
		l := j.Lanes("a")[0]
		read := make(chan error)
		go func() {
			_, _, err := l.Read(t.Context(), 0, "a", 1)
			read <- err
		}()
		_ = j.Close()
		if err := <-read; !errors.Is(err, pubsub.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if err := j.Append(t.Context(), []pubsub.Event{{Topic: "a"}}); !errors.Is(err, pubsub.ErrClosed) {
			t.Errorf("append: %v", err)
		}
		if _, err := l.Attach(t.Context(), "c", "a", pubsub.Oldest); !errors.Is(err, pubsub.ErrClosed) {
			t.Errorf("attach: %v", err)
		}
	})
}
