package telemetry

import "encoding/hex"

// ValidTraceParent reports whether v is a traceparent: version-traceid-parentid-flags in lower-case hexadecimal, with
// ids that are not all zero (W3C Trace Context, section 3.2).
func ValidTraceParent(v string) bool {
	return len(v) >= 55 && v[2] == '-' && v[35] == '-' && v[52] == '-' &&
		hexadecimal(v[:2]) && v[:2] != "ff" && (len(v) == 55 || v[:2] != "00" && v[55] == '-') &&
		nonZero(v[3:35]) && nonZero(v[36:52]) && hexadecimal(v[53:55])
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
	for i := range len(s) {
		if s[i] != '0' {
			return hexadecimal(s)
		}
	}
	return false
}

// TraceParentFromBinary reads the value of gRPC's grpc-trace-bin metadata (OpenCensus binary format: version 0, then
// field 0 trace id, field 1 span id, field 2 flags) as a traceparent; "" if it is none.
func TraceParentFromBinary(b string) string {
	const traceID, spanID, flags = 2, 2 + 16 + 1, 2 + 16 + 1 + 8 + 1 // offsets of the values
	if len(b) != flags+1 || b[0] != 0 || b[traceID-1] != 0 || b[spanID-1] != 1 || b[flags-1] != 2 {
		return ""
	}
	v := make([]byte, 0, 55)
	v = append(v, "00-"...)
	v = hex.AppendEncode(v, []byte(b[traceID:traceID+16]))
	v = append(v, '-')
	v = hex.AppendEncode(v, []byte(b[spanID:spanID+8]))
	v = append(v, '-')
	v = hex.AppendEncode(v, []byte(b[flags:]))
	if !ValidTraceParent(string(v)) {
		return ""
	}
	return string(v)
}
