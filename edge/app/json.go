package app

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/edged-io/edged/edge/pubsub"
)

const (
	cloudEventType = "application/cloudevents+json"
	jsonType       = "application/json"
	binaryType     = "application/octet-stream"

	eventType     = "com.dapr.event.sent"
	bulkEventType = "com.dapr.event.sent.bulk"
	eventSource   = "Dapr"
	eventVersion  = "1.0"
)

var errNotObject = errors.New("the CloudEvent is not a JSON object")

// members calls fn with each member of a JSON object, in order, until it returns false. A key comes without its quotes,
// a value as it stands in obj. It finds its way through any valid JSON in one pass; whether the values are valid is for
// who decodes them to see.
func members(obj []byte, fn func(key, value []byte) bool) error {
	i := skipSpace(obj, 0)
	if i == len(obj) || obj[i] != '{' {
		return errNotObject
	}
	if i = skipSpace(obj, i+1); i < len(obj) && obj[i] == '}' {
		return nil
	}
	for {
		end := skipString(obj, i)
		if end < 0 {
			return errNotObject
		}
		key := obj[i+1 : end-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			s, _ := stringValue(obj[i:end])
			key = []byte(s)
		}
		if i = skipSpace(obj, end); i == len(obj) || obj[i] != ':' {
			return errNotObject
		}
		i = skipSpace(obj, i+1)
		if end = skipValue(obj, i); end < 0 {
			return errNotObject
		}
		if !fn(key, obj[i:end]) {
			return nil
		}
		if i = skipSpace(obj, end); i == len(obj) || obj[i] != '}' && obj[i] != ',' {
			return errNotObject
		}
		if obj[i] == '}' {
			return nil
		}
		i = skipSpace(obj, i+1)
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipString returns the index behind the string that begins at i, or -1.
func skipString(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	for i++; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' { // stops at the opening quote at the latest
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

// skipValue returns the index behind the value that begins at i, or -1.
func skipValue(b []byte, i int) int {
	start, depth := i, 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth == 0 {
				return orNone(start, i)
			}
			depth--
			i++
		case ',', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return orNone(start, i)
			}
			i++
			continue
		default:
			i++
			continue
		}
		if depth == 0 {
			return i
		}
	}
	return -1
}

func orNone(start, end int) int {
	if start == end {
		return -1
	}
	return end
}

// stringValue decodes a JSON value that is a string.
func stringValue(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	if isPlain(inner) {
		return string(inner), true
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err == nil
}

// isPlain reports whether text means itself in JSON.
func isPlain[T string | []byte](text T) bool {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// appendString appends s as JSON.
func appendString(b []byte, s string) []byte {
	if isPlain(s) {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // strings always marshal
	}
	return append(b, quoted...)
}

func appendMember(b []byte, key, value string) []byte {
	b = append(b, '"')
	b = append(b, key...)
	b = append(b, `":`...)
	return append(appendString(b, value), ',')
}

// appendMap appends a JSON object with members in any order.
func appendMap(b []byte, m map[string]string) []byte {
	b = append(b, '{')
	for k, v := range m {
		b = appendString(b, k)
		b = append(b, ':')
		b = append(appendString(b, v), ',')
	}
	if len(m) > 0 {
		b = b[:len(b)-1]
	}
	return append(b, '}')
}

// appendRawEvent appends the CloudEvent that a raw payload is delivered in: the payload as data_base64, since nothing is
// known of it, and an id of its own for each delivery.
func appendRawEvent(b []byte, d *pubsub.Delivery, trace traceContext) []byte {
	b = append(b, '{')
	b = appendMember(b, "id", newID())
	b = appendMember(b, "specversion", eventVersion)
	b = appendMember(b, "datacontenttype", binaryType)
	b = appendMember(b, "source", eventSource)
	b = appendMember(b, "type", eventType)
	b = appendMember(b, "topic", d.Topic)
	b = appendMember(b, "pubsubname", d.PubSub)
	if trace.parent != "" {
		b = appendMember(b, "traceid", trace.parent)
		b = appendMember(b, "traceparent", trace.parent)
	}
	if trace.state != "" {
		b = appendMember(b, "tracestate", trace.state)
	}
	b = append(b, `"data_base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, d.Envelope)
	return append(b, `"}`...)
}

// newID returns a random UUID (RFC 9562, version 4).
func newID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails: the runtime aborts instead
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	b := make([]byte, 0, 36)
	for i, n := range []int{4, 6, 8, 10, 16} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, u[(len(b)-i)/2:n])
	}
	return string(b)
}
