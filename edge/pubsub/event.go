package pubsub

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// CloudEvent is an envelope taken apart as Dapr's gRPC messages want it (TopicEventRequest, TopicEventCERequest).
type CloudEvent struct {
	ID, Source, Type, SpecVersion string
	DataContentType               string
	// Data is the payload as Dapr hands it to gRPC applications: decoded data_base64, the characters of a string when
	// the content type is text, the JSON of data when it is JSON, and nothing for other content types.
	Data []byte
	// Extensions are the other attributes, decoded from JSON; numbers are float64.
	Extensions map[string]any
}

var errDataType = errors.New("unexpected data type encountered in envelope")

// ParseCloudEvent takes an envelope apart. An envelope that is not a JSON object, or whose data does not fit its content
// type, is an error.
func ParseCloudEvent(envelope []byte) (CloudEvent, error) {
	e := CloudEvent{Extensions: make(map[string]any, 8)}
	var data, encoded []byte
	var bad error
	ok := members(envelope, func(name, value []byte) {
		switch string(name) {
		case "id":
			e.ID = stringOf(value)
		case "source":
			e.Source = stringOf(value)
		case "type":
			e.Type = stringOf(value)
		case "specversion":
			e.SpecVersion = stringOf(value)
		case "datacontenttype":
			e.DataContentType = stringOf(value)
		case "data":
			data = notNull(value)
		case "data_base64":
			encoded = notNull(value)
		default:
			v, err := decodeValue(value)
			if bad = errors.Join(bad, err); err == nil {
				e.Extensions[string(name)] = v
			}
		}
	})
	if !ok {
		return CloudEvent{}, fmt.Errorf("parse CloudEvent: %w", notAnObject(envelope))
	}
	if bad != nil {
		return CloudEvent{}, fmt.Errorf("parse CloudEvent: %w", bad)
	}
	if err := e.setData(data, encoded); err != nil {
		return CloudEvent{}, fmt.Errorf("parse CloudEvent %q: %w", e.ID, err)
	}
	return e, nil
}

func notNull(raw []byte) []byte {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

func decodeValue(raw []byte) (any, error) {
	if raw[0] == '"' {
		return stringOf(raw), nil
	}
	var v any
	err := json.Unmarshal(raw, &v)
	return v, err
}

func (e *CloudEvent) setData(data, encoded []byte) (err error) {
	switch {
	case encoded != nil:
		if encoded[0] != '"' {
			return errDataType
		}
		e.Data, err = base64.StdEncoding.AppendDecode(nil, stringBytes(encoded))
	case data == nil:
	case isTextType(e.DataContentType):
		if data[0] != '"' {
			return errDataType
		}
		e.Data = stringBytes(data)
	case isJSONType(e.DataContentType), isCloudEventType(e.DataContentType):
		e.Data = data
	}
	return err
}

// marks are the attributes of an envelope that delivery looks at.
type marks struct {
	id                  string
	traceID             string
	traceParent, traces string
	expires             time.Time
}

// inspect reads the marks of an envelope, and reports whether it is a JSON object at all.
func inspect(envelope []byte) (m marks, ok bool) {
	ok = members(envelope, func(name, value []byte) {
		switch len(name) { // most members are passed over without comparing
		case len("id"):
			if string(name) == "id" {
				m.id = stringOf(value)
			}
		case len("traceid"):
			if string(name) == "traceid" {
				m.traceID = stringOf(value)
			}
		case len("tracestate"): // and expiration
			switch string(name) {
			case "tracestate":
				m.traces = stringOf(value)
			case "expiration":
				m.expires, _ = time.Parse(time.RFC3339, stringOf(value)) // what cannot be read does not expire, as in Dapr
			}
		case len("traceparent"):
			if string(name) == "traceparent" {
				m.traceParent = stringOf(value)
			}
		}
	})
	return m, ok
}

// eventMap decodes an envelope for routing rules.
func eventMap(envelope []byte) (map[string]any, error) {
	var m map[string]any
	if err := json.Unmarshal(envelope, &m); err != nil {
		return nil, fmt.Errorf("decode CloudEvent: %w", err)
	}
	return m, nil
}
