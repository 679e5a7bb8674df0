package pubsub

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// CloudEventsType is the content type of a CloudEvent in JSON (CloudEvents JSON format 1.0).
const CloudEventsType = "application/cloudevents+json"

const (
	defaultSource   = "Dapr"
	defaultType     = "com.dapr.event.sent"
	defaultDataType = "text/plain"
	specVersion     = "1.0"
)

// attributes are what an envelope is made of.
type attributes struct {
	ID, Source, Type, Subject string
	Topic, PubSub             string
	DataContentType           string
	TraceParent, TraceState   string
	Time                      time.Time
	Expires                   time.Time // zero: no expiration attribute
}

// override applies the metadata that begins with "cloudevent.", whose names ignore case.
func (a *attributes) override(metadata map[string]string) {
	const prefix = "cloudevent."
	traceID, traceParent := "", ""
	for k, v := range metadata {
		if len(k) <= len(prefix) || !strings.EqualFold(k[:len(prefix)], prefix) {
			continue
		}
		switch strings.ToLower(k[len(prefix):]) {
		case "id":
			a.ID = v
		case "source":
			a.Source = v
		case "type":
			a.Type = v
		case "subject":
			a.Subject = v
		case "traceid":
			traceID = v
		case "traceparent":
			traceParent = v
		case "tracestate":
			a.TraceState = v
		}
	}
	if traceParent == "" {
		traceParent = traceID
	}
	if traceParent != "" {
		a.TraceParent = traceParent
	}
}

// isType reports whether a content type is the expected media type, whatever its case and parameters.
func isType(contentType, expected string) bool {
	if i := strings.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	return strings.EqualFold(contentType, expected)
}

func isJSONType(ct string) bool       { return isType(ct, "application/json") }
func isBinaryType(ct string) bool     { return isType(ct, "application/octet-stream") }
func isCloudEventType(ct string) bool { return isType(ct, CloudEventsType) }
func isTextType(ct string) bool {
	return len(ct) >= 5 && strings.EqualFold(ct[:5], "text/") || isType(ct, "application/xml")
}

