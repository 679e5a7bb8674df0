package httpapi

import (
	"net/http"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/state"
)

// What the fuzz tests compare: the fast decoders with those of encoding/json.

func DecodeSave(body []byte, over map[string]string) ([]state.Write, error) {
	return decodeSave(nil, body, over)
}

func SlowSave(body []byte, over map[string]string) ([]state.Write, error) {
	return slowSave(nil, body, over)
}

func DecodeTransaction(body []byte, over map[string]string) ([]state.Write, map[string]string, error) {
	return decodeTransaction(nil, body, over)
}

func SlowTransaction(body []byte, over map[string]string) ([]state.Write, map[string]string, error) {
	return slowTransaction(nil, body, over)
}

func DecodeBulkGet(body []byte) ([]string, map[string]string, error) { return decodeBulkGet(body) }

func DecodeEntries(body []byte) ([]pubsub.BulkEntry, error) { return decodeEntries(body) }

func AppendString(b []byte, s string) []byte { return appendString(b, s) }

func AppendFault(b []byte, e *fault.Error) []byte { return appendFault(b, e) }

func MetadataOf(r *http.Request) map[string]string { return metadataOf(r) }

func QueryValue(r *http.Request, name string) (string, bool) { return queryValue(r, name) }

func Compact(v []byte) []byte { return compact(v) }
