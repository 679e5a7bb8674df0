package app

import (
	"context"

	"github.com/edged-io/edged/edge/app/http1"
)

// What the tests look at from outside.
var (
	Members       = members
	StringValue   = stringValue
	AppendString  = appendString
	RequestTarget = requestTarget
	NewID         = newID
	TraceBin      = traceBin
)

// UseNetHTTP makes a channel deliver with net/http's client, to compare.
func (c *Channel) UseNetHTTP() {
	h := c.wire.(*httpWire)
	h.client = &netHTTP{transport: h.streams, base: h.scheme + "://" + c.host(), maxBody: c.cfg.MaxBodySize}
}

var _ roundTripper = (*http1.Client)(nil)

// FakeProbe replaces the health probe.
func (c *Channel) FakeProbe(probe func(context.Context) error) { c.wire = fakeProbe{c.wire, probe} }

type fakeProbe struct {
	wire
	fn func(context.Context) error
}

func (f fakeProbe) probe(ctx context.Context) error { return f.fn(ctx) }
