package edge_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
)

// TestSocket_SpeaksBoth uses one Unix socket for HTTP/1.1 and gRPC, and for clients that say little or nothing.
func TestSocket_SpeaksBoth(t *testing.T) {
	folder := t.TempDir()
	c, stop := startRuntime(t, folder, time.Now, "")
	socket := filepath.Join(folder, "run", "app.sock")
	if status, body := request(t, c, "POST", "/v1.0/state/statestore", `[{"key":"k","value":"v"}]`); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, body)
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := runtimev1.NewDaprClient(conn).GetState(t.Context(), &runtimev1.GetStateRequest{StoreName: "statestore", Key: "k"})
	if err != nil || string(got.GetData()) != `"v"` {
		t.Fatalf("%q %v", got.GetData(), err)
	}
	t.Run("ByteByByte", func(t *testing.T) {
		raw, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		// A request that begins as the preface of HTTP/2 does must still be told apart.
		for _, b := range []byte("PUT /v1.0/metadata/color HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\ngreen") {
			if _, err := raw.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(bufio.NewReader(raw), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusNoContent {
			t.Errorf("%s %s %v", resp.Status, b, err)
		}
	})
	t.Run("SilentClientDoesNotHoldTheStop", func(t *testing.T) {
		silent, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		ended := make(chan struct{})
		go func() { stop(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			t.Fatal("a silent connection kept edged from stopping")
		}
		if _, err := silent.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("the silent connection stayed open: %v", err)
		}
	})
}
