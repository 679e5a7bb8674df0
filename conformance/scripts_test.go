package conformance

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestJavaScriptSDK(t *testing.T) {
	if _, err := os.Stat("js/node_modules"); err != nil {
		t.Fatalf("%v: `make conformance` installs the SDK", err)
	}
	for _, protocol := range []string{"http", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			a := newApp(t, "js"+protocol, protocol)
			startEdged(t, a)
			runScript(t, a, "node", "js/suite.mjs", protocol)
		})
	}
}

func TestPythonSDK(t *testing.T) {
	python := "python/.venv/bin/python"
	if _, err := os.Stat(python); err != nil {
		t.Fatalf("%v: `make conformance` installs the SDK", err)
	}
	a := newApp(t, "python", "grpc")
	startEdged(t, a)
	runScript(t, a, python, "python/suite.py")
}

// runScript runs one SDK's script to its end; it prints "ok" last.
func runScript(t *testing.T, a *app, command ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = a.env()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}
