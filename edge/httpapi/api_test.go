package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/apitest"
	"github.com/edged-io/edged/edge/httpapi"
	"github.com/edged-io/edged/edge/invoke"
	"github.com/edged-io/edged/edge/resource"
)

func call(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHealth(t *testing.T) {
	ready, outbound := false, false
	o := options(apitest.Bare())
	o.Ready = func() bool { return ready }
	o.Unready = func() []string { return []string{"grpc-api-server", "app"} }
	o.OutboundReady = func() bool { return outbound }
	for name, h := range map[string]http.Handler{"api": httpapi.New(o), "public": httpapi.NewPublic(o)} {
		t.Run(name, func(t *testing.T) {
			ready, outbound = false, false
			if w := call(h, "GET", "/v1.0/healthz", ""); w.Code != 500 || w.Body.String() != `{"errorCode":"ERR_HEALTH_NOT_READY","message":"dapr is not ready: [grpc-api-server app]"}` {
				t.Error(w.Code, w.Body)
			}
			if w := call(h, "GET", "/v1.0/healthz/outbound", ""); w.Code != 500 || w.Body.String() != `{"errorCode":"ERR_OUTBOUND_HEALTH_NOT_READY","message":"dapr outbound is not ready"}` {
				t.Error(w.Code, w.Body)
			}
			outbound = true
			if w := call(h, "GET", "/v1.0/healthz/outbound", ""); w.Code != 204 {
				t.Error(w.Code, w.Body)
			}
			ready = true
			if w := call(h, "GET", "/v1.0/healthz", ""); w.Code != 204 || w.Body.Len() > 0 {
				t.Error(w.Code, w.Body)
			}
		})
	}
}

func TestPublic(t *testing.T) {
	o := options(apitest.Full(t))
	o.APIToken = "secret"
	h := httpapi.NewPublic(o)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1.0/healthz", 204}, {"GET", "/v1.0/metadata", 200}, {"PUT", "/v1.0/metadata/a", 204},
		{"GET", "/v1.0/state/mystore/k", 404}, {"POST", "/v1.0/publish/mypubsub/t", 404}, {"POST", "/v1.0/shutdown", 404}, {"GET", "/v1.0/invoke/a/method/b", 404},
	} {
		if w := call(h, c.method, c.path, "x"); w.Code != c.status {
			t.Errorf("%s %s: %d", c.method, c.path, w.Code)
		}
	}
}

func TestShutdown(t *testing.T) {
	var asked []string
	o := options(apitest.Bare())
	o.Shutdown = func() { asked = append(asked, "graceful") }
	o.ForceShutdown = func() { asked = append(asked, "forced") }
	h := httpapi.New(o)
	if w := call(h, "POST", "/v1.0/shutdown", ""); w.Code != 204 {
		t.Error(w.Code)
	}
	if w := call(h, "POST", "/v1.0/shutdown", "", "dapr-force-shutdown", "TRUE"); w.Code != 204 {
		t.Error(w.Code)
	}
	if w := call(h, "GET", "/v1.0/shutdown", ""); w.Code != 404 {
		t.Error(w.Code)
	}
	if !slices.Equal(asked, []string{"graceful", "forced"}) {
		t.Error(asked)
	}
}

func TestBodyLimit(t *testing.T) {
	o := options(apitest.Full(t))
	o.MaxBodySize = 1000
	addr := serve(t, httpapi.New(o))
	for name, body := range map[string]func(n int) io.Reader{
		"length": func(n int) io.Reader { return strings.NewReader(strings.Repeat("x", n)) },
		"chunks": func(n int) io.Reader { return struct{ io.Reader }{strings.NewReader(strings.Repeat("x", n))} },
	} {
		for n, want := range map[int]int{0: 204, 999: 204, 1000: 204, 1001: 413, 500_000: 413} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				resp, err := http.Post("http://"+addr+"/v1.0/publish/mypubsub/t", "text/plain", body(n))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = resp.Body.Close() }()
				text, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != want || want == 413 && !strings.Contains(string(text), `"errorCode":"ERR_BODY_READ","message":"failed to read request body: stream too large`) {
					t.Errorf("%s %s", resp.Status, text)
				}
			})
		}
	}
	t.Run("broken off", func(t *testing.T) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST /v1.0/publish/mypubsub/t HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
		_ = conn.(*net.TCPConn).CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 400 {
			t.Error(resp.Status)
		}
		_ = conn.Close()
	})
}

