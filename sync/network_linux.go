package sync

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// settleTime is how long changes of the network are gathered: an interface that comes up makes several.
const settleTime = 200 * time.Millisecond

// watchNetwork calls changed when a network interface or address of this machine comes, goes or changes (rtnetlink(7)),
// until ctx is done. It returns at once if the kernel or a sandbox does not let it watch.
func watchNetwork(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	defer func() { _ = unix.Close(wake) }()                                                            // nothing was written
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }) // an eventfd takes it
	defer stop()
	buf := make([]byte, 16<<10)
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("watch the network: %w", err)
		}
		if fds[0].Revents == 0 || !pause(ctx, settleTime) {
			continue
		}
		for { // what it says does not matter, only that it spoke
			if _, _, err := unix.Recvfrom(fd, buf, 0); err != nil {
				break
			}
		}
		changed()
	}
	return nil
}
