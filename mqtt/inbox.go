package mqtt

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

const (
	inboxBatch    = 256
	inboxOverhead = 256 // bytes counted per message beside its payload and topic
)

var errOverflow = errors.New("more was received than can be kept; the broker is asked to send it again")

// inbox holds what was received until it is durable, because a handler that blocks would also stop acknowledgements and
// pings. It is bounded: when it is full, QoS 0 messages are dropped and counted, and others are left unacknowledged
// until there is room, when a new connection makes the broker send them again, in order.
type inbox struct {
	client *Client

	mu      sync.Mutex
	queue   []received
	bytes   int
	behind  *link // the connection on which messages were left unacknowledged, until it is ended for that
	resumer *link // the newest connection on which the broker has kept the session and sends again what is unacknowledged
	stale   bool  // the queue may hold what resumer brings again
	dropped uint64
	wake    chan struct{} // capacity 1
}

// received is a message and the acknowledgement that it waits for.
type received struct {
	Message
	link *link
	ack  func()
	size int
}

func newInbox(c *Client) *inbox {
	return &inbox{client: c, wake: make(chan struct{}, 1)}
}

func (b *inbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// received is called by the library for each message, in order, and must not block.
func (l *link) received(m paho.Message) {
	l.number++
	r := received{
		Message: Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained(), Duplicate: m.Duplicate()},
		link:    l, ack: m.Ack, size: len(m.Payload()) + len(m.Topic()) + inboxOverhead,
	}
	r.LeftOut, _ = l.wire.leftOut(l.number)
	l.client.inbox.put(l, r)
}

func (b *inbox) put(l *link, r received) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.QoS > 0 && b.resumer != nil && l.session < b.resumer.session {
		return // late from a connection that has ended: it comes again, in its place
	}
	full := len(b.queue) > 0 && b.bytes+r.size > b.client.opts.MaxQueue
	switch {
	case full && (r.QoS == 0 || b.client.opts.CleanSession): // the broker would not send it again
		b.dropped++
		if r.QoS > 0 {
			go r.ack() // may wait for the dispatcher that called us
		}
		return
	case r.QoS > 0 && (full || l.behind):
		// Not acknowledged, so not lost; and nothing newer of this connection may overtake it.
		if !l.behind {
			l.behind, b.behind = true, l
			b.client.log.Warn("MQTT messages arrive faster than they can be kept; the rest is left to the broker", "queued", len(b.queue))
		}
		return
	}
	b.queue = append(b.queue, r)
	b.bytes += r.size
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// overflow returns how many QoS 0 messages were dropped because the inbox was full.
func (b *inbox) overflow() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

// run delivers until ctx ends. What is still queued then was not acknowledged.
func (b *inbox) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		batch := b.peek()
		if len(batch) == 0 {
			select {
			case <-b.wake:
			case <-ctx.Done():
			}
			continue
		}
		messages := make([]Message, len(batch))
		for i, r := range batch {
			messages[i] = r.Message
		}
		safe, err := b.client.opts.Deliver(ctx, messages)
		for _, r := range batch[:safe] {
			r.ack()
		}
		b.remove(safe)
		if safe > 0 {
			failures = 0
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		wait := fullJitter(100*time.Millisecond, 10*time.Second, failures)
		failures++
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// resumed says that the broker has kept the session and will send again what is unacknowledged: it need not be kept here
// twice.
func (b *inbox) resumed(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resumer, b.stale = l, true
}

func (b *inbox) peek() []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stale {
		b.queue = slices.DeleteFunc(b.queue, func(r received) bool {
			again := r.QoS > 0 && r.link != b.resumer
			if again {
				b.bytes -= r.size
			}
			return again
		})
		b.stale = false
	}
	return b.queue[:min(len(b.queue), inboxBatch):min(len(b.queue), inboxBatch)]
}

// remove forgets the first n messages, and has the broker send again what had to be left to it.
func (b *inbox) remove(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.queue[:n] {
		b.bytes -= r.size
	}
	clear(b.queue[:n]) // payloads must not outlive their place in the queue
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
	if b.behind != nil && b.bytes <= b.client.opts.MaxQueue/2 {
		b.behind.lose(errOverflow)
		b.behind = nil
	}
}
