package httpapi

import (
	"net/http"
	"strings"
)

// cors answers cross-origin questions as daprd does with --allowed-origins.
type cors struct {
	all      bool
	exact    map[string]bool
	patterns [][2]string // what comes before and after a *
}

func newCORS(origins string) *cors {
	if origins == "" {
		return nil
	}
	c := &cors{exact: map[string]bool{}}
	for origin := range strings.SplitSeq(strings.ToLower(origins), ",") {
		origin = strings.TrimSpace(origin)
		switch before, after, wild := strings.Cut(origin, "*"); {
		case origin == "*":
			c.all = true
		case wild:
			c.patterns = append(c.patterns, [2]string{before, after})
		default:
			c.exact[origin] = true
		}
	}
	return c
}

// handle adds the headers and reports whether that already was the answer: a preflight is.
func (c *cors) handle(w http.ResponseWriter, r *http.Request) (answered bool) {
	h, origin := w.Header(), r.Header.Get("Origin")
	wanted := r.Header.Get("Access-Control-Request-Method")
	preflight := r.Method == http.MethodOptions && wanted != ""
	h.Add("Vary", "Origin")
	method := r.Method
	if preflight {
		h.Add("Vary", "Access-Control-Request-Method")
		h.Add("Vary", "Access-Control-Request-Headers")
		method = wanted
	}
	if origin != "" && c.allows(origin) && corsMethod(method) {
		c.grant(h, origin)
		if preflight {
			h.Set("Access-Control-Allow-Methods", strings.ToUpper(method))
			grantHeaders(h, r.Header.Get("Access-Control-Request-Headers"))
		}
	}
	if preflight {
		w.WriteHeader(http.StatusOK)
	}
	return preflight
}

func (c *cors) grant(h http.Header, origin string) {
	if c.all {
		origin = "*"
	}
	h.Set("Access-Control-Allow-Origin", origin)
}

func grantHeaders(h http.Header, wanted string) {
	var names []string
	for name := range strings.FieldsFuncSeq(wanted, func(r rune) bool { return r == ',' || r == ' ' }) {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	if len(names) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(names, ", "))
	}
}

func (c *cors) allows(origin string) bool {
	if c.all {
		return true
	}
	origin = strings.ToLower(origin)
	if c.exact[origin] {
		return true
	}
	for _, p := range c.patterns {
		if len(origin) >= len(p[0])+len(p[1]) && strings.HasPrefix(origin, p[0]) && strings.HasSuffix(origin, p[1]) {
			return true
		}
	}
	return false
}

func corsMethod(method string) bool {
	switch strings.ToUpper(method) {
	case http.MethodOptions, http.MethodHead, http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return true
	}
	return false
}