func TestTrace(t *testing.T) {
	h := full(t)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	w := call(h, "GET", "/v1.0/state/mystore/k", "", "traceparent", parent, "tracestate", "a=b", "baggage", "k=v")
	if w.Header().Get("Traceparent") != parent || w.Header().Get("Tracestate") != "a=b" || w.Header().Get("Baggage") != "k=v" {
		t.Error(w.Header())
	}
	w = call(h, "GET", "/v1.0/state/mystore/k", "", "traceparent", "garbage", "tracestate", "a=b")
	if w.Header().Get("Traceparent") != "" || w.Header().Get("Tracestate") != "" {
		t.Error(w.Header())
	}
}

func TestObserve(t *testing.T) {
	var calls []httpapi.Call
	var errs [][2]string
	var log bytes.Buffer
	o := options(apitest.Full(t))
	o.OnCall = func(c httpapi.Call) { calls = append(calls, c) }
	o.OnError = func(code, category string) { errs = append(errs, [2]string{code, category}) }
	o.LogCalls, o.Log = true, slog.New(slog.NewTextHandler(&log, nil))
	h := httpapi.New(o)
	call(h, "POST", "/v1.0/state/mystore", `[{"key":"k","value":"v"}]`, "User-Agent", "me")
	call(h, "GET", "/v1.0/state/mystore/k", "")
	call(h, "GET", "/v1.0/state/nostore/k", "")
	call(h, "GET", "/v1.0/healthz", "")
	var got [][3]any
	for _, c := range calls {
		got = append(got, [3]any{c.Method + " " + c.Path, c.Status, c.Size})
	}
	missing := call(h, "GET", "/v1.0/state/nostore/k", "")
	want := [][3]any{
		{"POST /v1.0/state/mystore", 204, int64(0)}, {"GET /v1.0/state/mystore/k", 200, int64(3)},
		{"GET /v1.0/state/nostore/k", 400, int64(missing.Body.Len())}, {"GET /v1.0/healthz", 204, int64(0)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("calls %v", got)
	}
	if !reflect.DeepEqual(errs[:1], [][2]string{{"ERR_STATE_STORE_NOT_FOUND", "state"}}) {
		t.Errorf("errors %v", errs)
	}
	text := log.String()
	if strings.Contains(text, "healthz") || !strings.Contains(text, `msg="HTTP API Called" code=204 duration=0 method="POST /v1.0/state/mystore" size=0 useragent=me`) {
		t.Errorf("log %s", text)
	}
}

// application answers as it is told and notes what it was asked.
type application struct {
	got    invoke.Request
	body   string
	answer *invoke.Response
	err    error
}

func (a *application) Invoke(_ context.Context, r invoke.Request) (*invoke.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a.got, a.body = r, string(body)
	return a.answer, a.err
}

func invoking(t *testing.T, a *application) http.Handler {
	t.Helper()
	o := options(apitest.Bare())
	o.MaxBodySize = 100
	o.Invoke = invoke.NewService(func(app string) (invoke.Channel, bool) { return a, app == "shop" || app == "http://x:1" })
	return httpapi.New(o)
}

func TestInvoke(t *testing.T) {
	a := &application{}
	h := invoking(t, a)
	for _, c := range []struct {
		name, method, path string
		header             []string
		verb, target       string
	}{
		{"by path", "PATCH", "/v1.0/invoke/shop/method/orders/1?a=b", nil, "PATCH", "orders/1"},
		{"escapes stay", "GET", "/v1.0/invoke/shop/method/a%20b%2Fc", nil, "GET", "a%20b%2Fc"},
		{"slashes are cleaned", "GET", "//v1.0//invoke/shop/method//orders//", nil, "GET", "orders"},
		{"root", "GET", "/v1.0/invoke/shop/method/", nil, "GET", ""},
		{"by header", "POST", "/orders/1", []string{"dapr-app-id", "shop"}, "POST", "orders/1"},
		{"by user and password", "GET", "/orders", []string{"Authorization", "Basic ZGFwci1hcHAtaWQ6c2hvcA=="}, "GET", "orders"},
		{"by URL", "GET", "/v1.0/invoke/http://x:1/method/orders", nil, "GET", "orders"},
		{"by escaped URL", "GET", "/v1.0/invoke/http%3A%2F%2Fx%3A1/method/orders", nil, "GET", "orders"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.answer = &invoke.Response{Status: 418, Header: http.Header{"X-Answer": {"1", "2"}}, Body: io.NopCloser(strings.NewReader("short and stout"))}
			w := call(h, c.method, c.path, "body", append(c.header, "X-Mine", "yes")...)
			if w.Code != 418 || w.Body.String() != "short and stout" || !slices.Equal(w.Header()["X-Answer"], []string{"1", "2"}) {
				t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
			}
			if a.got.Verb != c.verb || a.got.Path != c.target || a.body != "body" || http.Header(a.got.Header).Get("X-Mine") != "yes" || http.Header(a.got.Header).Get("Dapr-App-Id") != "" {
				t.Errorf("asked %+v %s", a.got, a.body)
			}
			if strings.Contains(c.path, "?") != (a.got.Query == "a=b") {
				t.Errorf("query %q", a.got.Query)
			}
		})
	}
	t.Run("climbing out is refused", func(t *testing.T) {
		for _, path := range []string{"a%2F..%2F..%2Fadmin", "a%0Ab"} {
			if w := call(h, "GET", "/v1.0/invoke/shop/method/"+path, ""); w.Code != 400 || !strings.Contains(w.Body.String(), "invalid method") {
				t.Error(w.Code, w.Body)
			}
		}
	})
	t.Run("failed", func(t *testing.T) {
		a.answer, a.err = nil, errors.New("it is off")
		if w := call(h, "GET", "/v1.0/invoke/shop/method/m", ""); w.Code != 500 || w.Body.String() != `{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: shop, err: it is off"}` {
			t.Error(w.Code, w.Body)
		}
	})
	t.Run("too large", func(t *testing.T) {
		for _, length := range []int64{101, -1} {
			r := httptest.NewRequest("POST", "/v1.0/invoke/shop/method/m", strings.NewReader(strings.Repeat("x", 101)))
			r.ContentLength = length
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != 413 {
				t.Error(w.Code, w.Body)
			}
		}
	})
	t.Run("odd answers", func(t *testing.T) {
		a.err = nil
		a.answer = &invoke.Response{Status: 99, Body: io.NopCloser(strings.NewReader(""))}
		if w := call(h, "GET", "/v1.0/invoke/shop/method/m", ""); w.Code != 500 || !strings.Contains(w.Body.String(), "status 99") {
			t.Error(w.Code, w.Body)
		}
		a.answer = &invoke.Response{Status: 200, Header: http.Header{"Connection": {"close"}, "transfer-encoding": {"chunked"}, "x-ok": {"1"}}, Body: io.NopCloser(strings.NewReader("x"))}
		if w := call(h, "GET", "/v1.0/invoke/shop/method/m", ""); w.Code != 200 || len(w.Header()) != 1 || w.Header().Get("X-Ok") != "1" {
			t.Error(w.Code, w.Header())
		}
	})
	t.Run("not ready", func(t *testing.T) {
		o := options(apitest.Bare())
		o.Invoke = nil
		if w := call(httpapi.New(o), "GET", "/v1.0/invoke/shop/method/m", ""); w.Code != 500 || !strings.Contains(w.Body.String(), "invoke API is not ready") {
			t.Error(w.Code, w.Body)
		}
	})
}

