package fault

import (
	"errors"
	"net/http"
	"strconv"
)

// The errors of the other building blocks, as far as the API answers them without the block itself.

// InvokeNoTarget reports a path that is no API call and names no application either.
func InvokeNoTarget() *Error {
	return plain("ERR_DIRECT_INVOKE", ServiceInvocation, http.StatusNotFound, NotFound,
		"failed getting app id either from the URL path or the header dapr-app-id")
}

// InvokeNotReady reports that service invocation is not available.
func InvokeNotReady() *Error {
	return plain("ERR_DIRECT_INVOKE", ServiceInvocation, http.StatusInternalServerError, Internal, "invoke API is not ready")
}

// InvokeFailed reports that the target application could not be called.
func InvokeFailed(target string, cause error) *Error {
	e := plain("ERR_DIRECT_INVOKE", ServiceInvocation, http.StatusInternalServerError, Internal,
		"failed to invoke, id: "+target+", err: "+cause.Error())
	e.Cause = cause
	return e
}

// BindingNotFound reports that no output binding has that name.
func BindingNotFound(name string) *Error {
	return BindingFailed(name, errors.New("couldn't find output binding "+name))
}

// BindingFailed reports that an output binding did not do what it was asked to.
func BindingFailed(name string, cause error) *Error {
	return basic("ERR_INVOKE_OUTPUT_BINDING", Binding, http.StatusInternalServerError, Internal,
		"error invoking output binding "+name+": "+cause.Error(), cause)
}

// ConfigurationNotConfigured reports that there is no configuration store at all.
func ConfigurationNotConfigured() *Error {
	return basic("ERR_CONFIGURATION_STORE_NOT_CONFIGURED", Configuration, http.StatusInternalServerError, FailedPrecondition,
		"configuration stores not configured", nil)
}

// ConfigurationUnsubscribe is the text with which an unknown configuration subscription is refused.
func ConfigurationUnsubscribe(id, problem string) string {
	return "failed to unsubscribe to configuration request " + id + ": " + problem
}

// LockNotConfigured reports that there is no lock store at all.
func LockNotConfigured() *Error {
	return plain("ERR_LOCK_STORE_NOT_CONFIGURED", Lock, http.StatusInternalServerError, FailedPrecondition,
		"lock store is not configured")
}

// LockExpiry reports a lock request without a positive expiry.
func LockExpiry(store string) *Error {
	return plain("ERR_MALFORMED_REQUEST", Common, http.StatusBadRequest, InvalidArgument,
		"ExpiryInSeconds is not positive in lock store "+store)
}

// CryptoNotConfigured reports that there is no cryptography component at all.
func CryptoNotConfigured() *Error {
	return plain("ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED", Crypto, http.StatusInternalServerError, Internal,
		"crypto providers not configured")
}

// ConversationNotFound reports that no conversation component has that name.
func ConversationNotFound(name string) *Error {
	return plain("ERR_CONVERSATION_NOT_FOUND", Conversation, http.StatusBadRequest, InvalidArgument,
		"failed finding conversation component "+name)
}

// ActorNoPlacement reports that the actor runtime is switched off.
func ActorNoPlacement() *Error {
	return plain("ERR_ACTOR_NO_PLACEMENT", Actor, http.StatusBadRequest, Unavailable, "placement service is not configured")
}

// ActorTypeReserved reports a call to an actor of the workflow engine.
func ActorTypeReserved(actorType string) *Error {
	return plain("ERR_ACTOR_TYPE_RESERVED", Actor, http.StatusForbidden, PermissionDenied, "actor type "+strconv.Quote(actorType)+
		" is reserved for the Dapr workflow runtime; direct actor API access is not permitted")
}

func jobFault(code, app, namespace string, status int, grpc Code, message string) *Error {
	m := map[string]string{"appID": app}
	if namespace != "" {
		m["namespace"] = namespace
	}
	return &Error{ErrorCode: code, Category: Job, Reason: code, HTTP: status, GRPC: grpc, Message: message, Metadata: m}
}

// errNoScheduler is why every job call fails while the scheduler is switched off.
const errNoScheduler = "scheduler clients are disabled"

// JobScheduleOff reports that the scheduler is switched off.
func JobScheduleOff(app, namespace string) *Error {
	return jobFault("DAPR_SCHEDULER_SCHEDULE_JOB", app, namespace, http.StatusInternalServerError, Internal,
		"failed to schedule job due to: "+errNoScheduler)
}

// JobGetOff reports that the scheduler is switched off.
func JobGetOff(app, namespace string) *Error {
	return jobFault("DAPR_SCHEDULER_GET_JOB", app, namespace, http.StatusInternalServerError, Internal,
		"failed to get job due to: "+errNoScheduler)
}

// JobListOff reports that the scheduler is switched off.
func JobListOff(app, namespace string) *Error {
	return jobFault("DAPR_SCHEDULER_LIST_JOBS", app, namespace, http.StatusInternalServerError, Internal,
		"failed to list jobs due to: "+errNoScheduler)
}

// JobDeleteOff reports that the scheduler is switched off.
func JobDeleteOff(app, namespace string) *Error {
	return jobFault("DAPR_SCHEDULER_DELETE_JOB", app, namespace, http.StatusInternalServerError, Internal,
		"failed to delete job due to: "+errNoScheduler)
}

// JobEmpty reports a schedule request without a job.
func JobEmpty(app, namespace string) *Error {
	return jobFault("DAPR_SCHEDULER_EMPTY", app, namespace, http.StatusBadRequest, InvalidArgument, "Job is empty")
}

// JobNameEmpty reports a job without a name.
func JobNameEmpty(app, namespace string) *Error {
	return jobFault("DAPR_SCHEDULER_JOB_NAME_EMPTY", app, namespace, http.StatusBadRequest, InvalidArgument, "Name is empty")
}

// JobScheduleEmpty reports a job with neither a schedule nor a due time.
func JobScheduleEmpty(app, namespace string) *Error {
	return jobFault("DAPR_SCHEDULER_SCHEDULE_EMPTY", app, namespace, http.StatusBadRequest, InvalidArgument, "Schedule is empty")
}

// JobNameTwice reports a job whose name is in the body as well as in the path.
func JobNameTwice(app string) *Error {
	return jobFault("DAPR_SCHEDULER_JOB_NAME", app, "", http.StatusBadRequest, InvalidArgument, "Set the job name in the url only")
}

// TokenRefused reports a gRPC call without the right API token. Over HTTP daprd answers plain text instead.
func TokenRefused(problem string) *Error {
	return &Error{
		Category: Common, Reason: "Unauthorized", HTTP: http.StatusUnauthorized, GRPC: Unauthenticated, Message: "Unauthorized",
		Metadata: map[string]string{"http.code": "401", "http.error_message": problem},
	}
}
