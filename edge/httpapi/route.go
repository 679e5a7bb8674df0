package httpapi

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/edged-io/edged/edge/fault"
)

// tokenHeader carries the API token.
const tokenHeader = "Dapr-Api-Token"

// ServeHTTP answers one call: CORS, token, then the block that the path names.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.LogCalls || a.OnCall != nil {
		a.observed(w, r)
		return
	}
	a.serve(w, r)
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	if a.cors != nil && a.cors.handle(w, r) {
		return
	}
	if a.APIToken != "" && !a.authentic(r) {
		http.Error(w, "invalid api token", http.StatusUnauthorized) // as daprd: plain text, not JSON
		return
	}
	echoTrace(w, r)
	a.route(w, r)
}

// authentic checks the API token and takes it out of the request, so that it is not passed on.
func (a *api) authentic(r *http.Request) bool {
	given := r.Header.Get(tokenHeader)
	if subtle.ConstantTimeCompare([]byte(given), []byte(a.APIToken)) != 1 && !isHealthCheck(r) {
		return false
	}
	r.Header.Del(tokenHeader)
	return true
}

func isHealthCheck(r *http.Request) bool {
	p := strings.Trim(r.URL.Path, "/")
	return r.Method == http.MethodGet && (p == "v1.0/healthz" || p == "v1.0/healthz/outbound")
}

// call is one request, taken apart.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	version string // v1.0, v1.0-alpha1, ...
	block   string // state, publish, ...
	rest    string // still escaped, without leading or double slashes
}

// route hands the call to its block. Blocks report whether they know the call: what nobody knows may be a service
// invocation by header, and is else daprd's 404.
func (a *api) route(w http.ResponseWriter, r *http.Request) {
	p := strings.TrimPrefix(path.Clean(r.URL.EscapedPath()), "/")
	c := call{w: w, r: r}
	c.version, c.rest, _ = strings.Cut(p, "/")
	c.block, c.rest, _ = strings.Cut(c.rest, "/")
	if a.blocks(&c) {
		return
	}
	if a.public || !a.Access.Permits("http", "v1", "invoke") {
		http.NotFound(w, r)
		return
	}
	a.invoke(w, r)
}

// blocks hands the call to the block that it names. A block that the configuration does not permit is not there.
func (a *api) blocks(c *call) bool {
	if c.block == "healthz" {
		return a.health(c)
	}
	if !a.Access.Permits("http", c.version, c.block) {
		return false
	}
	switch c.block {
	case "metadata":
		return a.metadata(c)
	}
	if a.public {
		return false
	}
	switch c.block {
	case "state":
		return a.state(c)
	case "publish":
		return a.publish(c)
	case "secrets":
		return a.secrets(c)
	case "shutdown":
		return a.shutdown(c)
	}
	return a.absent(c)
}

// stable reports a call of version v1.0.
func (c *call) stable() bool { return c.version == "v1.0" }

func (c *call) is(version, method string) bool { return c.version == version && c.r.Method == method }

// writes reports the methods that daprd takes for creating and changing.
func (c *call) writes() bool { return c.r.Method == http.MethodPost || c.r.Method == http.MethodPut }

// segments splits the rest of the path into at most len(into) unescaped segments; ok is false if there are more, or if
// an escape is broken.
func (c *call) segments(into []string) (n int, ok bool) {
	rest := c.rest
	for rest != "" {
		if n == len(into) {
			return n, false
		}
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		s, err := unescape(segment)
		if err != nil {
			return n, false
		}
		into[n] = s
		n++
	}
	return n, true
}

// invoke calls a method of an application: /v1.0/invoke/<app>/method/<method>, or any path with the header dapr-app-id.
func (a *api) invoke(w http.ResponseWriter, r *http.Request) {
	target, method, ok := invocation(r)
	switch {
	case !ok:
		a.fail(w, fault.InvokeNoTarget())
	case a.Invoke == nil:
		a.fail(w, fault.InvokeNotReady())
	default:
		a.forward(w, r, target, method)
	}
}

// queryUnescapeOr decodes s, or returns it as it is.
func queryUnescapeOr(s string) string {
	if t, err := url.QueryUnescape(s); err == nil && t != "" {
		return t
	}
	return s
}
