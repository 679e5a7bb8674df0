//go:build integration

// Package dapr runs Dapr's own integration cases against edged in drop-in mode. The cases stay in Dapr's module;
// run.sh names those that a single process without a control plane can pass, and says how to run them.
package dapr

import (
	"testing"

	"github.com/dapr/dapr/tests/integration"
)

func Test_Integration(t *testing.T) { integration.RunIntegrationTests(t) }
