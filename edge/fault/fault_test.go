package fault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/fault"
)

var errDisk = errors.New("disk on fire")

// table is every fault that the API knows.
func table() map[string]*fault.Error {
	const app, ns = "app", "default"
	m := map[string]string{"a": "b"}
	return map[string]*fault.Error{
		"StateStoreNotConfigured": fault.StateStoreNotConfigured("s", app), "StateStoreNotFound": fault.StateStoreNotFound("s", app),
		"StateKeyIllegal": fault.StateKeyIllegal("s", "a||b"), "StateKeyEmpty": fault.StateKeyEmpty(),
		"StateTransactionsUnsupported": fault.StateTransactionsUnsupported("s"), "StateTooManyOperations": fault.StateTooManyOperations("s", 2, 1),
		"StateOperationUnsupported": fault.StateOperationUnsupported("x"), "StateQueryUnsupported": fault.StateQueryUnsupported("s"),
		"StateQueryFailed": fault.StateQueryFailed("s", errDisk), "StateGet": fault.StateGet("s", "k", errDisk), "StateBulkGet": fault.StateBulkGet(errDisk),
		"StateSave": fault.StateSave("s", errDisk), "StateDelete": fault.StateDelete("k", errDisk), "StateBulkDelete": fault.StateBulkDelete("s", errDisk),
		"StateTransaction":    fault.StateTransaction(errDisk),
		"PubSubNotConfigured": fault.PubSubNotConfigured("p", m), "PubSubNotFound": fault.PubSubNotFound("p", nil), "PubSubGone": fault.PubSubGone("p", "t"),
		"PubSubNameEmpty": fault.PubSubNameEmpty(m), "PubSubTopicEmpty": fault.PubSubTopicEmpty("p", m), "PubSubMetadata": fault.PubSubMetadata("p", m, errDisk),
		"PubSubCloudEvent": fault.PubSubCloudEvent("p", app, errDisk), "PubSubEnvelope": fault.PubSubEnvelope("p", "t", app, errDisk),
		"PubSubEntries": fault.PubSubEntries("p", "t", app), "PubSubUnmarshal": fault.PubSubUnmarshal("p", "t", app, errDisk),
		"PubSubForbidden": fault.PubSubForbidden("p", "t", app), "PubSubPublish": fault.PubSubPublish("p", "t", errDisk), "PubSubOutbox": fault.PubSubOutbox(app, errDisk),
		"SecretStoreNotConfigured": fault.SecretStoreNotConfigured(), "SecretStoreNotFound": fault.SecretStoreNotFound("s"),
		"SecretDenied": fault.SecretDenied("s", "k"), "SecretGet": fault.SecretGet("s", "k", errDisk), "SecretBulkGet": fault.SecretBulkGet("s", errDisk),
		"MalformedRequest": fault.MalformedRequest(errDisk), "MalformedSave": fault.MalformedSave(errDisk), "BadRequest": fault.BadRequest("x"),
		"BodyRead": fault.BodyRead(errDisk), "BodyTooLarge": fault.BodyTooLarge(5), "APIUnimplemented": fault.APIUnimplemented(),
		"HealthNotReady": fault.HealthNotReady("[x]"), "HealthOutboundNotReady": fault.HealthOutboundNotReady(), "HealthAppIDNotMatch": fault.HealthAppIDNotMatch(),
		"InvokeNoTarget": fault.InvokeNoTarget(), "InvokeNotReady": fault.InvokeNotReady(), "InvokeFailed": fault.InvokeFailed("x", errDisk),
		"BindingNotFound": fault.BindingNotFound("b"), "ConfigurationNotConfigured": fault.ConfigurationNotConfigured(), "LockNotConfigured": fault.LockNotConfigured(),
		"LockExpiry": fault.LockExpiry("l"), "CryptoNotConfigured": fault.CryptoNotConfigured(), "ConversationNotFound": fault.ConversationNotFound("c"),
		"ActorNoPlacement": fault.ActorNoPlacement(), "ActorTypeReserved": fault.ActorTypeReserved("t"),
		"JobScheduleOff": fault.JobScheduleOff(app, ns), "JobGetOff": fault.JobGetOff(app, ns), "JobListOff": fault.JobListOff(app, ns), "JobDeleteOff": fault.JobDeleteOff(app, ns),
		"JobEmpty": fault.JobEmpty(app, ns), "JobNameEmpty": fault.JobNameEmpty(app, ns), "JobScheduleEmpty": fault.JobScheduleEmpty(app, ns), "JobNameTwice": fault.JobNameTwice(app),
		"StorageFull": fault.StorageFull("write", errDisk),
	}
}

