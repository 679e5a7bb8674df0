package secret

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/edged-io/edged/edge/component"
)

// maxCredential is systemd's own bound for one credential.
const maxCredential = 1 << 20

// systemd reads the credentials that systemd decrypted for this service. They are files in a folder that only the service
// can read and that is never written to disk.
type systemd struct {
	dir    string
	binary bool // give values in base64
	raw    bool // keep a final newline
}

var _ Store = (*systemd)(nil)

// NewSystemd makes a secretstores.systemd component: the credentials of LoadCredential=, LoadCredentialEncrypted= and
// SetCredential= in the unit (systemd.exec(5)), each a secret with one value. They are read when asked for. Metadata:
// encoding (text, or base64 for values that are not UTF-8), keepNewline (a final newline is cut off otherwise),
// directory (default $CREDENTIALS_DIRECTORY).
func NewSystemd(_ context.Context, spec component.Spec) (Store, error) {
	p := spec.Read()
	s := &systemd{
		dir:    p.String(os.Getenv("CREDENTIALS_DIRECTORY"), "directory"),
		binary: p.OneOf("text", []string{"text", "base64"}, "encoding") == "base64",
		raw:    p.Bool(false, "keepNewline"),
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	if s.dir == "" {
		return nil, errors.New("there are no systemd credentials: CREDENTIALS_DIRECTORY is not set; use LoadCredential= in the unit")
	}
	return s, nil
}

// Get returns a credential. Metadata is not used.
func (s *systemd) Get(_ context.Context, name string, _ map[string]string) (map[string]string, error) {
	if !validCredential(name) {
		return nil, NotFound(name)
	}
	root, err := s.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // nothing was written
	value, err := s.read(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, NotFound(name)
	}
	if err != nil {
		return nil, err
	}
	return map[string]string{name: value}, nil
}

// BulkGet returns every credential. Metadata is not used.
func (s *systemd) BulkGet(context.Context, map[string]string) (map[string]map[string]string, error) {
	root, err := s.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // nothing was written
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	out := make(map[string]map[string]string, len(entries))
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		value, err := s.read(root, e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // systemd is just replacing it
		}
		if err != nil {
			return nil, err
		}
		out[e.Name()] = map[string]string{e.Name(): value}
	}
	return out, nil
}

// open returns the folder such that no name can lead out of it. systemd replaces the folder when credentials are
// refreshed, so it is not kept open.
func (s *systemd) open() (*os.Root, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open credentials: %w", err)
	}
	return root, nil
}

func (s *systemd) read(root *os.Root, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", fmt.Errorf("read credential: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	data, err := readAll(f, maxCredential)
	if err != nil {
		return "", fmt.Errorf("read credential: %w", err)
	}
	if s.binary {
		return base64.StdEncoding.EncodeToString(data), nil
	}
	if !utf8.Valid(data) {
		return "", fmt.Errorf("credential %s is not text: set the component's encoding to base64", name)
	}
	text := string(data)
	if !s.raw {
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	}
	return text, nil
}

// validCredential reports whether a name can be a credential's: a file name, as systemd.exec(5) has it.
func validCredential(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 255 {
		return false
	}
	for _, r := range name {
		if r == '/' || r < ' ' || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return true
}
