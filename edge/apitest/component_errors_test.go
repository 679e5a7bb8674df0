package apitest_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/apitest"
	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
)

// picky is a state store that fails as it is told, as a component of its own process may.
type picky struct {
	features []string
	limit    int
	get      error
	apply    error
	each     error
	query    error
}

func (p *picky) Get(context.Context, ...string) ([]state.Entry, error) {
	return make([]state.Entry, 1), p.get
}
func (p *picky) Apply(context.Context, []state.Op) error { return p.apply }
func (p *picky) ApplyEach(_ context.Context, ops []state.Op) []error {
	out := make([]error, len(ops))
	for i := range out {
		out[i] = p.each
	}
	return out
}
func (p *picky) Features() []string  { return p.features }
func (p *picky) MaxTransaction() int { return p.limit }
func (p *picky) Query(context.Context, []byte, map[string]string) (state.QueryResult, error) {
	return state.QueryResult{}, p.query
}

var transactional = []string{"TRANSACTIONAL"}

// custom is an error of a component's own.
func custom(code fault.Code, status int, name string) error {
	return &fault.Error{
		ErrorCode: name + "-tag", HTTP: status, GRPC: code, Message: name + "-error", Reason: name + "-reason", Domain: name + "-domain",
	}
}

func pickyServices(p *picky) *apitest.Services {
	s := apitest.Bare()
	set := &component.Set[state.Store]{}
	set.Put(component.Instance[state.Store]{Spec: component.Spec{Name: "picky"}, Value: p})
	s.State = state.NewService(set, slog.New(slog.DiscardHandler))
	return s
}

