package fault

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// The errors of the state API (Dapr API reference, state management; error codes).

func stateFault(store, code, reason string, status int, grpc Code, message string) *Error {
	return &Error{
		ErrorCode: code, Category: State, Reason: reason, HTTP: status, GRPC: grpc, Message: message,
		Resource: &Resource{Type: "state", Name: store},
	}
}

// onlyHTTPNamesApp gives e the application's id as metadata, over HTTP only.
func onlyHTTPNamesApp(e *Error, app string) *Error {
	over := *e
	e.OverGRPC = &over
	if app != "" {
		e.Metadata = map[string]string{"appID": app}
	}
	return e
}

// StateStoreNotConfigured reports that there is no state store at all.
func StateStoreNotConfigured(store, app string) *Error {
	return onlyHTTPNamesApp(&Error{
		ErrorCode: "ERR_STATE_STORE_NOT_CONFIGURED", Category: State, Reason: "DAPR_STATE_NOT_CONFIGURED",
		HTTP: http.StatusInternalServerError, GRPC: FailedPrecondition,
		Message: "state store " + store + " is not configured",
	}, app)
}

// StateStoreNotFound reports that no state store has that name.
func StateStoreNotFound(store, app string) *Error {
	return onlyHTTPNamesApp(&Error{
		ErrorCode: "ERR_STATE_STORE_NOT_FOUND", Category: State, Reason: "DAPR_STATE_NOT_FOUND",
		HTTP: http.StatusBadRequest, GRPC: InvalidArgument,
		Message: "state store " + store + " is not found",
	}, app)
}

// StateKeyIllegal reports a key that contains the separator "||".
func StateKeyIllegal(store, key string) *Error {
	msg := "input key/keyPrefix '" + key + "' can't contain '||'"
	inner := stateFault(store, "ERR_MALFORMED_REQUEST", "DAPR_STATE_ILLEGAL_KEY", http.StatusBadRequest, InvalidArgument, msg)
	inner.Fields = []FieldViolation{{Field: key, Description: msg}}

	// Dapr's HTTP API wraps the same error once more.
	outer := *inner
	outer.Message = "api error: code = InvalidArgument desc = " + msg
	outer.Fields = []FieldViolation{{Field: key, Description: outer.Message}}
	outer.OverGRPC = inner
	return &outer
}

// StateKeyEmpty reports a write without a key.
func StateKeyEmpty() *Error {
	return &Error{
		ErrorCode: "ERR_MALFORMED_REQUEST", Category: Common, HTTP: http.StatusBadRequest, GRPC: InvalidArgument,
		Message: `"key" is a required field`,
		OverGRPC: &Error{
			ErrorCode: "ERR_STATE_SAVE", Category: State, Reason: "ERR_STATE_SAVE",
			HTTP: http.StatusBadRequest, GRPC: InvalidArgument, Message: "state key cannot be empty",
		},
	}
}

// StateTransactionsUnsupported reports a store without transactions.
func StateTransactionsUnsupported(store string) *Error {
	e := stateFault(store, "ERR_STATE_STORE_NOT_SUPPORTED", "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
		http.StatusInternalServerError, Unimplemented, "state store "+store+" doesn't support transactions")
	e.Help = []Link{{
		URL:         "https://docs.dapr.io/reference/components-reference/supported-state-stores/",
		Description: "Check the list of state stores and the features they support",
	}}
	return e
}

// StateTooManyOperations reports a transaction with more operations than the store takes.
func StateTooManyOperations(store string, count, limit int) *Error {
	e := stateFault(store, "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS", "DAPR_STATE_TOO_MANY_TRANSACTIONS",
		http.StatusBadRequest, InvalidArgument,
		fmt.Sprintf("the transaction contains %d operations, which is more than what the state store supports: %d", count, limit))
	e.Metadata = map[string]string{
		"currentOpsTransaction": strconv.Itoa(count), "maxOpsPerTransaction": strconv.Itoa(limit),
	}
	return e
}

// StateOperationUnsupported reports a transaction operation that is neither upsert nor delete.
func StateOperationUnsupported(operation string) *Error {
	return basic("ERR_NOT_SUPPORTED_STATE_OPERATION", State, http.StatusBadRequest, Unimplemented,
		"operation type "+operation+" not supported", nil)
}

// StateQueryUnsupported reports a store without queries.
func StateQueryUnsupported(store string) *Error {
	return stateFault(store, "ERR_STATE_STORE_NOT_SUPPORTED", "DAPR_STATE_QUERYING_NOT_SUPPORTED",
		http.StatusInternalServerError, Internal, "state store does not support querying")
}

// StateQueryFailed reports a query that could not be parsed or run. A cause that is an API error is passed through.
func StateQueryFailed(store string, cause error) *Error {
	var e *Error
	if errors.As(cause, &e) && e.ErrorCode != "" {
		return e
	}
	e = stateFault(store, "ERR_STATE_QUERY", "DAPR_STATE_QUERY_FAILED", http.StatusInternalServerError, Internal,
		"state store "+store+" query failed: "+cause.Error())
	e.Cause = cause
	return e
}

// ETagMismatch marks cause as a lost race: HTTP 409 and gRPC Aborted once a State* constructor wraps it.
func ETagMismatch(cause error) error {
	return &Error{HTTP: http.StatusConflict, GRPC: Aborted, Cause: cause,
		Message: "possible etag mismatch. error from state store: " + cause.Error()}
}

// ETagInvalid marks cause as an ETag that no store could have given.
func ETagInvalid(cause error) error {
	return &Error{HTTP: http.StatusBadRequest, GRPC: InvalidArgument, Cause: cause,
		Message: "invalid etag value: " + cause.Error()}
}

// StateGet reports that reading a key failed.
func StateGet(store, key string, cause error) *Error {
	return componentFault("ERR_STATE_GET", State, "fail to get "+key+" from state store "+store+": ", cause)
}

// StateBulkGet reports that reading many keys failed as a whole. gRPC clients get the cause itself.
func StateBulkGet(cause error) *Error {
	e := componentFault("ERR_STATE_BULK_GET", State, "", cause)
	e.OverGRPC = From(cause).ForGRPC()
	return e
}

// StateSave reports that saving failed. An ETagMismatch or ETagInvalid cause decides the status.
func StateSave(store string, cause error) *Error {
	return componentFault("ERR_STATE_SAVE", State, "failed saving state in state store "+store+": ", cause)
}

// StateDelete reports that deleting a key failed.
func StateDelete(key string, cause error) *Error {
	return componentFault("ERR_STATE_DELETE", State, "failed deleting state with key "+key+": ", cause)
}

// StateBulkDelete reports that deleting many keys failed.
func StateBulkDelete(store string, cause error) *Error {
	return componentFault("ERR_STATE_BULK_DELETE", State, "failed deleting state in state store "+store+": ", cause)
}

// StateTransaction reports that a transaction was refused; nothing of it was applied. As with Dapr, an ETag mismatch in
// a transaction is HTTP 500 and gRPC Internal.
func StateTransaction(cause error) *Error {
	var e *Error
	if errors.As(cause, &e) && e.ErrorCode == "" {
		e = basic("ERR_STATE_TRANSACTION", State, http.StatusInternalServerError, Internal,
			"error while executing state transaction: "+cause.Error(), cause)
		return e
	}
	return componentFault("ERR_STATE_TRANSACTION", State, "error while executing state transaction: ", cause)
}
