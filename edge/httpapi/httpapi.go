// Package httpapi is Dapr's HTTP API (v1.0, v1.0-alpha1, v1.0-alpha2, v1.0-beta1) for one application. It decodes,
// calls a building block and encodes; what an answer means is decided by the blocks and by edge/fault.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/edged-io/edged/edge/invoke"
	"github.com/edged-io/edged/edge/metadata"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/edge/state"
)

// DefaultMaxBodySize is the largest request body, in bytes, unless Options say otherwise.
const DefaultMaxBodySize = 4 << 20

// State is the state building block. Values given to it are not kept after the call.
type State interface {
	// Check answers whether the application may use the store.
	Check(app, store string) error
	Get(ctx context.Context, app, store, key string, metadata map[string]string) (state.Read, error)
	BulkGet(ctx context.Context, app, store string, keys []string, metadata map[string]string) ([]state.Read, error)
	Save(ctx context.Context, app, store string, writes []state.Write) error
	Delete(ctx context.Context, app, store string, w state.Write) error
	Transact(ctx context.Context, app, store string, writes []state.Write, metadata map[string]string) error
	Query(ctx context.Context, app, store string, query []byte, metadata map[string]string) (state.QueryResult, error)
}

// PubSub is the publishing half of the publish and subscribe block.
type PubSub interface {
	Publish(ctx context.Context, app string, p pubsub.Publication) error
	BulkPublish(ctx context.Context, app string, p pubsub.Publication, entries []pubsub.BulkEntry) ([]pubsub.FailedEntry, error)
}

// Secrets is the secrets block.
type Secrets interface {
	Get(ctx context.Context, app, store, key string, metadata map[string]string) (map[string]string, error)
	BulkGet(ctx context.Context, app, store string, metadata map[string]string) (map[string]map[string]string, error)
}

// Invoker is the service invocation block.
type Invoker interface {
	Invoke(ctx context.Context, target string, r invoke.Request) (*invoke.Response, error)
}

// Options are what the API of an application needs. State, PubSub, Secrets and Metadata are required.
type Options struct {
	AppID     string
	Namespace string // named in some errors

	State    State
	PubSub   PubSub
	Secrets  Secrets
	Metadata *metadata.Service
	Invoke   Invoker // nil: service invocation is not ready

	MaxBodySize    int64               // bytes; 0: DefaultMaxBodySize
	APIToken       string              // expected in the header dapr-api-token; empty: none needed
	Access         *resource.APIAccess // which parts of the API may be used; nil: all
	AllowedOrigins string              // for CORS: a comma-separated list, or *; empty: no CORS headers

	Ready         func() bool     // nil: always
	Unready       func() []string // what is not ready, for the message; may be nil
	OutboundReady func() bool     // nil: as Ready
	Shutdown      func()          // asks the process to stop gracefully, and returns at once; nil: refused
	ForceShutdown func()          // asks it to exit at once with status 1; nil: as Shutdown

	Log       *slog.Logger
	LogCalls  bool                        // one record per call, as daprd's --enable-api-logging
	LogHealth bool                        // health checks too
	OnError   func(code, category string) // counts API errors; may be nil
	OnCall    func(Call)                  // observes calls; may be nil
}

type api struct {
	Options
	cors   *cors
	public bool
}

// New returns the API of one application. It is cheap and safe for concurrent use.
func New(o Options) http.Handler { return build(o, false) }

// NewPublic returns what daprd's public port serves: health and metadata, without a token.
func NewPublic(o Options) http.Handler {
	o.APIToken, o.AllowedOrigins, o.LogCalls = "", "", false
	return build(o, true)
}

func build(o Options, public bool) *api {
	if o.MaxBodySize <= 0 {
		o.MaxBodySize = DefaultMaxBodySize
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OutboundReady == nil {
		o.OutboundReady = o.Ready
	}
	if o.ForceShutdown == nil {
		o.ForceShutdown = o.Shutdown
	}
	return &api{Options: o, cors: newCORS(o.AllowedOrigins), public: public}
}
