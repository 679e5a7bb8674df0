package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/app/http1"
)

// serve starts a net/http server on a Unix socket and returns a client for it.
func serve(t testing.TB, h http.Handler, cfg http1.Config) (*http1.Client, *httptest.Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	srv.Start()
	cfg.Network, cfg.Address = "unix", path
	c := http1.New(cfg)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return c, srv
}

// script starts a server that handles each connection with h, the connection's number counting from 0.
func script(t testing.TB, h func(n int, c net.Conn, r *bufio.Reader)) *http1.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				h(n, c, bufio.NewReader(c))
			})
		}
	})
	cl := http1.New(http1.Config{Network: "tcp", Address: l.Addr().String()})
	t.Cleanup(func() {
		_ = cl.Close()
		_ = l.Close()
		wg.Wait()
	})
	return cl
}

func readRequest(r *bufio.Reader) error {
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err
}

func post(c *http1.Client, body string) (http1.Response, error) {
	var resp http1.Response
	err := c.Do(context.Background(), &http1.Request{Method: "POST", Target: "/", Body: []byte(body)}, &resp)
	return resp, err
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for poll := time.Tick(time.Millisecond); !ok(); {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-poll:
		}
	}
}

func TestClient_Do(t *testing.T) {
	c, srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X", strings.Repeat("y", 100))
		fmt.Fprintf(w, "%s %s host=%s x=%s n=%d", r.Method, r.URL, r.Host, r.Header.Get("X-Test"), len(body))
	}), http1.Config{})
	for _, n := range []int{0, 1, 1000, 32 << 10, 32<<10 + 1, 64<<10 + 1, 3 << 20} {
		var resp http1.Response
		err := c.Do(t.Context(), &http1.Request{
			Method: "POST", Target: "/a/b?c=d%20e", Fields: []http1.Field{{Name: "x-test", Value: "té st"}}, Body: make([]byte, n),
		}, &resp)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("POST /a/b?c=d%%20e host=localhost x=té st n=%d", n)
		if resp.Status != 200 || string(resp.Body) != want || resp.Partial != nil {
			t.Errorf("%d bytes: got %d %q %v", n, resp.Status, resp.Body, resp.Partial)
		}
	}
	if c.Idle() != 1 {
		t.Errorf("%d idle connections", c.Idle())
	}
	t.Run("ServerRestart", func(t *testing.T) {
		srv.CloseClientConnections()
		if _, err := post(c, "x"); err != nil {
			t.Error(err)
		}
	})
	t.Run("Closed", func(t *testing.T) {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if c.Idle() != 0 {
			t.Error("idle connections are left")
		}
		if _, err := post(c, "x"); err == nil {
			t.Error("a closed client sent a request")
		}
	})
}

func TestClient_Do_Handlers(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	for name, tc := range map[string]struct {
		h      http.HandlerFunc
		status int
		body   string
	}{
		"Chunked": {func(w http.ResponseWriter, _ *http.Request) {
			for range 3 {
				_, _ = w.Write([]byte("abc"))
				w.(http.Flusher).Flush()
			}
		}, 200, "abcabcabc"},
		"Trailers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-T")
			_, _ = w.Write([]byte("abc"))
			w.Header().Set("X-T", "y")
		}, 200, "abc"},
		"Interim": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusAccepted)
		}, 202, ""},
		"Large":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(big) }, 200, string(big)},
		"NoContent": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, ""},
		"NotFound":  {http.NotFound, 404, "404 page not found\n"},
		"Close": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			_, _ = w.Write([]byte("bye"))
		}, 200, "bye"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := serve(t, tc.h, http1.Config{})
			for range 3 {
				resp, err := post(c, "hello")
				if err != nil || resp.Status != tc.status || string(resp.Body) != tc.body || resp.Partial != nil {
					t.Fatalf("got %d %.60q %v %v", resp.Status, resp.Body, resp.Partial, err)
				}
			}
		})
	}
}

func TestClient_Do_Unreachable(t *testing.T) {
	c := http1.New(http1.Config{Network: "unix", Address: filepath.Join(t.TempDir(), "none.sock")})
	_, err := post(c, "x")
	var e *http1.Error
	if !errors.As(err, &e) || e.Sent || e.Op != "dial" {
		t.Errorf("got %v", err)
	}
}

func TestClient_Do_BadRequest(t *testing.T) {
	c, _ := serve(t, http.NotFoundHandler(), http1.Config{})
	for _, req := range []http1.Request{
		{Method: "GET", Target: ""},
		{Method: "GET", Target: "x"},
		{Method: "GET", Target: "/a b"},
		{Method: "GET", Target: "/a\r\nX: y"},
		{Method: "GET", Target: "/", Fields: []http1.Field{{Name: "a b", Value: "c"}}},
		{Method: "GET", Target: "/", Fields: []http1.Field{{Name: "", Value: "c"}}},
		{Method: "GET", Target: "/", Fields: []http1.Field{{Name: "a", Value: "c\r\nd: e"}}},
	} {
		var resp http1.Response
		var e *http1.Error
		if err := c.Do(t.Context(), &req, &resp); !errors.As(err, &e) || e.Sent {
			t.Errorf("%+v: got %v", req, err)
		}
	}
}

