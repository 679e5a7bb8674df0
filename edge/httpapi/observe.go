package httpapi

import (
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Call is one answered call, for metrics and logs.
type Call struct {
	Method    string
	Path      string // as it was asked for
	UserAgent string
	Status    int
	Size      int64 // bytes of the answer's body
	Duration  time.Duration
}

// watcher notes the status and size of an answer.
type watcher struct {
	http.ResponseWriter
	status int
	size   int64
}

func (w *watcher) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *watcher) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.size += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush through.
func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (a *api) observed(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	watch := watcher{ResponseWriter: w}
	c := Call{Method: r.Method, Path: r.URL.Path, UserAgent: r.Header.Get("User-Agent")}
	a.serve(&watch, r)
	if c.Status = watch.status; c.Status == 0 {
		c.Status = http.StatusOK
	}
	c.Size, c.Duration = watch.size, time.Since(start)
	if a.OnCall != nil {
		a.OnCall(c)
	}
	if a.LogCalls && (a.LogHealth || !strings.HasPrefix(c.Path, "/v1.0/healthz")) {
		a.logCall(c)
	}
}

func (a *api) logCall(c Call) {
	attrs := []any{
		slog.Int("code", c.Status), slog.Int64("duration", c.Duration.Milliseconds()),
		slog.String("method", c.Method+" "+c.Path), slog.Int64("size", c.Size),
	}
	if c.UserAgent != "" {
		attrs = append(attrs, slog.String("useragent", c.UserAgent))
	}
	a.Log.Info("HTTP API Called", attrs...)
}
