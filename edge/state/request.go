package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/fault"
)

// separator stands between a key's prefix and the key itself.
const separator = "||"

// key makes the complete key that the store sees.
func (t *target) key(key string) (string, error) {
	if strings.Contains(key, separator) {
		return "", fault.StateKeyIllegal(t.name, key)
	}
	return t.prefix + t.sep + key, nil
}

func isIllegalKey(err error) bool {
	var e *fault.Error
	return errors.As(err, &e) && e.ErrorCode == "ERR_MALFORMED_REQUEST"
}

// originalKey undoes a key prefix.
func originalKey(full string) string {
	parts := strings.SplitN(full, separator, 3)
	if len(parts) < 2 {
		return full
	}
	return parts[1]
}

// op makes the store's operation of a write.
func (t *target) op(w *Write) (op Op, err error) {
	op = Op{ETag: w.ETag, HasETag: w.HasETag && w.ETag != "", Concurrency: w.Concurrency, Consistency: w.Options.Consistency, Metadata: w.Metadata}
	if w.Delete {
		op.Kind = Delete
	}
	if op.Key, err = t.key(w.Key); err != nil {
		return Op{}, err
	}
	if err := w.Options.apply(&op); err != nil {
		return Op{}, err
	}
	if w.Delete {
		return op, nil
	}
	if op.TTL, err = parseTTL(w.Metadata); err != nil {
		return Op{}, err
	}
	op.ContentType = w.Metadata["contentType"]
	if op.Value, err = t.value(w, op.ContentType); err != nil {
		return Op{}, err
	}
	return op, nil
}

// apply checks the words and sets the op's concurrency.
func (o Options) apply(op *Op) error {
	switch o.Consistency {
	case "", "strong", "eventual":
	default:
		return fmt.Errorf("unrecognized consistency model '%s'", o.Consistency)
	}
	switch o.Concurrency {
	case "":
	case "first-write":
		op.Concurrency = FirstWrite
	case "last-write":
		op.Concurrency = LastWrite
	default:
		return fmt.Errorf("unrecognized concurrency model '%s'", o.Concurrency)
	}
	return nil
}

// parseTTL reads ttlInSeconds. Zero and below mean that the key does not expire.
func parseTTL(metadata map[string]string) (time.Duration, error) {
	text := metadata["ttlInSeconds"]
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt32 {
		return 0, fmt.Errorf("incorrect value for metadata 'ttlInSeconds': at most %d", math.MaxInt32)
	}
	return time.Duration(max(n, 0)) * time.Second, nil
}

// badJSON reports a value that is not the JSON that its content type says.
type badJSON struct{ err error }

func (e *badJSON) Error() string { return e.err.Error() }
func (e *badJSON) Unwrap() error { return e.err }

// value is what is stored: JSON without insignificant space, and encrypted where the component says so. Dapr encrypts a
// JSON string without its quotes.
func (t *target) value(w *Write, contentType string) ([]byte, error) {
	v := w.Value
	if !w.JSON && contentType == "application/json" && !json.Valid(v) {
		var any any
		return nil, &badJSON{json.Unmarshal(v, &any)}
	}
	if w.JSON || contentType == "application/json" {
		v = compact(v)
	}
	if t.keys == nil {
		return v, nil
	}
	if w.JSON {
		var text string
		if len(v) > 0 && v[0] == '"' && json.Unmarshal(v, &text) == nil {
			v = []byte(text)
		}
	}
	return t.keys.encrypt(v)
}

// compact removes the space between the tokens of valid JSON; text that has none is returned as it is.
func compact(v []byte) []byte {
	inString := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '"':
			inString = !inString
		case c == '\\' && inString:
			i++
		case !inString && (c == ' ' || c == '\n' || c == '\t' || c == '\r'):
			var b bytes.Buffer
			b.Grow(len(v))
			if json.Compact(&b, v) != nil {
				return v
			}
			return b.Bytes()
		}
	}
	return v
}

// etagFault marks ETag errors for the API's error table and takes the position off an OpError, whose key is internal.
func etagFault(err error) error {
	var op *OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	switch {
	case errors.Is(err, ErrETagMismatch):
		return fault.ETagMismatch(err)
	case errors.Is(err, ErrETagInvalid):
		return fault.ETagInvalid(err)
	}
	return err
}

// commitEach commits ops each on its own and joins what went wrong. If all that went wrong are ETags, the whole is an
// ETag error, as with Dapr.
func commitEach(ctx context.Context, s Store, ops []Op) error {
	if len(ops) == 1 {
		if err := s.Apply(ctx, ops); err != nil {
			return etagFault(err)
		}
		return nil
	}
	var failed []error
	invalid, other := false, false
	var last error
	for _, err := range s.ApplyEach(ctx, ops) {
		if err == nil || err == last && reflect.TypeOf(err).Comparable() { // one error for all: said once
			continue
		}
		last = err
		invalid = invalid || errors.Is(err, ErrETagInvalid)
		other = other || !errors.Is(err, ErrETagInvalid) && !errors.Is(err, ErrETagMismatch)
		failed = append(failed, etagFault(err))
	}
	joined := errors.Join(failed...)
	switch {
	case joined == nil || other:
		return joined
	case invalid:
		return fault.ETagInvalid(joined)
	}
	return fault.ETagMismatch(joined)
}
