package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/edged-io/edged/edge/app/http1"
	"github.com/edged-io/edged/edge/pubsub"
)

// The statuses of Dapr's subscriber API.
const (
	statusSuccess = "SUCCESS"
	statusRetry   = "RETRY"
	statusDrop    = "DROP"
)

// verdict takes the answer to one event.
func (h *httpWire) verdict(d *pubsub.Delivery, resp *http1.Response) pubsub.Verdict {
	switch {
	case resp.Status >= 200 && resp.Status <= 299:
		return h.statusVerdict(d, resp)
	case resp.Status == http.StatusNotFound:
		h.c.log.Error("non-retriable error returned from app while processing pub/sub event",
			"id", eventID(d), "topic", d.Topic, "path", d.Path, "status", resp.Status, "body", excerpt(resp.Body))
		return pubsub.Drop
	}
	h.c.log.Warn("retriable error returned from app while processing pub/sub event",
		"id", eventID(d), "topic", d.Topic, "path", d.Path, "status", resp.Status, "body", excerpt(resp.Body))
	return pubsub.Nak
}

// statusVerdict takes the body behind a 2xx. One that says nothing is a success, and so is one that is too large to say
// it; one that was cut short might have said something.
func (h *httpWire) statusVerdict(d *pubsub.Delivery, resp *http1.Response) pubsub.Verdict {
	status, said := decodeStatus(resp.Body)
	if !said && resp.Partial != nil && !errors.Is(resp.Partial, http1.ErrTooLarge) {
		h.c.log.Warn("answer to pub/sub event is not complete", "id", eventID(d), "topic", d.Topic, "error", resp.Partial)
		return pubsub.Nak
	}
	switch status {
	case "", statusSuccess:
		return pubsub.Ack
	case statusRetry:
		h.c.log.Debug("RETRY status returned from app while processing pub/sub event", "id", eventID(d), "topic", d.Topic)
	case statusDrop:
		h.c.log.Warn("DROP status returned from app while processing pub/sub event", "id", eventID(d), "topic", d.Topic)
		return pubsub.Drop
	default:
		h.c.log.Warn("unknown status returned from app while processing pub/sub event",
			"id", eventID(d), "topic", d.Topic, "status", excerpt([]byte(status)))
	}
	return pubsub.Nak
}

// decodeStatus returns the status field of an answer, and whether the answer begins with a JSON value that can have one.
func decodeStatus(body []byte) (status string, said bool) {
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return "", false
	}
	if string(body) == `{"status":"SUCCESS"}` { // what the SDKs send
		return statusSuccess, true
	}
	var answer struct {
		Status string `json:"status"`
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&answer); err != nil {
		return "", false
	}
	return answer.Status, true
}

// bulkAnswer is the answer to a batch.
type bulkAnswer struct {
	Statuses []struct {
		EntryID string `json:"entryId"`
		Status  string `json:"status"`
	} `json:"statuses"`
}

// take sets the verdicts of the entries that the answer mentions.
func (a bulkAnswer) take(index map[string]int, verdicts []pubsub.Verdict, log *slog.Logger) {
	for _, s := range a.Statuses {
		i, ok := index[s.EntryID]
		if !ok {
			log.Warn("Invalid entry id received from app while processing pub/sub event", "entryId", s.EntryID)
			continue
		}
		switch s.Status {
		case statusSuccess:
			verdicts[i] = pubsub.Ack
		case statusDrop:
			log.Warn("DROP status returned from app while processing pub/sub event", "entryId", s.EntryID)
			verdicts[i] = pubsub.Drop
		default: // RETRY, none, or one that is not known
			verdicts[i] = pubsub.Nak
		}
	}
}

