//go:build unix

package http1

import "syscall"

// probeFD reads a byte without waiting. Between requests a healthy connection has nothing to say: the end of the file
// is a server that hung up, and a byte is an answer nobody asked for, which must not be taken for the next one.
func (cn *conn) probeFD(fd uintptr) bool {
	var b [1]byte
	_, err := syscall.Read(int(fd), b[:])
	cn.probed = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	return true // do not wait for readiness
}
