package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/edged-io/edged/edge/pubsub"
)

func (h *httpWire) deliverBulk(ctx context.Context, d *pubsub.BulkDelivery, verdicts []pubsub.Verdict) error {
	c := calls.Get().(*call)
	defer c.release()
	trace, err := h.post(c, d.Path, d.PubSub, d.Metadata)
	if err != nil {
		h.c.log.Error("pub/sub events cannot be sent to the application", "topic", d.Topic, "error", err)
		return nil
	}
	c.add("content-type", jsonType)
	trace.each(c.add)
	index := make(map[string]int, len(d.Entries))
	c.body = h.appendBulk(c.body, d, index)
	c.req.Body = c.body
	if len(index) == 0 {
		return nil
	}
	if err := h.client.Do(ctx, &c.req, &c.resp); err != nil {
		return h.unanswered(ctx, d.Topic, d.Path, err)
	}
	switch {
	case c.resp.Status >= 200 && c.resp.Status <= 299:
		var answer bulkAnswer
		if err := json.NewDecoder(bytes.NewReader(c.resp.Body)).Decode(&answer); err != nil {
			h.c.log.Warn("answer to pub/sub events says nothing of them", "topic", d.Topic, "path", d.Path, "error", err)
			return nil
		}
		answer.take(index, verdicts, h.c.log)
	case c.resp.Status == http.StatusNotFound:
		h.c.log.Error("Non-retriable error returned from app while processing bulk pub/sub event",
			"topic", d.Topic, "path", d.Path, "status", c.resp.Status)
		for _, i := range index {
			verdicts[i] = pubsub.Drop
		}
	default:
		h.c.log.Warn("Retriable error returned from app while processing bulk pub/sub event",
			"topic", d.Topic, "path", d.Path, "status", c.resp.Status)
	}
	return nil
}

// appendBulk appends the envelope of a batch and fills index with its entry ids. An event that is no JSON stays out:
// it would spoil the whole batch.
func (h *httpWire) appendBulk(b []byte, d *pubsub.BulkDelivery, index map[string]int) []byte {
	id := d.ID
	if id == "" {
		id = newID()
	}
	b = append(b, '{')
	b = appendMember(b, "id", id)
	b = appendMember(b, "type", bulkEventType)
	b = appendMember(b, "topic", d.Topic)
	b = appendMember(b, "pubsubname", d.PubSub)
	b = append(b, `"metadata":{"pubsubName":`...)
	b = appendString(b, d.PubSub)
	for k, v := range d.Metadata {
		if k != "pubsubName" {
			b = append(b, ',')
			b = append(appendString(b, k), ':')
			b = appendString(b, v)
		}
	}
	b = append(b, `},"entries":[`...)
	for i := range d.Entries {
		e := &d.Entries[i]
		if !e.Raw && !json.Valid(e.Envelope) {
			h.c.log.Error("pub/sub event is no JSON and cannot be sent to the application", "topic", d.Topic, "entryId", e.EntryID)
			continue
		}
		if len(index) > 0 {
			b = append(b, ',')
		}
		entryID := entryID(e, i)
		index[entryID] = i
		b = appendEntry(b, e, entryID)
	}
	return append(b, `]}`...)
}

// entryID returns the id of entry i, which is its place if it has none.
func entryID(e *pubsub.Delivery, i int) string {
	if e.EntryID != "" {
		return e.EntryID
	}
	return strconv.Itoa(i)
}

func appendEntry(b []byte, e *pubsub.Delivery, entryID string) []byte {
	b = append(b, '{')
	b = appendMember(b, "entryId", entryID)
	b = append(b, `"event":`...)
	if e.Raw {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, e.Envelope)
		b = append(b, `",`...)
	} else {
		b = append(b, e.Envelope...)
		b = append(b, ',')
	}
	b = append(b, `"metadata":`...)
	b = append(appendMap(b, e.Metadata), ',')
	b = append(b, `"contentType":`...)
	b = appendString(b, entryContentType(e))
	return append(b, '}')
}

func entryContentType(e *pubsub.Delivery) string {
	switch {
	case e.ContentType != "":
		return e.ContentType
	case e.Raw:
		return binaryType
	}
	return cloudEventType
}
