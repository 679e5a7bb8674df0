package resource_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/resource"
)

// folder writes files into a new folder and returns its path.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// component returns a Component document.
func component(name, kind string, more ...string) string {
	return "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: " + name + "\nspec:\n  type: " + kind + "\n" +
		strings.Join(more, "\n") + "\n---\n"
}

func names(set resource.Set) (out []string) {
	for _, c := range set.Components {
		out = append(out, c.Meta.Name)
	}
	return out
}

func TestLoad(t *testing.T) {
	dir := folder(t, map[string]string{
		"b.yml":        component("b", "pubsub.durable") + "# only a comment\n---\n\n---\n" + component("secrets", "secretstores.local.env"),
		"a.YAML":       component("a", "state.bbolt"),
		"sub/c.yaml":   component("c", "state.bbolt"),
		"README.md":    "not YAML: [",
		".hidden":      "x",
		"others.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n---\napiVersion: dapr.io/v1alpha1\nkind: MCPServer\nmetadata: {name: m}\nspec: {x: y}\n",
		"subs.yaml":    v1Subscription + "\n---\n" + v2Subscription,
		"conf.yaml":    configuration,
		"res.yaml":     resiliency,
		"endpoint.yml": endpoint,
	})
	var logged bytes.Buffer
	set, faults := resource.Load([]string{dir}, resource.Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	if got := names(set); !reflect.DeepEqual(got, []string{"secrets", "a", "b"}) {
		t.Errorf("components %v: secret stores first, then by folder order", got)
	}
	for _, want := range []string{"README.md", "ConfigMap", "MCPServer"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("log does not mention %s:\n%s", want, &logged)
		}
	}
	if strings.Contains(logged.String(), ".hidden") {
		t.Error("log mentions a hidden file")
	}
	checkSubscriptions(t, set.Subscriptions)
	if c := set.Configurations[0].Spec; !c.Enables("Preview") || c.Secrets.Scopes[0].AllowedSecrets[0] != "one" || !*c.Tracing.Otel.IsSecure ||
		*c.Workflow.StateRetentionPolicy.AnyTerminal != 72*time.Hour || *c.EffectiveMetrics().Enabled {
		t.Errorf("configuration %+v", c)
	}
	if r := set.Resiliencies[0].Spec; *r.Policies.Retries["important"].MaxRetries != 3 || r.Targets.Apps["orders"].Retry != "important" ||
		r.Policies.Retries["important"].Matching.HTTPStatusCodes != "429" {
		t.Errorf("resiliency %+v", r)
	}
	if h := set.HTTPEndpoints[0]; h.Spec.BaseURL != "https://api.example" || h.Spec.ClientTLS.RootCA.SecretKeyRef.Key != "ca.pem" {
		t.Errorf("endpoint %+v", h)
	}
}

const v1Subscription = `apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: one}
spec:
  pubsubname: pubsub
  topic: orders
  route: /orders
  metadata: {rawPayload: "true"}
  deadLetterTopic: poison
scopes: [app1]
`

const v2Subscription = `apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: two}
spec:
  pubsubname: pubsub
  topic: orders
  routes:
    rules:
      - {match: event.type == "widget", path: /widgets}
    default: /products
  bulkSubscribe: {enabled: true, maxMessagesCount: 10, maxAwaitDurationMs: 20}
`

const configuration = `apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: conf}
spec:
  features: [{name: Preview, enabled: true}]
  tracing: {samplingRate: 1, otel: {endpointAddress: "127.0.0.1:4317", protocol: grpc}}
  metrics: {enabled: false}
  secrets: {scopes: [{storeName: s, defaultAccess: Deny, allowedSecrets: [one]}]}
  workflow: {stateRetentionPolicy: {anyTerminal: 72h}}
`

const resiliency = `apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: res}
spec:
  policies:
    timeouts: {general: 5s}
    retries: {important: {policy: constant, duration: 5s, maxRetries: 3, matching: {httpStatusCodes: 429}}}
    circuitBreakers: {simple: {maxRequests: 1, timeout: 30s, trip: consecutiveFailures >= 5}}
  targets:
    apps: {orders: {timeout: general, retry: important, circuitBreaker: simple, circuitBreakerCacheSize: 10}}
    components: {state: {outbound: {retry: important}}}
`

const endpoint = `apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {name: api}
spec:
  baseUrl: https://api.example
  headers: [{name: Accept, value: application/json}]
  clientTLS: {rootCA: {secretKeyRef: {name: tls, key: ca.pem}}}
auth: {secretStore: s}
`

