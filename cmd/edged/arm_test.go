package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestARM runs the ARM binaries under user-mode emulation through the main calls: state, publish to delivery, a kill, and
// what must be there after it.
func TestARM(t *testing.T) {
	if testing.Short() {
		t.Skip("emulation is slow")
	}
	for _, arch := range []struct{ name, qemu, goarch, goarm string }{
		{"armv7", "qemu-arm-static", "arm", "7"},
		{"arm64", "qemu-aarch64-static", "arm64", ""},
	} {
		t.Run(arch.name, func(t *testing.T) {
			qemu, err := exec.LookPath(arch.qemu)
			if err != nil {
				t.Fatalf("%v: install Debian's package qemu-user-static", err)
			}
			binary := filepath.Join(t.TempDir(), "edged")
			build := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", binary, ".")
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch.goarch, "GOARM="+arch.goarm)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			armSmoke(t, qemu, binary)
		})
	}
}

func armSmoke(t *testing.T, qemu, binary string) {
	sub := newRecorder(t, 1)
	d := newDevice(t, fmt.Sprintf("apps:\n  - id: app\n    channel: {address: \"unix://%s\", protocol: http}\n", sub.socket), "")
	d.command = []string{qemu, binary}
	d.start("app")
	c, l := unixClient(d.socket("app")), &loader{topic: topicOf(0)}
	for l.tried < 20 {
		l.tried++
		status, _, body, err := call(t.Context(), c, http.MethodPost, "/v1.0/publish/pubsub/"+l.topic, "application/json", fmt.Appendf(nil, `{"n":%d}`, l.tried))
		if err != nil || status != http.StatusNoContent {
			t.Fatalf("publish: %d %s %v", status, body, err)
		}
		l.acked++
		l.ackedSet = append(l.ackedSet, l.tried)
	}
	for range 5 {
		if !l.save(t.Context(), t, c) {
			t.Fatal("state could not be saved")
		}
	}
	d.kill()
	d.start("app")
	l.checkState(t, unixClient(d.socket("app")))
	d.eventually(pollLong, "all events are delivered", func() error { return sub.missing([]*loader{l}) })
	d.stop()
	sub.report(t, []*loader{l})
}
