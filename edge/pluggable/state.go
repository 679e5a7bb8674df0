package pluggable

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	proto "github.com/dapr/dapr/pkg/proto/components/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/state"
)

// parallelism is what bulk calls ask of a component (Dapr's default).
const parallelism = 10

// limitTimeout bounds the question how large a transaction may be.
const limitTimeout = 5 * time.Second

// StateStore is a state store in a process of its own. What it promises of durability is the component's matter. It is
// safe for concurrent use.
type StateStore struct {
	*link
	mu    sync.Mutex
	limit int  // operations in a transaction; 0: no limit known
	asked bool // limit is what the component says
}

var (
	_ state.Store              = (*StateStore)(nil)
	_ state.Querier            = (*StateStore)(nil)
	_ state.BulkReader         = (*StateStore)(nil)
	_ state.TransactionLimiter = (*StateStore)(nil)
)

// NewStateStore attaches the state store behind a socket. A process that is away is no error.
func NewStateStore(ctx context.Context, spec component.Spec, socket string) (*StateStore, error) {
	s := &StateStore{}
	l, err := open(ctx, spec, socket, func(ctx context.Context, conn *grpc.ClientConn) ([]string, error) {
		client := proto.NewStateStoreClient(conn)
		if _, err := client.Init(ctx, &proto.InitRequest{Metadata: properties(spec)}); err != nil {
			return nil, kind(err, "state store")
		}
		s.mu.Lock()
		s.asked = false // another life of the process may have another limit
		s.mu.Unlock()
		f, err := client.Features(ctx, &proto.FeaturesRequest{})
		return f.GetFeatures(), err
	})
	if err != nil {
		return nil, err
	}
	s.link = l
	return s, nil
}

// MaxTransaction returns how many operations a transaction may have; 0 if the component does not say, as most do not. It
// asks when a transaction first needs to know.
func (s *StateStore) MaxTransaction() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked {
		return s.limit
	}
	conn, err := s.use()
	if err != nil {
		return 0 // the transaction will say so
	}
	ctx, cancel := context.WithTimeout(context.Background(), limitTimeout)
	defer cancel()
	r, err := proto.NewTransactionalStoreMultiMaxSizeClient(conn).MultiMaxSize(ctx, &proto.MultiMaxSizeRequest{})
	s.limit, s.asked = 0, err == nil || status.Code(err) == codes.Unimplemented
	if err == nil && r.GetMaxSize() > 0 {
		s.limit = int(min(r.GetMaxSize(), math.MaxInt32))
	}
	return s.limit
}

// Get reads keys, one call each. It is no consistent view: the protocol has none.
func (s *StateStore) Get(ctx context.Context, keys ...string) ([]state.Entry, error) {
	conn, err := s.use()
	if err != nil {
		return nil, err
	}
	client := proto.NewStateStoreClient(conn)
	out := make([]state.Entry, len(keys))
	for i, key := range keys {
		r, err := client.Get(ctx, &proto.GetRequest{Key: key, Metadata: state.RequestMetadata(ctx)})
		if err != nil {
			return nil, translate(err)
		}
		out[i] = entry(key, r.GetData(), r.GetEtag(), r.GetContentType(), r.GetMetadata())
	}
	return out, nil
}

func entry(key string, data []byte, etag *proto.Etag, contentType string, metadata map[string]string) state.Entry {
	e := state.Entry{Key: key, Found: len(data) > 0 || etag.GetValue() != "", Value: data, ETag: etag.GetValue(), ContentType: contentType}
	if at, err := time.Parse(time.RFC3339, metadata["ttlExpireTime"]); err == nil {
		e.Expires = at
	}
	return e
}

// BulkGet reads keys in one call; errs[i] says why key i could not be read.
func (s *StateStore) BulkGet(ctx context.Context, keys []string) (entries []state.Entry, errs []error, err error) {
	conn, err := s.use()
	if err != nil {
		return nil, nil, err
	}
	items := make([]*proto.GetRequest, len(keys))
	for i, key := range keys {
		items[i] = &proto.GetRequest{Key: key, Metadata: state.RequestMetadata(ctx)}
	}
	r, err := proto.NewStateStoreClient(conn).BulkGet(ctx, &proto.BulkGetRequest{
		Items: items, Options: &proto.BulkGetRequestOptions{Parallelism: parallelism},
	})
	if err != nil {
		return nil, nil, translate(err)
	}
	byKey := make(map[string]*proto.BulkStateItem, len(keys))
	for _, item := range r.GetItems() {
		byKey[item.GetKey()] = item
	}
	entries, errs = make([]state.Entry, len(keys)), make([]error, len(keys))
	for i, key := range keys {
		item := byKey[key] // nil: not found
		entries[i] = entry(key, item.GetData(), item.GetEtag(), item.GetContentType(), item.GetMetadata())
		if item.GetError() != "" {
			errs[i] = errors.New(item.GetError())
		}
	}
	return entries, errs, nil
}

// Apply commits one op, or several as a transaction of the component.
func (s *StateStore) Apply(ctx context.Context, ops []state.Op) error {
	conn, err := s.use()
	if err != nil {
		return err
	}
	if len(ops) == 1 {
		return write(ctx, proto.NewStateStoreClient(conn), ops[0])
	}
	request := &proto.TransactionalStateRequest{Metadata: state.RequestMetadata(ctx)}
	for _, op := range ops {
		o := &proto.TransactionalStateOperation{}
		if op.Kind == state.Delete {
			o.Request = &proto.TransactionalStateOperation_Delete{Delete: deletion(op)}
		} else {
			o.Request = &proto.TransactionalStateOperation_Set{Set: upsert(op)}
		}
		request.Operations = append(request.Operations, o)
	}
	_, err = proto.NewTransactionalStateStoreClient(conn).Transact(ctx, request)
	return translate(err)
}

