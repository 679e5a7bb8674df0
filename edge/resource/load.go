package resource

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Kinds of resources, as the kind field says them.
const (
	kindComponent     = "Component"
	kindSubscription  = "Subscription"
	kindConfiguration = "Configuration"
	kindResiliency    = "Resiliency"
	kindHTTPEndpoint  = "HTTPEndpoint"
)

const (
	v1alpha1 = "dapr.io/v1alpha1"
	v2alpha1 = "dapr.io/v2alpha1"
)

// Options say for whom resources are loaded, and how strictly.
type Options struct {
	// AppID leaves out resources whose scopes do not name it. Empty: all are loaded, for every application.
	AppID string
	// Namespace leaves out resources of other namespaces; those without one always count. Empty: namespaces are ignored.
	Namespace string
	// Lenient reads as daprd does: fields that are not known are ignored, names match in any case, and a document that
	// cannot be read is logged and left out, so that the rest loads. Duplicate names are faults all the same.
	Lenient bool
	// Log gets what is ignored; nil: nothing is logged.
	Log *slog.Logger
}

func (o Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// Set holds resources by kind, in the order of folders, file names and documents.
type Set struct {
	Components     []Component
	Subscriptions  []Subscription
	Configurations []Configuration
	Resiliencies   []Resiliency
	HTTPEndpoints  []HTTPEndpoint
}

// Load reads every .yaml and .yml file of the folders (not of folders in them); a path may also be a file. Secret stores
// come first among the components, since others refer to them. It returns what could be read and every fault there is.
func Load(paths []string, o Options) (Set, Faults) {
	files, faults := listFiles(paths, o)
	var all Set
	for _, file := range files {
		s, fileFaults := loadFile(file, o)
		all.append(s)
		faults = append(faults, fileFaults...)
	}
	all, setFaults := all.selected(o)
	return all, append(faults, setFaults...)
}

// listFiles returns the YAML files of the paths in order.
func listFiles(paths []string, o Options) ([]string, Faults) {
	var files []string
	var faults Faults
	for _, path := range paths {
		entries, err := os.ReadDir(path)
		if stat, statErr := os.Stat(path); statErr == nil && !stat.IsDir() {
			files = append(files, path)
			continue
		}
		if err != nil {
			faults = append(faults, Fault{File: path, Problem: pathProblem(err), Hint: "resources are a folder of YAML files"})
			continue
		}
		for _, e := range entries {
			switch {
			case e.IsDir():
			case isYAML(e.Name()):
				files = append(files, filepath.Join(path, e.Name()))
			case !strings.HasPrefix(e.Name(), "."):
				o.log().Warn("A non-YAML Component file " + e.Name() + " was detected, it will not be loaded")
			}
		}
	}
	return files, faults
}

func isYAML(name string) bool {
	ext := strings.ToLower(filepath.Ext(name))
	return ext == ".yaml" || ext == ".yml"
}

// pathProblem says in words why a path cannot be read.
func pathProblem(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "may not be read by this user"
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return "cannot be read: " + err.Error()
}

// readFile reads a file, which must be a regular one of bounded size.
func readFile(file string) ([]byte, *Fault) {
	if stat, err := os.Stat(file); err == nil && !stat.Mode().IsRegular() {
		return nil, &Fault{File: file, Problem: "is not a regular file"}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, &Fault{File: file, Problem: pathProblem(err)}
	}
	defer func() { _ = f.Close() }() // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, &Fault{File: file, Problem: pathProblem(err)}
	}
	return data, nil
}

// loadFile reads the resources of one file. In lenient mode its faults are logged instead of returned.
func loadFile(file string, o Options) (Set, Faults) {
	data, fault := readFile(file)
	if fault != nil {
		return Set{}, o.tolerate(Faults{*fault})
	}
	s, faults := decodeResources(file, data, o)
	return s, o.tolerate(faults)
}

// tolerate logs the faults in lenient mode, as daprd does, and returns those that remain.
func (o Options) tolerate(faults Faults) Faults {
	if !o.Lenient {
		return faults
	}
	for _, f := range faults {
		o.log().Warn(fmt.Sprintf("daprd load Component error when parsing manifests yaml resource in %s: %v", f.File, f))
	}
	return nil
}

// decodeResources decodes every document of a file's data. Documents with faults are not in the set.
func decodeResources(file string, data []byte, o Options) (Set, Faults) {
	d := newDecoder(file, o.Lenient)
	var s Set
	for _, doc := range parseFile(file, data) {
		if doc.fault != nil {
			d.add(*doc.fault)
			continue
		}
		d.resource(doc, &s, o.log())
	}
	d.faults.sort()
	return s, d.faults
}

