package app

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/edged-io/edged/edge/app/http1"
	"github.com/edged-io/edged/edge/pubsub"
)

const (
	tokenHeader  = "dapr-api-token"
	appIDHeader  = "dapr-app-id"
	pubsubHeader = "pubsubname"
)

// traceContext is the W3C trace context and baggage of an event.
type traceContext struct{ parent, state, baggage string }

// noParent is what daprd tells a gRPC application about an event that belongs to no trace.
const noParent = "00-00000000000000000000000000000000-0000000000000000-00"

// take sets the part that key names and reports whether it names one.
func (t *traceContext) take(key, value string) bool {
	switch key {
	case "traceparent":
		t.parent = value
	case "tracestate":
		t.state = value
	case "baggage":
		t.baggage = value
	default:
		return false
	}
	return true
}

// orEvent returns t, or the trace context that the event itself carries if t is none: what the delivery says of it, or
// if that says nothing, what its attributes say. Older publishers have the parent in traceid.
func (t traceContext) orEvent(d *pubsub.Delivery) traceContext {
	if t.parent != "" {
		return t
	}
	if d.TraceParent != "" {
		t.parent, t.state = d.TraceParent, d.TraceState
		return t
	}
	if d.Raw || d.ID != "" { // who filled in the id has looked
		return t
	}
	baggage, id := t.baggage, ""
	t = traceContext{}
	_ = members(d.Envelope, func(key, value []byte) bool { // an event that is no JSON has none
		if len(key) < len("traceid") || len(key) > len("traceparent") {
			return true
		}
		switch string(key) {
		case "traceparent":
			t.parent, _ = stringValue(value)
		case "tracestate":
			t.state, _ = stringValue(value)
		case "baggage":
			t.baggage, _ = stringValue(value)
		case "traceid":
			id, _ = stringValue(value)
		}
		return true
	})
	if baggage != "" {
		t.baggage = baggage
	}
	if t.parent == "" {
		t.parent = id
	}
	return t
}

// each calls fn with what is set.
func (t traceContext) each(fn func(name, value string)) {
	if t.parent != "" {
		fn("traceparent", t.parent)
		if t.state != "" {
			fn("tracestate", t.state)
		}
	}
	if t.baggage != "" {
		fn("baggage", t.baggage)
	}
}

// metadataFields appends an event's metadata as header fields, with lower-case names and without what belongs to the
// connection or to this hop, and returns the trace context among them apart.
func metadataFields(fields []http1.Field, md map[string]string) ([]http1.Field, traceContext) {
	var trace traceContext
	for k, v := range md {
		name := strings.ToLower(k)
		if trace.take(name, v) || isHopField(name) || strings.HasSuffix(name, "-bin") {
			continue
		}
		if strings.HasPrefix(name, "grpc-") {
			name = "dapr-" + name
		}
		if http1.ValidField(name, v) { // a field that HTTP cannot carry must not keep the event back
			fields = append(fields, http1.Field{Name: name, Value: v})
		}
	}
	return fields, trace
}

// isHopField reports whether a field of this name is set by the channel itself or ends at each hop (RFC 9110, 7.6.1).
func isHopField(name string) bool {
	switch name {
	case "content-type", "content-length", "host", "user-agent", "destination-app-id", tokenHeader, pubsubHeader,
		"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "te",
		"trailer", "proxy-authorization", "proxy-authenticate":
		return true
	}
	return false
}

// requestTarget returns a route as a request target: cleaned, rooted, and escaped where needed.
func requestTarget(route string) (string, error) {
	if isCleanTarget(route) {
		return route, nil
	}
	route = path.Clean("/" + route)
	u, err := url.Parse("http://app" + route)
	if err != nil {
		return "", err
	}
	return escapeTarget(u.RequestURI()), nil
}

// escapeTarget escapes what may not stand in a request line; a URL keeps its query as it is.
func escapeTarget(target string) string {
	var b []byte
	for i := 0; i < len(target); i++ {
		switch c := target[i]; {
		case c > ' ' && c < 0x7f && b == nil:
		case c > ' ' && c < 0x7f:
			b = append(b, c)
		default:
			if b == nil {
				b = append(b, target[:i]...)
			}
			b = fmt.Appendf(b, "%%%02X", c)
		}
	}
	if b == nil {
		return target
	}
	return string(b)
}

// isCleanTarget reports whether route is a path that needs no change; it may say no to one that does not.
func isCleanTarget(route string) bool {
	if len(route) < 2 || route[0] != '/' || route[len(route)-1] == '/' {
		return false
	}
	for i := 1; i < len(route); i++ {
		c := route[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '~':
		case c == '/' || c == '.':
			if route[i-1] == '/' {
				return false
			}
		default:
			return false
		}
	}
	return true
}