// newEnvelope wraps data into a CloudEvent as Dapr does: JSON stays JSON, application/octet-stream and CloudEvents in
// protobuf become data_base64, the rest is a string. Unlike Dapr, data that no JSON string can hold becomes data_base64
// too instead of losing what is not UTF-8.
func newEnvelope(a *attributes, data []byte) []byte {
	if a.DataContentType == "" {
		a.DataContentType = defaultDataType
	}
	dst := make([]byte, 0, 384+len(data)+len(data)/2+2*(len(a.TraceParent)+len(a.Topic)+len(a.DataContentType)))
	dst = appendData(dst, a.DataContentType, data)
	dst = appendString(append(dst, `,"datacontenttype":`...), a.DataContentType)
	if !a.Expires.IsZero() {
		dst = a.Expires.UTC().AppendFormat(append(dst, `,"expiration":"`...), time.RFC3339)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"id":`...)
	if a.ID == "" {
		dst = appendID(append(dst, '"'))
		dst = append(dst, '"')
	} else {
		dst = appendString(dst, a.ID)
	}
	dst = appendString(append(dst, `,"pubsubname":`...), a.PubSub)
	dst = appendString(append(dst, `,"source":`...), or(a.Source, defaultSource))
	dst = append(dst, `,"specversion":"1.0"`...)
	if a.Subject != "" {
		dst = appendString(append(dst, `,"subject":`...), a.Subject)
	}
	dst = a.Time.AppendFormat(append(dst, `,"time":"`...), time.RFC3339)
	dst = appendString(append(dst, `","topic":`...), a.Topic)
	dst = appendString(append(dst, `,"traceid":`...), a.TraceParent)
	dst = appendString(append(dst, `,"traceparent":`...), a.TraceParent)
	dst = appendString(append(dst, `,"tracestate":`...), a.TraceState)
	dst = appendString(append(dst, `,"type":`...), or(a.Type, defaultType))
	return append(dst, '}')
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// appendData begins an envelope with its data member.
func appendData(dst []byte, contentType string, data []byte) []byte {
	switch {
	case isJSONType(contentType):
		if raw, ok := firstValue(data); ok && utf8.Valid(raw) {
			return append(append(dst, `{"data":`...), raw...)
		}
	case isBinaryType(contentType), isProtobufCloudEvent(contentType, data):
		return appendBase64(dst, data)
	}
	if !utf8.Valid(data) {
		return appendBase64(dst, data)
	}
	return appendString(append(dst, `{"data":`...), data)
}

func appendBase64(dst, data []byte) []byte {
	dst = append(dst, `{"data_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '"')
}

// isProtobufCloudEvent reports whether data is a CloudEvent in protobuf: by its type, or under the general protobuf type
// because it has the required attributes id, source, spec_version and type in the fields 1 to 4 (CloudEvents protobuf
// format 1.0).
func isProtobufCloudEvent(contentType string, data []byte) bool {
	if isType(contentType, "application/cloudevents+protobuf") {
		return true
	}
	if !isType(contentType, "application/x-protobuf") {
		return false
	}
	var seen [5]bool
	for len(data) > 0 {
		tag, n := data[0], 1
		if field := tag >> 3; tag&7 != 2 || tag >= 0x80 || field == 0 || field > 8 {
			return false // the message has fields 1 to 8, and all are length-delimited
		}
		length, shift := uint64(0), 0
		for {
			if n >= len(data) || shift > 28 {
				return false
			}
			length |= uint64(data[n]&0x7f) << shift
			shift += 7
			n++
			if data[n-1] < 0x80 {
				break
			}
		}
		if length > uint64(len(data)-n) {
			return false
		}
		if field := tag >> 3; field < 5 && length > 0 {
			seen[field] = true
		}
		data = data[n+int(length):]
	}
	return seen[1] && seen[2] && seen[3] && seen[4]
}

// completeEnvelope keeps a CloudEvent that the publisher made and adds what it lacks, as Dapr does: time, trace
// context, source, type and specversion; topic and pubsubname are always set.
func completeEnvelope(a *attributes, event []byte) ([]byte, error) {
	if !utf8.Valid(event) {
		var err error
		if event, err = reencode(event); err != nil {
			return nil, err
		}
	}
	c := completion{dst: append(make([]byte, 0, len(event)+384), '{'), attributes: a}
	if !members(event, c.keep) {
		return nil, notAnObject(event)
	}
	return c.finish(), nil
}

// completion is an envelope that is being completed: first all members that stay, then those that it lacks.
type completion struct {
	*attributes
	dst                                                           []byte
	hasTime, hasTraceID, hasState, hasSource, hasType, hasVersion bool
	parent                                                        []byte // the publisher's own traceparent
}

// keep takes a member over, unless it is replaced.
func (c *completion) keep(name, value []byte) {
	null := string(value) == "null"
	switch string(name) {
	case "topic", "pubsubname":
		return
	case "expiration":
		if !c.Expires.IsZero() {
			return
		}
	case "time":
		c.hasTime = true
	case "traceid":
		c.hasTraceID = true
	case "traceparent":
		c.parent = value
	case "tracestate":
		c.hasState = true
	case "source":
		c.hasSource = !null
	case "type":
		c.hasType = !null
	case "specversion":
		c.hasVersion = !null
	}
	if null && (string(name) == "source" || string(name) == "type" || string(name) == "specversion") {
		return
	}
	c.dst = appendString(c.dst, name)
	c.dst = append(append(append(c.dst, ':'), value...), ',')
}

func (c *completion) finish() []byte {
	dst := c.dst
	if !c.Expires.IsZero() {
		dst = c.Expires.UTC().AppendFormat(append(dst, `"expiration":"`...), time.RFC3339)
		dst = append(dst, `",`...)
	}
	dst = appendString(append(dst, `"pubsubname":`...), c.PubSub)
	dst = appendString(append(dst, `,"topic":`...), c.Topic)
	if !c.hasSource {
		dst = append(dst, `,"source":"`+defaultSource+`"`...)
	}
	if !c.hasVersion {
		dst = append(dst, `,"specversion":"`+specVersion+`"`...)
	}
	if !c.hasTime {
		dst = c.Time.AppendFormat(append(dst, `,"time":"`...), time.RFC3339)
		dst = append(dst, '"')
	}
	switch {
	case c.hasTraceID:
	case c.parent != nil: // the publisher's own trace context is kept
		dst = append(append(dst, `,"traceid":`...), c.parent...)
	default:
		dst = appendString(append(dst, `,"traceid":`...), c.TraceParent)
		dst = appendString(append(dst, `,"traceparent":`...), c.TraceParent)
	}
	if !c.hasState {
		dst = appendString(append(dst, `,"tracestate":`...), c.TraceState)
	}
	if !c.hasType {
		dst = append(dst, `,"type":"`+defaultType+`"`...)
	}
	return append(dst, '}')
}

// reencode makes JSON valid UTF-8.
func reencode(event []byte) ([]byte, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(event, &m); err != nil {
		return nil, err
	}
	for k, raw := range m {
		if utf8.Valid(raw) {
			continue
		}
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		clean, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		m[k] = clean
	}
	return json.Marshal(m)
}

// notAnObject explains why event is not a JSON object.
func notAnObject(event []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(event, &m); err != nil {
		return err
	}
	return errors.New("a CloudEvent is a JSON object")
}

// wrapRaw makes the CloudEvent that a rawPayload subscription delivers: Dapr cannot know what the bytes are.
func wrapRaw(id, topic, pubsub string, metadata map[string]string, data []byte) []byte {
	dst := make([]byte, 0, 320+base64.StdEncoding.EncodedLen(len(data)))
	dst = appendBase64(dst, data)
	dst = appendString(append(dst, `,"datacontenttype":"application/octet-stream","id":`...), id)
	dst = appendString(append(dst, `,"pubsubname":`...), pubsub)
	dst = append(dst, `,"source":"`+defaultSource+`","specversion":"`+specVersion+`","topic":`...)
	dst = appendString(dst, topic)
	parent, hasParent := metadata["traceparent"]
	traceID, hasID := metadata["traceid"]
	if hasParent {
		traceID, hasID = parent, true
	}
	if hasID {
		dst = appendString(append(dst, `,"traceid":`...), traceID)
	}
	if hasParent {
		dst = appendString(append(dst, `,"traceparent":`...), parent)
	}
	if state, ok := metadata["tracestate"]; ok {
		dst = appendString(append(dst, `,"tracestate":`...), state)
	}
	return append(dst, `,"type":"`+defaultType+`"}`...)
}

// appendID appends a random (version 4) UUID. Event ids must be unique, not secret.
func appendID(dst []byte) []byte {
	hi := rand.Uint64()&^0xf000 | 0x4000
	lo := rand.Uint64()&^(3<<62) | 2<<62
	for i := 60; i >= 0; i -= 4 {
		dst = append(dst, hexDigits[hi>>i&15])
		if i == 32 || i == 16 {
			dst = append(dst, '-')
		}
	}
	dst = append(dst, '-')
	for i := 60; i >= 0; i -= 4 {
		dst = append(dst, hexDigits[lo>>i&15])
		if i == 48 {
			dst = append(dst, '-')
		}
	}
	return dst
}

func newID() string { return string(appendID(make([]byte, 0, 36))) }

// rawPayload reads the metadata of that name.
func rawPayload(metadata map[string]string) (bool, error) {
	v := metadata["rawPayload"]
	if v == "" {
		return false, nil
	}
	raw, err := strconv.ParseBool(v)
	if err != nil {
		return false, errors.New("rawPayload value must be a valid boolean: actual is '" + v + "'")
	}
	return raw, nil
}

// timeToLive reads ttlInSeconds (or ttl): a Go duration, or seconds. What cannot be read is no TTL, as in Dapr.
func timeToLive(metadata map[string]string) (time.Duration, bool) {
	v := ""
	for k, val := range metadata {
		if strings.EqualFold(k, "ttl") {
			v = val
			break
		}
		if strings.EqualFold(k, "ttlInSeconds") {
			v = val
		}
	}
	if v == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseInt(v, 10, 64); err == nil {
		if seconds <= 0 {
			return 0, false
		}
		return time.Duration(min(seconds, int64(1<<63-1)/int64(time.Second))) * time.Second, true
	}
	d, err := time.ParseDuration(v)
	return max(d, 0), err == nil
}
