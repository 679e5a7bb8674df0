// Package grpcapi is Dapr's gRPC API (service dapr.proto.runtime.v1.Dapr) for one application. It decodes, calls a
// building block and encodes; what an answer means is decided by the blocks and by edge/fault.
package grpcapi

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/edged-io/edged/edge/invoke"
	"github.com/edged-io/edged/edge/metadata"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/edge/state"
)

// DefaultMaxBodySize is the largest message, in bytes, unless Options say otherwise.
const DefaultMaxBodySize = 4 << 20

// State is the state building block. Values given to it are not kept after the call.
type State interface {
	Get(ctx context.Context, app, store, key string, metadata map[string]string) (state.Read, error)
	BulkGet(ctx context.Context, app, store string, keys []string, metadata map[string]string) ([]state.Read, error)
	Save(ctx context.Context, app, store string, writes []state.Write) error
	Delete(ctx context.Context, app, store string, w state.Write) error
	BulkDelete(ctx context.Context, app, store string, writes []state.Write) error
	Transact(ctx context.Context, app, store string, writes []state.Write, metadata map[string]string) error
	Query(ctx context.Context, app, store string, query []byte, metadata map[string]string) (state.QueryResult, error)
}

// PubSub is the publish and subscribe block.
type PubSub interface {
	Publish(ctx context.Context, app string, p pubsub.Publication) error
	BulkPublish(ctx context.Context, app string, p pubsub.Publication, entries []pubsub.BulkEntry) ([]pubsub.FailedEntry, error)
	OpenStream(ctx context.Context, r pubsub.StreamRequest) (*pubsub.Stream, error)
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

	MaxBodySize    int64               // bytes of a message, received or sent; 0: DefaultMaxBodySize
	MaxHeaderBytes uint32              // bytes of a call's metadata; 0: grpc-go's default
	APIToken       string              // expected in the metadata dapr-api-token; empty: none needed
	Access         *resource.APIAccess // which parts of the API may be used; nil: all

	Shutdown      func() // asks the process to stop gracefully, and returns at once; nil: refused
	ForceShutdown func() // asks it to exit at once with status 1; nil: as Shutdown

	// Unknown serves calls of services that are not registered, such as calls to be passed on to another application;
	// nil: they are Unimplemented.
	Unknown grpc.StreamHandler

	Log      *slog.Logger
	LogCalls bool                        // one record per call, as daprd's --enable-api-logging
	OnError  func(code, category string) // counts API errors; may be nil
	OnCall   func(Call)                  // observes calls; may be nil
}

// Call is one answered call, for metrics and logs. For a stream it is the whole of it.
type Call struct {
	Method    string // such as /dapr.proto.runtime.v1.Dapr/GetState
	UserAgent string
	Stream    bool
	Code      uint32 // gRPC status code
	Duration  time.Duration
}
