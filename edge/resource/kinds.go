package resource

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Subscription is a Dapr Subscription resource, of v1alpha1 (one route) or v2alpha1 (rules).
type Subscription struct {
	Meta            Meta
	PubSub          string
	Topic           string
	Metadata        map[string]string
	Rules           []Rule // in order; a rule without Match is the default and comes last
	DeadLetterTopic string
	Bulk            BulkSubscribe
	Scopes          []string // application ids; empty: all
	Source          Source
}

// Rule sends events that Match (CEL over event.*) to Path; an empty Match takes every event.
type Rule struct {
	Match string
	Path  string
}

// BulkSubscribe asks for events in batches.
type BulkSubscribe struct {
	Enabled            bool
	MaxMessagesCount   int32
	MaxAwaitDurationMs int32
}

// subscriptionV1 is the resource as v1alpha1 writes it.
type subscriptionV1 struct {
	header `yaml:",inline"`
	Meta   Meta `yaml:"metadata"`
	Spec   struct {
		subscriptionSpec `yaml:",inline"`
		Route            string
	}
	Scopes []string
}

// subscriptionV2 is the resource as v2alpha1 writes it.
type subscriptionV2 struct {
	header `yaml:",inline"`
	Meta   Meta `yaml:"metadata"`
	Spec   struct {
		subscriptionSpec `yaml:",inline"`
		Routes           struct {
			Rules   []Rule
			Default string
		}
	}
	Scopes []string
}

// subscriptionSpec is what both versions have.
type subscriptionSpec struct {
	PubSubName      string `yaml:"pubsubname"`
	Topic           string
	Metadata        map[string]string
	DeadLetterTopic string
	BulkSubscribe   BulkSubscribe
}

func (s subscriptionSpec) subscription(m Meta, scopes []string) Subscription {
	return Subscription{
		Meta: m, PubSub: s.PubSubName, Topic: s.Topic, Metadata: s.Metadata,
		DeadLetterTopic: s.DeadLetterTopic, Bulk: s.BulkSubscribe, Scopes: scopes,
	}
}

// subscription returns the subscription with its one route; as in daprd, an empty route means no rule at all.
func (s subscriptionV1) subscription() Subscription {
	out := s.Spec.subscription(s.Meta, s.Scopes)
	if s.Spec.Route != "" {
		out.Rules = []Rule{{Path: s.Spec.Route}}
	}
	return out
}

func (s subscriptionV2) subscription() Subscription {
	out := s.Spec.subscription(s.Meta, s.Scopes)
	out.Rules = s.Spec.Routes.Rules
	if s.Spec.Routes.Default != "" {
		out.Rules = append(out.Rules, Rule{Path: s.Spec.Routes.Default})
	}
	return out
}

// Validate reports what the subscription lacks.
func (s subscriptionV1) Validate(report func(field, value, problem, hint string)) {
	s.Spec.validate(s.Meta, report)
	if s.Spec.Route == "" {
		report("spec.route", "", "is missing", "the path that events are posted to, such as /orders")
	}
}

// Validate reports what the subscription lacks.
func (s subscriptionV2) Validate(report func(field, value, problem, hint string)) {
	s.Spec.validate(s.Meta, report)
	if len(s.Spec.Routes.Rules) == 0 && s.Spec.Routes.Default == "" {
		report("spec.routes", "", "has no rule and no default", "default: /orders")
	}
	for i, r := range s.Spec.Routes.Rules {
		if r.Path == "" {
			report("spec.routes.rules["+strconv.Itoa(i)+"].path", "", "is missing", "such as /orders")
		}
	}
}

