package edge_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge"
	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/hub"
)

// Every YAML file in configs is loaded, strictly, by one of these.
func TestConfigs(t *testing.T) {
	loaded := map[string]bool{}
	t.Run("edged.yaml", func(t *testing.T) {
		loaded["edged.yaml"] = true
		cfg, err := edge.LoadConfig("../configs/edged.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if len(cfg.Apps) == 0 || len(cfg.Topics) == 0 || len(cfg.Bridges) == 0 || cfg.Upstream == nil {
			t.Errorf("the example leaves a section out: %+v", cfg)
		}
	})
	t.Run("local.yaml", func(t *testing.T) {
		loaded["local.yaml"] = true
		if _, err := edge.LoadConfig("../configs/local.yaml"); err != nil {
			t.Error(err)
		}
	})
	t.Run("edged-hub.yaml", func(t *testing.T) {
		loaded["edged-hub.yaml"] = true
		data, err := os.ReadFile("../configs/edged-hub.yaml")
		if err != nil {
			t.Fatal(err)
		}
		cfg := hub.DefaultConfig()
		if faults := resource.DecodeStrict("edged-hub.yaml", data, &cfg); len(faults) > 0 {
			t.Error(faults)
		}
	})
	t.Run("resources", func(t *testing.T) {
		set, faults := resource.Load([]string{"../configs/resources"}, resource.Options{})
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		if len(set.Components) < 4 || len(set.Subscriptions) == 0 || len(set.Configurations) == 0 || len(set.Resiliencies) == 0 {
			t.Errorf("the examples leave a kind out: %+v", set)
		}
	})
	t.Run("Complete", func(t *testing.T) {
		err := filepath.WalkDir("../configs", func(path string, d fs.DirEntry, err error) error {
			name := filepath.ToSlash(strings.TrimPrefix(path, filepath.FromSlash("../configs/")))
			if ext := filepath.Ext(name); err == nil && (ext == ".yaml" || ext == ".yml") && !loaded[name] && filepath.Dir(name) != "resources" {
				t.Errorf("configs/%s is loaded by no test", name)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// The units are sandboxed: an exposure of at most 2.0 by systemd's own measure.
func TestConfigs_UnitsAreSandboxed(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	for _, unit := range []string{"edged.service", "edged-hub.service"} {
		out, err := exec.CommandContext(t.Context(), tool, "security", "--offline=yes", "--no-pager", "--threshold=20",
			filepath.Join("..", "configs", "systemd", unit)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}
