package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/edged-io/edged/edge/fault"
)

// jsonType is a header value that answers share; net/http only reads it.
var jsonType = []string{"application/json"}

// buffer is a pooled byte slice.
type buffer struct{ b []byte }

// keep is the largest buffer that goes back to the pool, so that one large request does not pin memory.
const keep = 64 << 10

// buffers are shared by all applications: a pool for each would keep memory where it is not needed.
var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 1024)} }}

func takeBuffer() *buffer { return buffers.Get().(*buffer) }

func (b *buffer) free() {
	if cap(b.b) <= keep {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}

// sizable is from where net/http would no longer find out the length of an answer by itself and use chunks.
const sizable = 2048

func sendJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	if len(body) >= sizable {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client went away: nobody to tell
}

func sendEmpty(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }

// sendValue encodes v as Dapr does: with escaped HTML and a newline at the end.
func (a *api) sendValue(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		a.fail(w, err)
		return
	}
	sendJSON(w, status, append(body, '\n'))
}

// fail answers with err as Dapr's HTTP API reports errors, and counts it.
func (a *api) fail(w http.ResponseWriter, err error) {
	e := fault.From(err)
	if a.OnError != nil {
		a.OnError(e.ErrorCode, string(e.Category))
	}
	status := e.HTTP
	if status == 0 {
		status = http.StatusInternalServerError
	}
	b := takeBuffer()
	b.b = appendFault(b.b, e)
	sendJSON(w, status, b.b)
	b.free()
}

// appendFault appends the JSON form of e: errorCode, message and, with a reason, the google.rpc details.
func appendFault(b []byte, e *fault.Error) []byte {
	b = appendMember(append(b, '{'), "errorCode", e.ErrorCode)
	b = appendMember(append(b, ','), "message", e.Message)
	if e.Reason != "" {
		b = append(b, `,"details":[`...)
		if len(e.Fields) > 0 {
			b = append(appendFields(b, e.Fields), ',')
		}
		if len(e.Help) > 0 {
			b = append(appendHelp(b, e.Help), ',')
		}
		if r := e.Resource; r != nil {
			b = append(b, `{"@type":"type.googleapis.com/google.rpc.ResourceInfo",`...)
			b = appendMember(b, "description", r.Description)
			b = appendMember(append(b, ','), "owner", r.Owner)
			b = appendMember(append(b, ','), "resource_name", r.Name)
			b = appendMember(append(b, ','), "resource_type", r.Type)
			b = append(b, "},"...)
		}
		b = append(b, `{"@type":"type.googleapis.com/google.rpc.ErrorInfo",`...)
		b = appendMember(b, "domain", domainOf(e))
		b = append(b, `,"metadata":`...)
		b = appendMap(b, e.Metadata)
		b = appendMember(append(b, ','), "reason", e.Reason)
		b = append(b, "}]"...)
	}
	return append(b, '}')
}

func domainOf(e *fault.Error) string {
	if e.Domain == "" {
		return fault.DefaultDomain
	}
	return e.Domain
}

func appendFields(b []byte, fields []fault.FieldViolation) []byte {
	b = append(b, `{"@type":"type.googleapis.com/google.rpc.BadRequest","field_violations":[`...)
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOptional(append(b, '{'), "field", f.Field)
		b = append(appendOptional(b, "description", f.Description), '}')
	}
	return append(b, "]}"...)
}

func appendHelp(b []byte, links []fault.Link) []byte {
	b = append(b, `{"@type":"type.googleapis.com/google.rpc.Help","links":[`...)
	for i, l := range links {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOptional(append(b, '{'), "description", l.Description)
		b = append(appendOptional(b, "url", l.URL), '}')
	}
	return append(b, "]}"...)
}

// appendMember appends "name":"value".
func appendMember(b []byte, name, value string) []byte {
	b = append(append(append(b, '"'), name...), `":`...)
	return appendString(b, value)
}

// appendOptional appends a member unless its value is empty, with a comma if it is not the object's first.
func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return appendMember(b, name, value)
}

// appendMap appends a map with sorted names; a nil map is null.
func appendMap(b []byte, m map[string]string) []byte {
	if m == nil {
		return append(b, "null"...)
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		b = appendString(b, m[name])
	}
	return append(b, '}')
}

// appendString appends s as a JSON string, escaped as encoding/json does.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil { // cannot happen: a string always encodes
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
