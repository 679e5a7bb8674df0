package store

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is the time since the system started, sleep included; 0 if unknown.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
