package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Headers of JetStream, and ours.
const (
	hdrMsgID      = "Nats-Msg-Id"
	hdrBatch      = "Nats-Batch-Id"
	hdrBatchSeq   = "Nats-Batch-Sequence"
	hdrCommit     = "Nats-Batch-Commit"
	hdrExpected   = "Nats-Expected-Last-Subject-Sequence"
	hdrRollup     = "Nats-Rollup"
	hdrTTL        = "Nats-TTL"
	hdrSequence   = "Nats-Sequence"
	hdrSubject    = "Nats-Subject"
	hdrMarker     = "Nats-Marker-Reason"
	hdrOperation  = "KV-Operation"
	hdrOrigin     = "Ed-Origin"
	hdrEpoch      = "Ed-Epoch"
	hdrSeq        = "Ed-Seq"
	hdrSum        = "Ed-Sum"
	hdrType       = "Content-Type"
	headerBytes   = 512 // kept free in a message for headers
	tombstoneLife = 30 * 24 * time.Hour
)

// Errors of the JetStream API that mean something to us.
const (
	errNoStream          = 10059
	errWrongSequence     = 10071
	errStoreFailed       = 10077
	errTooLarge          = 10054
	errWrongSequence2    = 10164
	errDuplicateInFlight = 10158
	errBatchDisabled     = 10174
	errBatchIncomplete   = 10176
	errBatchDuplicate    = 10201
	errTooManyBatches    = 10210
	errNoResources       = 10023
	errAccountResources  = 10002
	errMaxConsumers      = 10026
)

// jetStream is an Upstream in a NATS JetStream server or cluster.
type jetStream struct {
	names
	link    *link
	timeout time.Duration
	clock   func() time.Time

	passes sync.Mutex

	mu      sync.Mutex
	session uint64 // that the rest belongs to
	infos   map[string]Caps
	replies *nats.Subscription
	waiting map[string]chan *nats.Msg
	next    uint64
}

var _ Upstream = (*jetStream)(nil)

func newJetStream(l *link, n names, timeout time.Duration, clock func() time.Time) *jetStream {
	return &jetStream{names: n, link: l, timeout: timeout, clock: clock, waiting: map[string]chan *nats.Msg{}}
}

func (j *jetStream) streamOf(k Kind) string {
	if k == State {
		return j.kvStream()
	}
	return j.stream
}

func (j *jetStream) cursorOf(lane Lane) string {
	if lane.Kind == State {
		return j.stateCursor(lane.Name)
	}
	return j.eventCursor(lane.Name)
}

// Hello implements Upstream.
func (j *jetStream) Hello(ctx context.Context, lane Lane) (Caps, Cursor, error) {
	caps, err := j.caps(ctx, j.streamOf(lane.Kind))
	if err != nil {
		return caps, Cursor{}, err
	}
	cur, err := j.cursor(ctx, lane)
	return caps, cur, err
}

// request asks, and turns the ways of not being answered into errors.
func (j *jetStream) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	nc, _ := j.link.conn()
	if nc == nil {
		return nil, &Error{Trouble: Unknown, Err: errOffline}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	denied := make(chan error, 1)
	go func() {
		for {
			next, err := j.link.refused(began, func(s string) bool { return s == subject })
			if err != nil {
				denied <- err
				cancel()
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-next:
			}
		}
	}()
	m, err := nc.RequestWithContext(ctx, subject, body)
	switch {
	case err == nil:
		j.link.answered()
		return m, nil
	case errors.Is(err, nats.ErrNoResponders):
		return nil, &Error{Trouble: Missing, Err: fmt.Errorf("nobody answers on %s", subject)}
	case disconnected(err):
		return nil, &Error{Trouble: Unknown, Err: errOffline}
	case errors.Is(err, context.DeadlineExceeded):
		j.link.stalled()
	}
	select {
	case err := <-denied:
		return nil, err
	default:
	}
	return nil, &Error{Trouble: Unknown, Err: fmt.Errorf("request %s: %w", subject, err)}
}

// apiError is an error of the JetStream API.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

func (e *apiError) trouble() *Error {
	t := Refused
	var rev uint64
	switch e.ErrCode {
	case errNoStream:
		t = Missing
	case errWrongSequence, errWrongSequence2:
		t = Fenced
		if _, n, ok := strings.Cut(e.Description, "sequence: "); ok {
			rev, _ = strconv.ParseUint(n, 10, 64) // without it the cursor is read again
		}
	case errBatchDuplicate, errDuplicateInFlight:
		t = Duplicate
	case errBatchIncomplete:
		t = Incomplete
	case errTooManyBatches:
		t = Busy
	case errStoreFailed, errNoResources, errAccountResources:
		t = Full
	case errTooLarge:
		t = TooLarge
	default:
		if e.Code == 429 || e.Code == 503 {
			t = Busy
		}
	}
	return &Error{Trouble: t, Rev: rev, Err: e}
}