// TestComponentErrors checks what becomes of a component's errors, against what Dapr's integration cases
// (daprd/state/http/errors, customerrors) say.
func TestComponentErrors_HTTP(t *testing.T) {
	const (
		two   = `[{"key":"a","value":1},{"key":"b","value":2}]`
		moved = `{"operations":[{"operation":"upsert","request":{"key":"a","value":1}},{"operation":"delete","request":{"key":"b"}}]}`
	)
	for _, c := range []struct {
		name               string
		store              picky
		method, path, body string
		status             int
		answer             string
	}{
		{"get", picky{get: custom(fault.DataLoss, 506, "get")}, "GET", "/v1.0/state/picky/key1", "", 506,
			`{"errorCode":"ERR_STATE_GET","message":"fail to get key1 from state store picky: api error: code = DataLoss desc = get-error"}`},
		{"save", picky{apply: custom(fault.ResourceExhausted, 512, "set")}, "POST", "/v1.0/state/picky", `[{"key":"a","value":1}]`, 512,
			`{"errorCode":"ERR_STATE_SAVE","message":"failed saving state in state store picky: api error: code = ResourceExhausted desc = set-error"}`},
		{"save several", picky{each: custom(fault.Canceled, 510, "bulkset")}, "POST", "/v1.0/state/picky", two, 510,
			`{"errorCode":"ERR_STATE_SAVE","message":"failed saving state in state store picky: api error: code = Canceled desc = bulkset-error"}`},
		{"delete", picky{apply: custom(fault.OutOfRange, 511, "delete")}, "DELETE", "/v1.0/state/picky/key1", "", 511,
			`{"errorCode":"ERR_STATE_DELETE","message":"failed deleting state with key key1: api error: code = OutOfRange desc = delete-error"}`},
		{"query", picky{query: custom(fault.AlreadyExists, 509, "query")}, "POST", "/v1.0-alpha1/state/picky/query", `{}`, 509,
			`{"errorCode":"query-tag","message":"query-error","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"query-domain","metadata":null,"reason":"query-reason"}]}`},
		{"no transactions", picky{}, "POST", "/v1.0/state/picky/transaction", moved, 500,
			`{"errorCode":"ERR_STATE_STORE_NOT_SUPPORTED","message":"state store picky doesn't support transactions","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.Help","links":[{"description":"Check the list of state stores and the features they support","url":"https://docs.dapr.io/reference/components-reference/supported-state-stores/"}]},` +
				`{"@type":"type.googleapis.com/google.rpc.ResourceInfo","description":"","owner":"","resource_name":"picky","resource_type":"state"},` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"dapr.io","metadata":null,"reason":"DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED"}]}`},
		{"too many operations", picky{features: transactional, limit: 1}, "POST", "/v1.0/state/picky/transaction", moved, 400,
			`{"errorCode":"ERR_STATE_STORE_TOO_MANY_TRANSACTIONS","message":"the transaction contains 2 operations, which is more than what the state store supports: 1","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ResourceInfo","description":"","owner":"","resource_name":"picky","resource_type":"state"},` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"dapr.io","metadata":{"currentOpsTransaction":"2","maxOpsPerTransaction":"1"},"reason":"DAPR_STATE_TOO_MANY_TRANSACTIONS"}]}`},
		{"full disk", picky{apply: fault.StorageFull("write state", nil)}, "POST", "/v1.0/state/picky", `[{"key":"a","value":1}]`, 507,
			`{"errorCode":"ERR_STATE_SAVE","message":"failed saving state in state store picky: api error: code = ResourceExhausted desc = write state: no space left on the device: the write was refused and nothing of it was kept; free space and retry"}`},
		{"full disk in a transaction", picky{features: transactional, apply: fault.StorageFull("write state", nil)}, "POST", "/v1.0/state/picky/transaction", moved, 507,
			`{"errorCode":"ERR_STATE_TRANSACTION","message":"error while executing state transaction: api error: code = ResourceExhausted desc = write state: no space left on the device: the write was refused and nothing of it was kept; free space and retry"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newHTTP(t, pickyServices(&c.store))
			w := httptest.NewRecorder()
			o.h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
			if w.Code != c.status || w.Body.String() != c.answer {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, c.status, c.answer)
			}
		})
	}
}

func TestComponentErrors_GRPC(t *testing.T) {
	items := []*commonv1.StateItem{{Key: "a"}, {Key: "b"}}
	for _, c := range []struct {
		name    string
		store   picky
		call    func(ctx context.Context, c rtv1.DaprClient) error
		code    codes.Code
		message string
		reason  string
	}{
		{"get", picky{get: custom(fault.DataLoss, 506, "get")}, func(ctx context.Context, c rtv1.DaprClient) error {
			_, err := c.GetState(ctx, &rtv1.GetStateRequest{StoreName: "picky", Key: "k"})
			return err
		}, codes.DataLoss, "get-error", "get-reason"},
		{"save several", picky{each: custom(fault.Canceled, 510, "bulkset")}, func(ctx context.Context, c rtv1.DaprClient) error {
			_, err := c.SaveState(ctx, &rtv1.SaveStateRequest{StoreName: "picky", States: items})
			return err
		}, codes.Canceled, "bulkset-error", "bulkset-reason"},
		{"delete several", picky{each: custom(fault.AlreadyExists, 508, "bulkdelete")}, func(ctx context.Context, c rtv1.DaprClient) error {
			_, err := c.DeleteBulkState(ctx, &rtv1.DeleteBulkStateRequest{StoreName: "picky", States: items})
			return err
		}, codes.AlreadyExists, "bulkdelete-error", "bulkdelete-reason"},
		{"query", picky{query: custom(fault.AlreadyExists, 509, "query")}, func(ctx context.Context, c rtv1.DaprClient) error {
			_, err := c.QueryStateAlpha1(ctx, &rtv1.QueryStateRequest{StoreName: "picky", Query: "{}"})
			return err
		}, codes.AlreadyExists, "query-error", "query-reason"},
		{"no transactions", picky{}, transaction, codes.Unimplemented, "state store picky doesn't support transactions", "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED"},
		{"too many operations", picky{features: transactional, limit: 1}, transaction, codes.InvalidArgument,
			"the transaction contains 2 operations, which is more than what the state store supports: 1", "DAPR_STATE_TOO_MANY_TRANSACTIONS"},
		{"full disk", picky{features: transactional, apply: fault.StorageFull("write state", nil)}, transaction, codes.ResourceExhausted,
			"write state: no space left on the device: the write was refused and nothing of it was kept; free space and retry", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newGRPC(t, pickyServices(&c.store))
			st := status.Convert(c.call(t.Context(), o.c))
			if st.Code() != c.code || st.Message() != c.message {
				t.Errorf("%s: %s", st.Code(), st.Message())
			}
			reason := ""
			for _, d := range st.Details() {
				if e, ok := d.(*errdetails.ErrorInfo); ok {
					reason = e.GetReason()
				}
			}
			if reason != c.reason {
				t.Errorf("details %v", st.Details())
			}
		})
	}
}

func transaction(ctx context.Context, c rtv1.DaprClient) error {
	_, err := c.ExecuteStateTransaction(ctx, &rtv1.ExecuteStateTransactionRequest{
		StoreName: "picky", Operations: []*rtv1.TransactionalStateOperation{
			{OperationType: "upsert", Request: &commonv1.StateItem{Key: "a"}}, {OperationType: "delete", Request: &commonv1.StateItem{Key: "b"}},
		},
	})
	return err
}