func checkSubscriptions(t *testing.T, got []resource.Subscription) {
	t.Helper()
	want := []resource.Subscription{
		{
			Meta: resource.Meta{Name: "one"}, PubSub: "pubsub", Topic: "orders", Metadata: map[string]string{"rawPayload": "true"},
			Rules: []resource.Rule{{Path: "/orders"}}, DeadLetterTopic: "poison", Scopes: []string{"app1"},
		},
		{
			Meta: resource.Meta{Name: "two"}, PubSub: "pubsub", Topic: "orders",
			Rules: []resource.Rule{{Match: `event.type == "widget"`, Path: "/widgets"}, {Path: "/products"}},
			Bulk:  resource.BulkSubscribe{Enabled: true, MaxMessagesCount: 10, MaxAwaitDurationMs: 20},
		},
	}
	for i := range got {
		got[i].Source = resource.Source{}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("subscriptions\n got %+v\nwant %+v", got, want)
	}
}

func TestLoad_EveryFaultAtOnce(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.yaml": "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {nam: a}\nspec: {type: state, initTimeout: soon}\n" +
			"---\nbroken: [\n---\n" + component("ok", "state.bbolt") +
			"apiVersion: dapr.io/v1alpha1\nkind: Componnet\nmetadata: {name: x}\n---\nmetadata: {name: y}\n---\n" +
			"apiVersion: dapr.io/v3\nkind: Subscription\n---\n- list\n",
		"b.yaml": component("refs", "state.bbolt", "  metadata:", "  - {name: p, secretKeyRef: {name: s}}", "  - {name: P, value: x}", "  - {value: y}"),
		"c.yaml": "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: r}\nspec:\n  targets:\n    apps:\n      orders: {retry: nobody}\n",
	})
	set, faults := resource.Load([]string{dir, filepath.Join(dir, "none")}, resource.Options{})
	for _, want := range []string{
		"none: does not exist",
		`a.yaml:3: metadata.nam: "a": is not a known field (did you mean name?)`,
		"a.yaml:3: metadata.name: is missing",
		`a.yaml:4: spec.type: "state": is not a component type`,
		`a.yaml:4: spec.initTimeout: "soon": is not a duration`,
		"a.yaml:6: is not valid YAML",
		`kind: "Componnet": is not a known kind (did you mean Component?)`,
		"kind: is missing",
		`apiVersion: "dapr.io/v3": is not a version of Subscription (write dapr.io/v1alpha1 or dapr.io/v2alpha1)`,
		"b.yaml:8: spec.metadata[0].secretKeyRef: refers to a secret, but auth.secretStore is missing",
		`b.yaml:9: spec.metadata[1].name: "P": is given twice`,
		"b.yaml:10: spec.metadata[2].name: is missing",
		`c.yaml:7: spec.targets.apps.orders.retry: "nobody": is not the name of a policy here`,
	} {
		if !strings.Contains(faults.Error(), want) {
			t.Errorf("no fault %q", want)
		}
	}
	if len(faults) != 14 || !reflect.DeepEqual(names(set), []string{"ok"}) {
		t.Errorf("components %v, %d faults:\n%v", names(set), len(faults), faults)
	}
}

