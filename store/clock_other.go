//go:build !linux

package store

import "time"

// sinceBoot is not known here: time asleep does not count for expiry.
func sinceBoot() time.Duration { return 0 }