// TestInvoke_Streams checks that what an application sends in pieces arrives in pieces.
func TestInvoke_Streams(t *testing.T) {
	r, w := io.Pipe()
	a := &application{answer: &invoke.Response{Status: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: r}}
	addr := serve(t, invoking(t, a))
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + addr + "/v1.0/invoke/shop/method/events")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		fmt.Fprintf(w, "data: %d\n", i) // the next is only sent when this one has arrived
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatal(line, err)
		}
	}
	_ = w.Close()
	if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
		t.Fatal(rest, err)
	}
}

// TestRoute_Allocations keeps the way to a handler free of garbage.
func TestRoute_Allocations(t *testing.T) {
	h := bare()
	r := httptest.NewRequest("GET", "/v1.0/healthz", nil)
	w := &nowhere{http.Header{}}
	if n := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestAccess(t *testing.T) {
	o := options(apitest.Full(t))
	o.Access = &resource.APIAccess{Denied: []resource.APIRule{{Name: "secrets", Version: "v1", Protocol: "http"}, {Name: "invoke", Version: "v1", Protocol: "http"}}}
	h := httpapi.New(o)
	for path, want := range map[string]int{
		"/v1.0/healthz": 204, "/v1.0/state/mystore/k": 204, "/v1.0/secrets/mysecrets/key1": 404, "/v1.0/invoke/shop/method/m": 404, "/nope": 404,
	} {
		w := call(h, "GET", path, "")
		if w.Code != want || want == 404 && strings.Contains(w.Body.String(), "errorCode") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestCORS(t *testing.T) {
	for _, c := range []struct {
		allowed, origin, want string
	}{
		{"*", "https://any.example", "*"},
		{"*", "", ""},
		{"https://a.example, https://b.example", "https://B.example", "https://B.example"},
		{"https://a.example", "https://b.example", ""},
		{"https://*.example", "https://x.y.example", "https://x.y.example"},
		{"https://*.example", "https://.exampl", ""},
		{"", "https://a.example", ""},
	} {
		o := options(apitest.Bare())
		o.AllowedOrigins, o.APIToken = c.allowed, "secret"
		h := httpapi.New(o)
		header := []string{"dapr-api-token", "secret"}
		if c.origin != "" {
			header = append(header, "Origin", c.origin)
		}
		w := call(h, "GET", "/v1.0/metadata", "", header...)
		if got := w.Header().Get("Access-Control-Allow-Origin"); w.Code != 200 || got != c.want || (w.Header().Get("Vary") == "Origin") != (c.allowed != "") {
			t.Errorf("%+v: %d %v", c, w.Code, w.Header())
		}
		// A preflight needs no token, and does not reach the API.
		w = call(h, "OPTIONS", "/v1.0/metadata", "", "Origin", c.origin, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-a, dapr-api-token")
		switch {
		case c.allowed == "" && w.Code != 401, c.allowed != "" && (w.Code != 200 || w.Body.Len() > 0):
			t.Errorf("%+v: preflight %d %s", c, w.Code, w.Body)
		case c.want != "" && (w.Header().Get("Access-Control-Allow-Methods") != "PUT" || w.Header().Get("Access-Control-Allow-Headers") != "X-A, Dapr-Api-Token"):
			t.Errorf("%+v: preflight %v", c, w.Header())
		case c.want == "" && w.Header().Get("Access-Control-Allow-Methods") != "":
			t.Errorf("%+v: preflight %v", c, w.Header())
		}
	}
}
