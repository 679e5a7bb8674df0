package grpcapi

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
)

func (s *service) GetState(ctx context.Context, in *rtv1.GetStateRequest) (*rtv1.GetStateResponse, error) {
	got, err := s.State.Get(ctx, s.AppID, in.GetStoreName(), in.GetKey(), in.GetMetadata())
	if err != nil {
		return nil, s.fail(err)
	}
	return &rtv1.GetStateResponse{Data: got.Value, Etag: got.ETag, Metadata: got.Metadata}, nil
}

func (s *service) GetBulkState(ctx context.Context, in *rtv1.GetBulkStateRequest) (*rtv1.GetBulkStateResponse, error) {
	got, err := s.State.BulkGet(ctx, s.AppID, in.GetStoreName(), in.GetKeys(), in.GetMetadata())
	if err != nil {
		return nil, s.fail(err)
	}
	out := &rtv1.GetBulkStateResponse{Items: make([]*rtv1.BulkStateItem, len(got))}
	for i := range got {
		r := &got[i]
		item := &rtv1.BulkStateItem{Key: in.GetKeys()[i], Data: r.Value, Etag: r.ETag, Metadata: r.Metadata}
		if r.Err != nil {
			item.Error = r.Err.Error()
		}
		out.Items[i] = item
	}
	return out, nil
}

func (s *service) SaveState(ctx context.Context, in *rtv1.SaveStateRequest) (*emptypb.Empty, error) {
	writes := make([]state.Write, len(in.GetStates()))
	for i, item := range in.GetStates() {
		writes[i] = write(item)
	}
	return s.empty(s.State.Save(ctx, s.AppID, in.GetStoreName(), writes))
}

func (s *service) DeleteState(ctx context.Context, in *rtv1.DeleteStateRequest) (*emptypb.Empty, error) {
	w := state.Write{Delete: true, Key: in.GetKey(), Options: options(in.GetOptions()), Metadata: in.GetMetadata()}
	w.ETag, w.HasETag = in.GetEtag().GetValue(), in.GetEtag().GetValue() != ""
	return s.empty(s.State.Delete(ctx, s.AppID, in.GetStoreName(), w))
}

func (s *service) DeleteBulkState(ctx context.Context, in *rtv1.DeleteBulkStateRequest) (*emptypb.Empty, error) {
	writes := make([]state.Write, len(in.GetStates()))
	for i, item := range in.GetStates() {
		writes[i] = write(item)
		writes[i].Delete, writes[i].Value = true, nil
	}
	return s.empty(s.State.BulkDelete(ctx, s.AppID, in.GetStoreName(), writes))
}

func (s *service) ExecuteStateTransaction(ctx context.Context, in *rtv1.ExecuteStateTransactionRequest) (*emptypb.Empty, error) {
	writes := make([]state.Write, len(in.GetOperations()))
	for i, o := range in.GetOperations() {
		writes[i] = write(o.GetRequest())
		switch o.GetOperationType() {
		case "upsert":
		case "delete":
			writes[i].Delete, writes[i].Value = true, nil
		default:
			return s.empty(s.badOperation(ctx, in, o.GetOperationType()))
		}
	}
	return s.empty(s.State.Transact(ctx, s.AppID, in.GetStoreName(), writes, in.GetMetadata()))
}

// badOperation refuses an operation, unless the transaction would have been refused whatever is in it.
func (s *service) badOperation(ctx context.Context, in *rtv1.ExecuteStateTransactionRequest, operation string) error {
	if err := s.State.Transact(ctx, s.AppID, in.GetStoreName(), nil, nil); err != nil {
		return err
	}
	return fault.StateOperationUnsupported(operation)
}

func (s *service) QueryStateAlpha1(ctx context.Context, in *rtv1.QueryStateRequest) (*rtv1.QueryStateResponse, error) {
	got, err := s.State.Query(ctx, s.AppID, in.GetStoreName(), []byte(in.GetQuery()), in.GetMetadata())
	if err != nil {
		return nil, s.fail(err)
	}
	out := &rtv1.QueryStateResponse{Token: got.Token, Metadata: got.Metadata}
	for i := range got.Results {
		r := &got.Results[i]
		item := &rtv1.QueryStateItem{Key: r.Key, Data: r.Value, Etag: r.ETag}
		if r.Err != nil {
			item.Error = r.Err.Error()
		}
		out.Results = append(out.Results, item)
	}
	return out, nil
}

// empty answers calls that return nothing.
func (s *service) empty(err error) (*emptypb.Empty, error) {
	if err != nil {
		return nil, s.fail(err)
	}
	return &emptypb.Empty{}, nil
}

func write(item *commonv1.StateItem) state.Write {
	etag := item.GetEtag().GetValue()
	return state.Write{
		Key: item.GetKey(), Value: item.GetValue(), ETag: etag, HasETag: etag != "",
		Options: options(item.GetOptions()), Metadata: item.GetMetadata(),
	}
}

func options(o *commonv1.StateOptions) (out state.Options) {
	switch o.GetConcurrency() {
	case commonv1.StateOptions_CONCURRENCY_FIRST_WRITE:
		out.Concurrency = "first-write"
	case commonv1.StateOptions_CONCURRENCY_LAST_WRITE:
		out.Concurrency = "last-write"
	}
	switch o.GetConsistency() {
	case commonv1.StateOptions_CONSISTENCY_EVENTUAL:
		out.Consistency = "eventual"
	case commonv1.StateOptions_CONSISTENCY_STRONG:
		out.Consistency = "strong"
	}
	return out
}
