package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// answers receives the replies to one batch. Its subjects end with the number of the message that they answer.
type answers struct {
	prefix string
	ch     chan *nats.Msg
	close  func()
}

// listen opens a place for up to n answers.
func (j *jetStream) listen(n int) (*answers, error) {
	nc, _ := j.link.conn()
	if nc == nil {
		return nil, &Error{Trouble: Unknown, Err: errOffline}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	root := j.link.prefix + ".b."
	if j.replies == nil {
		sub, err := nc.Subscribe(root+"*.*", j.dispatch) // it outlives reconnects
		if err != nil {
			return nil, fmt.Errorf("subscribe to answers: %w", err)
		}
		j.replies = sub
	}
	j.next++
	key := strconv.FormatUint(j.next, 36)
	a := &answers{prefix: root + key + ".", ch: make(chan *nats.Msg, n)}
	j.waiting[key] = a.ch
	a.close = func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.waiting, key)
	}
	return a, nil
}

func (j *jetStream) dispatch(m *nats.Msg) {
	key, _, _ := strings.Cut(strings.TrimPrefix(m.Subject, j.link.prefix+".b."), ".")
	j.mu.Lock()
	ch := j.waiting[key]
	j.mu.Unlock()
	select {
	case ch <- m:
	default: // nobody waits any more
	}
}

// Commit implements Upstream.
func (j *jetStream) Commit(ctx context.Context, lane Lane, prev, next Cursor, changes []Change) (Cursor, error) {
	caps, err := j.caps(ctx, j.streamOf(lane.Kind))
	if err != nil {
		return prev, err
	}
	b := &batch{j: j, lane: lane, caps: caps, epoch: next.Epoch, changes: changes}
	if caps.Atomic {
		return b.atomic(ctx, prev, next)
	}
	return b.oneByOne(ctx, prev, next)
}

// batch is one commit under way.
type batch struct {
	j       *jetStream
	lane    Lane
	caps    Caps
	epoch   string
	changes []Change
	msg     nats.Msg
}

// set fills the one message that all of the batch are sent with.
func (b *batch) set(c Change) {
	if b.msg.Header == nil {
		b.msg.Header = make(nats.Header, 8)
	}
	h := b.msg.Header
	clear(h)
	b.msg.Data = c.Value
	switch c.Kind {
	case Event:
		b.msg.Subject = b.j.event(c.Name)
		h[hdrMsgID] = []string{b.j.messageID(b.epoch, b.lane.Name, c.Seq)}
	case Gap:
		b.msg.Subject = b.j.gap(b.lane.Name)
		h[hdrMsgID] = []string{b.j.messageID(b.epoch, b.lane.Name, c.Seq)}
	case Put:
		b.msg.Subject = b.j.key(c.Name)
		h[hdrSum] = []string{strconv.FormatUint(checksum(c.Name, c.Value), 16)}
		if c.ContentType != "" {
			h[hdrType] = []string{c.ContentType}
		}
		if c.TTL > 0 && b.caps.TTL {
			h[hdrTTL] = []string{strconv.FormatInt(max(1, int64((c.TTL+time.Second-1)/time.Second)), 10)}
		}
	case Delete:
		b.msg.Subject = b.j.key(c.Name)
		b.msg.Data = nil
		h[hdrOperation] = []string{"DEL"}
		if b.caps.TTL {
			h[hdrTTL] = []string{strconv.FormatInt(int64(tombstoneLife/time.Second), 10)}
		}
	}
	if b.lane.Kind == State {
		h[hdrOrigin] = []string{b.j.device}
		h[hdrSeq] = []string{strconv.FormatUint(c.Seq, 10)}
		h[hdrEpoch] = []string{b.epoch}
	}
}

// setCursor makes the message the cursor record, which is stored only if the one before it is still at prev.
func (b *batch) setCursor(prev, next Cursor) {
	if b.msg.Header == nil {
		b.msg.Header = make(nats.Header, 8)
	}
	h := b.msg.Header
	clear(h)
	b.msg.Subject, b.msg.Data = b.j.cursorOf(b.lane), next.marshal()
	h[hdrExpected] = []string{strconv.FormatUint(prev.Rev, 10)}
	if b.lane.Kind == Events { // a bucket keeps one revision by itself
		if b.caps.Rollup {
			h[hdrRollup] = []string{"sub"}
		}
		if b.caps.TTL {
			h[hdrTTL] = []string{"never"} // it outlives the age limit of events
		}
	}
}

