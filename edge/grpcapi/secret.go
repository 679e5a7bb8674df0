package grpcapi

import (
	"context"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
)

func (s *service) GetSecret(ctx context.Context, in *rtv1.GetSecretRequest) (*rtv1.GetSecretResponse, error) {
	secret, err := s.Secrets.Get(ctx, s.AppID, in.GetStoreName(), in.GetKey(), in.GetMetadata())
	if err != nil {
		return nil, s.fail(err)
	}
	return &rtv1.GetSecretResponse{Data: secret}, nil
}

func (s *service) GetBulkSecret(ctx context.Context, in *rtv1.GetBulkSecretRequest) (*rtv1.GetBulkSecretResponse, error) {
	secrets, err := s.Secrets.BulkGet(ctx, s.AppID, in.GetStoreName(), in.GetMetadata())
	if err != nil {
		return nil, s.fail(err)
	}
	out := &rtv1.GetBulkSecretResponse{Data: make(map[string]*rtv1.SecretResponse, len(secrets))}
	for name, secret := range secrets {
		out.Data[name] = &rtv1.SecretResponse{Secrets: secret}
	}
	return out, nil
}
