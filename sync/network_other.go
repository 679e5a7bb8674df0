//go:build !linux

package sync

import "context"

// watchNetwork knows of no way to watch the network of this system.
func watchNetwork(context.Context, func()) error { return nil }
