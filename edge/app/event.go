package app

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/edged-io/edged/edge/pubsub"
)

// cloudEvent is a CloudEvent in the parts that gRPC sends: its attributes, its data decoded, and all else.
type cloudEvent struct {
	id, source, kind, version, contentType string
	data                                   []byte
	extensions                             *structpb.Struct
}

// parseEvent takes a CloudEvent in JSON apart as Dapr does: data is a string's text for text types, the JSON as it
// stands for JSON types, and nothing for others, whose payload is in data_base64.
func parseEvent(envelope []byte) (cloudEvent, error) {
	ev := cloudEvent{extensions: &structpb.Struct{Fields: make(map[string]*structpb.Value, 8)}}
	var data, binary []byte
	var bad error
	err := members(envelope, func(key, value []byte) bool {
		switch string(key) {
		case "id":
			ev.id, _ = stringValue(value) // as all that follow: one that is no string counts as empty
		case "source":
			ev.source, _ = stringValue(value)
		case "type":
			ev.kind, _ = stringValue(value)
		case "specversion":
			ev.version, _ = stringValue(value)
		case "datacontenttype":
			ev.contentType, _ = stringValue(value)
		case "data":
			data = value
		case "data_base64":
			binary = value
		default:
			var v *structpb.Value
			if v, bad = protoValue(value); bad != nil {
				bad = fmt.Errorf("attribute %q: %w", key, bad)
				return false
			}
			ev.extensions.Fields[string(key)] = v
		}
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return ev, fmt.Errorf("decode CloudEvent: %w", err)
	}
	if ev.data, err = eventData(ev.contentType, data, binary); err != nil {
		return ev, fmt.Errorf("decode CloudEvent: %w", err)
	}
	return ev, nil
}

func eventData(contentType string, data, binary []byte) ([]byte, error) {
	if len(binary) > 0 && string(binary) != "null" {
		text, ok := stringValue(binary)
		if !ok {
			return nil, errors.New("data_base64 is not a string")
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("data_base64: %w", err)
		}
		return b, nil
	}
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	switch kind := mediaType(contentType); {
	case strings.HasPrefix(kind, "text/"), kind == "application/xml":
		text, ok := stringValue(data)
		if !ok {
			return nil, fmt.Errorf("data of type %s is not a string", contentType)
		}
		return []byte(text), nil
	case kind == jsonType, kind == cloudEventType:
		if !json.Valid(data) {
			return nil, errors.New("data is not valid JSON")
		}
		return data, nil
	}
	return nil, nil
}

// mediaType returns a content type in lower case without parameters.
func mediaType(contentType string) string {
	if contentType == jsonType || contentType == "text/plain" {
		return contentType
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, _, _ = strings.Cut(strings.ToLower(contentType), ";")
	}
	return kind
}

// protoValue converts a JSON value.
func protoValue(value []byte) (*structpb.Value, error) {
	if s, ok := stringValue(value); ok {
		return structpb.NewStringValue(s), nil
	}
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	return structpb.NewValue(v)
}

// topicEvent returns the request for one event. A raw payload is wrapped, as over HTTP.
func topicEvent(d *pubsub.Delivery, trace traceContext) (*runtimev1.TopicEventRequest, error) {
	if d.Raw {
		return rawTopicEvent(d, trace), nil
	}
	ev, err := parseEvent(d.Envelope)
	if err != nil {
		return nil, err
	}
	return &runtimev1.TopicEventRequest{
		Id: ev.id, Source: ev.source, Type: ev.kind, SpecVersion: ev.version, DataContentType: ev.contentType,
		Data: ev.data, Topic: d.Topic, PubsubName: d.PubSub, Path: d.Path, Extensions: ev.extensions,
	}, nil
}

func rawTopicEvent(d *pubsub.Delivery, trace traceContext) *runtimev1.TopicEventRequest {
	extensions := map[string]*structpb.Value{
		"topic":      structpb.NewStringValue(d.Topic),
		"pubsubname": structpb.NewStringValue(d.PubSub),
	}
	if trace.parent != "" {
		extensions["traceid"] = structpb.NewStringValue(trace.parent)
		extensions["traceparent"] = structpb.NewStringValue(trace.parent)
	}
	if trace.state != "" {
		extensions["tracestate"] = structpb.NewStringValue(trace.state)
	}
	return &runtimev1.TopicEventRequest{
		Id: newID(), Source: eventSource, Type: eventType, SpecVersion: eventVersion, DataContentType: binaryType,
		Data: d.Envelope, Topic: d.Topic, PubsubName: d.PubSub, Path: d.Path,
		Extensions: &structpb.Struct{Fields: extensions},
	}
}

// topicBatch returns the request for a batch, and where each entry id belongs. An event that is no CloudEvent stays out.
func (g *grpcWire) topicBatch(d *pubsub.BulkDelivery) (*runtimev1.TopicEventBulkRequest, map[string]int) {
	batch := &runtimev1.TopicEventBulkRequest{
		Id: d.ID, Topic: d.Topic, PubsubName: d.PubSub, Type: bulkEventType, Path: d.Path,
		Metadata: map[string]string{"pubsubName": d.PubSub},
		Entries:  make([]*runtimev1.TopicEventBulkRequestEntry, 0, len(d.Entries)),
	}
	if batch.Id == "" {
		batch.Id = newID()
	}
	for k, v := range d.Metadata {
		batch.Metadata[k] = v
	}
	index := make(map[string]int, len(d.Entries))
	for i := range d.Entries {
		e := &d.Entries[i]
		entry := &runtimev1.TopicEventBulkRequestEntry{
			EntryId: entryID(e, i), ContentType: entryContentType(e), Metadata: e.Metadata,
		}
		if e.Raw {
			entry.Event = &runtimev1.TopicEventBulkRequestEntry_Bytes{Bytes: e.Envelope}
		} else {
			ev, err := parseEvent(e.Envelope)
			if err != nil {
				g.c.log.Error("pub/sub event cannot be sent to the application", "topic", d.Topic, "entryId", entry.EntryId, "error", err)
				continue
			}
			entry.Event = &runtimev1.TopicEventBulkRequestEntry_CloudEvent{CloudEvent: &runtimev1.TopicEventCERequest{
				Id: ev.id, Source: ev.source, Type: ev.kind, SpecVersion: ev.version, DataContentType: ev.contentType,
				Data: ev.data, Extensions: ev.extensions,
			}}
		}
		index[entry.EntryId] = i
		batch.Entries = append(batch.Entries, entry)
	}
	return batch, index
}
