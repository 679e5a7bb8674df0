package httpapi

import "net/http"

// echoTrace sends the caller's W3C trace context and baggage back, as daprd does when it takes no part in the trace.
func echoTrace(w http.ResponseWriter, r *http.Request) {
	if v := r.Header["Traceparent"]; len(v) == 1 && validTraceparent(v[0]) {
		h := w.Header()
		h["Traceparent"] = v
		if s := r.Header["Tracestate"]; len(s) > 0 {
			h["Tracestate"] = s
		}
	}
	if v := r.Header["Baggage"]; len(v) > 0 {
		w.Header()["Baggage"] = v
	}
}

// validTraceparent checks version-traceid-parentid-flags (W3C Trace Context), ids not all zero.
func validTraceparent(v string) bool {
	return len(v) >= 55 && v[2] == '-' && v[35] == '-' && v[52] == '-' && (len(v) == 55 || v[55] == '-') &&
		hexadecimal(v[:2]) && v[:2] != "ff" && nonZero(v[3:35]) && nonZero(v[36:52]) && hexadecimal(v[53:55])
}

func hexadecimal(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func nonZero(s string) bool {
	if !hexadecimal(s) {
		return false
	}
	for i := range len(s) {
		if s[i] != '0' {
			return true
		}
	}
	return false
}
