package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
)

// publish answers /v1.0/publish/<pubsub>/<topic> and /v1.0[-alpha1]/publish/bulk/<pubsub>/<topic>. A topic may have
// slashes in it.
func (a *api) publish(c *call) bool {
	first, topic, _ := strings.Cut(c.rest, "/")
	if topic == "" || !c.writes() {
		return false
	}
	if first == "bulk" && (c.stable() || c.version == "v1.0-alpha1") {
		if name, bulkTopic, ok := strings.Cut(topic, "/"); ok {
			p, ok := a.publication(c, name, bulkTopic)
			if ok {
				a.publishBulk(c, p)
			}
			return ok
		}
	}
	p, ok := a.publication(c, first, topic)
	if ok = ok && c.stable(); ok {
		a.publishOne(c, p)
	}
	return ok
}

// publication takes what the path, the query and the headers say of what is published.
func (a *api) publication(c *call, name, topic string) (pubsub.Publication, bool) {
	name, err := unescape(name)
	topic, topicErr := unescape(topic)
	p := pubsub.Publication{PubSub: name, Topic: topic, ContentType: c.r.Header.Get("Content-Type"), Metadata: metadataOf(c.r)}
	if p.TraceParent = traceParent(c.r); p.TraceParent != "" {
		p.TraceState = c.r.Header.Get("Tracestate")
	}
	return p, err == nil && topicErr == nil
}

func (a *api) publishOne(c *call, p pubsub.Publication) {
	body, err := a.readBody(c.r)
	if err != nil {
		a.fail(c.w, err)
		return
	}
	defer body.free()
	p.Data = body.b
	if err := a.PubSub.Publish(c.r.Context(), a.AppID, p); err != nil {
		a.fail(c.w, err)
		return
	}
	sendEmpty(c.w)
}

func (a *api) publishBulk(c *call, p pubsub.Publication) {
	body, err := a.readBody(c.r)
	if err != nil {
		a.fail(c.w, err)
		return
	}
	defer body.free()
	entries, err := decodeEntries(body.b)
	if err != nil {
		_, missing := a.PubSub.BulkPublish(c.r.Context(), a.AppID, p, nil)
		a.failDecode(c, missing, entriesFault(p, a.AppID, err))
		return
	}
	failed, err := a.PubSub.BulkPublish(c.r.Context(), a.AppID, p, entries)
	switch {
	case err != nil && len(failed) == 0:
		a.fail(c.w, err)
	case err != nil:
		a.failEntries(c, failed, err)
	default:
		sendEmpty(c.w)
	}
}

// failEntries answers a bulk publish of which some entries were not accepted.
func (a *api) failEntries(c *call, failed []pubsub.FailedEntry, err error) {
	e := fault.From(err)
	if a.OnError != nil {
		a.OnError(e.ErrorCode, string(e.Category))
	}
	b := append([]byte(nil), `{"failedEntries":[`...)
	for i, f := range failed {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMember(append(b, '{'), "entryId", f.ID)
		if f.Err != nil {
			b = appendOptional(b, "error", f.Err.Error())
		}
		b = append(b, '}')
	}
	b = append(appendMember(append(b, "],"...), "errorCode", e.ErrorCode), '}')
	sendJSON(c.w, e.HTTP, b)
}

// badEntry is an event that is not what its content type says.
type badEntry struct{ error }

func entriesFault(p pubsub.Publication, app string, err error) error {
	var b badEntry
	if errors.As(err, &b) {
		return fault.PubSubEnvelope(p.PubSub, p.Topic, app, b.error)
	}
	return fault.PubSubUnmarshal(p.PubSub, p.Topic, app, err)
}

// entryJSON is an entry in the JSON of Dapr's bulk publish API.
type entryJSON struct {
	EntryID     string            `json:"entryId"`
	Event       json.RawMessage   `json:"event"`
	ContentType string            `json:"contentType"`
	Metadata    map[string]string `json:"metadata"`
}

// decodeEntries reads the entries of a bulk publish. What follows the list is ignored, as encoding/json's Decoder does.
func decodeEntries(body []byte) ([]pubsub.BulkEntry, error) {
	var in []entryJSON
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil {
		return nil, decodeError(err, "[]http.bulkPublishMessageEntry", "bulkPublishMessageEntry")
	}
	out := make([]pubsub.BulkEntry, len(in))
	for i, e := range in {
		data, err := eventData(e.Event, e.ContentType)
		if err != nil {
			return nil, badEntry{err}
		}
		out[i] = pubsub.BulkEntry{ID: e.EntryID, Data: data, ContentType: e.ContentType, Metadata: e.Metadata}
	}
	return out, nil
}

var errMismatch = errors.New("error: mismatch between contentType and event")

// eventData is the event as bytes of its content type: base64 strings for binary, strings for text, any JSON for JSON
// and CloudEvents.
func eventData(event json.RawMessage, contentType string) ([]byte, error) {
	if event == nil {
		event = nullValue
	}
	switch kind := mediaType(contentType); {
	case kind == "application/octet-stream":
		var s string
		if event[0] != '"' || json.Unmarshal(event, &s) != nil {
			return nil, errMismatch
		}
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, fmt.Errorf("error: unable to decode base64 application/octect-stream data: %w", err)
		}
		return data, nil
	case strings.HasPrefix(kind, "text/") || kind == "application/xml":
		var s string
		if event[0] != '"' || json.Unmarshal(event, &s) != nil {
			return nil, errMismatch
		}
		return []byte(s), nil
	case kind == "application/json" || kind == "application/cloudevents+json":
		return compact(event), nil
	}
	return nil, errMismatch
}

// mediaType is the content type in lower case, without parameters.
func mediaType(contentType string) string {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	return kind
}
