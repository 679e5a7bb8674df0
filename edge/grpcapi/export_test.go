package grpcapi

// GroupOf is groupOf for tests.
func GroupOf(call string) (version, group string) { return groupOf(call) }
