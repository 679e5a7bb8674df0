package telemetry_test

import (
	"testing"

	"github.com/edged-io/edged/edge/telemetry"
)

func TestValidTraceParent(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for v, want := range map[string]bool{
		good:                       true,
		good[:53] + "ff":           true,
		"cc" + good[2:]:            true,
		"cc" + good[2:] + "-later": true,
		good + "-extra":            false,
		"ff" + good[2:]:            false,
		good + "0":                 false,
		good[:54]:                  false,
		"":                         false,
		"garbage":                  false,
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736x00f067aa0ba902b7-01": false,
	} {
		if got := telemetry.ValidTraceParent(v); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
}

func TestTraceParentFromBinary(t *testing.T) {
	b := "\x00\x00\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36\x01\x00\xf0\x67\xaa\x0b\xa9\x02\xb7\x02\x01"
	if got := telemetry.TraceParentFromBinary(b); got != "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"", b[:28], b + "x", "\x01" + b[1:], string(make([]byte, 29))} {
		if got := telemetry.TraceParentFromBinary(bad); got != "" {
			t.Errorf("%q: %q", bad, got)
		}
	}
}
