package resiliency_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edged-io/edged/edge/resiliency"
	"github.com/edged-io/edged/edge/resource"
)

func policies(kind string, retries int) *resiliency.Policies {
	var r resource.Resiliency
	r.Spec.Policies.Retries = map[string]resource.Retry{"again": {Policy: kind, Duration: "1s", MaxInterval: "4s", MaxRetries: &retries}}
	r.Spec.Policies.Timeouts = map[string]string{"short": "2s"}
	r.Spec.Targets.Components = map[string]resource.ComponentPolicies{
		"bus":  {Inbound: resource.PolicyNames{Retry: "again"}, Outbound: resource.PolicyNames{Timeout: "short", CircuitBreaker: "cb"}},
		"none": {},
	}
	r.Scopes = []string{"app"}
	return resiliency.New([]resource.Resiliency{r})
}

func TestPolicies_Component(t *testing.T) {
	p := policies("constant", 3)
	if p.Component("app", "other", resiliency.Inbound) != nil || p.Component("stranger", "bus", resiliency.Inbound) != nil || p.Component("app", "none", resiliency.Inbound) != nil {
		t.Error("a policy where none applies")
	}
	if got := p.Unapplied(); len(got) != 1 || got[0] != "bus" {
		t.Errorf("unapplied: %v", got)
	}
}

func TestPolicy_Run(t *testing.T) {
	failure := errors.New("no")
	t.Run("Constant", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			calls, start := 0, time.Now()
			err := policies("constant", 3).Component("app", "bus", resiliency.Inbound).Run(t.Context(), func(context.Context) error { calls++; return failure })
			if !errors.Is(err, failure) || calls != 4 || time.Since(start) != 3*time.Second {
				t.Errorf("%v after %d calls in %v", err, calls, time.Since(start))
			}
		})
	})
	t.Run("ExponentialEndsWithContext", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			calls := 0
			err := policies("exponential", -1).Component("app", "bus", resiliency.Inbound).Run(ctx, func(context.Context) error { calls++; return failure })
			if !errors.Is(err, failure) || calls < 15 || calls > 40 {
				t.Errorf("%v after %d calls", err, calls)
			}
		})
	})
	t.Run("Timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			err := policies("constant", 3).Component("app", "bus", resiliency.Outbound).Run(t.Context(), func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	})
}