func (s subscriptionSpec) validate(m Meta, report func(field, value, problem, hint string)) {
	needName(m, report)
	if s.PubSubName == "" {
		report("spec.pubsubname", "", "is missing", "the name of a pub/sub component")
	}
	if s.Topic == "" {
		report("spec.topic", "", "is missing", "")
	}
	if s.BulkSubscribe.MaxMessagesCount < 0 {
		report("spec.bulkSubscribe.maxMessagesCount", strconv.Itoa(int(s.BulkSubscribe.MaxMessagesCount)), "is negative", "")
	}
	if s.BulkSubscribe.MaxAwaitDurationMs < 0 {
		report("spec.bulkSubscribe.maxAwaitDurationMs", strconv.Itoa(int(s.BulkSubscribe.MaxAwaitDurationMs)), "is negative", "")
	}
}

// HTTPEndpoint is a Dapr HTTPEndpoint resource: an HTTP server that applications invoke by name.
type HTTPEndpoint struct {
	header `yaml:",inline"`
	Meta   Meta `yaml:"metadata"`
	Spec   HTTPEndpointSpec
	Auth   Auth
	Scopes []string
	Source Source `yaml:"-"`
}

// HTTPEndpointSpec says where the endpoint is and what every request to it carries.
type HTTPEndpointSpec struct {
	BaseURL   string `yaml:"baseUrl"`
	Headers   []Property
	ClientTLS *ClientTLS `yaml:"clientTLS"`
}

// ClientTLS is how a client trusts a server and proves itself.
type ClientTLS struct {
	RootCA        *Document `yaml:"rootCA"`
	Certificate   *Document
	PrivateKey    *Document
	Renegotiation string `enum:"Never,OnceAsClient,FreelyAsClient"`
}

// Document is a PEM document, written out or referred to.
type Document struct {
	Value        Value
	SecretKeyRef SecretKeyRef
}

// String names an endpoint as daprd's messages do.
func (h HTTPEndpoint) String() string { return h.Meta.Name + " (" + h.Spec.BaseURL + ")" }

// Validate reports what the endpoint lacks.
func (h HTTPEndpoint) Validate(report func(field, value, problem, hint string)) {
	needName(h.Meta, report)
	switch u, err := url.Parse(h.Spec.BaseURL); {
	case h.Spec.BaseURL == "":
		report("spec.baseUrl", "", "is missing", "such as https://api.example")
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		report("spec.baseUrl", h.Spec.BaseURL, "is not an HTTP address", "such as https://api.example")
	}
	validateProperties("spec.headers", h.Spec.Headers, h.Auth.SecretStore, report)
}

// Resiliency is a Dapr Resiliency resource. Policies stay text here: edge/resiliency gives them their meaning.
type Resiliency struct {
	header `yaml:",inline"`
	Meta   Meta `yaml:"metadata"`
	Spec   ResiliencySpec
	Scopes []string
	Source Source `yaml:"-"`
}

// ResiliencySpec has named policies and what they apply to.
type ResiliencySpec struct {
	Policies Policies
	Targets  Targets
}

// Policies are timeouts (durations), retries and circuit breakers by name.
type Policies struct {
	Timeouts        map[string]string
	Retries         map[string]Retry
	CircuitBreakers map[string]CircuitBreaker
}

// Retry is a retry policy: constant or exponential.
type Retry struct {
	Policy      string
	Duration    string
	MaxInterval string
	MaxRetries  *int // absent or negative: without end
	Matching    *RetryMatching
}

// RetryMatching says which status codes are tried again, as lists of codes and ranges (such as 429,500-599).
type RetryMatching struct {
	HTTPStatusCodes string `yaml:"httpStatusCodes"`
	GRPCStatusCodes string `yaml:"gRPCStatusCodes"`
}

// CircuitBreaker opens when Trip (an expression over consecutiveFailures, requests, totalFailures) holds.
type CircuitBreaker struct {
	MaxRequests int
	Interval    string
	Timeout     string
	Trip        string
}

// Targets maps applications, actor types and components to policies.
type Targets struct {
	Apps       map[string]EndpointPolicies
	Actors     map[string]ActorPolicies
	Components map[string]ComponentPolicies
}

