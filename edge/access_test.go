package edge_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/edged-io/edged/edge"
)

// TestAccess connects as other users, which only root can try: with the group by its credentials alone, as a service
// manager gives it (no line in /etc/group says so), and without.
func TestAccess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can connect as somebody else")
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	const group = "daemon" // in every Debian, with gid 1
	folder, err := os.MkdirTemp("/tmp", "edged-access-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	cfg.Run, cfg.Group = filepath.Join(folder, "run"), group
	cfg.Apps = []edge.AppConfig{{ID: "shared"}, {ID: "private", User: "daemon"}}
	run(t, cfg)
	for _, c := range []struct {
		name, socket string
		uid          uint32
		groups       []uint32
		admitted     bool
	}{
		{"MemberByCredentials", "shared", 54321, []uint32{54321, 1}, true},
		{"Stranger", "shared", 54321, nil, false},
		{"NamedUser", "private", 1, nil, true},
		{"MemberOfGroupIsNotTheNamedUser", "private", 54321, []uint32{1}, false},
		{"AdminIsForItsOwnUser", "admin", 54321, []uint32{1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(curl, "--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}",
				"--unix-socket", filepath.Join(cfg.Run, c.socket+".sock"), "http://edged/v1.0/metadata")
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: 54321, Groups: c.groups}}
			out, err := cmd.CombinedOutput()
			if admitted := err == nil && string(out) == "200"; admitted != c.admitted {
				t.Errorf("admitted: %v, want %v\n%s", admitted, c.admitted, out)
			}
		})
	}
}
