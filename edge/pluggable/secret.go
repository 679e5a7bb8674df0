package pluggable

import (
	"context"

	proto "github.com/dapr/dapr/pkg/proto/components/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/secret"
)

// SecretStore is a secret store in a process of its own. It is safe for concurrent use.
type SecretStore struct{ *link }

var _ secret.Store = (*SecretStore)(nil)

// NewSecretStore attaches the secret store behind a socket. A process that is away is no error.
func NewSecretStore(ctx context.Context, spec component.Spec, socket string) (*SecretStore, error) {
	l, err := open(ctx, spec, socket, func(ctx context.Context, conn *grpc.ClientConn) ([]string, error) {
		client := proto.NewSecretStoreClient(conn)
		if _, err := client.Init(ctx, &proto.SecretStoreInitRequest{Metadata: properties(spec)}); err != nil {
			return nil, kind(err, "secret store")
		}
		f, err := client.Features(ctx, &proto.FeaturesRequest{})
		return f.GetFeatures(), err
	})
	if err != nil {
		return nil, err
	}
	return &SecretStore{l}, nil
}

// Get returns the keys and values of a secret. What the component calls NotFound is secret.ErrNotFound.
func (s *SecretStore) Get(ctx context.Context, name string, metadata map[string]string) (map[string]string, error) {
	conn, err := s.use()
	if err != nil {
		return nil, err
	}
	r, err := proto.NewSecretStoreClient(conn).Get(ctx, &proto.GetSecretRequest{Key: name, Metadata: metadata})
	if status.Code(err) == codes.NotFound {
		return nil, secret.NotFound(name)
	}
	return r.GetData(), translate(err)
}

// BulkGet returns every secret by name.
func (s *SecretStore) BulkGet(ctx context.Context, metadata map[string]string) (map[string]map[string]string, error) {
	conn, err := s.use()
	if err != nil {
		return nil, err
	}
	r, err := proto.NewSecretStoreClient(conn).BulkGet(ctx, &proto.BulkGetSecretRequest{Metadata: metadata})
	if err != nil {
		return nil, translate(err)
	}
	out := make(map[string]map[string]string, len(r.GetData()))
	for name, v := range r.GetData() {
		out[name] = v.GetSecrets()
	}
	return out, nil
}
