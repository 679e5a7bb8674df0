package grpcapi

import (
	"context"
	"errors"
	"io"
	"time"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/fault"
)

// Blocks that daprd has and that are not configured here answer as daprd does then.

func (s *service) InvokeBinding(_ context.Context, in *rtv1.InvokeBindingRequest) (*rtv1.InvokeBindingResponse, error) {
	return refuse[rtv1.InvokeBindingResponse](s, fault.BindingNotFound(in.GetName()))
}

func (s *service) GetConfiguration(context.Context, *rtv1.GetConfigurationRequest) (*rtv1.GetConfigurationResponse, error) {
	return refuse[rtv1.GetConfigurationResponse](s, fault.ConfigurationNotConfigured())
}

func (s *service) GetConfigurationAlpha1(ctx context.Context, in *rtv1.GetConfigurationRequest) (*rtv1.GetConfigurationResponse, error) {
	return s.GetConfiguration(ctx, in)
}

func (s *service) SubscribeConfiguration(*rtv1.SubscribeConfigurationRequest, rtv1.Dapr_SubscribeConfigurationServer) error {
	return s.fail(fault.ConfigurationNotConfigured())
}

func (s *service) SubscribeConfigurationAlpha1(*rtv1.SubscribeConfigurationRequest, rtv1.Dapr_SubscribeConfigurationAlpha1Server) error {
	return s.fail(fault.ConfigurationNotConfigured())
}

// UnsubscribeConfiguration knows no subscription; Dapr says so in the answer, not with an error.
func (s *service) UnsubscribeConfiguration(_ context.Context, in *rtv1.UnsubscribeConfigurationRequest) (*rtv1.UnsubscribeConfigurationResponse, error) {
	if s.OnError != nil {
		s.OnError("ERR_CONFIGURATION_UNSUBSCRIBE", string(fault.Configuration))
	}
	return &rtv1.UnsubscribeConfigurationResponse{Message: fault.ConfigurationUnsubscribe(in.GetId(), "subscription does not exist")}, nil
}

func (s *service) UnsubscribeConfigurationAlpha1(ctx context.Context, in *rtv1.UnsubscribeConfigurationRequest) (*rtv1.UnsubscribeConfigurationResponse, error) {
	return s.UnsubscribeConfiguration(ctx, in)
}

func (s *service) TryLockAlpha1(_ context.Context, in *rtv1.TryLockRequest) (*rtv1.TryLockResponse, error) {
	if in.GetExpiryInSeconds() <= 0 {
		return refuse[rtv1.TryLockResponse](s, fault.LockExpiry(in.GetStoreName()))
	}
	return refuse[rtv1.TryLockResponse](s, fault.LockNotConfigured())
}

func (s *service) UnlockAlpha1(context.Context, *rtv1.UnlockRequest) (*rtv1.UnlockResponse, error) {
	return refuse[rtv1.UnlockResponse](s, fault.LockNotConfigured())
}

func (s *service) ConverseAlpha1(_ context.Context, in *rtv1.ConversationRequest) (*rtv1.ConversationResponse, error) { //nolint:staticcheck // deprecated, but part of the API
	return refuse[rtv1.ConversationResponse](s, fault.ConversationNotFound(in.GetName())) //nolint:staticcheck // as above
}

func (s *service) ConverseAlpha2(_ context.Context, in *rtv1.ConversationRequestAlpha2) (*rtv1.ConversationResponseAlpha2, error) {
	return refuse[rtv1.ConversationResponseAlpha2](s, fault.ConversationNotFound(in.GetName()))
}

// firstChunk is how long a stream may take to say what it wants.
const firstChunk = 5 * time.Second

// receive waits for the first message of a stream.
func receive[T any](ctx context.Context, recv func() (*T, error)) (*T, error) {
	type message struct {
		m   *T
		err error
	}
	got := make(chan message, 1) // when the handler returns, grpc-go lets recv return
	go func() {
		m, err := recv()
		got <- message{m, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, firstChunk)
	defer cancel()
	select {
	case m := <-got:
		if errors.Is(m.err, io.EOF) {
			return nil, fault.BadRequest("did not receive the first message")
		}
		return m.m, m.err
	case <-ctx.Done():
		return nil, fault.BadRequest("timed out while waiting for the first message")
	}
}

func (s *service) EncryptAlpha1(stream rtv1.Dapr_EncryptAlpha1Server) error {
	in, err := receive(stream.Context(), stream.Recv)
	if err != nil {
		return s.fail(err)
	}
	o := in.GetOptions()
	switch {
	case o == nil:
		return s.fail(fault.BadRequest("first message does not contain the required options"))
	case o.GetKeyName() == "":
		return s.fail(fault.BadRequest("missing property 'keyName' in the options message"))
	case o.GetKeyWrapAlgorithm() == "":
		return s.fail(fault.BadRequest("missing property 'keyWrapAlgorithm' in the options message"))
	}
	return s.fail(fault.CryptoNotConfigured())
}

func (s *service) DecryptAlpha1(stream rtv1.Dapr_DecryptAlpha1Server) error {
	in, err := receive(stream.Context(), stream.Recv)
	if err != nil {
		return s.fail(err)
	}
	if in.GetOptions() == nil {
		return s.fail(fault.BadRequest("first message does not contain the required options"))
	}
	return s.fail(fault.CryptoNotConfigured())
}

func (s *service) SubtleGetKeyAlpha1(context.Context, *rtv1.SubtleGetKeyRequest) (*rtv1.SubtleGetKeyResponse, error) {
	return refuse[rtv1.SubtleGetKeyResponse](s, fault.APIUnimplemented())
}

func (s *service) SubtleEncryptAlpha1(context.Context, *rtv1.SubtleEncryptRequest) (*rtv1.SubtleEncryptResponse, error) {
	return refuse[rtv1.SubtleEncryptResponse](s, fault.APIUnimplemented())
}

func (s *service) SubtleDecryptAlpha1(context.Context, *rtv1.SubtleDecryptRequest) (*rtv1.SubtleDecryptResponse, error) {
	return refuse[rtv1.SubtleDecryptResponse](s, fault.APIUnimplemented())
}

func (s *service) SubtleWrapKeyAlpha1(context.Context, *rtv1.SubtleWrapKeyRequest) (*rtv1.SubtleWrapKeyResponse, error) {
	return refuse[rtv1.SubtleWrapKeyResponse](s, fault.APIUnimplemented())
}

func (s *service) SubtleUnwrapKeyAlpha1(context.Context, *rtv1.SubtleUnwrapKeyRequest) (*rtv1.SubtleUnwrapKeyResponse, error) {
	return refuse[rtv1.SubtleUnwrapKeyResponse](s, fault.APIUnimplemented())
}

func (s *service) SubtleSignAlpha1(context.Context, *rtv1.SubtleSignRequest) (*rtv1.SubtleSignResponse, error) {
	return refuse[rtv1.SubtleSignResponse](s, fault.APIUnimplemented())
}

func (s *service) SubtleVerifyAlpha1(context.Context, *rtv1.SubtleVerifyRequest) (*rtv1.SubtleVerifyResponse, error) {
	return refuse[rtv1.SubtleVerifyResponse](s, fault.APIUnimplemented())
}
