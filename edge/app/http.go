package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/edged-io/edged/edge/app/http1"
	"github.com/edged-io/edged/edge/pubsub"
)

// httpWire speaks HTTP to the application.
type httpWire struct {
	c       *Channel
	client  roundTripper
	streams *http.Transport // for invocations, whose bodies are streamed
	scheme  string
	health  string // target of the probe
}

// roundTripper sends a request whose answer fits in memory. Errors are *http1.Error.
type roundTripper interface {
	Do(ctx context.Context, req *http1.Request, resp *http1.Response) error
	Close() error
}

func newHTTPWire(c *Channel) *httpWire {
	h := &httpWire{c: c, scheme: "http", streams: newTransport(c)}
	if c.cfg.Protocol == HTTPS {
		h.scheme = "https"
	}
	if c.cfg.Protocol == HTTP {
		h.client = http1.New(http1.Config{Network: c.network, Address: c.address, MaxBodyBytes: c.cfg.MaxBodySize})
	} else {
		h.client = &netHTTP{transport: h.streams, base: h.scheme + "://" + c.host(), maxBody: c.cfg.MaxBodySize}
	}
	h.health = "/"
	if target, err := requestTarget(c.cfg.Health.Path); err == nil {
		h.health = target
	}
	return h
}

// host is the application's name in requests.
func (c *Channel) host() string {
	if c.network == "unix" {
		return "localhost"
	}
	return c.address
}

// call is a request and its answer, used again to spare memory.
type call struct {
	req  http1.Request
	resp http1.Response
	body []byte
}

var calls = sync.Pool{New: func() any { return new(call) }}

func (c *call) release() {
	clear(c.req.Fields)
	c.req = http1.Request{Fields: c.req.Fields[:0]}
	c.resp.Reset()
	if c.body = c.body[:0]; cap(c.body) > 64<<10 {
		c.body = nil
	}
	calls.Put(c)
}

func (c *call) add(name, value string) {
	if http1.ValidField(name, value) { // a field that HTTP cannot carry must not keep the event back
		c.req.Fields = append(c.req.Fields, http1.Field{Name: name, Value: value})
	}
}

// post fills in a request that delivers to route, but for its body and content type, and returns the metadata's trace
// context.
func (h *httpWire) post(c *call, route, pubsubName string, md map[string]string) (trace traceContext, err error) {
	c.req.Method = http.MethodPost
	if c.req.Target, err = requestTarget(route); err != nil {
		return trace, fmt.Errorf("route %q is not a path: %w", route, err)
	}
	c.req.Fields, trace = metadataFields(c.req.Fields, md)
	c.add(pubsubHeader, pubsubName)
	h.authorize(c)
	return trace, nil
}

func (h *httpWire) authorize(c *call) {
	if h.c.cfg.Token != "" {
		c.add(tokenHeader, h.c.cfg.Token)
	}
}

func (h *httpWire) deliver(ctx context.Context, d *pubsub.Delivery) (pubsub.Verdict, error) {
	c := calls.Get().(*call)
	defer c.release()
	trace, err := h.post(c, d.Path, d.PubSub, d.Metadata)
	if err != nil {
		h.c.log.Error("pub/sub event cannot be sent to the application", "topic", d.Topic, "error", err)
		return pubsub.Nak, nil
	}
	c.add("content-type", cloudEventType)
	if c.req.Body = d.Envelope; d.Raw {
		c.body = appendRawEvent(c.body, d, trace)
		c.req.Body = c.body
	}
	trace.orEvent(d).each(c.add)
	if err := h.client.Do(ctx, &c.req, &c.resp); err != nil {
		return pubsub.Nak, h.unanswered(ctx, d.Topic, d.Path, err)
	}
	return h.verdict(d, &c.resp), nil
}

// unanswered returns the error of a delivery without an answer, or nil if the application may have seen it: then it
// is a delivery that failed, as one that the application cannot survive must not hold up those behind it for ever.
func (h *httpWire) unanswered(ctx context.Context, topic, route string, err error) error {
	var e *http1.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("deliver event of topic %s: %w", topic, err)
	case errors.As(err, &e) && e.Sent:
		h.c.log.Warn("application did not answer a pub/sub event", "topic", topic, "path", route, "error", err)
		return nil
	}
	return fmt.Errorf("deliver event of topic %s: %w: %w", topic, ErrUnreachable, err)
}

func (h *httpWire) subscriptions(ctx context.Context) ([]pubsub.Spec, error) {
	c := calls.Get().(*call)
	defer c.release()
	if err := h.get(ctx, c, "/dapr/subscribe"); err != nil {
		return nil, fmt.Errorf("get subscriptions of the application: %w", h.missed(err))
	}
	switch {
	case c.resp.Status == http.StatusOK && c.resp.Partial != nil:
		return nil, &answerError{c.resp.Partial, true}
	case c.resp.Status == http.StatusOK:
		return decodeSubscriptions(c.resp.Body, h.c.log)
	case c.resp.Status == http.StatusNotFound:
		return nil, nil
	}
	return nil, &answerError{fmt.Errorf("app returned http status code %d from subscription endpoint", c.resp.Status), c.resp.Status >= 500}
}

// missed returns the error of a question without an answer: the application was not reached, or it hung up.
func (h *httpWire) missed(err error) error {
	var e *http1.Error
	if errors.As(err, &e) && e.Sent && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return &answerError{err, true}
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// get asks the application something about itself.
func (h *httpWire) get(ctx context.Context, c *call, target string) error {
	c.req.Method, c.req.Target = http.MethodGet, target
	c.add("content-type", jsonType)
	c.add(appIDHeader, h.c.cfg.AppID)
	h.authorize(c)
	return h.client.Do(ctx, &c.req, &c.resp)
}

func (h *httpWire) hosting(ctx context.Context) (Hosting, error) {
	c := calls.Get().(*call)
	defer c.release()
	if err := h.get(ctx, c, "/dapr/config"); err != nil {
		return Hosting{}, fmt.Errorf("get configuration of the application: %w", h.missed(err))
	}
	if c.resp.Status != http.StatusOK {
		return Hosting{}, nil
	}
	return decodeHosting(c.resp.Body)
}

// probe is a bare GET, without token, as daprd's.
func (h *httpWire) probe(ctx context.Context) error {
	c := calls.Get().(*call)
	defer c.release()
	c.req.Method, c.req.Target = http.MethodGet, h.health
	if err := h.client.Do(ctx, &c.req, &c.resp); err != nil {
		return fmt.Errorf("probe health: %w", err)
	}
	if c.resp.Status < 200 || c.resp.Status > 299 {
		return fmt.Errorf("probe health: status code %d", c.resp.Status)
	}
	return nil
}

func (h *httpWire) close() error {
	h.streams.CloseIdleConnections()
	return h.client.Close()
}
