package resource

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// Configuration is a Dapr Configuration resource: what one application's runtime may do and shows.
type Configuration struct {
	header `yaml:",inline"`
	Meta   Meta `yaml:"metadata"`
	Spec   ConfigurationSpec
	Source Source `yaml:"-"`
}

// ConfigurationSpec has one part per concern; a nil part was not given.
type ConfigurationSpec struct {
	HTTPPipeline    *Pipeline `yaml:"httpPipeline"`
	AppHTTPPipeline *Pipeline `yaml:"appHttpPipeline"`
	Tracing         *Tracing
	MTLS            *MTLS `yaml:"mtls"`
	Metric          *Metrics
	Metrics         *Metrics // what it sets goes before Metric
	Secrets         *Secrets
	AccessControl   *AccessControl
	NameResolution  *NameResolution
	Features        []Feature
	API             *APIAccess `yaml:"api"`
	Components      *ComponentAccess
	Logging         *Logging
	Wasm            *Wasm
	Workflow        *Workflow
}

// Pipeline is a chain of HTTP middleware components.
type Pipeline struct {
	Handlers []Handler
}

// Handler names a middleware component.
type Handler struct {
	Name     string
	Type     string
	Version  string
	Selector Selector
}

// Selector restricts a handler to requests whose fields match.
type Selector struct {
	Fields []SelectorField
}

// SelectorField is one condition of a Selector.
type SelectorField struct {
	Field string
	Value string
}

// Tracing says which traces are kept and where they go.
type Tracing struct {
	SamplingRate string // from 0 to 1
	Stdout       bool
	Zipkin       *Zipkin
	Otel         *Otel
}

// Zipkin is a Zipkin collector.
type Zipkin struct {
	EndpointAddress string
}

// Otel is an OpenTelemetry collector.
type Otel struct {
	Protocol        string // grpc or http
	EndpointAddress string
	IsSecure        *bool // default true
	Headers         []string
	Timeout         *time.Duration
}

// MTLS is read and kept, as a control plane would use it; edged itself has none.
type MTLS struct {
	Enabled                 bool
	WorkloadCertTTL         string `yaml:"workloadCertTTL"`
	AllowedClockSkew        string
	SentryAddress           string
	ControlPlaneTrustDomain string
	TokenValidators         []TokenValidator
}

// TokenValidator is part of MTLS.
type TokenValidator struct {
	Name    string
	Options any
}

// Metrics says whether metrics are served and how detailed they are; nil means the default.
type Metrics struct {
	Enabled                    *bool
	RecordErrorCodes           *bool
	HTTP                       *HTTPMetrics `yaml:"http"`
	LatencyDistributionBuckets []int
	Rules                      []MetricRule
}

// HTTPMetrics says how detailed the metrics of HTTP requests are.
type HTTPMetrics struct {
	IncreasedCardinality *bool
	PathMatching         []string
	ExcludeVerbs         *bool
}

// MetricRule rewrites the labels of a metric.
type MetricRule struct {
	Name   string
	Labels []MetricLabel
}

// MetricLabel maps values of a label to the expressions that they stand for.
type MetricLabel struct {
	Name  string
	Regex map[string]string
}

// Secrets restricts which secrets an application may read.
type Secrets struct {
	Scopes []SecretScope
}

// SecretScope is what an application may read of one secret store.
type SecretScope struct {
	StoreName      string
	DefaultAccess  string // allow (default) or deny
	AllowedSecrets []string
	DeniedSecrets  []string
}

// AccessControl says which applications may call this one.
type AccessControl struct {
	DefaultAction string
	TrustDomain   string
	Policies      []AppPolicy
}

// AppPolicy is what one calling application may do.
type AppPolicy struct {
	AppID         string `yaml:"appId"`
	DefaultAction string
	TrustDomain   string
	Namespace     string
	Operations    []AppOperation
}

// AppOperation allows or denies a path.
type AppOperation struct {
	Name     string
	HTTPVerb []string `yaml:"httpVerb"`
	Action   string
}

// NameResolution chooses how applications are found.
type NameResolution struct {
	Component     string
	Version       string
	Configuration any
}

// Feature switches a preview feature.
type Feature struct {
	Name    string
	Enabled bool
}

// APIAccess restricts the API: with Allowed rules only those, without Denied ones.
type APIAccess struct {
	Allowed []APIRule
	Denied  []APIRule
}

// APIRule names a part of the API.
type APIRule struct {
	Name     string
	Version  string
	Protocol string // http or grpc
}

// ComponentAccess lists component types that may not be used.
type ComponentAccess struct {
	Deny []string
}

// Logging configures the log of API calls.
type Logging struct {
	APILogging *APILogging `yaml:"apiLogging"`
}

// APILogging says whether API calls are logged, and how.
type APILogging struct {
	Enabled          bool
	ObfuscateURLs    bool `yaml:"obfuscateURLs"`
	OmitHealthChecks bool
}

// Wasm is read and kept; edged runs no WebAssembly components yet.
type Wasm struct {
	StrictSandbox bool
}

// Workflow bounds workflows and says how long finished ones are kept.
type Workflow struct {
	MaxConcurrentWorkflowInvocations       int32
	MaxConcurrentActivityInvocations       int32
	GlobalMaxConcurrentWorkflowInvocations *int32
	GlobalMaxConcurrentActivityInvocations *int32
	WorkflowConcurrencyLimits              []ConcurrencyLimit
	ActivityConcurrencyLimits              []ConcurrencyLimit
	StateRetentionPolicy                   *RetentionPolicy
}

