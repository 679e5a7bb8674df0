package pubsub

import (
	"context"
	"errors"
	"time"
)

// handleWindow hands several events to a stream before it waits for the first answer: the order is that of the topic, and
// a slow round trip costs once per window. If the client leaves, events that it answered are done, and those that it did
// not come again first, in order.
func (x *subscription) handleWindow(ctx context.Context, events []Event) ([]Verdict, error) {
	st := x.to.(*Stream)
	type sent struct {
		d      Delivery
		answer chan Verdict
		at     time.Time
	}
	out := make([]Verdict, len(events))
	under := make([]sent, len(events))
	pushed, failed := 0, error(nil)
	for i := range events {
		d, f := x.prepare(&events[i])
		if f != deliver {
			out[i] = x.aside(ctx, &events[i], f)
		} else {
			answer, err := st.push(ctx, d)
			if err != nil {
				failed = err
				break
			}
			under[i] = sent{d, answer, time.Now()}
		}
		pushed++
	}
	for i := range pushed {
		s := under[i]
		if s.answer == nil {
			continue
		}
		v, err := st.answer(ctx, s.d.ID, s.answer)
		if o := x.svc.opts.Observer; o != nil && !errors.Is(err, errStreamEnded) {
			o.Delivered(x.app, x.spec.PubSub, s.d.Topic, status(v, err), time.Since(s.at))
		}
		if err != nil {
			out[i], failed = Nak, err
			continue
		}
		out[i] = x.verdict(ctx, &events[i], v)
	}
	return out[:pushed], failed
}