func write(ctx context.Context, client proto.StateStoreClient, op state.Op) (err error) {
	if op.Kind == state.Delete {
		_, err = client.Delete(ctx, deletion(op))
	} else {
		_, err = client.Set(ctx, upsert(op))
	}
	return translate(err)
}

// ApplyEach commits ops in bulk where they are all of one kind. A bulk call that fails says so of every op: the protocol
// does not tell which of them failed.
func (s *StateStore) ApplyEach(ctx context.Context, ops []state.Op) []error {
	conn, err := s.use()
	if err != nil {
		return slices.Repeat([]error{err}, len(ops))
	}
	client := proto.NewStateStoreClient(conn)
	if mixed(ops) {
		errs := make([]error, len(ops))
		for i, op := range ops {
			errs[i] = write(ctx, client, op)
		}
		return errs
	}
	if ops[0].Kind == state.Delete {
		r := &proto.BulkDeleteRequest{Options: &proto.BulkDeleteRequestOptions{Parallelism: parallelism}}
		for _, op := range ops {
			r.Items = append(r.Items, deletion(op))
		}
		_, err = client.BulkDelete(ctx, r)
	} else {
		r := &proto.BulkSetRequest{Options: &proto.BulkSetRequestOptions{Parallelism: parallelism}}
		for _, op := range ops {
			r.Items = append(r.Items, upsert(op))
		}
		_, err = client.BulkSet(ctx, r)
	}
	return slices.Repeat([]error{translate(err)}, len(ops))
}

// mixed reports whether ops cannot be one bulk call.
func mixed(ops []state.Op) bool {
	return len(ops) < 2 || slices.ContainsFunc(ops, func(op state.Op) bool { return op.Kind != ops[0].Kind })
}

func upsert(op state.Op) *proto.SetRequest {
	return &proto.SetRequest{
		Key: op.Key, Value: op.Value, Etag: etag(op), Metadata: op.Metadata, Options: options(op), ContentType: op.ContentType,
	}
}

func deletion(op state.Op) *proto.DeleteRequest {
	return &proto.DeleteRequest{Key: op.Key, Etag: etag(op), Metadata: op.Metadata, Options: options(op)}
}

func etag(op state.Op) *proto.Etag {
	if !op.HasETag {
		return nil
	}
	return &proto.Etag{Value: op.ETag}
}

func options(op state.Op) *proto.StateOptions {
	o := &proto.StateOptions{}
	if op.Concurrency == state.FirstWrite {
		o.Concurrency = proto.StateOptions_CONCURRENCY_FIRST_WRITE
	}
	switch op.Consistency {
	case "strong":
		o.Consistency = proto.StateOptions_CONSISTENCY_STRONG
	case "eventual":
		o.Consistency = proto.StateOptions_CONSISTENCY_EVENTUAL
	}
	return o
}

// Query has the component run a query. Dapr's protocol carries filter values as JSON in untyped Any messages.
func (s *StateStore) Query(ctx context.Context, text []byte, metadata map[string]string) (state.QueryResult, error) {
	conn, err := s.use()
	if err != nil {
		return state.QueryResult{}, err
	}
	query, err := parseQuery(text)
	if err != nil {
		return state.QueryResult{}, err
	}
	r, err := proto.NewQueriableStateStoreClient(conn).Query(ctx, &proto.QueryRequest{Query: query, Metadata: metadata})
	if status.Code(err) == codes.Unimplemented {
		return state.QueryResult{}, errors.New("the component does not support querying")
	}
	if err != nil {
		return state.QueryResult{}, translate(err)
	}
	out := state.QueryResult{Token: r.GetToken(), Metadata: r.GetMetadata(), Results: make([]state.Read, len(r.GetItems()))}
	for i, item := range r.GetItems() {
		out.Results[i].Entry = entry(item.GetKey(), item.GetData(), item.GetEtag(), item.GetContentType(), nil)
		if item.GetError() != "" {
			out.Results[i].Err = errors.New(item.GetError())
		}
	}
	return out, nil
}

func parseQuery(text []byte) (*proto.Query, error) {
	var q struct {
		Filter map[string]json.RawMessage `json:"filter"`
		Sort   []struct {
			Key   string `json:"key"`
			Order string `json:"order"`
		} `json:"sort"`
		Page struct {
			Limit int64  `json:"limit"`
			Token string `json:"token"`
		} `json:"page"`
	}
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, err
	}
	out := &proto.Query{Filter: map[string]*anypb.Any{}, Pagination: &proto.Pagination{Limit: q.Page.Limit, Token: q.Page.Token}}
	for operator, value := range q.Filter {
		out.Filter[operator] = &anypb.Any{Value: value}
	}
	for _, s := range q.Sort {
		order := proto.Sorting_ASC
		if strings.EqualFold(s.Order, "DESC") {
			order = proto.Sorting_DESC
		}
		out.Sort = append(out.Sort, &proto.Sorting{Key: s.Key, Order: order})
	}
	return out, nil
}
