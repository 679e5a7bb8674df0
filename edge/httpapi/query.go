package httpapi

import (
	"net/http"
	"net/url"
	"strings"
)

// metadataPrefix marks query parameters and answer headers that carry metadata.
const metadataPrefix = "metadata."

// metadataOf returns the metadata.* query parameters; nil if there are none. The first value of a name counts.
func metadataOf(r *http.Request) map[string]string {
	if !strings.Contains(r.URL.RawQuery, "metadata") && !strings.Contains(r.URL.RawQuery, "%") {
		return nil
	}
	var m map[string]string
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		key, value, ok := queryPair(pair)
		if !ok || !strings.HasPrefix(key, metadataPrefix) {
			continue
		}
		if m == nil {
			m = map[string]string{}
		}
		if name := key[len(metadataPrefix):]; !has(m, name) {
			m[name] = value
		}
	}
	return m
}

func has(m map[string]string, name string) bool { _, ok := m[name]; return ok }

// queryPair decodes one parameter as net/url does: pairs with a semicolon or a broken escape are left out.
func queryPair(pair string) (key, value string, ok bool) {
	if pair == "" || strings.Contains(pair, ";") {
		return "", "", false
	}
	key, value, _ = strings.Cut(pair, "=")
	key, err := url.QueryUnescape(key)
	if err != nil {
		return "", "", false
	}
	value, err = url.QueryUnescape(value)
	return key, value, err == nil
}

// queryValue returns the first value of a query parameter.
func queryValue(r *http.Request, name string) (string, bool) {
	if r.URL.RawQuery == "" {
		return "", false
	}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if key, value, ok := queryPair(pair); ok && key == name {
			return value, true
		}
	}
	return "", false
}

// unescape decodes a path segment as daprd does: percent escapes, and + for a space.
func unescape(segment string) (string, error) {
	if strings.IndexByte(segment, '%') < 0 && strings.IndexByte(segment, '+') < 0 {
		return segment, nil
	}
	return url.QueryUnescape(segment)
}

// merge copies over into m, which may be nil, and returns m.
func merge(m, over map[string]string) map[string]string {
	if m == nil {
		return over
	}
	for k, v := range over {
		m[k] = v
	}
	return m
}
