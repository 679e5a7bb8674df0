package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/telemetry"
)

func TestNewLogger(t *testing.T) {
	t.Run("Logfmt", func(t *testing.T) {
		var out bytes.Buffer
		log := telemetry.NewLogger(&out, telemetry.LogOptions{Level: slog.LevelInfo, App: "orders", Version: "edge|1"})
		log.Debug("hidden")
		log.With("lane", "a b").WithGroup("g").Warn("half full", "bytes", 12)
		got := out.String()
		for _, want := range []string{`level=warning msg="half full"`, `app_id=orders`, `lane="a b"`, `g.bytes=12`, `scope=dapr.runtime type=log ver=edge|1`} {
			if !strings.Contains(got, want) {
				t.Errorf("%q misses %q", got, want)
			}
		}
		if strings.Count(got, "\n") != 1 || strings.Contains(got, "hidden") {
			t.Errorf("want one line, without the debug record: %q", got)
		}
	})
	t.Run("JSON", func(t *testing.T) {
		var out bytes.Buffer
		log := telemetry.NewLogger(&out, telemetry.LogOptions{Level: slog.LevelInfo, JSON: true})
		log.Info("a \"quoted\"\nline", "k", "v")
		var m map[string]string
		if err := json.Unmarshal(out.Bytes(), &m); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		if m["msg"] != "a \"quoted\"\nline" || m["k"] != "v" || m["level"] != "info" {
			t.Errorf("got %v", m)
		}
	})
}
