package mqtt_test

import (
	"errors"
	"testing"
	"time"

	"github.com/edged-io/edged/mqtt"
)

func TestAccused(t *testing.T) {
	now := time.Unix(1000, 0)
	closed := errors.New("closed")
	strikes := func(a *mqtt.Accused, seq uint64, n int) (hold time.Duration) {
		for range n {
			if hold > 0 {
				t.Fatalf("message %d is held too early", seq)
			}
			hold = mqtt.Strike(a, "t", seq, now, closed)
		}
		return hold
	}
	t.Run("HeldAfterFiveInARow", func(t *testing.T) {
		var a mqtt.Accused
		if d := strikes(&a, 1, 5); d != time.Minute || !mqtt.Held(&a, "t", 1, now) || mqtt.Held(&a, "t", 2, now) || mqtt.Held(&a, "t", 1, now.Add(d)) {
			t.Errorf("held for %v", d)
		}
	})
	t.Run("NotWhenAnotherArrivesBetween", func(t *testing.T) {
		var a mqtt.Accused
		for range 10 {
			if d := strikes(&a, 1, 4); d > 0 {
				t.Fatalf("held for %v", d)
			}
			mqtt.Acquit(&a, "t", 9)
		}
	})
	t.Run("NotWhenMessagesDiffer", func(t *testing.T) {
		var a mqtt.Accused
		for seq := range uint64(20) {
			strikes(&a, seq+1, 1)
		}
		if mqtt.Held(&a, "t", 20, now) {
			t.Error("held")
		}
	})
	t.Run("TopicAfterTwoMessages", func(t *testing.T) {
		var a mqtt.Accused
		strikes(&a, 1, 5)
		if d := strikes(&a, 2, 2); d != time.Minute || !mqtt.Held(&a, "t", 3, now) || mqtt.Held(&a, "u", 3, now) {
			t.Errorf("held for %v", d)
		}
		if r := mqtt.Refusals(&a); len(r) != 1 || !r[0].Whole || r[0].Times != 7 {
			t.Errorf("%+v", r)
		}
		now := now.Add(time.Minute)
		if d := mqtt.Strike(&a, "t", 1, now, closed); d != 2*time.Minute || !mqtt.Held(&a, "t", 3, now) {
			t.Errorf("held again for %v", d)
		}
		mqtt.Acquit(&a, "t", 1)
		if mqtt.Held(&a, "t", 3, now) || len(mqtt.Refusals(&a)) != 1 {
			t.Errorf("%+v", mqtt.Refusals(&a))
		}
		if mqtt.Acquit(&a, "t", 2); len(mqtt.Refusals(&a)) != 0 {
			t.Errorf("%+v", mqtt.Refusals(&a))
		}
	})
	t.Run("Doubles", func(t *testing.T) {
		var a mqtt.Accused
		want := strikes(&a, 1, 5)
		for range 12 {
			want = min(time.Hour, want*2)
			if d := mqtt.Strike(&a, "t", 1, now, closed); d != want {
				t.Fatalf("held for %v, want %v", d, want)
			}
			mqtt.Acquit(&a, "t", 7) // others of the topic arrive
		}
	})
}
