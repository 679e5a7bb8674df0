// Package admin serves what operators and the CLI ask of a running daemon, over its own socket: status, metrics,
// attaching an application for as long as a connection lasts, and profiles.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// Attachment asks to serve one more application; see Daemon.Attach.
type Attachment struct {
	ID            string `json:"id"`
	Address       string `json:"address,omitempty"`  // where the application listens
	Protocol      string `json:"protocol,omitempty"` // http, https, grpc, grpcs, h2c
	HealthCheck   bool   `json:"healthCheck,omitempty"`
	HTTP          string `json:"http,omitempty"` // host:port of a TCP listener; port 0 picks a free one; empty: none
	GRPC          string `json:"grpc,omitempty"`
	MaxConcurrent int    `json:"maxConcurrency,omitempty"`
}

// Attached says where an attached application finds its API.
type Attached struct {
	Socket string `json:"socket"`
	HTTP   string `json:"http,omitempty"`
	GRPC   string `json:"grpc,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Daemon is what the admin socket shows.
type Daemon interface {
	// Status returns a value that marshals to the status document.
	Status(ctx context.Context) any
	// WriteMetrics writes all metrics in Prometheus text format.
	WriteMetrics(w io.Writer)
	// Attach serves an application until detach is called.
	Attach(ctx context.Context, a Attachment) (at Attached, detach func(), err error)
}

// Handler serves GET /status, GET /metrics, POST /attach and /debug/pprof/.
func Handler(d Daemon, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(d.Status(r.Context())); err != nil {
			log.Debug("status not sent", "error", err)
		}
	})
	mux.Handle("GET /metrics", Metrics(d))
	mux.HandleFunc("POST /attach", func(w http.ResponseWriter, r *http.Request) { attach(w, r, d, log) })
	Profiles(mux)
	return mux
}

// Metrics serves the metrics alone.
func Metrics(d Daemon) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		d.WriteMetrics(w)
	})
}

// Profiles adds Go's profiles to mux.
func Profiles(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// attach keeps the application for as long as the client holds the connection, so that one that dies is detached.
func attach(w http.ResponseWriter, r *http.Request, d Daemon, log *slog.Logger) {
	var a Attachment
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		http.Error(w, "decode attachment: "+err.Error(), http.StatusBadRequest)
		return
	}
	at, detach, err := d.Attach(r.Context(), a)
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		at.Error = err.Error()
	} else {
		defer detach()
	}
	rc := http.NewResponseController(w)
	if eerr := json.NewEncoder(w).Encode(at); eerr != nil || err != nil {
		return
	}
	if err := rc.Flush(); err != nil {
		log.Debug("attachment not answered", "app", a.ID, "error", err)
		return
	}
	<-r.Context().Done()
}

// Client talks to the admin socket of a daemon.
type Client struct {
	http http.Client
}

// NewClient returns a client of the daemon that listens on socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{http: http.Client{Transport: &http.Transport{DialContext: dial, ResponseHeaderTimeout: 30 * time.Second}}}
}

// Status fetches the status document as JSON.
func (c *Client) Status(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://edged/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	return b, errors.Join(err, resp.Body.Close())
}

// Attach asks the daemon to serve an application until release is called or this process ends.
func (c *Client) Attach(ctx context.Context, a Attachment) (at Attached, release func() error, err error) {
	body, w := io.Pipe()
	go func() { _ = w.CloseWithError(json.NewEncoder(w).Encode(a)) }() // the reader sees the error
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://edged/attach", body)
	if err != nil {
		return at, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return at, nil, err
	}
	if err := json.NewDecoder(resp.Body).Decode(&at); err != nil {
		return at, nil, errors.Join(err, resp.Body.Close())
	}
	if at.Error != "" {
		return at, nil, errors.Join(errors.New(at.Error), resp.Body.Close())
	}
	return at, resp.Body.Close, nil
}
