package main_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk fills the disk under edged: writers and publishers get a clear error, reads and deliveries go on, and when
// space returns everything continues in the same process.
func TestFullDisk(t *testing.T) {
	sub := newRecorder(t, 1)
	d := newDevice(t, fmt.Sprintf("apps:\n  - id: app\n    channel: {address: \"unix://%s\", protocol: http}\n", sub.socket),
		"limits: {reserve: 1MiB}\ntopics: [{match: \"#\", maxBytes: 1GiB, maxAge: 24h, whenFull: reject}]\n")
	data := filepath.Join(d.folder, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("mount a small tmpfs: %v: this test needs root", err)
	}
	defer func() {
		if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	defer d.kill()
	d.start("app")
	c, ctx := unixClient(d.socket("app")), t.Context()
	save := func(key string) (int, []byte) {
		status, _, body, err := call(ctx, c, http.MethodPost, "/v1.0/state/statestore", "application/json", fmt.Appendf(nil, `[{"key":%q,"value":1}]`, key))
		if err != nil {
			t.Fatal(err)
		}
		return status, body
	}
	if status, body := save("before"); status != http.StatusNoContent {
		t.Fatalf("save: %d %s", status, body)
	}
	l := &loader{topic: topicOf(0)}
	publish := func() (int, []byte) {
		l.tried++
		status, _, body, err := call(ctx, c, http.MethodPost, "/v1.0/publish/pubsub/"+l.topic, "application/json", fmt.Appendf(nil, `{"n":%d}`, l.tried))
		if err != nil {
			t.Fatal(err)
		}
		if status == http.StatusNoContent {
			l.acked++
			l.ackedSet = append(l.ackedSet, l.tried)
		}
		return status, body
	}
	publish()

	ballast := filepath.Join(data, "ballast")
	fill(t, ballast)
	d.eventually(20*time.Second, "publishers are refused", func() error {
		if status, body := publish(); status != http.StatusInsufficientStorage || !bytes.Contains(body, []byte("space")) {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	d.eventually(20*time.Second, "writers are refused", func() error {
		if status, body := save("during"); status != http.StatusInsufficientStorage || !bytes.Contains(body, []byte("space")) {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	if status, _, body, err := call(ctx, c, http.MethodGet, "/v1.0/state/statestore/before", "", nil); err != nil || string(body) != "1" {
		t.Errorf("a read on the full disk: %d %s %v", status, body, err)
	}
	if status, _, body, err := call(ctx, c, http.MethodDelete, "/v1.0/state/statestore/before", "", nil); err != nil || status != http.StatusNoContent {
		t.Errorf("a delete on the full disk: %d %s %v", status, body, err)
	}
	if status, _, _, err := call(ctx, c, http.MethodGet, "/v1.0/state/statestore/during", "", nil); err != nil || status != http.StatusNoContent {
		t.Errorf("a refused write left something behind: %d %v", status, err)
	}
	d.eventually(20*time.Second, "deliveries go on", func() error { return sub.missing([]*loader{l}) })

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	d.eventually(20*time.Second, "writers continue", func() error {
		if status, body := save("after"); status != http.StatusNoContent {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	d.eventually(20*time.Second, "publishers continue", func() error {
		if status, body := publish(); status != http.StatusNoContent {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	for range 100 {
		publish()
	}
	d.eventually(20*time.Second, "everything acknowledged is delivered", func() error { return sub.missing([]*loader{l}) })
	sub.report(t, []*loader{l})
	d.stop()
	checkDatabase(t, data)
}

// fill takes all the space there is.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
}

// TestDamage flips bits in the data folder of a stopped edged: it must set the damaged files aside, say so, and start.
func TestDamage(t *testing.T) {
	d := newDevice(t, "apps: [{id: app}]\n", "")
	d.start("app")
	c := unixClient(d.socket("app"))
	for i := range 50 {
		body := fmt.Appendf(nil, `[{"key":"k%d","value":%d}]`, i, i)
		if status, _, answer, err := call(t.Context(), c, http.MethodPost, "/v1.0/state/statestore", "application/json", body); err != nil || status != 204 {
			t.Fatalf("%d %s %v", status, answer, err)
		}
	}
	d.stop()
	db := filepath.Join(d.folder, "data", "state.db")
	b, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	for i := range min(len(b), 3*os.Getpagesize()) { // both meta pages, and more
		b[i] ^= 0x5a
	}
	if err := os.WriteFile(db, b, 0o600); err != nil {
		t.Fatal(err)
	}
	d.start("app")
	aside, err := filepath.Glob(db + ".corrupt-*")
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %v %v", aside, err)
	}
	status, code := runEdged(t, "status", "--config", d.config)
	if code != 0 || !strings.Contains(status, "QUARANTINED: "+aside[0]) {
		t.Errorf("status does not name the damaged file:\n%s", status)
	}
	admin := unixClient(d.socket("admin"))
	if _, _, metrics, err := call(context.Background(), admin, http.MethodGet, "/metrics", "", nil); err != nil || !bytes.Contains(metrics, []byte("edged_quarantined_files 1")) {
		t.Errorf("metrics do not count the damaged file: %v", err)
	}
	if answer, _, _, err := call(t.Context(), c, http.MethodPost, "/v1.0/state/statestore", "application/json", []byte(`[{"key":"new","value":1}]`)); err != nil || answer != 204 {
		t.Errorf("a write after the replacement: %d %v", answer, err)
	}
	d.stop()
}
