package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
)

type noPubSub struct{}

func (noPubSub) Publish(_ context.Context, _ string, p pubsub.Publication) error {
	return fault.PubSubNotFound(p.PubSub, p.Metadata)
}

func (noPubSub) BulkPublish(_ context.Context, _ string, p pubsub.Publication, _ []pubsub.BulkEntry) ([]pubsub.FailedEntry, error) {
	return nil, fault.PubSubNotFound(p.PubSub, p.Metadata)
}

type somePubSub struct{}

func (somePubSub) check(p pubsub.Publication) error {
	if p.PubSub != "mypubsub" && p.PubSub != "scoped" {
		return fault.PubSubNotFound(p.PubSub, p.Metadata)
	}
	if v := p.Metadata["rawPayload"]; v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return fault.PubSubMetadata(p.PubSub, p.Metadata, fmt.Errorf("rawPayload value must be a valid boolean: actual is '%s'", v))
		}
	}
	return nil
}

func (s somePubSub) Publish(_ context.Context, app string, p pubsub.Publication) error {
	if err := s.check(p); err != nil {
		return err
	}
	if p.ContentType == "application/cloudevents+json" && !json.Valid(p.Data) {
		return fault.PubSubCloudEvent(p.PubSub, app, errors.New("unexpected EOF"))
	}
	if p.PubSub == "scoped" && p.Topic != "ok" {
		return fault.PubSubForbidden(p.PubSub, p.Topic, app)
	}
	return nil
}

func (s somePubSub) BulkPublish(_ context.Context, app string, p pubsub.Publication, entries []pubsub.BulkEntry) ([]pubsub.FailedEntry, error) {
	if err := s.check(p); err != nil {
		return nil, err
	}
	seen := map[string]bool{"": true}
	for _, e := range entries {
		if seen[e.ID] {
			return nil, fault.PubSubEntries(p.PubSub, p.Topic, app)
		}
		seen[e.ID] = true
	}
	if p.PubSub == "scoped" && p.Topic != "ok" {
		return nil, fault.PubSubForbidden(p.PubSub, p.Topic, app)
	}
	return nil, nil
}
