package state

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
)

// Write is one save or delete as an application asks for it.
type Write struct {
	Delete      bool
	Key         string
	Value       []byte
	JSON        bool   // Value is one valid JSON text (HTTP); otherwise it is bytes (gRPC)
	ETag        string // an empty ETag is none
	HasETag     bool
	Concurrency Concurrency
	Options     Options           // as the application wrote them; Options.Concurrency, if set, decides Concurrency
	Metadata    map[string]string // ttlInSeconds, contentType, ...
}

// Options are a request's options in Dapr's words: first-write or last-write, eventual or strong. Empty means not given.
type Options struct {
	Concurrency, Consistency string
}

// Read is the answer for one key. Err is set in bulk answers only.
type Read struct {
	Entry                      // Key is as the application wrote it
	Metadata map[string]string // ttlExpireTime (RFC 3339, UTC) if the key expires
	Err      error
}

// Service is the state API (Dapr API reference, state management) over all state stores, for every application. Errors
// are *fault.Error, decided here for both transports. It is safe for concurrent use.
type Service struct {
	stores    *component.Set[Store]
	log       *slog.Logger
	namespace string
	observe   Observer
	settings  settingsCache
	outbox    outbox
}

// Observer is told of every call to a store: operation is get, set, delete, bulk_get, bulk_delete, transaction or query.
type Observer func(app, store, operation string, ok bool, elapsed time.Duration)

// ServiceOption changes a Service when it is made.
type ServiceOption func(*Service)

// Namespace sets the namespace that the key-prefix strategy of that name uses. Without it, it acts like appid.
func Namespace(name string) ServiceOption { return func(s *Service) { s.namespace = name } }

// Observe sets who is told of calls to stores, for metrics.
func Observe(o Observer) ServiceOption { return func(s *Service) { s.observe = o } }

// NewService returns the state API over stores.
func NewService(stores *component.Set[Store], log *slog.Logger, opts ...ServiceOption) *Service {
	s := &Service{stores: stores, log: log}
	for _, o := range opts {
		o(s)
	}
	return s
}

// target is a store as one application sees it.
type target struct {
	Store
	name, app string
	*settings
	prefix, sep string // stand before the store's keys
}

// Check answers whether the application may use the store, with the error that every operation would give.
func (s *Service) Check(app, store string) error {
	_, err := s.target(app, store)
	return err
}

func (s *Service) target(app, store string) (target, error) {
	inst, ok := s.stores.Get(app, store)
	if !ok {
		if len(s.stores.All(app)) == 0 {
			return target{}, fault.StateStoreNotConfigured(store, app)
		}
		return target{}, fault.StateStoreNotFound(store, app)
	}
	set, err := s.settings.of(inst.Spec)
	if err != nil {
		return target{}, fault.From(err)
	}
	t := target{Store: inst.Value, name: store, app: app, settings: set}
	t.prefix, t.sep = set.prefixFor(app, s.namespace)
	return t, nil
}

// observed reports a call that began at start.
func (s *Service) observed(t *target, operation string, start time.Time, err error) {
	if s.observe != nil {
		s.observe(t.app, t.name, operation, err == nil, time.Since(start))
	}
}

// begin is the start of a call, read only if someone wants to know.
func (s *Service) begin() time.Time {
	if s.observe == nil {
		return time.Time{}
	}
	return time.Now()
}

// Get reads one key of app. An absent or expired key is not an error: Found is false.
func (s *Service) Get(ctx context.Context, app, store, key string, metadata map[string]string) (Read, error) {
	t, err := s.target(app, store)
	if err != nil {
		return Read{}, err
	}
	full, err := t.key(key)
	if err != nil {
		return Read{}, err
	}
	start := s.begin()
	entries, err := t.Get(withMetadata(ctx, metadata), full)
	s.observed(&t, "get", start, err)
	if err != nil {
		return Read{}, fault.StateGet(store, key, err)
	}
	r, err := t.read(key, entries[0])
	if err != nil {
		return Read{}, fault.StateGet(store, key, err)
	}
	return r, nil
}

