package httpapi_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/edged-io/edged/edge/httpapi"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpapi.NewServer(h, httpapi.ServerOptions{})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

func TestServer_Protocols(t *testing.T) {
	addr := serve(t, bare())
	for name, want := range map[string]int{"HTTP/1.1": 1, "HTTP/2 by prior knowledge": 2} {
		t.Run(name, func(t *testing.T) {
			p := new(http.Protocols)
			p.SetHTTP1(want == 1)
			p.SetUnencryptedHTTP2(want == 2)
			tr := &http.Transport{Protocols: p}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr}).Get("http://" + addr + "/v1.0/healthz")
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != 204 || resp.ProtoMajor != want {
				t.Fatalf("%s over HTTP/%d", resp.Status, resp.ProtoMajor)
			}
		})
	}
}

// TestServer_Upgrade goes from HTTP/1.1 to HTTP/2 as RFC 7540 section 3.2 says, reads the answer to the first request on
// stream 1, and makes a second call on stream 3.
func TestServer_Upgrade(t *testing.T) {
	addr := serve(t, bare())
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	settings := base64.RawURLEncoding.EncodeToString([]byte{0, 3, 0, 0, 0, 100})
	long := strings.Repeat("v", 300)
	fmt.Fprintf(conn, "GET /v1.0/healthz?appid=other HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"+
		"Upgrade: h2c\r\nHTTP2-Settings: %s\r\nX-Long: %s\r\n\r\n", settings, long)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Connection") != "Upgrade" || resp.Header.Get("Upgrade") != "h2c" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	_, _ = io.WriteString(conn, http2.ClientPreface)
	f := http2.NewFramer(conn, r)
	_ = f.WriteSettings()
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/v1.0/healthz"}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte(b.String()), EndStream: true, EndHeaders: true})
	if got := statuses(t, f, 2); got[1] != "500" || got[3] != "204" {
		t.Fatalf("statuses by stream %v", got)
	}
}

// statuses reads frames until n streams have a status.
func statuses(t *testing.T, f *http2.Framer, n int) map[uint32]string {
	t.Helper()
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	got := map[uint32]string{}
	for len(got) < n {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			got[h.StreamID] = h.PseudoValue("status")
		}
	}
	return got
}

func TestServer_UpgradeDeclined(t *testing.T) {
	addr := serve(t, bare())
	for name, head := range map[string]string{
		"no settings":   "Connection: Upgrade\r\nUpgrade: h2c\r\n",
		"bad settings":  "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: !\r\n",
		"other":         "Connection: Upgrade\r\nUpgrade: websocket\r\n",
		"with a body":   "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\nContent-Length: 1\r\n",
		"not on offer":  "Upgrade: h2c\r\n",
		"twice settled": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\nHTTP2-Settings: \r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			fmt.Fprintf(conn, "GET /v1.0/healthz HTTP/1.1\r\nHost: x\r\n%s\r\nx", head)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != 204 {
				t.Fatal(resp, err)
			}
		})
	}
}
