// Package telemetry is how edged speaks of itself: log records and metrics.
package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LogOptions say how log records look.
type LogOptions struct {
	Level slog.Leveler
	JSON  bool
	// App, when set, adds Dapr's fields (app_id, instance, scope, type, ver), which tools that read daprd's log expect.
	App     string
	Version string
}

// NewLogger returns a logger that writes one line per record to w: logfmt with a quoted msg, or JSON. A record reaches w
// in one Write. It is safe for concurrent use.
func NewLogger(w io.Writer, o LogOptions) *slog.Logger {
	h := &handler{out: &output{w: w}, opts: o}
	if o.App != "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		h.attrs = []slog.Attr{slog.String("app_id", o.App), slog.String("instance", host)}
	}
	return slog.New(h)
}

// ParseLevel reads debug, info, warn (or warning), error, fatal.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error", "fatal":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is none of debug, info, warn, error", s)
}

type output struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

type handler struct {
	out   *output
	opts  LogOptions
	attrs []slog.Attr
	group string
}

// scopeKey is the attribute that becomes Dapr's scope field.
const scopeKey = "scope"

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.opts.Level.Level() }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append([]slog.Attr(nil), h.attrs...)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		c.attrs = append(c.attrs, a)
	}
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	c.group += name + "."
	return &c
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	b := h.out.buf[:0]
	enc := appendLogfmt
	if h.opts.JSON {
		enc = appendJSON
		b = append(b, '{')
	}
	b = enc(b, "time", r.Time.UTC().Format(time.RFC3339Nano))
	b = enc(b, "level", levelName(r.Level))
	b = enc(b, "msg", r.Message)
	scoped := false
	each := func(key string, v slog.Value) {
		scoped = scoped || key == scopeKey
		b = enc(b, key, text(v))
	}
	for _, a := range h.attrs {
		each(a.Key, a.Value)
	}
	r.Attrs(func(a slog.Attr) bool {
		each(h.group+a.Key, a.Value)
		return true
	})
	if h.opts.App != "" {
		if !scoped {
			b = enc(b, scopeKey, "dapr.runtime")
		}
		b = enc(b, "type", "log")
		b = enc(b, "ver", h.opts.Version)
	}
	if h.opts.JSON {
		b[len(b)-1] = '}'
	} else {
		b = b[:len(b)-1]
	}
	b = append(b, '\n')
	h.out.buf = b
	_, err := h.out.w.Write(b)
	return err
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warning"
	}
	return "error"
}

func text(v slog.Value) string {
	v = v.Resolve()
	if v.Kind() == slog.KindTime {
		return v.Time().UTC().Format(time.RFC3339Nano)
	}
	return v.String()
}

func appendLogfmt(b []byte, key, val string) []byte {
	b = append(append(b, key...), '=')
	if key == "msg" || val == "" || strings.ContainsFunc(val, needsQuote) {
		b = strconv.AppendQuote(b, val)
	} else {
		b = append(b, val...)
	}
	return append(b, ' ')
}

func needsQuote(r rune) bool {
	return r <= ' ' || r == '"' || r == '=' || r == 0x7f || r == '\uFFFD'
}

func appendJSON(b []byte, key, val string) []byte {
	for _, s := range [2]string{key, val} {
		q, err := json.Marshal(s)
		if err != nil { // a string always marshals
			q = []byte(`""`)
		}
		b = append(append(b, q...), ':')
	}
	b[len(b)-1] = ','
	return b
}