// atomic sends the changes and the cursor as one atomic batch (NATS ADR-50).
func (b *batch) atomic(ctx context.Context, prev, next Cursor) (Cursor, error) {
	a, err := b.j.listen(8)
	if err != nil {
		return prev, err
	}
	defer a.close()
	nc, _ := b.j.link.conn()
	began := time.Now()
	id := []string{nuid.Next()}
	last := len(b.changes) + 1
	for n := 1; n <= last; n++ {
		if n < last {
			b.set(b.changes[n-1])
		} else {
			b.setCursor(prev, next)
			b.msg.Header[hdrCommit] = []string{"1"}
		}
		b.msg.Reply = ""
		if n == 1 || n == last { // the first answer tells early that batches are not welcome
			b.msg.Reply = a.prefix + strconv.Itoa(n)
		}
		b.msg.Header[hdrBatch] = id
		b.msg.Header[hdrBatchSeq] = []string{strconv.Itoa(n)}
		if err := nc.PublishMsg(&b.msg); err != nil {
			return prev, publishError(b.msg.Subject, err)
		}
		if n%64 != 0 {
			continue
		}
		select {
		case m := <-a.ch:
			if _, err := b.answer(m); err != nil {
				return prev, err
			}
		default:
		}
	}
	rev, err := b.await(ctx, a, began, a.prefix+strconv.Itoa(last))
	if err != nil {
		return prev, err
	}
	next.Rev = rev
	return next, nil
}

// disconnected reports whether nats.go refused because there is no connection, of which the session hears a moment later.
func disconnected(err error) bool {
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrDisconnected)
}

func publishError(subject string, err error) error {
	t := Unknown
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		t = TooLarge
	case disconnected(err):
		return &Error{Trouble: Unknown, Err: errOffline}
	}
	return &Error{Trouble: t, Err: fmt.Errorf("publish to %s: %w", subject, err)}
}

// await waits for the answer to the message whose reply subject is given.
func (b *batch) await(ctx context.Context, a *answers, began time.Time, subject string) (uint64, error) {
	for {
		m, err := b.receive(ctx, a, began)
		if err != nil {
			return 0, err
		}
		rev, err := b.answer(m)
		if err != nil {
			return 0, err
		}
		if m.Subject == subject {
			b.j.link.answered()
			return rev, nil
		}
	}
}

// mine reports whether a refused subject is one of the batch's.
func (b *batch) mine(subject string) bool {
	if subject == b.j.cursorOf(b.lane) {
		return true
	}
	for _, c := range b.changes {
		b.set(c)
		if b.msg.Subject == subject {
			return true
		}
	}
	return false
}

// answer reads a publish acknowledgement. An empty one says that a message of a batch has arrived.
func (b *batch) answer(m *nats.Msg) (uint64, error) {
	if m.Header.Get("Status") == "503" {
		b.j.forget()
		return 0, &Error{Trouble: Missing, Err: errors.New("no stream takes the subject")}
	}
	if len(m.Data) == 0 {
		return 0, nil
	}
	var ack struct {
		Error *apiError `json:"error"`
		Seq   uint64    `json:"seq"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return 0, &Error{Trouble: Unknown, Err: fmt.Errorf("read acknowledgement: %w", err)}
	}
	if ack.Error != nil {
		if ack.Error.ErrCode == errBatchDisabled {
			b.j.forget()
		}
		return 0, ack.Error.trouble()
	}
	return ack.Seq, nil
}

// oneByOne is for servers and streams without atomic batches: asynchronous publishes with message ids, then, when all are
// acknowledged, the cursor. It stops at the first error; what is already stored then is found by Stored.
func (b *batch) oneByOne(ctx context.Context, prev, next Cursor) (Cursor, error) {
	a, err := b.j.listen(len(b.changes) + 1)
	if err != nil {
		return prev, err
	}
	defer a.close()
	nc, _ := b.j.link.conn()
	began := time.Now()
	for n, c := range b.changes {
		b.set(c)
		b.msg.Reply = a.prefix + strconv.Itoa(n+1)
		if err := nc.PublishMsg(&b.msg); err != nil {
			return prev, publishError(b.msg.Subject, err)
		}
	}
	for range b.changes {
		m, err := b.receive(ctx, a, began)
		if err != nil {
			return prev, err
		}
		if _, err := b.answer(m); err != nil {
			return prev, err
		}
	}
	b.setCursor(prev, next)
	b.msg.Reply = a.prefix + "0"
	if err := nc.PublishMsg(&b.msg); err != nil {
		return prev, publishError(b.msg.Subject, err)
	}
	rev, err := b.await(ctx, a, began, b.msg.Reply)
	if err != nil {
		return prev, err
	}
	next.Rev = rev
	return next, nil
}

// receive waits for the next answer of any kind.
func (b *batch) receive(ctx context.Context, a *answers, began time.Time) (*nats.Msg, error) {
	timer := time.NewTimer(b.j.timeout)
	defer timer.Stop()
	for {
		again, denied := b.j.link.refused(began, b.mine)
		if denied != nil {
			return nil, denied
		}
		select {
		case m := <-a.ch:
			return m, nil
		case <-again:
		case <-ctx.Done():
			return nil, &Error{Trouble: Unknown, Err: context.Cause(ctx)}
		case <-timer.C:
			b.j.link.stalled()
			return nil, &Error{Trouble: Unknown, Err: fmt.Errorf("no answer within %s", b.j.timeout)}
		}
	}
}
