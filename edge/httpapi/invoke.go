package httpapi

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/invoke"
)

const targetHeader = "Dapr-App-Id"

// invocation finds the application and the method that a call is for, as daprd does: the header dapr-app-id (the whole
// path is the method), the user and password of a URL (dapr-app-id:<application>), or the path
// /v1.0/invoke/<application>/method/<method>. The method is escaped as it came.
func invocation(r *http.Request) (target, method string, ok bool) {
	whole := strings.TrimPrefix(path.Clean(r.URL.EscapedPath()), "/")
	if app := r.Header.Get(targetHeader); app != "" {
		r.Header.Del(targetHeader)
		return app, whole, true
	}
	if app := basicTarget(r.Header.Get("Authorization")); app != "" {
		return app, whole, true
	}
	rest, ok := invokePath(r.URL.EscapedPath())
	if !ok {
		return "", "", false
	}
	i := strings.Index(rest, "/method/")
	if i <= 0 {
		return "", "", false
	}
	if method = path.Clean(rest[i+len("/method/"):]); method == "." {
		method = ""
	}
	return queryUnescapeOr(rest[:i]), strings.TrimPrefix(method, "/"), true
}

// invokePath returns what follows /v1.0/invoke/. It does not clean the path: a target may be a URL, with slashes.
func invokePath(p string) (rest string, ok bool) {
	for _, part := range []string{"v1.0", "invoke"} {
		p = strings.TrimLeft(p, "/")
		if p, ok = strings.CutPrefix(p, part); !ok || !strings.HasPrefix(p, "/") {
			return "", false
		}
	}
	return strings.TrimLeft(p, "/"), true
}

func basicTarget(authorization string) string {
	encoded, ok := strings.CutPrefix(authorization, "Basic ")
	if !ok {
		return ""
	}
	pair, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	name, app, ok := strings.Cut(string(pair), ":")
	if !ok || strings.Contains(app, ":") || !strings.EqualFold(name, targetHeader) {
		return ""
	}
	return app
}

// forward calls the method and streams the answer.
func (a *api) forward(w http.ResponseWriter, r *http.Request, target, method string) {
	if r.ContentLength > a.MaxBodySize {
		a.fail(w, fault.BodyTooLarge(a.MaxBodySize))
		return
	}
	answer, err := a.Invoke.Invoke(r.Context(), target, invoke.Request{
		Verb: r.Method, Path: method, Query: r.URL.RawQuery, Header: r.Header,
		Body: &limited{ReadCloser: r.Body, left: a.MaxBodySize}, Length: r.ContentLength,
	})
	if err != nil {
		if errors.Is(err, errTooLarge) {
			err = fault.BodyTooLarge(a.MaxBodySize)
		}
		a.fail(w, err)
		return
	}
	defer func() { _ = answer.Body.Close() }() // reading it to the end, or giving up, is all that counts
	if answer.Status < 200 || answer.Status > 999 {
		a.fail(w, fault.InvokeFailed(target, fmt.Errorf("the application answered with status %d", answer.Status)))
		return
	}
	h := w.Header()
	for name, values := range answer.Header {
		if name = http.CanonicalHeaderKey(name); !hopByHop(name) {
			h[name] = values
		}
	}
	w.WriteHeader(answer.Status)
	stream(w, answer.Body, h.Get("Content-Length") == "")
}

// hopByHop reports headers that concern one connection only (RFC 9110, section 7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// stream copies an answer. In pieces, each is sent at once, so that events reach the caller as the application sends them.
func stream(w http.ResponseWriter, body io.Reader, pieces bool) {
	flush := func() {
		if pieces {
			_ = http.NewResponseController(w).Flush() // a writer that cannot flush sends it later
		}
	}
	flush()
	b := takeBuffer()
	defer b.free()
	if cap(b.b) < 16<<10 {
		b.b = make([]byte, 0, 16<<10)
	}
	for {
		n, err := body.Read(b.b[:cap(b.b)])
		if n > 0 {
			if _, werr := w.Write(b.b[:n]); werr != nil {
				return // the caller went away
			}
		}
		if err != nil {
			return // the end, or the application broke off: the answer's length tells the caller
		}
		flush()
	}
}
