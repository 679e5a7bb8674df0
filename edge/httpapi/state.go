package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
)

// state answers /v1.0/state/<store>... and /v1.0-alpha1/state/<store>/query.
func (a *api) state(c *call) bool {
	var s [2]string
	n, ok := c.segments(s[:])
	if !ok || n == 0 {
		return false
	}
	store, key := s[0], s[1]
	if c.version == "v1.0-alpha1" && n == 2 && key == "query" && c.writes() {
		a.queryState(c, store)
		return true
	}
	switch {
	case !c.stable():
		return false
	case n == 1 && c.writes():
		a.saveState(c, store)
	case n == 2 && c.r.Method == http.MethodGet:
		a.getState(c, store, key)
	case n == 2 && c.r.Method == http.MethodDelete:
		a.deleteState(c, store, key)
	case n == 2 && key == "bulk" && c.writes():
		a.bulkGetState(c, store)
	case n == 2 && key == "transaction" && c.writes():
		a.transactState(c, store)
	default:
		return false
	}
	return true
}

func (a *api) getState(c *call, store, key string) {
	got, err := a.State.Get(c.r.Context(), a.AppID, store, key, metadataOf(c.r))
	if err != nil {
		a.fail(c.w, err)
		return
	}
	if !got.Found || len(got.Value) == 0 {
		sendEmpty(c.w)
		return
	}
	h := c.w.Header()
	if got.ETag != "" {
		h["Etag"] = []string{got.ETag}
	}
	for name, value := range got.Metadata {
		h.Set(metadataPrefix+name, value)
	}
	sendJSON(c.w, http.StatusOK, got.Value)
}

func (a *api) saveState(c *call, store string) {
	body, err := a.readBody(c.r)
	if err != nil {
		a.fail(c.w, err)
		return
	}
	defer body.free()
	list := takeWrites()
	defer list.free()
	if list.w, err = decodeSave(list.w, body.b, metadataOf(c.r)); err != nil {
		a.failDecode(c, a.State.Check(a.AppID, store), fault.MalformedSave(err))
		return
	}
	if err := a.State.Save(c.r.Context(), a.AppID, store, list.w); err != nil {
		a.fail(c.w, err)
		return
	}
	sendEmpty(c.w)
}

// failDecode reports a body that cannot be read, unless the call would have failed whatever its body: daprd looks
// for the component before it looks at the body.
func (a *api) failDecode(c *call, component, decode error) {
	if component != nil {
		decode = component
	}
	a.fail(c.w, decode)
}

func (a *api) deleteState(c *call, store, key string) {
	etag := c.r.Header.Get("If-Match")
	w := state.Write{Delete: true, Key: key, ETag: etag, HasETag: etag != "", Metadata: metadataOf(c.r)}
	w.Options.Concurrency, _ = queryValue(c.r, "concurrency")
	w.Options.Consistency, _ = queryValue(c.r, "consistency")
	if err := a.State.Delete(c.r.Context(), a.AppID, store, w); err != nil {
		a.fail(c.w, err)
		return
	}
	sendEmpty(c.w)
}

func (a *api) bulkGetState(c *call, store string) {
	body, err := a.readBody(c.r)
	if err != nil {
		a.fail(c.w, err)
		return
	}
	defer body.free()
	keys, metadata, err := decodeBulkGet(body.b)
	if err != nil {
		a.failDecode(c, a.State.Check(a.AppID, store), fault.MalformedRequest(err))
		return
	}
	got, err := a.State.BulkGet(c.r.Context(), a.AppID, store, keys, merge(metadata, metadataOf(c.r)))
	if err != nil {
		a.fail(c.w, err)
		return
	}
	answer := takeBuffer()
	answer.b = appendReads(answer.b, keys, got)
	sendJSON(c.w, http.StatusOK, answer.b)
	answer.free()
}

func (a *api) transactState(c *call, store string) {
	body, err := a.readBody(c.r)
	if err != nil {
		a.fail(c.w, err)
		return
	}
	defer body.free()
	list := takeWrites()
	defer list.free()
	var metadata map[string]string
	if list.w, metadata, err = decodeTransaction(list.w, body.b, metadataOf(c.r)); err != nil {
		a.failDecode(c, a.State.Transact(c.r.Context(), a.AppID, store, nil, nil), transactFault(err))
		return
	}
	if err := a.State.Transact(c.r.Context(), a.AppID, store, list.w, metadata); err != nil {
		a.fail(c.w, err)
		return
	}
	sendEmpty(c.w)
}

func transactFault(err error) error {
	var operation badOperation
	if errors.As(err, &operation) {
		return fault.StateOperationUnsupported(string(operation))
	}
	return fault.MalformedRequest(err)
}

func (a *api) queryState(c *call, store string) {
	body, err := a.readBody(c.r)
	if err != nil {
		a.fail(c.w, err)
		return
	}
	defer body.free()
	got, err := a.State.Query(c.r.Context(), a.AppID, store, body.b, metadataOf(c.r))
	if err != nil {
		a.fail(c.w, err)
		return
	}
	if len(got.Results) == 0 {
		sendEmpty(c.w)
		return
	}
	answer := takeBuffer()
	answer.b = append(answer.b, `{"results":`...)
	answer.b = appendReads(answer.b, nil, got.Results)
	answer.b[len(answer.b)-1] = ',' // instead of the list's newline
	answer.b = appendOptional(answer.b[:len(answer.b)-1], "token", got.Token)
	if len(got.Metadata) > 0 {
		answer.b = appendMap(append(answer.b, `,"metadata":`...), got.Metadata)
	}
	answer.b = append(answer.b, "}\n"...)
	sendJSON(c.w, http.StatusOK, answer.b)
	answer.free()
}

// appendReads appends bulk results as a JSON list with a newline. keys, if given, name them as the caller did.
func appendReads(b []byte, keys []string, reads []state.Read) []byte {
	b = append(b, '[')
	for i := range reads {
		r := &reads[i]
		key := r.Key
		if keys != nil {
			key = keys[i]
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMember(append(b, '{'), "key", key)
		if r.Err != nil {
			b = append(appendOptional(b, "error", r.Err.Error()), '}')
			continue
		}
		if r.Found && len(r.Value) > 0 {
			b = appendData(append(b, `,"data":`...), r.Value)
		}
		b = appendOptional(b, "etag", r.ETag)
		if len(r.Metadata) > 0 {
			b = appendMap(append(b, `,"metadata":`...), r.Metadata)
		}
		b = append(b, '}')
	}
	return append(b, "]\n"...)
}

// appendData embeds a stored value. What was stored over gRPC need not be JSON: such bytes become a JSON string.
func appendData(b, value []byte) []byte {
	s := scanner{b: value}
	if _, ok := s.value(); ok {
		if s.space(); s.i == len(s.b) {
			return append(b, value...)
		}
	}
	if json.Valid(value) {
		return append(b, value...)
	}
	return appendString(b, string(value))
}
