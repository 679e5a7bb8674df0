package mqtt

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edged-io/edged/edge/pubsub"
)

const (
	cloudEventType = "application/cloudevents+json"
	// viaExtension lists the devices that an event has passed through, as a CloudEvents extension attribute.
	viaExtension = "edgedvia"
)

// isCloudEventType reports whether a content type is the JSON format of one CloudEvent.
func isCloudEventType(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), cloudEventType)
}

// isCloudEvent reports whether data is a CloudEvent in its JSON format with the attributes that CloudEvents 1.0 requires.
func isCloudEvent(data []byte) bool {
	if data = bytes.TrimLeft(data, " \t\r\n"); len(data) == 0 || data[0] != '{' {
		return false
	}
	var required struct {
		SpecVersion string `json:"specversion"`
		ID          string `json:"id"`
		Source      string `json:"source"`
		Type        string `json:"type"`
	}
	return json.Unmarshal(data, &required) == nil &&
		required.SpecVersion != "" && required.ID != "" && required.Source != "" && required.Type != ""
}

// envelope is what a wrapped payload says of itself.
type envelope struct {
	id, source, pubsub, topic string
	time                      time.Time
}

// wrap makes a CloudEvent of a payload: JSON stays JSON, text a string, and all else becomes base64.
func wrap(payload []byte, of envelope) ([]byte, error) {
	e := struct {
		SpecVersion     string          `json:"specversion"`
		ID              string          `json:"id"`
		Source          string          `json:"source"`
		Type            string          `json:"type"`
		Topic           string          `json:"topic"`
		PubSub          string          `json:"pubsubname"`
		Time            time.Time       `json:"time"`
		DataContentType string          `json:"datacontenttype"`
		Data            json.RawMessage `json:"data,omitempty"`
		DataBase64      string          `json:"data_base64,omitempty"`
	}{SpecVersion: "1.0", ID: of.id, Source: of.source, Type: "com.dapr.event.sent", Topic: of.topic, PubSub: of.pubsub, Time: of.time.UTC()}
	switch {
	case json.Valid(payload):
		e.DataContentType, e.Data = "application/json", payload
	case utf8.Valid(payload):
		text, err := json.Marshal(string(payload))
		if err != nil {
			return nil, err
		}
		e.DataContentType, e.Data = "text/plain", text
	default:
		e.DataContentType, e.DataBase64 = "application/octet-stream", base64.StdEncoding.EncodeToString(payload)
	}
	return json.Marshal(e)
}

// newID returns a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return uuid(b, 4)
}

// stableID returns a UUID (RFC 9562, version 8) that is the same whenever the same event of this device is sent again.
func stableID(device string, e *pubsub.Event) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%d", device, e.Topic, e.Sequence, e.Time.UnixNano()))
	return uuid([16]byte(sum[:16]), 8)
}

func uuid(b [16]byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// dataOf returns the data of an event without its envelope.
func dataOf(e *pubsub.Event) ([]byte, error) {
	if !isCloudEventType(e.ContentType) {
		return e.Data, nil
	}
	var envelope struct {
		Type       string          `json:"datacontenttype"`
		Data       json.RawMessage `json:"data"`
		DataBase64 *string         `json:"data_base64"`
	}
	if err := json.Unmarshal(e.Data, &envelope); err != nil {
		return nil, err
	}
	if envelope.DataBase64 != nil {
		return base64.StdEncoding.DecodeString(*envelope.DataBase64)
	}
	var text string
	if !isJSONType(envelope.Type) && json.Unmarshal(envelope.Data, &text) == nil {
		return []byte(text), nil
	}
	return envelope.Data, nil
}

// isJSONType follows CloudEvents' JSON format: no type means JSON.
func isJSONType(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "" || media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json")
}

var (
	errLoop    = errors.New("the event has passed this device before")
	errHops    = errors.New("the event has passed through too many devices")
	errNoEvent = errors.New("not a JSON object")
)

// checkVia reports whether an event has been here or too far.
func checkVia(via, device string, limit int) error {
	if via == "" {
		return nil
	}
	hops := 0
	for id := range strings.SplitSeq(via, ",") {
		if strings.TrimSpace(id) == device {
			return errLoop
		}
		hops++
	}
	if hops >= limit {
		return errHops
	}
	return nil
}

// viaOf returns the value of the via extension in a CloudEvent and where it stands in data.
func viaOf(data []byte) (via string, start, end int, err error) {
	if !bytes.Contains(data, []byte(`"`+viaExtension+`"`)) {
		return "", 0, 0, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return "", 0, 0, errNoEvent
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return "", 0, 0, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return "", 0, 0, err
		}
		if key != viaExtension {
			continue
		}
		end := int(dec.InputOffset())
		if err := json.Unmarshal(value, &via); err != nil {
			return "", 0, 0, fmt.Errorf("extension %s: %w", viaExtension, err)
		}
		return via, end - len(value), end, nil
	}
	return "", 0, 0, nil
}

// stamp returns the CloudEvent with device added to its via extension, or errLoop or errHops.
func stamp(data []byte, device string, limit int) ([]byte, error) {
	via, start, end, err := viaOf(data)
	if err != nil {
		return nil, err
	}
	if err := checkVia(via, device, limit); err != nil {
		return nil, err
	}
	if end == 0 {
		return insertVia(data, device)
	}
	if via != "" {
		device = via + "," + device
	}
	value, err := json.Marshal(device)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(data)+len(value))
	return append(append(append(out, data[:start]...), value...), data[end:]...), nil
}

// insertVia puts the extension first in the object.
func insertVia(data []byte, device string) ([]byte, error) {
	body := bytes.TrimLeft(data, " \t\r\n")
	if len(body) == 0 || body[0] != '{' {
		return nil, errNoEvent
	}
	rest := bytes.TrimLeft(body[1:], " \t\r\n")
	if len(rest) == 0 {
		return nil, errNoEvent
	}
	value, err := json.Marshal(device)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(data)+len(viaExtension)+len(value)+5)
	out = append(out, `{"`+viaExtension+`":`...)
	out = append(out, value...)
	if rest[0] != '}' {
		out = append(out, ',')
	}
	return append(out, rest...), nil
}