// PolicyNames name the policies of one direction.
type PolicyNames struct {
	Timeout        string
	Retry          string
	CircuitBreaker string
}

// EndpointPolicies apply to calls of an application.
type EndpointPolicies struct {
	PolicyNames             `yaml:",inline"`
	CircuitBreakerCacheSize int
}

// ActorPolicies apply to calls of an actor type.
type ActorPolicies struct {
	PolicyNames             `yaml:",inline"`
	CircuitBreakerScope     string `enum:"type,id,both"`
	CircuitBreakerCacheSize int
}

// ComponentPolicies apply to calls into a component, and to what a component delivers.
type ComponentPolicies struct {
	Inbound  PolicyNames
	Outbound PolicyNames
}

// Validate reports durations that cannot be read and policies that targets name and nobody defines.
func (r Resiliency) Validate(report func(field, value, problem, hint string)) {
	needName(r.Meta, report)
	p := r.Spec.Policies
	for name, text := range p.Timeouts {
		needDuration("spec.policies.timeouts."+name, text, report)
	}
	for name, retry := range p.Retries {
		at := "spec.policies.retries." + name
		if kind := strings.ToLower(retry.Policy); kind != "" && kind != "constant" && kind != "exponential" {
			report(at+".policy", retry.Policy, "is not a retry policy", "constant or exponential")
		}
		needDuration(at+".duration", retry.Duration, report)
		needDuration(at+".maxInterval", retry.MaxInterval, report)
	}
	for name, breaker := range p.CircuitBreakers {
		at := "spec.policies.circuitBreakers." + name
		needDuration(at+".interval", breaker.Interval, report)
		needDuration(at+".timeout", breaker.Timeout, report)
	}
	for app, names := range r.Spec.Targets.Apps {
		p.need("spec.targets.apps."+app, names.PolicyNames, report)
	}
	for actor, names := range r.Spec.Targets.Actors {
		p.need("spec.targets.actors."+actor, names.PolicyNames, report)
	}
	for name, c := range r.Spec.Targets.Components {
		p.need("spec.targets.components."+name+".inbound", c.Inbound, report)
		p.need("spec.targets.components."+name+".outbound", c.Outbound, report)
	}
}

// need reports names that are no policies of p.
func (p Policies) need(at string, names PolicyNames, report func(field, value, problem, hint string)) {
	missing := func(kind, name string, found bool) {
		if name != "" && !found {
			report(at+"."+kind, name, "is not the name of a policy here", "define it under spec.policies")
		}
	}
	_, ok := p.Timeouts[names.Timeout]
	missing("timeout", names.Timeout, ok)
	_, ok = p.Retries[names.Retry]
	missing("retry", names.Retry, ok || strings.HasPrefix(names.Retry, "Dapr"))
	_, ok = p.CircuitBreakers[names.CircuitBreaker]
	missing("circuitBreaker", names.CircuitBreaker, ok)
}

// needName reports a resource name that is missing or cannot be part of a path.
func needName(m Meta, report func(field, value, problem, hint string)) {
	if m.Name == "" {
		report("metadata.name", "", "is missing", "")
		return
	}
	if problem := nameProblem(m.Name); problem != "" {
		report("metadata.name", m.Name, problem, "")
	}
}

// nameProblem says why a name cannot be a resource's, by the rule of Kubernetes path segments; empty if it can.
func nameProblem(name string) string {
	switch {
	case name == "." || name == "..":
		return "may not be '" + name + "'"
	case strings.Contains(name, "/"):
		return "may not contain '/'"
	case strings.Contains(name, "%"):
		return "may not contain '%'"
	}
	return ""
}

// needDuration reports text that is neither empty nor a duration.
func needDuration(field, text string, report func(field, value, problem, hint string)) {
	if text == "" {
		return
	}
	if _, err := time.ParseDuration(text); err != nil {
		report(field, text, "is not a duration", "write a number and a unit: 500ms, 30s, 15m")
	}
}