// BulkGet reads many keys; answer i belongs to key i. A key that cannot be read has its Err set and spoils no other.
func (s *Service) BulkGet(ctx context.Context, app, store string, keys []string, metadata map[string]string) ([]Read, error) {
	t, err := s.target(app, store)
	if err != nil {
		return nil, err
	}
	full := make([]string, len(keys))
	for i, k := range keys {
		if full[i], err = t.key(k); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	ctx = withMetadata(ctx, metadata)
	start := s.begin()
	if b, ok := t.Store.(BulkReader); ok {
		out, err := t.bulkRead(ctx, b, keys, full)
		s.observed(&t, "bulk_get", start, err)
		return out, err
	}
	entries, err := t.Get(ctx, full...)
	s.observed(&t, "bulk_get", start, err)
	if ctx.Err() != nil {
		return nil, fault.StateBulkGet(ctx.Err())
	}
	out := make([]Read, len(keys))
	for i, k := range keys {
		if err != nil { // one key's fault: find out which
			out[i] = t.readAlone(ctx, k, full[i])
			continue
		}
		if out[i], out[i].Err = t.read(k, entries[i]); out[i].Err != nil {
			out[i] = Read{Entry: Entry{Key: k}, Err: out[i].Err}
		}
	}
	return out, nil
}

func (t *target) bulkRead(ctx context.Context, b BulkReader, keys, full []string) ([]Read, error) {
	entries, errs, err := b.BulkGet(ctx, full)
	if err != nil {
		return nil, fault.StateBulkGet(err)
	}
	out := make([]Read, len(keys))
	for i, key := range keys {
		if errs[i] == nil {
			out[i], errs[i] = t.read(key, entries[i])
		}
		if errs[i] != nil {
			out[i] = Read{Entry: Entry{Key: key}, Err: errs[i]}
		}
	}
	return out, nil
}

func (t *target) readAlone(ctx context.Context, key, full string) Read {
	entries, err := t.Get(ctx, full)
	if err == nil {
		var r Read
		if r, err = t.read(key, entries[0]); err == nil {
			return r
		}
	}
	return Read{Entry: Entry{Key: key}, Err: err}
}

// read makes the answer for an entry: the application's key, the value in clear, and when it expires.
func (t *target) read(key string, e Entry) (Read, error) {
	r := Read{Entry: e}
	r.Key = key
	if !e.Found {
		return r, nil
	}
	if t.keys != nil {
		clear, err := t.keys.decrypt(e.Value)
		if err != nil {
			return Read{}, err
		}
		r.Value = clear
	}
	if !e.Expires.IsZero() {
		r.Metadata = map[string]string{"ttlExpireTime": e.Expires.UTC().Format(time.RFC3339)}
	}
	return r, nil
}

// Save commits each write on its own; deletes are possible too. When some fail the others stay, and the error tells of
// all that failed.
func (s *Service) Save(ctx context.Context, app, store string, writes []Write) error {
	t, err := s.target(app, store)
	if err != nil || len(writes) == 0 {
		return err
	}
	var one [1]Op
	ops := one[:0]
	for i := range writes {
		if writes[i].Key == "" {
			return fault.StateKeyEmpty()
		}
		op, err := t.op(&writes[i])
		if err != nil {
			return s.refuseSave(store, err)
		}
		ops = append(ops, op)
	}
	start := s.begin()
	err = commitEach(ctx, t.Store, ops)
	s.observed(&t, "set", start, err)
	if err != nil {
		return fault.StateSave(store, err)
	}
	return nil
}

// refuseSave passes on an API error and a JSON fault, which Dapr's gRPC API gives as it is, and wraps any other.
func (s *Service) refuseSave(store string, err error) error {
	var api *fault.Error
	var bad *badJSON
	if errors.As(err, &api) || errors.As(err, &bad) {
		return err
	}
	return fault.StateSave(store, err)
}

// Delete deletes one key. Deleting an absent key is no error, unless an ETag was given.
func (s *Service) Delete(ctx context.Context, app, store string, w Write) error {
	t, err := s.target(app, store)
	if err != nil {
		return err
	}
	w.Delete = true
	op, err := t.op(&w)
	start := s.begin()
	if err == nil {
		err = commitEach(ctx, t.Store, []Op{op})
		s.observed(&t, "delete", start, err)
	}
	if isIllegalKey(err) {
		return err
	}
	if err != nil {
		return fault.StateDelete(w.Key, err)
	}
	return nil
}

// BulkDelete deletes keys, each on its own.
func (s *Service) BulkDelete(ctx context.Context, app, store string, writes []Write) error {
	t, err := s.target(app, store)
	if err != nil || len(writes) == 0 {
		return err
	}
	ops := make([]Op, len(writes))
	for i := range writes {
		writes[i].Delete = true
		if ops[i], err = t.op(&writes[i]); err != nil {
			if isIllegalKey(err) {
				return err
			}
			return fault.StateBulkDelete(store, err)
		}
	}
	start := s.begin()
	err = commitEach(ctx, t.Store, ops)
	s.observed(&t, "bulk_delete", start, err)
	if err != nil {
		return fault.StateBulkDelete(store, err)
	}
	return nil
}

// TransactionLimiter is the optional ability of a store to say how many operations one transaction may have.
type TransactionLimiter interface{ MaxTransaction() int }

// Transact commits all writes or none. ETags are compared with the state before the transaction. A key may occur more
// than once: the last write wins.
func (s *Service) Transact(ctx context.Context, app, store string, writes []Write, metadata map[string]string) error {
	t, err := s.target(app, store)
	if err != nil {
		return err
	}
	if !slices.Contains(t.Features(), "TRANSACTIONAL") {
		return fault.StateTransactionsUnsupported(store)
	}
	if len(writes) == 0 {
		return nil
	}
	ops := make([]Op, len(writes))
	for i := range writes {
		if _, err := t.key(writes[i].Key); err != nil {
			return err
		}
	}
	if l, ok := t.Store.(TransactionLimiter); ok && l.MaxTransaction() > 0 && len(writes) > l.MaxTransaction() {
		return fault.StateTooManyOperations(store, len(writes), l.MaxTransaction())
	}
	for i := range writes {
		if ops[i], err = t.op(&writes[i]); err != nil {
			return fault.StateTransaction(err)
		}
	}
	ctx = withMetadata(ctx, metadata)
	start := s.begin()
	if t.settings.outbox != nil && s.outbox.keeper != nil {
		err = s.outbox.commit(ctx, &t, writes, ops)
	} else {
		err = t.Apply(ctx, ops)
	}
	s.observed(&t, "transaction", start, err)
	if isOutbox(err) {
		return err
	}
	if err != nil {
		return fault.StateTransaction(etagFault(err))
	}
	return nil
}

// QueryResult is a page of a query.
type QueryResult struct {
	Results  []Read
	Token    string
	Metadata map[string]string
}

// queryFeature is how a Scanner says, in Dapr's words, that it may be queried.
const queryFeature = "QUERY_API"

// Querier is the optional ability of a store to run queries itself. Keys in the result are complete.
type Querier interface {
	Query(ctx context.Context, text []byte, metadata map[string]string) (QueryResult, error)
}

// Query runs a Dapr state query (JSON filter, sort, page) over the application's keys, on a store that answers queries.
func (s *Service) Query(ctx context.Context, app, store string, text []byte, metadata map[string]string) (QueryResult, error) {
	t, err := s.target(app, store)
	if err != nil {
		return QueryResult{}, fault.From(err).ForGRPC() // over HTTP, too, Dapr's query names no application
	}
	querier, native := t.Store.(Querier)
	scanner, walks := t.Store.(Scanner)
	if !native && !(walks && slices.Contains(t.Features(), queryFeature)) {
		return QueryResult{}, fault.StateQueryUnsupported(store)
	}
	if t.keys != nil {
		return QueryResult{}, fault.StateQueryFailed(store, errors.New("cannot query encrypted store"))
	}
	q, err := parseQuery(text)
	if err != nil {
		return QueryResult{}, fault.StateQueryFailed(store, errors.New("failed to parse JSON query body: "+err.Error()))
	}
	start := s.begin()
	var res QueryResult
	if native {
		res, err = querier.Query(ctx, text, metadata)
	} else {
		res, err = q.run(ctx, t.Store, scanner, t.prefix+t.sep)
	}
	s.observed(&t, "query", start, err)
	if err != nil {
		return QueryResult{}, fault.StateQueryFailed(store, err)
	}
	for i := range res.Results {
		res.Results[i].Key = originalKey(res.Results[i].Key)
	}
	return res, nil
}
