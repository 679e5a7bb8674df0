package mqtt

import "net"

// Internals that have tests of their own.
var (
	Stamp        = stamp
	ViaOf        = viaOf
	IsCloudEvent = isCloudEvent
	ParseURL     = func(raw string) (transport uint8, address string, err error) {
		e, err := parseURL(raw)
		return uint8(e.transport), e.address, err
	}
	FullJitter = fullJitter
	NewWire    = func(c net.Conn, max int) net.Conn { return newWire(c, max, 1e9, func(error) {}) }
)

// LeftOut tells how large the payload of the numbered PUBLISH was that the wire left out.
func LeftOut(c net.Conn, n uint64) int {
	size, _ := c.(*wire).leftOut(n)
	return size
}

// Errors that tests compare with.
var (
	ErrLoop = errLoop
	ErrHops = errHops
)

// Accused is the memory of refused messages.
type Accused = accused

// Its operations.
var (
	Strike   = (*accused).strike
	Acquit   = (*accused).acquit
	Held     = (*accused).held
	Refusals = (*accused).refusals
)
