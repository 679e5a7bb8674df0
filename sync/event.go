package sync

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edged-io/edged/edge/pubsub"
)

// cloudEvent wraps a payload that is not a CloudEvent yet (CloudEvents 1.0, JSON format).
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Time        string          `json:"time,omitempty"`
	ContentType string          `json:"datacontenttype,omitempty"`
	Topic       string          `json:"topic"`
	Data        json.RawMessage `json:"data,omitempty"`
	DataBase64  string          `json:"data_base64,omitempty"`
}

// envelope returns the event as a CloudEvent in JSON. It depends on nothing but the event and its place, so that the same
// event always makes the same bytes.
func envelope(device string, e pubsub.Event) ([]byte, error) {
	media, params, err := mime.ParseMediaType(e.ContentType)
	if err == nil && media == "application/cloudevents+json" {
		return e.Data, nil
	}
	c := cloudEvent{
		SpecVersion: "1.0", ID: eventID(device, e), Source: device, Type: "com.dapr.event.sent", ContentType: e.ContentType, Topic: e.Topic,
	}
	if !e.Time.IsZero() {
		c.Time = e.Time.UTC().Format(time.RFC3339Nano)
	}
	isJSON := media == "application/json" || strings.HasSuffix(media, "+json")
	isText := e.ContentType == "" || strings.HasPrefix(media, "text/") && (params["charset"] == "" || strings.EqualFold(params["charset"], "utf-8"))
	switch {
	case isJSON && json.Valid(e.Data):
		c.Data = e.Data
	case isText && utf8.Valid(e.Data):
		if c.Data, err = json.Marshal(string(e.Data)); err != nil {
			return nil, err
		}
	default:
		c.DataBase64 = base64.StdEncoding.EncodeToString(e.Data)
	}
	return json.Marshal(c)
}

// eventID is the id of an event that its publisher gave none: unique, and the same whenever it is asked for.
func eventID(device string, e pubsub.Event) string {
	return device + "-" + strconv.FormatInt(e.Time.UnixNano(), 36) + "-" + strconv.FormatUint(e.Sequence, 36)
}

// checksum is FNV-1a over a change as it is stored upstream. It is never 0.
func checksum(name string, value []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime
	}
	h = (h ^ 0xff) * prime
	for _, c := range value {
		h = (h ^ uint64(c)) * prime
	}
	if h == 0 {
		return 1
	}
	return h
}
