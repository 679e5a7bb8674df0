package resource_test

import (
	"testing"

	"github.com/edged-io/edged/edge/resource"
)

// BenchmarkLoad is part of what a start costs.
func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, faults := resource.Load([]string{"../../configs/resources"}, resource.Options{}); len(faults) > 0 {
			b.Fatal(faults)
		}
	}
}
