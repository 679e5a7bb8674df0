package pubsub

import (
	"context"
	"errors"
	"time"
)

// handleBulk delivers events in batches, one for each path that they are routed to.
func (x *subscription) handleBulk(ctx context.Context, events []Event) ([]Verdict, error) {
	out := make([]Verdict, len(events))
	settled := make([]bool, len(events))
	var paths []string
	batches := map[string]*batch{}
	for i := range events {
		d, f := x.prepare(&events[i])
		if f != deliver {
			out[i], settled[i] = x.aside(ctx, &events[i], f), true
			continue
		}
		if x.raw {
			d.Raw, d.Envelope, d.ContentType = true, events[i].Data, or(events[i].ContentType, "application/octet-stream")
		}
		d.EntryID = newID()
		b := batches[d.Path]
		if b == nil {
			b = &batch{}
			batches[d.Path] = b
			paths = append(paths, d.Path)
		}
		b.entries, b.index = append(b.entries, d), append(b.index, i)
	}
	for _, path := range paths {
		b := batches[path]
		verdicts, err := x.deliverBatch(ctx, path, b.entries)
		if err != nil {
			n := 0
			for n < len(settled) && settled[n] {
				n++
			}
			return out[:n], err // the rest is offered again
		}
		for j, i := range b.index {
			out[i], settled[i] = x.verdict(ctx, &events[i], verdicts[j]), true
		}
	}
	return out, nil
}

// batch are the events for one path, and where they are among those that were handed over.
type batch struct {
	entries []Delivery
	index   []int
}

// deliverBatch delivers entries under the policy: a retry brings only those that were refused.
func (x *subscription) deliverBatch(ctx context.Context, path string, entries []Delivery) ([]Verdict, error) {
	if x.bulk == nil {
		return nil, errors.New("deliver in bulk: the receiver takes single events only")
	}
	out := make([]Verdict, len(entries))
	open := make([]int, len(entries)) // entries without a final verdict
	for i := range open {
		open[i] = i
	}
	_, err := guarded(ctx, x.policy, func(ctx context.Context) (Verdict, error) {
		d := BulkDelivery{ID: newID(), PubSub: x.spec.PubSub, Topic: x.spec.Topic, Path: path, Entries: make([]Delivery, len(open))}
		for j, i := range open {
			d.Entries[j] = entries[i]
		}
		start := time.Now()
		verdicts, err := x.bulk.DeliverBulk(ctx, d)
		for err == nil && len(verdicts) < len(open) { // an entry without an answer is refused
			verdicts = append(verdicts, Nak)
		}
		x.observeBulk(verdicts, err, len(open), time.Since(start))
		if err != nil {
			return Nak, err
		}
		var again []int
		for j, i := range open {
			if out[i] = verdicts[j]; out[i] == Nak {
				again = append(again, i)
			}
		}
		if open = again; len(open) > 0 {
			return Nak, nil
		}
		return Ack, nil
	})
	if err != nil && x.policy == nil {
		return nil, err
	}
	if err != nil {
		for _, i := range open {
			out[i] = Nak
		}
		if len(open) == len(out) {
			return nil, err
		}
	}
	return out, nil
}

func (x *subscription) observeBulk(verdicts []Verdict, err error, n int, took time.Duration) {
	o := x.svc.opts.Observer
	if o == nil {
		return
	}
	counts := map[string]int{}
	if err != nil {
		counts["retry"] = n
	}
	for _, v := range verdicts {
		counts[status(v, nil)]++
	}
	o.DeliveredBulk(x.app, x.spec.PubSub, x.spec.Topic, counts, took)
}
