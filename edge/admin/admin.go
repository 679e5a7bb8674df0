// Package admin serves what operators and the CLI ask of a running daemon, over its own socket: status, metrics,
// attaching an application for as long as a connection lasts, and profiles.
package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Handler serves GET /status, GET /metrics, POST /attach and /debug/pprof/. Attachments end when ended is closed.
func Handler(d Daemon, ended <-chan struct{}, log *slog.Logger) http.Handler {
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
	mux.HandleFunc("POST /attach", func(w http.ResponseWriter, r *http.Request) { attach(w, r, d, ended, log) })
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
func attach(w http.ResponseWriter, r *http.Request, d Daemon, ended <-chan struct{}, log *slog.Logger) {
	var a Attachment
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("decode attachment: %w", err), log)
		return
	}
	at, detach, err := d.Attach(r.Context(), a)
	if err != nil {
		refuse(w, http.StatusConflict, err, log)
		return
	}
	defer detach()
	if err := errors.Join(json.NewEncoder(w).Encode(at), http.NewResponseController(w).Flush()); err != nil {
		log.Debug("attachment not answered", "app", a.ID, "error", err)
		return
	}
	select {
	case <-r.Context().Done():
	case <-ended:
	}
}

func refuse(w http.ResponseWriter, status int, reason error, log *slog.Logger) {
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(Attached{Error: reason.Error()}); err != nil {
		log.Debug("refusal not sent", "error", err)
	}
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
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("the daemon answered %s: %s", resp.Status, b), err)
	}
	return b, errors.Join(err, resp.Body.Close())
}

// Lease is an application that a daemon serves for as long as the lease is held.
type Lease struct {
	Attached
	body  io.Closer
	ended chan struct{}
}

// Ended is closed when the lease has ended: it was closed, or the daemon has stopped.
func (l *Lease) Ended() <-chan struct{} { return l.ended }

// Close ends the lease and waits. It may be called twice.
func (l *Lease) Close() error {
	err := l.body.Close()
	<-l.ended
	return err
}

// Attach asks the daemon to serve an application until the lease is closed, ctx ends, or this process does.
func (c *Client) Attach(ctx context.Context, a Attachment) (*Lease, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://edged/attach", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req) //nolint:bodyclose // the lease closes it
	if err != nil {
		return nil, err
	}
	l := &Lease{body: resp.Body, ended: make(chan struct{})}
	err = json.NewDecoder(resp.Body).Decode(&l.Attached)
	if err == nil && (l.Error != "" || resp.StatusCode != http.StatusOK) {
		err = errors.New(cmp.Or(l.Error, resp.Status))
	}
	if err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	go func() { // ends with the daemon's answer, at the latest by Close
		defer close(l.ended)
		_, _ = io.Copy(io.Discard, resp.Body) // how it ended does not matter
	}()
	return l, nil
}
