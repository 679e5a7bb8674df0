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
)

const (
	pullBatch     = 256
	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	unknownMax    = 8
	emptyMax      = 4
	emptyWait     = 50 * time.Millisecond
	scanSuffix    = "=scan"     // no device id contains it
	idleConsumer  = time.Minute // after which the server forgets a consumer that nobody reads
)

// reading is one pass over a stream with an ephemeral consumer. The consumer's name and filter are in the subjects of the
// requests, so the device's permissions limit it to its own subjects. Messages come in order; a lost one ends the pass.
type reading struct {
	stream, name, filter string
	from                 uint64 // revision, exclusive
	lastPerSubject       bool
	headersOnly          bool
	live                 bool
}

// read calls fn for each message until it has caught up, or for ever if live. fn's pending is how many are left; m is nil
// where it is known that none is left.
func (j *jetStream) read(ctx context.Context, r reading, fn func(m *nats.Msg, rev uint64, at time.Time, pending uint64) error) error {
	if !r.live {
		j.passes.Lock() // the consumer's name is fixed by the permissions: one pass at a time
		defer j.passes.Unlock()
	}
	pending, err := j.createConsumer(ctx, r)
	if err != nil {
		return err
	}
	defer j.deleteConsumer(r)
	if pending == 0 {
		if err := fn(nil, 0, time.Time{}, 0); err != nil || !r.live {
			return err
		}
	}
	nc, _ := j.link.conn()
	ch := make(chan *nats.Msg, pullBatch+8)
	inbox := nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, ch)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a closed connection has no subscriptions left
	return j.consume(ctx, r, nc, inbox, ch, fn)
}

// consume asks for messages, again and again, and hands them on.
func (j *jetStream) consume(ctx context.Context, r reading, nc *nats.Conn, inbox string, ch chan *nats.Msg,
	fn func(m *nats.Msg, rev uint64, at time.Time, pending uint64) error,
) error {
	request := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d}`, pullBatch, pullExpires, pullHeartbeat)
	if !r.live { // what was to come may have been deleted meanwhile: do not wait for it
		request = fmt.Appendf(nil, `{"batch":%d,"no_wait":true}`, pullBatch)
	}
	next := "$JS.API.CONSUMER.MSG.NEXT." + r.stream + "." + r.name
	silence := time.NewTimer(0)
	defer silence.Stop()
	p := pass{live: r.live, expected: 1}
	for {
		if p.open == 0 {
			if err := nc.PublishRequest(next, inbox, request); err != nil {
				return &Error{Trouble: Unknown, Err: err}
			}
			p.open = pullBatch
		}
		silence.Reset(max(2*pullHeartbeat+time.Second, j.timeout))
		var m *nats.Msg
		select {
		case <-ctx.Done():
			return &Error{Trouble: Unknown, Err: context.Cause(ctx)}
		case <-silence.C:
			j.link.stalled()
			return &Error{Trouble: Unknown, Err: errors.New("the consumer went silent")}
		case m = <-ch:
		}
		if status := m.Header.Get("Status"); status != "" {
			over, err := p.status(ctx, status, m.Header.Get("Description"))
			if err != nil {
				return err
			}
			if over {
				return fn(nil, 0, time.Time{}, 0)
			}
			continue
		}
		meta, err := p.message(m)
		if err != nil {
			return err
		}
		if err := fn(m, meta.rev, meta.at, meta.pending); err != nil || meta.pending == 0 && !r.live {
			return err
		}
	}
}

// pass is the state of a reading under way.
type pass struct {
	live     bool
	open     int    // messages that the request under way may still bring
	expected uint64 // number of the next delivery
	lost     int    // requests in a row that nobody answered
	empty    int    // requests in a row that brought nothing
}

// message accounts for a message. One that is missing before it is an error.
func (p *pass) message(m *nats.Msg) (delivery, error) {
	meta, err := metadata(m.Reply)
	if err == nil && meta.delivery != p.expected {
		err = &Error{Trouble: Unknown, Err: fmt.Errorf("delivery %d came instead of %d", meta.delivery, p.expected)}
	}
	p.open--
	p.expected++
	p.lost, p.empty = 0, 0
	return meta, err
}

// status deals with an answer that is not a message; over says that nothing more will come.
func (p *pass) status(ctx context.Context, status, description string) (over bool, err error) {
	switch status {
	case "100": // heartbeat
		return false, nil
	case "408", "404": // this request is over
		if p.open = 0; p.live {
			return false, nil
		}
		// What was still to come has been deleted, or a consumer that was just made does not see it yet.
		if p.empty++; p.empty > emptyMax {
			return true, nil
		}
		if !pause(ctx, emptyWait) {
			return false, &Error{Trouble: Unknown, Err: context.Cause(ctx)}
		}
		return false, nil
	case "503": // in a cluster the consumer may not be known everywhere at once
		p.open = 0
		if p.lost++; p.lost > unknownMax || !pause(ctx, Backoff{Min: 5 * time.Millisecond, Max: 500 * time.Millisecond}.delay(p.lost)) {
			return false, &Error{Trouble: Unknown, Err: errors.New("nobody answers for the consumer")}
		}
		return false, nil
	}
	return false, &Error{Trouble: Unknown, Err: fmt.Errorf("consumer: %s %s", status, description)}
}

// createConsumer makes the consumer anew and returns how many messages it has to deliver.
func (j *jetStream) createConsumer(ctx context.Context, r reading) (pending uint64, err error) {
	type config struct {
		Name              string        `json:"name"`
		DeliverPolicy     string        `json:"deliver_policy"`
		StartSeq          uint64        `json:"opt_start_seq,omitempty"`
		AckPolicy         string        `json:"ack_policy"`
		ReplayPolicy      string        `json:"replay_policy"`
		FilterSubject     string        `json:"filter_subject"`
		InactiveThreshold time.Duration `json:"inactive_threshold"`
		Replicas          int           `json:"num_replicas"`
		Memory            bool          `json:"mem_storage"`
		HeadersOnly       bool          `json:"headers_only,omitempty"`
	}
	c := config{
		Name: r.name, AckPolicy: "none", ReplayPolicy: "instant", FilterSubject: r.filter,
		InactiveThreshold: idleConsumer, Replicas: 1, Memory: true, HeadersOnly: r.headersOnly,
	}
	switch {
	case r.lastPerSubject:
		c.DeliverPolicy = "last_per_subject"
	case r.from == 0:
		c.DeliverPolicy = "all"
	default:
		c.DeliverPolicy, c.StartSeq = "by_start_sequence", r.from+1
	}
	body, err := json.Marshal(struct {
		Stream string `json:"stream_name"`
		Config config `json:"config"`
		Action string `json:"action"`
	}{r.stream, c, "create"})
	if err != nil {
		return 0, err
	}
	if _, err := j.request(ctx, "$JS.API.CONSUMER.DELETE."+r.stream+"."+r.name, nil); err != nil { // one of an earlier pass
		return 0, err
	}
	m, err := j.request(ctx, "$JS.API.CONSUMER.CREATE."+r.stream+"."+r.name+"."+r.filter, body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error   *apiError `json:"error"`
		Pending uint64    `json:"num_pending"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return 0, fmt.Errorf("read consumer: %w", err)
	}
	if answer.Error != nil {
		return 0, answer.Error.trouble()
	}
	return answer.Pending, nil
}