func TestClient_Do_Broken(t *testing.T) {
	t.Run("NoAnswer", func(t *testing.T) {
		c := script(t, func(_ int, _ net.Conn, r *bufio.Reader) { _ = readRequest(r) })
		_, err := post(c, "x")
		var e *http1.Error
		if !errors.As(err, &e) || !e.Sent {
			t.Errorf("got %v", err)
		}
	})
	t.Run("HalfAHead", func(t *testing.T) {
		c := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			_ = readRequest(r)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nCont")
		})
		_, err := post(c, "x")
		var e *http1.Error
		if !errors.As(err, &e) || !e.Sent {
			t.Errorf("got %v", err)
		}
	})
	t.Run("HalfABody", func(t *testing.T) {
		c := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			_ = readRequest(r)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		})
		resp, err := post(c, "x")
		if err != nil || resp.Status != 200 || string(resp.Body) != "half" || !errors.Is(resp.Partial, io.ErrUnexpectedEOF) {
			t.Errorf("got %d %q %v %v", resp.Status, resp.Body, resp.Partial, err)
		}
		if c.Idle() != 0 {
			t.Error("the connection is kept")
		}
	})
	t.Run("Slow", func(t *testing.T) {
		c := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for readRequest(r) == nil {
				for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") {
					_, _ = c.Write([]byte{b})
				}
			}
		})
		for range 3 {
			if resp, err := post(c, "x"); err != nil || string(resp.Body) != "hi" {
				t.Errorf("got %q %v", resp.Body, err)
			}
		}
		if c.Idle() != 1 {
			t.Error("the connection is not kept")
		}
	})
	t.Run("RefusesLargeBody", func(t *testing.T) {
		c := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
			_, _ = r.ReadByte()
			<-t.Context().Done() // it reads no more, and does not hang up either
		})
		resp, err := post(c, strings.Repeat("x", 16<<20))
		if err != nil || resp.Status != 413 {
			t.Errorf("got %d %v", resp.Status, err)
		}
		if c.Idle() != 0 {
			t.Error("the connection is kept")
		}
	})
}

// The server hangs up after each answer without saying so: every request that follows meets a closed connection.
func TestClient_Do_StaleConnection(t *testing.T) {
	var requests atomic.Int64
	t.Run("SeenBeforeSending", func(t *testing.T) {
		c := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if readRequest(r) == nil {
				requests.Add(1)
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		})
		for range 50 {
			if _, err := post(c, "x"); err != nil {
				t.Fatal(err)
			}
		}
		if n := requests.Load(); n != 50 {
			t.Errorf("%d requests answered", n)
		}
	})
	t.Run("SeenWhileWaiting", func(t *testing.T) {
		var conns atomic.Int64
		c := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			conns.Add(1)
			if readRequest(r) == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				_ = readRequest(r) // takes the next one and hangs up
			}
		})
		for range 10 {
			if _, err := post(c, "x"); err != nil {
				t.Fatal(err)
			}
		}
		if n := conns.Load(); n != 10 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("NotAfterAByte", func(t *testing.T) {
		var conns atomic.Int64
		c := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			conns.Add(1)
			if readRequest(r) == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				_ = readRequest(r)
				_, _ = io.WriteString(c, "H")
			}
		})
		if _, err := post(c, "x"); err != nil {
			t.Fatal(err)
		}
		var e *http1.Error
		if _, err := post(c, "x"); !errors.As(err, &e) || !e.Sent {
			t.Errorf("got %v", err)
		}
		if n := conns.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("UnaskedAnswer", func(t *testing.T) {
		extra := make(chan struct{})
		c := script(t, func(n int, c net.Conn, r *bufio.Reader) {
			for readRequest(r) == nil {
				if n > 0 {
					_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
					continue
				}
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				close(extra)
			}
		})
		if _, err := post(c, "x"); err != nil {
			t.Fatal(err)
		}
		<-extra
		if resp, err := post(c, "x"); err != nil || resp.Status != 500 {
			t.Errorf("an answer nobody asked for was taken: %d %v", resp.Status, err)
		}
	})
}

func TestClient_Do_Context(t *testing.T) {
	release := make(chan struct{})
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("half"))
			w.(http.Flusher).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}), http1.Config{})
	defer close(release)
	for _, target := range []string{"/head", "/body"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		var resp http1.Response
		var e *http1.Error
		err := c.Do(ctx, &http1.Request{Method: "POST", Target: target, Body: []byte("x")}, &resp)
		if !errors.As(err, &e) || !e.Sent || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", target, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var e *http1.Error
	if err := c.Do(ctx, &http1.Request{Method: "GET", Target: "/"}, new(http1.Response)); !errors.As(err, &e) || e.Sent || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if c.Idle() != 0 {
		t.Error("a connection with an answer to come is kept")
	}
}

func TestClient_Idle(t *testing.T) {
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }),
		http1.Config{IdleTimeout: 20 * time.Millisecond, MaxIdle: 3})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := post(c, "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := c.Idle(); n > 3 {
		t.Errorf("%d idle connections", n)
	}
	eventually(t, "idle connections closed", func() bool { return c.Idle() == 0 })
	if _, err := post(c, "x"); err != nil {
		t.Error(err)
	}
}

// Answers must not be mixed up, whatever breaks: every body that comes back is that of its own request.
func TestClient_Do_Chaos(t *testing.T) {
	var n atomic.Int64
	c, srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		switch n.Add(1) % 97 {
		case 13:
			panic(http.ErrAbortHandler)
		case 29:
			w.Header().Set("Content-Length", "999")
		case 51:
			w.Header().Set("Connection", "close")
		}
		_, _ = w.Write(body)
	}), http1.Config{})
	var wg sync.WaitGroup
	var good atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			for i := range 400 {
				want := fmt.Sprintf("%d-%d", g, i) + strings.Repeat("x", i*7)
				resp, err := post(c, want)
				if i == 200 && g == 0 {
					srv.CloseClientConnections()
				}
				if err != nil || resp.Partial != nil {
					continue
				}
				good.Add(1)
				if string(resp.Body) != want {
					t.Errorf("got %.20q, want %.20q", resp.Body, want)
				}
			}
		})
	}
	wg.Wait()
	if good.Load() < 2900 {
		t.Errorf("only %d good answers", good.Load())
	}
}
