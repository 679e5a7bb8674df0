package secret

import (
	"context"
	"os"
	"strings"

	"github.com/edged-io/edged/edge/component"
)

// localEnv reads environment variables of this process.
type localEnv struct {
	prefix string
}

var _ Store = localEnv{}

// NewLocalEnv makes a secretstores.local.env component (Dapr metadata prefix): environment variables whose names begin with
// the prefix, which is left out of the secrets' names. As in Dapr, a variable that is not set is a secret with an empty
// value, and APP_API_TOKEN and every DAPR_ variable stay hidden.
func NewLocalEnv(_ context.Context, spec component.Spec) (Store, error) {
	p := spec.Read()
	s := localEnv{prefix: p.String("", "prefix")}
	return s, p.Err()
}

// Get returns the variable. Metadata is not used.
func (s localEnv) Get(_ context.Context, name string, _ map[string]string) (map[string]string, error) {
	value := ""
	if variable := s.prefix + name; name != "" && !hidden(variable) {
		value = os.Getenv(variable)
	}
	return map[string]string{name: value}, nil
}

// BulkGet returns every variable with the prefix. Metadata is not used.
func (s localEnv) BulkGet(context.Context, map[string]string) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, entry := range os.Environ() {
		variable, value, _ := strings.Cut(entry, "=")
		name, ok := strings.CutPrefix(variable, s.prefix)
		if !ok || name == "" || hidden(variable) {
			continue
		}
		out[name] = map[string]string{name: value}
	}
	return out, nil
}

// hidden reports variables that would give an application the runtime's own tokens.
func hidden(variable string) bool {
	variable = strings.ToUpper(variable)
	return variable == "APP_API_TOKEN" || strings.HasPrefix(variable, "DAPR_")
}