func TestLoad_Lenient(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.yaml": component("known", "state.in-memory", "  Unknown: 1", "scopes: [myapp]") + component("foreign", "state.in-memory", "scopes: [other]") +
			component("bad", "state.in-memory", "  metadata: text") + component("a/b", "state.in-memory"),
		"b.yaml": "metadata: [\n---\n" + strings.ReplaceAll(component("case", "state.in-memory"), "spec:", "Spec:"),
	})
	var logged bytes.Buffer
	set, faults := resource.Load([]string{dir}, resource.Options{
		AppID: "myapp", Lenient: true, Log: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	if len(faults) != 0 || !reflect.DeepEqual(names(set), []string{"known", "case"}) {
		t.Errorf("got %v, %v", names(set), faults)
	}
	if set.Components[1].Spec.Type != "state.in-memory" {
		t.Errorf("field names do not match in any case: %+v", set.Components[1])
	}
	if n := strings.Count(logged.String(), "error when parsing manifests"); n != 3 {
		t.Errorf("%d warnings, want 3:\n%s", n, &logged)
	}
}

// The cases of daprd: names are unique per kind among the resources of the namespace, if there is one.
func TestLoad_Namespaces(t *testing.T) {
	text := ""
	for _, c := range [][3]string{
		{"abc", "mynamespace", "state.in-memory"},
		{"abc", "", "pubsub.in-memory"},
		{"abc", "foobar", "state.in-memory"},
		{"123", "", "state.in-memory"},
	} {
		text += "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n name: " + c[0] + "\n namespace: " + c[1] + "\nspec:\n type: " + c[2] + "\n version: v1\n---\n"
	}
	dir := folder(t, map[string]string{"a.yaml": text})
	const first = "duplicate definition of Component name abc (pubsub.in-memory/v1) with existing abc (state.in-memory/v1)"
	_, faults := resource.Load([]string{dir}, resource.Options{Lenient: true, Namespace: "mynamespace"})
	if got := faults.Problems(); got != first {
		t.Errorf("with a namespace: %s", got)
	}
	_, faults = resource.Load([]string{dir}, resource.Options{Lenient: true})
	if got := faults.Problems(); got != first+"\nduplicate definition of Component name abc (state.in-memory/v1) with existing abc (state.in-memory/v1)" {
		t.Errorf("without a namespace: %s", got)
	}
}

func TestLoad_SecretStoreOrder(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": component("state", "state.bbolt") +
		component("second", "secretstores.local.file", "auth: {secretStore: first}") +
		component("circle1", "secretstores.local.env", "auth: {secretStore: circle2}") +
		component("circle2", "secretstores.local.env", "auth: {secretStore: circle1}") +
		component("first", "secretstores.local.env")})
	set, faults := resource.Load([]string{dir}, resource.Options{})
	if len(faults) != 0 || !reflect.DeepEqual(names(set), []string{"first", "second", "circle1", "circle2", "state"}) {
		t.Errorf("got %v, %v", names(set), faults)
	}
}

func TestLoadConfiguration(t *testing.T) {
	t.Setenv("RATE", "0.5")
	dir := folder(t, map[string]string{
		"1.yaml": "kind: Configuration\nspec:\n  features: [{name: Feature1, enabled: true}]\n  tracing: {samplingRate: ${RATE}}\n  unknown: 1\n",
		"2.yaml": "kind: Configuration\nspec:\n  features: [{name: Feature2, enabled: true}]\n  logging: {apiLogging: {enabled: yes}}\n---\nignored: [",
		"3.yaml": "kind: Configuration\nspec: {secrets: {scopes: [{storeName: s}, {storeName: s, defaultAccess: maybe}]}}\n",
	})
	one, two, three := filepath.Join(dir, "1.yaml"), filepath.Join(dir, "2.yaml"), filepath.Join(dir, "3.yaml")
	c, faults := resource.LoadConfiguration([]string{one, two}, resource.Options{Lenient: true})
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	if c.Spec.Enables("Feature1") || !c.Spec.Enables("Feature2") || c.Spec.Tracing.SamplingRate != "0.5" || !*c.Spec.Tracing.Otel.IsSecure ||
		!c.Spec.Logging.APILogging.Enabled || c.Spec.AccessControl.DefaultAction != "allow" {
		t.Errorf("got %+v", c.Spec)
	}
	_, faults = resource.LoadConfiguration([]string{three}, resource.Options{Lenient: true})
	if len(faults) != 2 || faults[0].Problem != "s storeName is repeated in secrets configuration" || faults[1].Line != 2 {
		t.Errorf("got %v", faults)
	}
	_, faults = resource.LoadConfiguration([]string{one, three, filepath.Join(dir, "none.yaml")}, resource.Options{})
	if len(faults) != 4 {
		t.Errorf("got %v", faults)
	}
}

func TestSource_Fault(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": "# first\n---\n" + component("a", "state.nothing", "  metadata:", "  - name: x")})
	set, _ := resource.Load([]string{dir}, resource.Options{})
	f := set.Components[0].Source.Fault("spec.type", "state.nothing", "is not built in", "")
	if want := filepath.Join(dir, "a.yaml") + ":8: spec.type: state.nothing: is not built in"; f.Error() != want {
		t.Errorf("got %v, want %s", f, want)
	}
}

func FuzzLoad(f *testing.F) {
	for _, seed := range []string{component("a", "state.bbolt"), v1Subscription, v2Subscription, configuration, resiliency, endpoint} {
		f.Add([]byte(seed), true)
		f.Add([]byte("---\n"+seed+"---\n"+seed), false)
	}
	file := filepath.Join(f.TempDir(), "a.yaml")
	f.Fuzz(func(t *testing.T, data []byte, lenient bool) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		set, faults := resource.Load([]string{file}, resource.Options{Lenient: lenient})
		for _, fault := range faults {
			if fault.Problem == "" {
				t.Errorf("empty fault %+v", fault)
			}
		}
		if diff := resource.Compare(set, set); !diff.Empty() {
			t.Errorf("a set differs from itself: %+v", diff)
		}
	})
}
