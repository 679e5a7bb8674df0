// Package resiliency gives Dapr's Resiliency resources their meaning: timeouts and retries around calls into components
// and deliveries from them. Circuit breakers are read and not applied yet; Policies say which.
package resiliency

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/resource"
)

// The defaults of Dapr's retry policies.
const (
	defaultWait    = 5 * time.Second
	defaultMaxWait = time.Minute
)

// Policies finds the policy of a target. It is read-only after New and safe for concurrent use.
type Policies struct {
	resources []resource.Resiliency
}

// New returns the policies of the resources, which must have been validated. For a target that several resources name,
// the last one counts.
func New(resources []resource.Resiliency) *Policies { return &Policies{resources} }

// Direction tells deliveries from a component (Inbound) from calls into it (Outbound).
type Direction uint8

// The directions.
const (
	Inbound Direction = iota
	Outbound
)

// Component returns the policy for a component and an application, or nil if there is none.
func (p *Policies) Component(app, name string, d Direction) *Policy {
	for _, r := range slices.Backward(p.resources) {
		if len(r.Scopes) > 0 && !slices.Contains(r.Scopes, app) {
			continue
		}
		target, ok := r.Spec.Targets.Components[name]
		if !ok {
			continue
		}
		names := target.Inbound
		if d == Outbound {
			names = target.Outbound
		}
		return newPolicy(r.Spec.Policies, names)
	}
	return nil
}

// Unapplied names the circuit breakers that targets ask for.
func (p *Policies) Unapplied() []string {
	var out []string
	for _, r := range p.resources {
		for name, c := range r.Spec.Targets.Components {
			if c.Inbound.CircuitBreaker != "" || c.Outbound.CircuitBreaker != "" {
				out = append(out, name)
			}
		}
		for name, c := range r.Spec.Targets.Apps {
			if c.CircuitBreaker != "" {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Policy runs an operation with a deadline for each try, and again while it fails. It is safe for concurrent use.
type Policy struct {
	timeout       time.Duration // of one try; 0: none
	wait, maxWait time.Duration // maxWait 0: every wait is the same
	retries       int           // negative: without end
}

func newPolicy(all resource.Policies, names resource.PolicyNames) *Policy {
	p := &Policy{timeout: duration(all.Timeouts[names.Timeout], 0)}
	retry, ok := all.Retries[names.Retry]
	if !ok {
		if p.timeout == 0 {
			return nil
		}
		return p
	}
	p.wait, p.retries = duration(retry.Duration, defaultWait), -1
	if retry.MaxRetries != nil {
		p.retries = *retry.MaxRetries
	}
	if strings.EqualFold(retry.Policy, "exponential") {
		p.wait, p.maxWait = 500*time.Millisecond, duration(retry.MaxInterval, defaultMaxWait)
	}
	return p
}

func duration(text string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(text); err == nil {
		return d
	}
	return otherwise
}

// Run calls op until it succeeds, its retries are used up or ctx is done, and returns the last error.
func (p *Policy) Run(ctx context.Context, op func(context.Context) error) error {
	wait := p.wait
	for n := 0; ; n++ {
		err := p.try(ctx, op)
		if err == nil || ctx.Err() != nil || (p.retries >= 0 && n >= p.retries) {
			return err
		}
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
		if p.maxWait > 0 {
			wait = min(time.Duration(float64(wait)*(1+rand.Float64())), p.maxWait)
		}
	}
}

func (p *Policy) try(ctx context.Context, op func(context.Context) error) error {
	if p.timeout <= 0 {
		return op(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return op(ctx)
}
