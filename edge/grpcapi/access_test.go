package grpcapi_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/apitest"
	"github.com/edged-io/edged/edge/grpcapi"
	"github.com/edged-io/edged/edge/resource"
)

func TestAccess(t *testing.T) {
	o := options(apitest.Full(t))
	o.Access = &resource.APIAccess{Allowed: []resource.APIRule{{Name: "state", Version: "v1", Protocol: "grpc"}}}
	c := rtv1.NewDaprClient(dial(t, o))
	if err := get(t.Context(), c); err != nil {
		t.Error(err)
	}
	_, err := c.QueryStateAlpha1(t.Context(), &rtv1.QueryStateRequest{StoreName: "mystore"})
	if st := status.Convert(err); st.Code() != codes.Unimplemented || st.Message() != "Not Implemented" || len(st.Details()) != 1 {
		t.Error(err)
	}
	s, err := c.SubscribeTopicEventsAlpha1(t.Context())
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

// TestGroups checks that each call belongs to a part of the API, and some of them to the right one.
func TestGroups(t *testing.T) {
	methods := daprService(t).Methods()
	for i := range methods.Len() {
		if _, group := grpcapi.GroupOf(string(methods.Get(i).Name())); group == "" {
			t.Errorf("%s belongs to no group", methods.Get(i).Name())
		}
	}
	for call, want := range map[string][2]string{
		"GetState": {"v1", "state"}, "QueryStateAlpha1": {"v1alpha1", "state"}, "GetActorState": {"v1", "actors"}, "GetBulkSecret": {"v1", "secrets"},
		"BulkPublishEventAlpha1": {"v1alpha1", "publish"}, "StartWorkflowBeta1": {"v1beta1", "workflows"}, "ConverseAlpha2": {"v1alpha2", "conversation"},
		"SubscribeActorEventsAlpha1": {"v1alpha1", "actors"}, "UnlockAlpha1": {"v1alpha1", "unlock"}, "Shutdown": {"v1", "shutdown"}, "SetMetadata": {"v1", "metadata"},
		"SubscribeTopicEventsAlpha1": {"v1alpha1", "subscribe"}, "InvokeActor": {"v1", "actors"}, "InvokeService": {"v1", "invoke"},
	} {
		if version, group := grpcapi.GroupOf(call); [2]string{version, group} != want {
			t.Errorf("%s: %s %s", call, version, group)
		}
	}
}