// caps asks once per session what a stream can do.
func (j *jetStream) caps(ctx context.Context, stream string) (Caps, error) {
	nc, session := j.link.conn()
	j.mu.Lock()
	if j.session != session {
		j.session, j.infos = session, map[string]Caps{}
	}
	c, known := j.infos[stream]
	j.mu.Unlock()
	if known {
		return c, nil
	}
	m, err := j.request(ctx, "$JS.API.STREAM.INFO."+stream, nil)
	if err != nil {
		return c, err
	}
	var info struct {
		Error   *apiError `json:"error"`
		Created time.Time `json:"created"`
		Config  struct {
			Atomic     bool          `json:"allow_atomic"`
			TTL        bool          `json:"allow_msg_ttl"`
			Rollup     bool          `json:"allow_rollup_hdrs"`
			MaxMsgSize int           `json:"max_msg_size"`
			Duplicates time.Duration `json:"duplicate_window"`
		} `json:"config"`
		State struct {
			First uint64 `json:"first_seq"`
			Last  uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return c, fmt.Errorf("read stream info: %w", err)
	}
	if info.Error != nil {
		return c, info.Error.trouble()
	}
	c = Caps{
		Atomic: info.Config.Atomic, TTL: info.Config.TTL, Rollup: info.Config.Rollup, Created: info.Created,
		First: info.State.First, Last: info.State.Last, MaxMessage: int(nc.MaxPayload()), Duplicates: info.Config.Duplicates,
	}
	if n := info.Config.MaxMsgSize; n > 0 && n < c.MaxMessage {
		c.MaxMessage = n
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.session == session {
		j.infos[stream] = c
	}
	return c, nil
}

// forget makes the next Hello ask for the stream again.
func (j *jetStream) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(j.infos)
}

// last reads the newest message of a subject. Any replica may answer, so it may be stale. It returns nil if there is none.
func (j *jetStream) last(ctx context.Context, stream, subject string) (*nats.Msg, error) {
	m, err := j.request(ctx, "$JS.API.DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return nil, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
		return m, nil
	case "404":
		return nil, nil
	default:
		return nil, &Error{Trouble: Refused, Err: fmt.Errorf("read %s: %s %s", subject, status, m.Header.Get("Description"))}
	}
}

func (j *jetStream) cursor(ctx context.Context, lane Lane) (Cursor, error) {
	m, err := j.last(ctx, j.streamOf(lane.Kind), j.cursorOf(lane))
	if err != nil || m == nil {
		return Cursor{}, err
	}
	rev, err := strconv.ParseUint(m.Header.Get(hdrSequence), 10, 64)
	if err != nil {
		return Cursor{}, fmt.Errorf("read cursor %s: %w", m.Subject, err)
	}
	if m.Header.Get(hdrMarker) != "" || m.Header.Get(hdrOperation) != "" { // somebody deleted it
		return Cursor{Rev: rev}, nil
	}
	cur, err := unmarshalCursor(m.Data)
	if err != nil {
		return Cursor{}, fmt.Errorf("read cursor %s: %w", m.Header.Get(hdrSubject), err)
	}
	cur.Rev = rev
	return cur, nil
}

// Get implements Upstream.
func (j *jetStream) Get(ctx context.Context, key string) (Remote, error) {
	m, err := j.last(ctx, j.kvStream(), j.key(key))
	if err != nil {
		return Remote{}, err
	}
	if m == nil {
		return Remote{Key: key, Deleted: true}, nil
	}
	r := remote(m)
	r.Key = key
	r.Rev, err = strconv.ParseUint(m.Header.Get(hdrSequence), 10, 64)
	if at, timeErr := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp")); timeErr == nil {
		r.Time = at
	}
	return r, err
}

// remote reads what headers and body say of a key.
func remote(m *nats.Msg) Remote {
	h := textproto.MIMEHeader(m.Header)
	r := Remote{
		Value: m.Data, ContentType: get(h, hdrType), Origin: get(h, hdrOrigin),
		Deleted: get(h, hdrMarker) != "" || get(h, hdrOperation) != "",
	}
	r.Sum, _ = strconv.ParseUint(get(h, hdrSum), 16, 64) // without it: not ours
	if ttl := get(h, hdrTTL); ttl != "" && !r.Deleted {
		if secs, err := strconv.ParseInt(ttl, 10, 64); err == nil {
			r.TTL = time.Duration(secs) * time.Second
		} else if d, err := time.ParseDuration(ttl); err == nil {
			r.TTL = d
		}
	}
	return r
}

// get reads a header without changing its case: NATS headers are as they are written.
func get(h textproto.MIMEHeader, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}
