package fault

import (
	"errors"
	"net/http"
)

// The errors of the publish and subscribe API (Dapr API reference, pub/sub; error codes).

func pubsubFault(pubsub, code, reason string, status int, grpc Code, message string, metadata map[string]string) *Error {
	return &Error{
		ErrorCode: code, Category: PubSub, Reason: reason, HTTP: status, GRPC: grpc, Message: message, Metadata: metadata,
		Resource: &Resource{Type: "pubsub", Name: pubsub, Description: message},
	}
}

// pubsubAbsent is a fault about a component that is not there: no resource, and request metadata over HTTP only.
func pubsubAbsent(code, reason string, status int, grpc Code, message string, metadata map[string]string) *Error {
	e := &Error{ErrorCode: code, Category: PubSub, Reason: reason, HTTP: status, GRPC: grpc, Message: message}
	over := *e
	e.OverGRPC = &over
	if e.Metadata = metadata; metadata == nil {
		e.Metadata = map[string]string{}
	}
	return e
}

// PubSubNotConfigured reports that publishing is not possible at all.
func PubSubNotConfigured(pubsub string, metadata map[string]string) *Error {
	return pubsubAbsent("ERR_PUBSUB_NOT_CONFIGURED", "DAPR_PUBSUB_NOT_CONFIGURED", http.StatusBadRequest, FailedPrecondition,
		"pubsub "+pubsub+" is not configured", metadata)
}

// PubSubNotFound reports that no pub/sub component has that name.
func PubSubNotFound(pubsub string, metadata map[string]string) *Error {
	return pubsubAbsent("ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND", http.StatusNotFound, InvalidArgument,
		"pubsub "+pubsub+" is not found", metadata)
}

// PubSubGone reports that the component went away between the check and the publish.
func PubSubGone(pubsub, topic string) *Error {
	msg := "pubsub '" + pubsub + "' not found"
	return pubsubFault(pubsub, "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_TEST_NOT_FOUND", http.StatusBadRequest, NotFound, msg,
		map[string]string{"topic": topic, "error": msg})
}

// PubSubNameEmpty reports a publish without a pub/sub name.
func PubSubNameEmpty(metadata map[string]string) *Error {
	return pubsubFault("", "ERR_PUBSUB_EMPTY", "DAPR_PUBSUB_NAME_EMPTY", http.StatusNotFound, InvalidArgument,
		"pubsub name is empty", metadata)
}

// PubSubTopicEmpty reports a publish without a topic.
func PubSubTopicEmpty(pubsub string, metadata map[string]string) *Error {
	return pubsubFault(pubsub, "ERR_TOPIC_NAME_EMPTY", "DAPR_PUBSUB_TOPIC_NAME_EMPTY", http.StatusNotFound, InvalidArgument,
		"topic is empty in pubsub "+pubsub, metadata)
}

// PubSubMetadata reports request metadata that cannot be understood.
func PubSubMetadata(pubsub string, metadata map[string]string, cause error) *Error {
	e := pubsubFault(pubsub, "ERR_PUBSUB_REQUEST_METADATA", "DAPR_PUBSUB_METADATA_DESERIALIZATION", http.StatusBadRequest,
		InvalidArgument, "failed deserializing metadata. Error: "+cause.Error(), metadata)
	e.Cause = cause
	return e
}

func appError(app string, cause error) map[string]string {
	m := map[string]string{"appID": app}
	if cause != nil {
		m["error"] = cause.Error()
	}
	return m
}

// PubSubCloudEvent reports data that cannot become a CloudEvent.
func PubSubCloudEvent(pubsub, app string, cause error) *Error {
	e := pubsubFault(pubsub, "ERR_PUBSUB_CLOUD_EVENTS_SER", "DAPR_PUBSUB_CLOUD_EVENT_CREATION", http.StatusInternalServerError,
		InvalidArgument, "cannot create cloudevent", appError(app, cause))
	e.Cause = cause
	return e
}

// PubSubEnvelope reports an event of a bulk publish, or its envelope, that cannot be encoded.
func PubSubEnvelope(pubsub, topic, app string, cause error) *Error {
	e := pubsubFault(pubsub, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_ENVELOPE", http.StatusBadRequest, InvalidArgument,
		"error when marshalling cloud event envelope for topic "+topic+" pubsub "+pubsub+": "+cause.Error(), appError(app, cause))
	e.Cause = cause
	return e
}

// PubSubEntries reports bulk publish entries whose ids are missing or not unique.
func PubSubEntries(pubsub, topic, app string) *Error {
	cause := errors.New("entryId is duplicated or not present for entry")
	return pubsubFault(pubsub, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_EVENTS", http.StatusBadRequest, InvalidArgument,
		"error marshaling events to bytes for topic "+topic+" pubsub "+pubsub+". error: "+cause.Error(), appError(app, cause))
}

// PubSubUnmarshal reports a bulk publish body that is not a list of entries.
func PubSubUnmarshal(pubsub, topic, app string, cause error) *Error {
	e := pubsubFault(pubsub, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_UNMARSHAL_EVENTS", http.StatusBadRequest, InvalidArgument,
		"error when unmarshaling the request for topic "+topic+" pubsub "+pubsub+": "+cause.Error(), appError(app, nil))
	e.Cause = cause
	return e
}

// PubSubForbidden reports that the application may not publish to the topic.
func PubSubForbidden(pubsub, topic, app string) *Error {
	msg := "topic " + topic + " is not allowed for app id " + app
	return pubsubFault(pubsub, "ERR_PUBSUB_FORBIDDEN", "DAPR_PUBSUB_FORBIDDEN", http.StatusForbidden, PermissionDenied, msg,
		map[string]string{"topic": topic, "error": msg})
}

// PubSubPublish reports that the broker did not accept the event. A cause that is an API error, such as a full topic or
// a full disk, decides the status and is named in the metadata.
func PubSubPublish(pubsub, topic string, cause error) *Error {
	e := pubsubFault(pubsub, "ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE", http.StatusInternalServerError, Internal,
		"error when publishing to topic "+topic+" in pubsub "+pubsub+": "+cause.Error(),
		map[string]string{"topic": topic, "error": cause.Error()})
	e.Cause = cause
	var own *Error
	if errors.As(cause, &own) {
		e.HTTP, e.GRPC = own.HTTP, own.GRPC
		if own.ErrorCode != "" {
			e.Metadata["cause"] = own.ErrorCode
		}
	}
	return e
}

// PubSubOutbox reports that the outbox event of a transaction could not be published; nothing was applied.
func PubSubOutbox(app string, cause error) *Error {
	return &Error{
		ErrorCode: "ERR_PUBLISH_OUTBOX", Category: PubSub, Reason: "DAPR_PUBSUB_OUTBOX",
		HTTP: http.StatusInternalServerError, GRPC: Internal, Cause: cause,
		Message:  "error while publishing outbox message: " + cause.Error(),
		Metadata: appError(app, cause),
	}
}