// readHeader returns a document's apiVersion and kind, and whether it is a mapping that has a kind. Lenient, the names of
// the fields match in any case.
func readHeader(root *yaml.Node, lenient bool) (header, bool) {
	var h header
	if root.Kind != yaml.MappingNode {
		return h, false
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		value, is := root.Content[i+1], func(name string) bool {
			got := root.Content[i].Value
			return got == name || lenient && strings.EqualFold(got, name)
		}
		switch {
		case is("apiVersion"):
			h.APIVersion = value.Value
		case is("kind"):
			h.Kind = value.Value
		}
	}
	return h, h.Kind != ""
}

// resource decodes one document into s. Documents of other kinds are logged.
func (d *decoder) resource(doc document, s *Set, log *slog.Logger) {
	h, ok := readHeader(doc.root, d.lenient)
	d.offset, d.faulted = doc.offset, map[string]bool{}
	switch {
	case !ok && d.lenient:
		return
	case !ok:
		d.faultAt(doc.root, "kind", "", "is missing", "such as kind: Component, after apiVersion: "+v1alpha1)
		return
	}
	switch h {
	case header{v1alpha1, kindComponent}:
		var c Component
		if d.resourceInto(doc, &c, &c.Meta, &c.Source) {
			s.Components = append(s.Components, c)
		}
	case header{v1alpha1, kindSubscription}:
		var v subscriptionV1
		var source Source
		if d.resourceInto(doc, &v, &v.Meta, &source) {
			s.addSubscription(v.subscription(), source)
		}
	case header{v2alpha1, kindSubscription}:
		var v subscriptionV2
		var source Source
		if d.resourceInto(doc, &v, &v.Meta, &source) {
			s.addSubscription(v.subscription(), source)
		}
	case header{v1alpha1, kindConfiguration}:
		c := DefaultConfiguration()
		if d.resourceInto(doc, &c, &c.Meta, &c.Source) {
			s.Configurations = append(s.Configurations, c)
		}
	case header{v1alpha1, kindResiliency}:
		var r Resiliency
		if d.resourceInto(doc, &r, &r.Meta, &r.Source) {
			s.Resiliencies = append(s.Resiliencies, r)
		}
	case header{v1alpha1, kindHTTPEndpoint}:
		var e HTTPEndpoint
		if d.resourceInto(doc, &e, &e.Meta, &e.Source) {
			s.HTTPEndpoints = append(s.HTTPEndpoints, e)
		}
	default:
		d.unknownKind(doc, h, log)
	}
}

// resourceInto decodes a document and reports whether it can be used.
func (d *decoder) resourceInto(doc document, v any, m *Meta, source *Source) bool {
	before := len(d.faults)
	if d.lenient {
		d.decodeOnly(doc, v)
		if problem := nameProblem(m.Name); problem != "" {
			d.faultAt(doc.root, "metadata.name", strconv.Quote(m.Name), problem, "")
		}
	} else {
		d.decode(doc, v)
	}
	*source = Source{File: d.file, Line: d.lines[""], lines: d.lines}
	return len(d.faults) == before
}

func (s *Set) addSubscription(v Subscription, source Source) {
	v.Source = source
	s.Subscriptions = append(s.Subscriptions, v)
}

// unknownKind reports a kind or version that was probably misspelt, and logs one that belongs to somebody else.
func (d *decoder) unknownKind(doc document, h header, log *slog.Logger) {
	kinds := []string{kindComponent, kindSubscription, kindConfiguration, kindResiliency, kindHTTPEndpoint}
	dapr := strings.HasPrefix(h.APIVersion, "dapr.io/")
	hint := suggest(h.Kind, kinds)
	switch {
	case d.lenient:
	case slices.Contains(kinds, h.Kind):
		versions := v1alpha1
		if h.Kind == kindSubscription {
			versions += " or " + v2alpha1
		}
		d.faultAt(doc.root, "apiVersion", strconv.Quote(h.APIVersion), "is not a version of "+h.Kind, "write "+versions)
		return
	case dapr && strings.HasPrefix(hint, "did you mean"):
		d.faultAt(doc.root, "kind", strconv.Quote(h.Kind), "is not a known kind", hint)
		return
	}
	log.Info("a resource of a kind that is not used here was ignored", "kind", h.Kind, "apiVersion", h.APIVersion, "file", d.file)
}
