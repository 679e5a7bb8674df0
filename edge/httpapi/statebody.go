package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"sync"

	"github.com/edged-io/edged/edge/state"
)

// badOperation is a word that is no operation of a transaction.
type badOperation string

func (e badOperation) Error() string { return string(e) }

// writeList is a pooled list of writes.
type writeList struct{ w []state.Write }

// writeLists, as buffers, are shared by all applications.
var writeLists = sync.Pool{New: func() any { return &writeList{w: make([]state.Write, 0, 4)} }}

func takeWrites() *writeList { return writeLists.Get().(*writeList) }

func (l *writeList) free() {
	clear(l.w[:cap(l.w)])
	if cap(l.w) <= 256 {
		l.w = l.w[:0]
		writeLists.Put(l)
	}
}

var nullValue = []byte("null")

// writeRequest is a write in the JSON of Dapr's state API.
type writeRequest struct {
	Key      string            `json:"key"`
	Value    json.RawMessage   `json:"value"`
	ETag     *string           `json:"etag"`
	Metadata map[string]string `json:"metadata"`
	Options  state.Options     `json:"options"`
	// ContentType is accepted and, as with Dapr, left to the metadata contentType.
	ContentType *string `json:"contentType"`
}

// decodeSave appends the writes of a save request to into. Values point into body. over, the metadata of the request, is
// added to that of each write. What follows the list is ignored, as encoding/json's Decoder does.
func decodeSave(into []state.Write, body []byte, over map[string]string) ([]state.Write, error) {
	s := scanner{b: body}
	ok := s.array(func() bool {
		into = append(into, state.Write{})
		return s.write(&into[len(into)-1], over)
	})
	if ok {
		return into, nil
	}
	return slowSave(into[:0], body, over)
}

// write takes one write, or null, which is an empty one.
func (s *scanner) write(w *state.Write, over map[string]string) bool {
	w.Value, w.JSON = nullValue, true
	ok := s.null() || s.object(func(name []byte) (ok bool) {
		switch {
		case !plainName(name):
			return false
		case named(name, "key"):
			return s.textUnlessNull(&w.Key)
		case named(name, "value"):
			w.Value, ok = s.value()
			return ok
		case named(name, "etag"):
			w.ETag, _, ok = s.textOrNull()
			w.HasETag = w.ETag != ""
			return ok
		case named(name, "metadata"):
			return s.texts(&w.Metadata)
		case named(name, "options"):
			return s.options(&w.Options)
		case named(name, "contenttype"):
			_, _, ok = s.textOrNull()
			return ok
		}
		return s.skip()
	})
	w.Metadata = merge(w.Metadata, over)
	return ok
}

func (s *scanner) options(o *state.Options) bool {
	if s.null() {
		return true
	}
	return s.object(func(name []byte) bool {
		switch {
		case !plainName(name):
			return false
		case named(name, "concurrency"):
			return s.textUnlessNull(&o.Concurrency)
		case named(name, "consistency"):
			return s.textUnlessNull(&o.Consistency)
		}
		return s.skip()
	})
}

// slowSave is decodeSave by encoding/json, whose word is final.
func slowSave(into []state.Write, body []byte, over map[string]string) ([]state.Write, error) {
	var requests []writeRequest
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&requests); err != nil {
		return into, decodeError(err, "[]state.SetRequest", "SetRequest")
	}
	for i := range requests {
		into = append(into, requests[i].write(over))
	}
	return into, nil
}

func (r *writeRequest) write(over map[string]string) state.Write {
	w := state.Write{Key: r.Key, Value: r.Value, JSON: true, Options: r.Options, Metadata: merge(r.Metadata, over)}
	if len(w.Value) == 0 {
		w.Value = nullValue
	}
	if r.ETag != nil && *r.ETag != "" {
		w.ETag, w.HasETag = *r.ETag, true
	}
	return w
}

