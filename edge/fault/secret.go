package fault

import (
	"net/http"
	"strconv"
)

// The errors of the secrets API (Dapr API reference, secrets; error codes). None carries details.

// SecretStoreNotConfigured reports that there is no secret store at all.
func SecretStoreNotConfigured() *Error {
	return plain("ERR_SECRET_STORES_NOT_CONFIGURED", Secret, http.StatusInternalServerError, FailedPrecondition,
		"secret store is not configured")
}

// SecretStoreNotFound reports that no secret store has that name.
func SecretStoreNotFound(store string) *Error {
	return plain("ERR_SECRET_STORE_NOT_FOUND", Secret, http.StatusUnauthorized, InvalidArgument,
		"failed finding secret store with key "+store)
}

// SecretDenied reports that the application may not read the secret.
func SecretDenied(store, key string) *Error {
	return plain("ERR_PERMISSION_DENIED", Secret, http.StatusForbidden, PermissionDenied,
		"access denied by policy to get "+strconv.Quote(key)+" from "+strconv.Quote(store))
}

// SecretGet reports that the store did not give the secret, a missing one included.
func SecretGet(store, key string, cause error) *Error {
	e := plain("ERR_SECRET_GET", Secret, http.StatusInternalServerError, Internal,
		"failed getting secret with key "+key+" from secret store "+store+": "+cause.Error())
	e.Cause = cause
	return e
}

// SecretBulkGet reports that the store did not list its secrets.
func SecretBulkGet(store string, cause error) *Error {
	e := plain("ERR_SECRET_GET", Secret, http.StatusInternalServerError, Internal,
		"failed getting secrets from secret store "+store+": "+cause.Error())
	e.Cause = cause
	return e
}
