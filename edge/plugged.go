package edge

import (
	"context"
	"maps"
	"path/filepath"
	"strings"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/pluggable"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/secret"
	"github.com/edged-io/edged/edge/state"
)

// socketFolder is where the processes of pluggable components listen.
type socketFolder struct {
	path string
	// waits says that a socket which is not there yet is waited for. As daprd, edged has a component type only if its
	// socket exists; but where the administrator names the folder, the daemon may well start before the component.
	waits bool
}

func newSocketFolder(getenv func(string) string, asDaprd bool) socketFolder {
	if path := getenv(pluggable.FolderVariable); path != "" {
		return socketFolder{path: path, waits: !asDaprd}
	}
	return socketFolder{path: pluggable.DefaultFolder}
}

// find returns the socket of a component type.
func (f socketFolder) find(componentType string) (socket string, ok bool) {
	if socket, ok = pluggable.Socket(f.path, componentType); ok || !f.waits {
		return socket, ok
	}
	_, name, _ := strings.Cut(componentType, ".")
	return filepath.Join(f.path, name+".sock"), name != ""
}

// plug adds a type that is not built in to the table, if there is a socket for it.
func plug[T any](f socketFolder, types component.Registry[T], componentType string, attach func(ctx context.Context, s component.Spec, socket string) (T, error)) component.Registry[T] {
	if _, own := types[componentType]; own {
		return types
	}
	if socket, ok := f.find(componentType); ok {
		types[componentType] = func(ctx context.Context, s component.Spec) (T, error) { return attach(ctx, s, socket) }
	}
	return types
}

func attachState(ctx context.Context, s component.Spec, socket string) (state.Store, error) {
	return pluggable.NewStateStore(ctx, s, socket)
}

func attachSecrets(ctx context.Context, s component.Spec, socket string) (secret.Store, error) {
	return pluggable.NewSecretStore(ctx, s, socket)
}

// attachPubSub gives the component a consumer group of its own, as Dapr does, unless its resource names one.
func (c *components) attachPubSub(ctx context.Context, s component.Spec, socket string) (pubsub.Broker, error) {
	const group = "consumerID"
	if s.Read().String("", group) == "" {
		s.Properties = maps.Clone(s.Properties)
		if s.Properties == nil {
			s.Properties = map[string]string{}
		}
		s.Properties[group] = c.group
	}
	return pluggable.NewPubSub(ctx, s, socket)
}