// decodeError words encoding/json's errors as daprd does: whole is the Go type it decodes into, part the struct in it.
func decodeError(err error, whole, part string) error {
	var e *json.UnmarshalTypeError
	if !errors.As(err, &e) {
		return err
	}
	if e.Struct == "" && e.Field == "" {
		return errors.New("json: cannot unmarshal " + e.Value + " into Go value of type " + whole)
	}
	return errors.New("json: cannot unmarshal " + e.Value + " into Go struct field " + part + "." + e.Field + " of type " + e.Type.String())
}

// transactionRequest is a transaction in the JSON of Dapr's state API.
type transactionRequest struct {
	Operations []struct {
		Operation string       `json:"operation"`
		Request   writeRequest `json:"request"`
	} `json:"operations"`
	Metadata map[string]string `json:"metadata"`
}

// decodeTransaction appends the operations of a transaction to into, and returns its metadata with over added.
func decodeTransaction(into []state.Write, body []byte, over map[string]string) ([]state.Write, map[string]string, error) {
	s := scanner{b: body}
	var metadata map[string]string
	var bad error
	seen := false
	ok := s.object(func(name []byte) bool {
		switch {
		case !plainName(name):
			return false
		case named(name, "metadata"):
			return s.texts(&metadata)
		case !named(name, "operations"):
			return s.skip()
		case seen:
			return false
		}
		seen = true
		return s.null() || s.array(func() bool {
			into = append(into, state.Write{})
			ok, err := s.operation(&into[len(into)-1], over)
			if bad == nil {
				bad = err
			}
			return ok
		})
	})
	if ok {
		return into, merge(metadata, over), bad
	}
	return slowTransaction(into[:0], body, over)
}

func (s *scanner) operation(w *state.Write, over map[string]string) (ok bool, err error) {
	var kind string
	seen := false
	w.Value, w.JSON, w.Metadata = nullValue, true, over
	if s.null() {
		return true, badOperation("")
	}
	ok = s.object(func(name []byte) bool {
		switch {
		case !plainName(name):
			return false
		case named(name, "operation"):
			return s.textUnlessNull(&kind)
		case !named(name, "request"):
			return s.skip()
		case seen: // encoding/json knows what becomes of two
			return false
		}
		seen, w.Metadata = true, nil
		return s.write(w, over)
	})
	return ok, setKind(w, kind)
}

// setKind makes w the operation that kind names.
func setKind(w *state.Write, kind string) error {
	switch kind {
	case "upsert":
	case "delete":
		w.Delete, w.Value = true, nil
	default:
		return badOperation(kind)
	}
	return nil
}

func slowTransaction(into []state.Write, body []byte, over map[string]string) ([]state.Write, map[string]string, error) {
	var request transactionRequest
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&request); err != nil {
		return into, nil, decodeError(err, "http.stateTransactionRequestBody", "stateTransactionRequestBody")
	}
	var bad error
	for i := range request.Operations {
		o := &request.Operations[i]
		w := o.Request.write(over)
		if err := setKind(&w, o.Operation); bad == nil {
			bad = err
		}
		into = append(into, w)
	}
	return into, merge(request.Metadata, over), bad
}

// decodeBulkGet reads a bulk get request. Parallelism is accepted and has no effect: a local store reads in one view.
func decodeBulkGet(body []byte) (keys []string, metadata map[string]string, err error) {
	s := scanner{b: body}
	ok := s.object(func(name []byte) bool {
		switch {
		case named(name, "keys") && plainName(name):
			keys = keys[:0]
			return s.null() || s.array(func() bool {
				key, _, ok := s.textOrNull()
				keys = append(keys, key)
				return ok
			})
		case named(name, "metadata") && plainName(name):
			return s.texts(&metadata)
		}
		return false
	})
	if ok {
		return keys, metadata, nil
	}
	var request struct {
		Metadata    map[string]string `json:"metadata"`
		Keys        []string          `json:"keys"`
		Parallelism int               `json:"parallelism"`
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&request); err != nil {
		return nil, nil, decodeError(err, "http.BulkGetRequest", "BulkGetRequest")
	}
	return request.Keys, request.Metadata, nil
}
