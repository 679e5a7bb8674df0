package mqtt

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendQueue returns a function that tells how many bytes the other side has not acknowledged yet, as TCP knows it: the
// only sign of progress while a large message crosses a slow link. Without a TCP connection it is always 0.
func sendQueue(conn net.Conn) func() int {
	raw := rawConn(conn)
	if raw == nil {
		return func() int { return 0 }
	}
	return func() (n int) {
		err := raw.Control(func(fd uintptr) {
			var err error
			if n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
				n = 0
			}
		})
		if err != nil {
			return 0
		}
		return n
	}
}

func rawConn(conn net.Conn) syscall.RawConn {
	for {
		switch c := conn.(type) {
		case syscall.Conn:
			raw, err := c.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		case interface{ NetConn() net.Conn }: // TLS, WebSocket
			conn = c.NetConn()
		default:
			return nil
		}
	}
}
