package grpcapi

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc"

	"github.com/edged-io/edged/edge/fault"
)

// access lets only calls through that the Configuration's spec.api permits. Services other than Dapr's are not its concern.
type access struct{ *Options }

func (a *access) check(method string) error {
	call, ok := strings.CutPrefix(method, "/dapr.proto.runtime.v1.Dapr/")
	if !ok {
		return nil
	}
	version, group := groupOf(call)
	if a.Access.Permits("grpc", version, group) {
		return nil
	}
	return a.fail(&fault.Error{
		Category: fault.Common, Reason: http.StatusText(http.StatusNotImplemented), HTTP: http.StatusNotImplemented,
		GRPC: fault.Unimplemented, Message: http.StatusText(http.StatusNotImplemented),
		Metadata: map[string]string{"http.code": "501", "http.error_message": "requested endpoint is not available"},
	})
}

func (a *access) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := a.check(info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (a *access) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := a.check(info.FullMethod); err != nil {
		return err
	}
	return next(srv, ss)
}

// groupOf names the part of the API that a call belongs to, as rules in spec.api do.
func groupOf(call string) (version, group string) {
	version = "v1"
	for _, preview := range []string{"Alpha1", "Alpha2", "Beta1"} {
		if strings.HasSuffix(call, preview) {
			version = "v1" + strings.ToLower(preview)
		}
	}
	switch {
	case strings.HasPrefix(call, "Subtle"):
		return version, "subtlecrypto"
	case strings.HasPrefix(call, "SubscribeTopicEvents"):
		return version, "subscribe"
	case strings.HasPrefix(call, "Converse"):
		return version, "conversation"
	case strings.Contains(call, "Workflow"):
		return version, "workflows"
	case strings.Contains(call, "Actor"):
		return version, "actors"
	case strings.Contains(call, "Configuration"):
		return version, "configuration"
	case strings.Contains(call, "Job"):
		return version, "jobs"
	case strings.Contains(call, "State"):
		return version, "state"
	case strings.Contains(call, "Secret"):
		return version, "secrets"
	case strings.Contains(call, "Publish"):
		return version, "publish"
	case strings.HasSuffix(call, "Metadata"):
		return version, "metadata"
	}
	return version, map[string]string{
		"InvokeService": "invoke", "InvokeBinding": "bindings", "TryLockAlpha1": "lock", "UnlockAlpha1": "unlock",
		"EncryptAlpha1": "crypto", "DecryptAlpha1": "crypto", "Shutdown": "shutdown",
	}[call]
}