// deleteConsumer tells the server that nobody reads any more. It does not wait: the server also finds out by itself.
func (j *jetStream) deleteConsumer(r reading) {
	if nc, _ := j.link.conn(); nc != nil {
		_ = nc.Publish("$JS.API.CONSUMER.DELETE."+r.stream+"."+r.name, nil)
	}
}

type delivery struct {
	rev, delivery, pending uint64
	at                     time.Time
}

// metadata reads the reply subject of a delivered message: $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.
// <stream sequence>.<consumer sequence>.<timestamp>.<pending>[.<token>] (NATS ADR-15).
func metadata(reply string) (delivery, error) {
	parts := strings.Split(reply, ".")
	at := 4 // deliveries
	if len(parts) >= 11 {
		at = 6
	}
	var n [5]uint64
	if len(parts) < at+5 || parts[0] != "$JS" || parts[1] != "ACK" {
		return delivery{}, fmt.Errorf("read delivery %q: not a reply subject of JetStream", reply)
	}
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(parts[at+i], 10, 64); err != nil {
			return delivery{}, fmt.Errorf("read delivery %q: %w", reply, err)
		}
	}
	return delivery{rev: n[1], delivery: n[2], at: time.Unix(0, int64(n[3])), pending: n[4]}, nil
}

// Stored implements Upstream.
func (j *jetStream) Stored(ctx context.Context, lane Lane, from uint64, fn func(epoch string, seq, sum uint64)) error {
	r := reading{stream: j.stream, name: j.device, filter: j.events(), from: from}
	return j.read(ctx, r, func(m *nats.Msg, _ uint64, _ time.Time, _ uint64) error {
		if m == nil {
			return nil
		}
		parts := strings.Split(m.Header.Get(hdrMsgID), ":") // device:epoch:fence:seq
		if len(parts) != 4 || parts[0] != j.device || parts[2] != lane.Name {
			return nil
		}
		if seq, err := strconv.ParseUint(parts[3], 10, 64); err == nil {
			fn(parts[1], seq, checksum(m.Subject, m.Data))
		}
		return nil
	})
}

// Pull implements Upstream.
func (j *jetStream) Pull(ctx context.Context, p Pull, fn func(r Remote, more bool) error) error {
	name := j.device
	if p.Snapshot {
		name += scanSuffix
	}
	r := reading{
		stream: j.kvStream(), name: name, filter: j.keys(), from: p.From,
		lastPerSubject: p.Snapshot, headersOnly: p.Headers, live: p.Live,
	}
	return j.read(ctx, r, func(m *nats.Msg, rev uint64, at time.Time, pending uint64) error {
		if m == nil {
			return fn(Remote{}, false)
		}
		out := remote(m)
		out.Rev, out.Time = rev, at
		if key, ok := j.keyOf(m.Subject); ok {
			out.Key = key
		}
		return fn(out, pending > 0)
	})
}
