package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/edged-io/edged/edge/component"
)

// maxSecretsFile bounds a secrets file.
const maxSecretsFile = 16 << 20

// localFile keeps the secrets of a JSON file as they were when the component was made. It is never changed afterwards.
type localFile struct {
	secrets map[string]map[string]string
}

var _ Store = (*localFile)(nil)

// NewLocalFile makes a secretstores.local.file component (Dapr metadata secretsFile, nestedSeparator, multiValued): secrets
// in a JSON file, read once. Nested objects and lists become names joined by the separator (":"); with multiValued the
// first level names secrets and what is below are their keys.
func NewLocalFile(_ context.Context, spec component.Spec) (Store, error) {
	p := spec.Read()
	file := p.Required("secretsFile")
	separator := p.String(":", "nestedSeparator")
	multi := p.Bool(false, "multiValued")
	if err := p.Err(); err != nil {
		return nil, err
	}
	data, err := readBounded(file, maxSecretsFile)
	if err != nil {
		return nil, fmt.Errorf("read secrets file: %w", err)
	}
	secrets, err := parseSecrets(data, separator, multi, spec.Log)
	if err != nil {
		return nil, fmt.Errorf("read secrets file %s: %w", file, err)
	}
	return &localFile{secrets: secrets}, nil
}

// Get returns a secret. Metadata is not used.
func (s *localFile) Get(_ context.Context, name string, _ map[string]string) (map[string]string, error) {
	data, ok := s.secrets[name]
	if !ok {
		return nil, NotFound(name)
	}
	return maps.Clone(data), nil
}

// BulkGet returns every secret. Metadata is not used.
func (s *localFile) BulkGet(context.Context, map[string]string) (map[string]map[string]string, error) {
	out := make(map[string]map[string]string, len(s.secrets))
	for name, data := range s.secrets {
		out[name] = maps.Clone(data)
	}
	return out, nil
}

// parseSecrets reads the JSON of a secrets file.
func parseSecrets(data []byte, separator string, multi bool, log *slog.Logger) (map[string]map[string]string, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // numbers stay as they are written
	var top map[string]any
	if err := dec.Decode(&top); err != nil {
		return nil, jsonError(data, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the JSON object")
	}
	secrets := make(map[string]map[string]string, len(top))
	if !multi {
		flat := flattener{separator: separator, out: map[string]string{}, log: log}
		flat.add("", top)
		for name, value := range flat.out {
			secrets[name] = map[string]string{name: value}
		}
		return secrets, nil
	}
	for name, value := range top {
		flat := flattener{separator: separator, out: map[string]string{}, log: log}
		switch value.(type) {
		case map[string]any, []any:
			flat.add("", value)
		default:
			flat.add(name, value)
		}
		secrets[name] = flat.out
	}
	return secrets, nil
}

// jsonError says where JSON is broken without repeating the file's text, which is secret.
func jsonError(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		line := 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
		return fmt.Errorf("line %d: is not valid JSON", line)
	case errors.As(err, &kind):
		return errors.New("is not a JSON object")
	case errors.Is(err, io.EOF):
		return errors.New("is empty: it must hold a JSON object")
	}
	return errors.New("is not valid JSON")
}

// flattener turns nested JSON into names and values.
type flattener struct {
	separator string
	out       map[string]string
	log       *slog.Logger
}

// add keeps v under name, and what is in it under longer names, in an order that does not change between runs.
func (f *flattener) add(name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			f.add(f.join(name, key), v[key])
		}
	case []any:
		for i, element := range v {
			f.add(f.join(name, strconv.Itoa(i)), element)
		}
	case nil:
		f.put(name, "")
	case string:
		f.put(name, v)
	case bool:
		f.put(name, strconv.FormatBool(v))
	case json.Number:
		f.put(name, v.String())
	}
}

func (f *flattener) join(name, key string) string {
	if name == "" {
		return key
	}
	return name + f.separator + key
}

// put keeps the first of two values with the same name.
func (f *flattener) put(name, value string) {
	if _, taken := f.out[name]; taken {
		if f.log != nil {
			f.log.Warn("two secrets have the same name; the second was left out", "name", name)
		}
		return
	}
	f.out[name] = value
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return readAll(f, limit)
}

func readAll(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", f.Name(), limit)
	}
	return data, nil
}