// ConcurrencyLimit bounds one workflow or activity by name.
type ConcurrencyLimit struct {
	Name          string
	MaxConcurrent int32
}

// RetentionPolicy says how long the state of a finished workflow is kept; nil means for ever.
type RetentionPolicy struct {
	AnyTerminal *time.Duration
	Completed   *time.Duration
	Failed      *time.Duration
	Terminated  *time.Duration
}

// DefaultConfiguration is what applies where no Configuration says otherwise.
func DefaultConfiguration() Configuration {
	yes := true
	secure := true
	return Configuration{Spec: ConfigurationSpec{
		Tracing:       &Tracing{Otel: &Otel{IsSecure: &secure}},
		Metric:        &Metrics{Enabled: &yes},
		AccessControl: &AccessControl{DefaultAction: "allow", TrustDomain: "public"},
	}}
}

// Validate reports what daprd refuses too, and rates and formats that nobody could use.
func (c Configuration) Validate(report func(field, value, problem, hint string)) {
	if c.Spec.Secrets != nil {
		validateSecretScopes(c.Spec.Secrets.Scopes, report)
	}
	if t := c.Spec.Tracing; t != nil && t.SamplingRate != "" {
		if rate, err := strconv.ParseFloat(t.SamplingRate, 64); err != nil || !(rate >= 0 && rate <= 1) {
			report("spec.tracing.samplingRate", t.SamplingRate, "is not a rate", "a number from 0 to 1")
		}
	}
	for i, f := range c.Spec.Features {
		if f.Name == "" {
			report("spec.features["+strconv.Itoa(i)+"].name", "", "is missing", "")
		}
	}
}

func validateSecretScopes(scopes []SecretScope, report func(field, value, problem, hint string)) {
	seen := map[string]bool{}
	for i, s := range scopes {
		at := "spec.secrets.scopes[" + strconv.Itoa(i) + "]"
		if seen[s.StoreName] {
			report(at+".storeName", s.StoreName, s.StoreName+" storeName is repeated in secrets configuration", "")
		}
		seen[s.StoreName] = true
		switch strings.ToLower(s.DefaultAccess) {
		case "", "allow", "deny":
		default:
			report(at+".defaultAccess", s.DefaultAccess, "defaultAccess "+s.DefaultAccess+" can be either allow or deny", "")
		}
	}
}

// EffectiveMetrics is Metric with what Metrics sets.
func (s ConfigurationSpec) EffectiveMetrics() Metrics {
	var m Metrics
	if s.Metric != nil {
		m = *s.Metric
	}
	if s.Metrics == nil {
		return m
	}
	if s.Metrics.Enabled != nil {
		m.Enabled = s.Metrics.Enabled
	}
	if s.Metrics.RecordErrorCodes != nil {
		m.RecordErrorCodes = s.Metrics.RecordErrorCodes
	}
	if s.Metrics.HTTP != nil {
		m.HTTP = s.Metrics.HTTP
	}
	if len(s.Metrics.LatencyDistributionBuckets) > 0 {
		m.LatencyDistributionBuckets = s.Metrics.LatencyDistributionBuckets
	}
	if len(s.Metrics.Rules) > 0 {
		m.Rules = s.Metrics.Rules
	}
	return m
}

// Enables reports whether a feature is switched on; the last entry of a name counts.
func (s ConfigurationSpec) Enables(feature string) bool {
	on := false
	for _, f := range s.Features {
		if f.Name == feature {
			on = f.Enabled
		}
	}
	return on
}

// LoadConfiguration reads Configuration files over the defaults, later ones over earlier ones: a part that a later file
// gives replaces its lists and adds to the rest. $NAME and ${NAME} in a file are replaced from the environment first, as
// daprd does. Only the first document of a file counts. In lenient mode fields that are not known are ignored.
func LoadConfiguration(files []string, o Options) (Configuration, Faults) {
	c := DefaultConfiguration()
	var faults Faults
	for _, file := range files {
		data, fault := readFile(file)
		if fault != nil {
			faults = append(faults, *fault)
			continue
		}
		d := newDecoder(file, o.Lenient)
		docs := parseFile(file, []byte(os.ExpandEnv(string(data))))
		if len(docs) == 0 {
			continue
		}
		if docs[0].fault != nil {
			faults = append(faults, *docs[0].fault)
			continue
		}
		if h, ok := readHeader(docs[0].root, o.Lenient); !o.Lenient && (!ok || h.Kind != kindConfiguration) {
			faults = append(faults, Fault{
				File: file, Line: docs[0].offset + docs[0].root.Line, Field: "kind", Value: strconv.Quote(h.Kind),
				Problem: "is not a Configuration", Hint: "kind: Configuration",
			})
			continue
		}
		if o.Lenient {
			d.decodeOnly(docs[0], &c)
		} else {
			d.decode(docs[0], &c)
		}
		c.Source = Source{File: file, Line: d.lineOf(""), lines: d.lines}
		d.faults.sort()
		faults = append(faults, d.faults...)
	}
	if o.Lenient && c.Spec.Secrets != nil { // the one thing that daprd checks
		validateSecretScopes(c.Spec.Secrets.Scopes, func(field, value, problem, hint string) {
			faults = append(faults, c.Source.Fault(field, value, problem, hint))
		})
	}
	return c, faults
}
