package httpapi

import (
	"net/http"

	"github.com/edged-io/edged/edge/telemetry"
)

// traceParent is the caller's W3C trace context; empty if there is none, or none that is valid.
func traceParent(r *http.Request) string {
	if v := r.Header["Traceparent"]; len(v) == 1 && telemetry.ValidTraceParent(v[0]) {
		return v[0]
	}
	return ""
}

// echoTrace sends the caller's W3C trace context and baggage back, as daprd does when it takes no part in the trace.
// Without a trace context daprd sends one of zeros, which is not a valid one; here it is left out.
func echoTrace(w http.ResponseWriter, r *http.Request) {
	if traceParent(r) != "" {
		h := w.Header()
		h["Traceparent"] = r.Header["Traceparent"]
		if s := r.Header["Tracestate"]; len(s) > 0 {
			h["Tracestate"] = s
		}
	}
	if v := r.Header["Baggage"]; len(v) > 0 {
		w.Header()["Baggage"] = v
	}
}
