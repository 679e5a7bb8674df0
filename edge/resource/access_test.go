package resource_test

import (
	"testing"

	"github.com/edged-io/edged/edge/resource"
)

func TestAPIAccess_Permits(t *testing.T) {
	var none *resource.APIAccess
	some := &resource.APIAccess{
		Allowed: []resource.APIRule{{Name: "state", Version: "v1", Protocol: "http"}, {Name: "publish", Version: "v1.0-alpha1", Protocol: "HTTP"}},
		Denied:  []resource.APIRule{{Name: "secrets", Version: "v1", Protocol: "grpc"}, {Name: "publish", Version: "v1alpha1", Protocol: "http"}},
	}
	for _, c := range []struct {
		a                       *resource.APIAccess
		protocol, version, name string
		want                    bool
	}{
		{none, "http", "v1", "state", true},
		{some, "http", "v1.0", "state", true},
		{some, "http", "v1.0-alpha1", "state", false},
		{some, "http", "v1.0", "secrets", false},        // not allowed
		{some, "http", "v1.0-alpha1", "publish", false}, // denied although allowed
		{some, "grpc", "v1", "secrets", false},
		{some, "grpc", "v1", "state", true}, // nothing is allowed by name over gRPC
	} {
		if got := c.a.Permits(c.protocol, c.version, c.name); got != c.want {
			t.Errorf("%s %s/%s: %v", c.protocol, c.version, c.name, got)
		}
	}
}
