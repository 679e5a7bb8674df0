package sync_test

import (
	"context"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	edgesync "github.com/edged-io/edged/sync"
)

// An interface that comes up is noticed. It is the loopback of a network namespace that the test makes for itself.
func TestWatchNetwork(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := make(chan struct{}, 64)
	socket, ended := make(chan int, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine, and with it the namespace
		fd := -1
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		}
		socket <- fd
		if err == nil {
			err = edgesync.WatchNetwork(ctx, func() { changes <- struct{}{} })
		}
		ended <- err
	}()
	fd := <-socket
	if fd < 0 {
		t.Skipf("no network namespace can be made here: %v", <-ended)
	}
	defer unix.Close(fd)
	up := uint16(unix.IFF_UP)
	eventually(t, "a change is noticed", func() bool {
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			t.Fatal(err)
		}
		lo.SetUint16(up)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
			t.Fatal(err)
		}
		up ^= unix.IFF_UP
		return len(changes) > 0
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
