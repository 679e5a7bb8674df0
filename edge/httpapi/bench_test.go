package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/httpapi"
)

var value256 = strings.Repeat("v", 254) // and two quotes

// echo is what the API is compared with: as little as an HTTP server can do.
func echo() http.Handler {
	answer := []byte(`"` + value256 + `"`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
}

// overSocket measures calls over a Unix socket, one after the other on one connection, with a client that does next to
// nothing.
func overSocket(b *testing.B, h http.Handler, request string) {
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	s := httpapi.NewServer(h, httpapi.ServerOptions{})
	go func() { _ = s.Serve(l) }()
	defer func() { _ = s.Close() }()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := io.WriteString(conn, request); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode > 299 {
			b.Fatal(resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }

func post(path, contentType, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", path, contentType, len(body), body)
}

var saveBody = `[{"key":"k","value":"` + value256 + `"}]`

func BenchmarkHTTPEchoGet(b *testing.B) { overSocket(b, echo(), get("/v1.0/state/mystore/k")) }
func BenchmarkHTTPEchoPost(b *testing.B) {
	overSocket(b, echo(), post("/x", "application/json", saveBody))
}

func BenchmarkHTTPStateGet(b *testing.B) {
	h := full(b)
	prepare(b, h)
	overSocket(b, h, get("/v1.0/state/mystore/k"))
}

func BenchmarkHTTPStateSet(b *testing.B) {
	overSocket(b, full(b), post("/v1.0/state/mystore", "application/json", saveBody))
}

func BenchmarkHTTPPublish(b *testing.B) {
	overSocket(b, full(b), post("/v1.0/publish/mypubsub/t", "application/json", `{"v":"`+value256+`"}`))
}

func prepare(b *testing.B, h http.Handler) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1.0/state/mystore", strings.NewReader(saveBody)))
	if w.Code != 204 {
		b.Fatal(w.Code, w.Body)
	}
}

// nowhere is a ResponseWriter that keeps nothing, so that only the handler is measured.
type nowhere struct{ h http.Header }

func (n *nowhere) Header() http.Header         { return n.h }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(int)             { clear(n.h) }

func handlerAlone(b *testing.B, method, path, body string) {
	h := full(b)
	prepare(b, h)
	reader := strings.NewReader(body)
	r := httptest.NewRequest(method, path, nil)
	r.ContentLength = int64(len(body))
	r.Body = io.NopCloser(reader)
	w := &nowhere{http.Header{}}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		reader.Reset(body)
		h.ServeHTTP(w, r)
	}
}

func BenchmarkHandlerStateGet(b *testing.B) { handlerAlone(b, "GET", "/v1.0/state/mystore/k", "") }
func BenchmarkHandlerStateSet(b *testing.B) {
	handlerAlone(b, "POST", "/v1.0/state/mystore", saveBody)
}

func BenchmarkHandlerPublish(b *testing.B) {
	handlerAlone(b, "POST", "/v1.0/publish/mypubsub/t", `{"v":"`+value256+`"}`)
}

func BenchmarkHandlerNotFound(b *testing.B) {
	handlerAlone(b, "GET", "/v1.0/state/nostore/k", "")
}
