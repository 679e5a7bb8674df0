//go:build !linux

package mqtt

import "net"

// sendQueue knows nothing of the kernel's queue on this system.
func sendQueue(net.Conn) func() int { return func() int { return 0 } }