func TestTable(t *testing.T) {
	for name, e := range table() {
		for form, e := range map[string]*fault.Error{"HTTP": e, "gRPC": e.ForGRPC()} {
			if e.ErrorCode == "" || e.Category == "" || e.Message == "" || e.HTTP < 400 || e.HTTP > 599 || e.GRPC == fault.OK || strings.HasPrefix(e.GRPC.String(), "Code(") {
				t.Errorf("%s over %s: %+v", name, form, e)
			}
			if e.Error() != e.Message {
				t.Errorf("%s: Error says %q", name, e.Error())
			}
			if e.Reason == "" && (e.Resource != nil || len(e.Fields) > 0 || len(e.Help) > 0 || len(e.Metadata) > 0) {
				t.Errorf("%s over %s has details that nobody gets: %+v", name, form, e)
			}
		}
	}
}

func TestFrom(t *testing.T) {
	for _, c := range []struct {
		err  error
		code string
		grpc fault.Code
	}{
		{errDisk, "ERROR", fault.Unknown},
		{fmt.Errorf("read: %w", context.Canceled), "ERROR", fault.Canceled},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), "ERROR", fault.DeadlineExceeded},
		{fmt.Errorf("ask: %w", fault.InvokeNotReady()), "ERR_DIRECT_INVOKE", fault.Internal},
	} {
		if e := fault.From(c.err); e.ErrorCode != c.code || e.GRPC != c.grpc || e.HTTP != 500 {
			t.Errorf("%v: %+v", c.err, e)
		}
	}
}

func TestStorageFull(t *testing.T) {
	err := fmt.Errorf("append: %w", fault.StorageFull("event of topic t", errDisk))
	if !errors.Is(err, fault.ErrStorageFull) || !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	save, publish, transact := fault.StateSave("s", err), fault.PubSubPublish("p", "t", err), fault.StateTransaction(err)
	for _, e := range []*fault.Error{save, publish, transact} {
		if e.HTTP != 507 || e.ForGRPC().GRPC != fault.ResourceExhausted || !errors.Is(e, fault.ErrStorageFull) {
			t.Errorf("%+v", e)
		}
	}
	if publish.Metadata["cause"] != "ERR_STORAGE_FULL" {
		t.Error(publish.Metadata)
	}
}

func TestETag(t *testing.T) {
	for _, c := range []struct {
		cause error
		http  int
		grpc  fault.Code
		text  string
	}{
		{fault.ETagMismatch(errDisk), 409, fault.Aborted, "possible etag mismatch. error from state store: disk on fire"},
		{fault.ETagInvalid(errDisk), 400, fault.InvalidArgument, "invalid etag value: disk on fire"},
	} {
		save, remove := fault.StateSave("s", c.cause), fault.StateDelete("k", c.cause)
		if save.HTTP != c.http || save.GRPC != c.grpc || save.Message != "failed saving state in state store s: "+c.text || save.ErrorCode != "ERR_STATE_SAVE" {
			t.Errorf("%+v", save)
		}
		if over := save.ForGRPC(); over.GRPC != c.grpc || over.Reason != "ERR_STATE_SAVE" || save.Reason != "" {
			t.Errorf("%+v", over)
		}
		if remove.HTTP != c.http || remove.Message != "failed deleting state with key k: "+c.text {
			t.Errorf("%+v", remove)
		}
		if e := fault.StateTransaction(c.cause); e.HTTP != 500 || e.ForGRPC().GRPC != fault.Internal {
			t.Errorf("in a transaction Dapr answers 500: %+v", e)
		}
	}
}

func TestError_Because(t *testing.T) {
	e := fault.InvokeNotReady()
	if with := e.Because(errDisk); !errors.Is(with, errDisk) || errors.Is(e, errDisk) || with.ErrorCode != e.ErrorCode {
		t.Fatal(with)
	}
}