// subscriptionJSON is one element of GET /dapr/subscribe, in the forms of both API versions.
type subscriptionJSON struct {
	PubSub          string            `json:"pubsubname"`
	Topic           string            `json:"topic"`
	DeadLetterTopic string            `json:"deadLetterTopic"`
	Metadata        map[string]string `json:"metadata"`
	Route           string            `json:"route"`
	Routes          struct {
		Rules []struct {
			Match string `json:"match"`
			Path  string `json:"path"`
		} `json:"rules"`
		Default string `json:"default"`
	} `json:"routes"`
	BulkSubscribe struct {
		Enabled            bool  `json:"enabled"`
		MaxMessagesCount   int32 `json:"maxMessagesCount"`
		MaxAwaitDurationMs int32 `json:"maxAwaitDurationMs"`
	} `json:"bulkSubscribe"`
}

func decodeSubscriptions(body []byte, log *slog.Logger) ([]pubsub.Spec, error) {
	var list []subscriptionJSON
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&list); err != nil && err != io.EOF {
		return nil, &answerError{err: fmt.Errorf("decode subscriptions of the application: %w", err)}
	}
	specs := make([]pubsub.Spec, 0, len(list))
	for _, s := range list {
		spec := pubsub.Spec{
			PubSub: s.PubSub, Topic: s.Topic, Kind: pubsub.Programmatic, DeadLetterTopic: s.DeadLetterTopic,
			Metadata: s.Metadata, Bulk: pubsub.BulkSubscribe{
				Enabled: s.BulkSubscribe.Enabled, MaxMessagesCount: int(s.BulkSubscribe.MaxMessagesCount),
				MaxAwaitDurationMs: int(s.BulkSubscribe.MaxAwaitDurationMs),
			},
		}
		for _, r := range s.Routes.Rules {
			spec.Rules = append(spec.Rules, pubsub.Rule{Match: strings.TrimSpace(r.Match), Path: r.Path})
		}
		if route := s.Routes.Default; route != "" {
			spec.Rules = append(spec.Rules, pubsub.Rule{Path: route})
		} else if s.Route != "" {
			spec.Rules = append(spec.Rules, pubsub.Rule{Path: s.Route})
		}
		if len(spec.Rules) == 0 {
			log.Warn("topic " + s.Topic + " has an empty routes. removing from subscriptions list")
			continue
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// Hosting is what an application says of itself (GET /dapr/config): the actor types it hosts and how.
type Hosting struct {
	Entities []string `json:"entities"`
	ActorSettings
	EntitiesConfig []EntityConfig `json:"entitiesConfig"`
}

// EntityConfig are the settings of some actor types.
type EntityConfig struct {
	Entities []string `json:"entities"`
	ActorSettings
}

// ActorSettings are the settings of actor types. The durations are in Go's form, such as "1h"; empty means the default.
type ActorSettings struct {
	ActorIdleTimeout        string     `json:"actorIdleTimeout"`
	DrainOngoingCallTimeout string     `json:"drainOngoingCallTimeout"`
	DrainRebalancedActors   *bool      `json:"drainRebalancedActors"` // nil: default
	Reentrancy              Reentrancy `json:"reentrancy"`
}

// Reentrancy says whether an actor may be called by what it called.
type Reentrancy struct {
	Enabled       bool `json:"enabled"`
	MaxStackDepth *int `json:"maxStackDepth"` // nil: default
}

func decodeHosting(body []byte) (Hosting, error) {
	var cfg Hosting
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&cfg); err != nil {
		return Hosting{}, fmt.Errorf("decode configuration of the application: %w", err)
	}
	return cfg, nil
}

// eventID returns the id of an event, for the log.
func eventID(d *pubsub.Delivery) string {
	id := d.ID
	if d.Raw || id != "" {
		return id
	}
	_ = members(d.Envelope, func(key, value []byte) bool { // an event that is no JSON has none
		if string(key) != "id" {
			return true
		}
		id, _ = stringValue(value)
		return false
	})
	return id
}

// excerpt returns the beginning of an answer, for the log.
func excerpt(body []byte) string {
	return string(body[:min(len(body), 256)])
}
