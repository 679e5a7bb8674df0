package edge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/edged-io/edged"

// floors say how high each package stands; ARCHITECTURE.md draws the house. Imports point downwards only. A package that
// is not listed has the floor of the folder above it, so that test support belongs to what it tests.
var floors = map[string]int{
	"cmd": 5, "edge/edgetest": 5,
	"edge":         4,
	"edge/httpapi": 3, "edge/grpcapi": 3, "edge/admin": 3, "edge/app": 3, "store": 3, "mqtt": 3, "sync": 3, "hub": 3,
	"edge/pluggable": 3,
	"edge/state":     2, "edge/pubsub": 2, "edge/invoke": 2, "edge/binding": 2, "edge/actor": 2, "edge/workflow": 2, "edge/job": 2,
	"edge/secret": 2, "edge/configuration": 2, "edge/lock": 2, "edge/crypto": 2, "edge/conversation": 2, "edge/metadata": 2,
	"edge/resiliency": 1,
	"edge/fault":      0, "edge/resource": 0, "edge/component": 0, "edge/telemetry": 0, "edge/cel": 0,
}

// sideways are the imports that are allowed on one floor.
var sideways = map[string][]string{
	"edge/actor":     {"edge/state", "edge/job"},
	"edge/workflow":  {"edge/job"},
	"edge/component": {"edge/fault"},
	"edge/telemetry": {"edge/fault"},
}

// owners are the only rooms that may import a library, so that replacing it concerns one room.
var owners = map[string][]string{
	"go.etcd.io/bbolt":                    {"store"},
	"github.com/tinylib/msgp":             {"store"},
	"github.com/eclipse/paho.mqtt.golang": {"mqtt"},
	"github.com/nats-io/":                 {"sync", "hub", "cmd/edged-hub"},
	"google.golang.org/grpc":              {"edge/grpcapi", "edge/app", "edge/pluggable"},
	"google.golang.org/protobuf":          {"edge/grpcapi", "edge/app", "edge/pluggable"},
	"github.com/dapr/dapr":                {"edge/grpcapi", "edge/app", "edge/pluggable"},
	"go.yaml.in/yaml/v3":                  {"edge/resource"},
	"github.com/VictoriaMetrics/metrics":  {"edge/telemetry"},
	"cel.dev/cel-go":                      {},
	"github.com/google/cel-go":            {},
	"golang.org/x/net/trace":              {},
	"html/template":                       {},
	"text/template":                       {},
	"github.com/prometheus/client_golang": {},
	"github.com/dapr/components-contrib":  {},
	"github.com/dapr/kit":                 {"edge/crypto", "edge/job"},
	"github.com/shirou/gopsutil":          {"edge/telemetry"},
	"github.com/coreos/go-systemd/v22":    {"edge", "cmd/edged-hub"},
	"github.com/fxamacker/cbor":           {"sync"},
	"github.com/klauspost/compress":       {"sync"},
	"net/http/pprof":                      {"edge/admin"},
	"expvar":                              {},
	"github.com/dapr/durabletask-go":      {"edge/grpcapi"},
	"go.opentelemetry.io/otel/exporters/": {"edge/telemetry"},
	"github.com/modelcontextprotocol/":    {},
	"sigs.k8s.io/":                        {},
	"k8s.io/":                             {},
}

// unlinked must not be in the device's binary at all, not even through a library: the linker then keeps every method of
// every type (text and html templates, x/net/trace, reflect2), or megabytes come along.
var unlinked = []string{
	"golang.org/x/net/trace", "html/template", "text/template", "github.com/modern-go/reflect2", "github.com/json-iterator/go",
	"github.com/expr-lang/expr", "cel.dev/cel-go", "github.com/google/cel-go", "github.com/nats-io/nats-server", "k8s.io/", "testing",
}

// pkg is what these tests need of `go list -json`.
type pkg struct {
	ImportPath string
	Imports    []string
	DepOnly    bool // not of this module
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", "grpcnotrace", "-e", "-deps", "-json=ImportPath,Imports,DepOnly", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// room returns the listed folder that a package belongs to.
func room(importPath string) (name string, floor int, ok bool) {
	for name = strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/"); name != ""; {
		if floor, ok = floors[name]; ok {
			return name, floor, true
		}
		name = name[:max(0, strings.LastIndexByte(name, '/'))]
	}
	return "", 0, false
}

func TestFloors(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < 100 {
		t.Fatalf("go list found %d packages", len(packages))
	}
	for _, p := range packages {
		if p.DepOnly {
			continue
		}
		from, floor, ok := room(p.ImportPath)
		if !ok {
			t.Errorf("%s stands on no floor: add it to floors, and to ARCHITECTURE.md", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if imported == module || strings.HasPrefix(imported, module+"/") {
				checkFloor(t, p.ImportPath, from, floor, imported)
				continue
			}
			checkOwner(t, p.ImportPath, imported)
		}
	}
}

func checkFloor(t *testing.T, importer, from string, floor int, imported string) {
	t.Helper()
	to, below, ok := room(imported)
	switch {
	case !ok, to == from, slices.Contains(sideways[from], to):
	case below >= floor:
		t.Errorf("%s (floor %d) imports %s (floor %d): imports point downwards", importer, floor, imported, below)
	case below == 3 && floor != 4 && !(strings.HasPrefix(importer, module+"/cmd/edged-hub") && to == "hub"):
		t.Errorf("%s imports %s: only package edge imports floor 3", importer, imported)
	}
}

func checkOwner(t *testing.T, importer, library string) {
	t.Helper()
	for prefix, rooms := range owners {
		if !strings.HasPrefix(library, prefix) {
			continue
		}
		inside := strings.TrimPrefix(importer, module+"/")
		if !slices.ContainsFunc(rooms, func(r string) bool { return inside == r || strings.HasPrefix(inside, r+"/") && r != "edge" }) {
			t.Errorf("%s imports %s, which only %v may", importer, library, rooms)
		}
	}
}

// TestFloors_Unlinked follows the imports of the device's binary.
func TestFloors_Unlinked(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range listPackages(t) {
		imports[p.ImportPath] = p.Imports
	}
	start := module + "/cmd/edged"
	through := map[string]string{start: ""}
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		for _, imported := range imports[queue[0]] {
			if _, seen := through[imported]; seen {
				continue
			}
			through[imported] = queue[0]
			queue = append(queue, imported)
			if !slices.ContainsFunc(unlinked, func(u string) bool { return strings.HasPrefix(imported+"/", strings.TrimSuffix(u, "/")+"/") }) {
				continue
			}
			chain := imported
			for at := queue[0]; at != ""; at = through[at] {
				chain = at + " -> " + chain
			}
			t.Errorf("the device's binary links %s", chain)
		}
	}
	if len(through) < 100 {
		t.Fatalf("%s reaches only %d packages", start, len(through))
	}
}
