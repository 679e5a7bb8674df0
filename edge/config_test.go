package edge_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge"
)

// TestLoadConfig_Faults has one fault per case, and wants its field and what is said about it.
func TestLoadConfig_Faults(t *testing.T) {
	long := "/" + strings.Repeat("x", 120) + ".sock"
	for _, c := range []struct{ name, text, field, problem string }{
		{"AdminSocket", "apps: [{id: admin}]", "apps[0].socket", "is the admin socket"},
		{"SocketTwice", "apps: [{id: a, socket: /s/x}, {id: b, socket: /s/x}]", "apps[1].socket", "is used twice, also by apps[0].socket"},
		{"SocketOfAnother", "apps: [{id: a, socket: /r/b.sock}, {id: b}]", "apps[1].socket", "is used twice, also by apps[0].socket"},
		{"LongSocket", "apps: [{id: a, socket: " + long + "}]", "apps[0].socket", "longer than the 107 bytes"},
		{"ListenerTwice", "apps: [{id: a, listen: {http: '127.0.0.1:1', grpc: '127.0.0.1:1'}}]", "apps[0].listen.grpc", "is used twice, also by apps[0].listen.http"},
		{"ListenerOfMetrics", "metrics: {listen: '127.0.0.1:1'}\napps: [{id: a, listen: {http: '127.0.0.1:1'}}]", "apps[0].listen.http", "also by metrics.listen"},
		{"Port", "apps: [{id: a, listen: {http: '127.0.0.1:70000'}}]", "apps[0].listen.http", "is not host:port"},
		{"Metrics", "metrics: {listen: everywhere}", "metrics.listen", "is not host:port"},
		{"ChannelPath", "apps: [{id: a, channel: {address: 'unix://'}}]", "apps[0].channel.address", "neither"},
		{"Threshold", "apps: [{id: a, channel: {health: {threshold: -1}}}]", "apps[0].channel.health.threshold", "is negative"},
		{"IDTwice", "apps: [{id: a}, {id: a}]", "apps[1].id", "is used twice"},
		{"Filter", "topics: [{match: 'a/#/b'}]", "topics[0].match", "#"},
		{"Bound", "topics: [{match: a, maxEvents: -1}]", "topics[0].maxEvents", "is negative"},
		{"CommitInterval", "limits: {commitInterval: -1s}", "limits.commitInterval", "is negative"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "edged.yaml")
			if err := os.WriteFile(file, []byte("device: d\nrun: /r\n"+c.text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := edge.LoadConfig(file)
			if err == nil || !strings.Contains(err.Error(), c.field+": ") || !strings.Contains(err.Error(), c.problem) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want one fault at %s: %s", err, c.field, c.problem)
			}
		})
	}
}

// The ports that edged picks are free: 0 may be written as often as one likes.
func TestLoadConfig_AnyPortTwice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "edged.yaml")
	text := "device: d\napps: [{id: a, listen: {http: '127.0.0.1:0', grpc: '127.0.0.1:0'}}, {id: b, listen: {http: '127.0.0.1:0'}}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := edge.LoadConfig(file); err != nil {
		t.Error(err)
	}
}
