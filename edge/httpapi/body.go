package httpapi

import (
	"errors"
	"io"
	"net/http"

	"github.com/edged-io/edged/edge/fault"
)

// readBody reads the request's body into a pooled buffer, which the caller frees. A body over the limit is a fault
// (413), as is one that breaks off.
func (a *api) readBody(r *http.Request) (*buffer, error) {
	limit := a.MaxBodySize
	if r.ContentLength > limit {
		return nil, fault.BodyTooLarge(limit)
	}
	b := takeBuffer()
	if n := r.ContentLength; n >= 0 {
		if int64(cap(b.b)) < n {
			b.b = make([]byte, n)
		}
		b.b = b.b[:n]
		if _, err := io.ReadFull(r.Body, b.b); err != nil {
			b.free()
			return nil, fault.BodyRead(err)
		}
		return b, nil
	}
	err := b.readAll(r.Body, limit)
	if err == nil {
		return b, nil
	}
	b.free()
	if errors.Is(err, errTooLarge) {
		return nil, fault.BodyTooLarge(limit)
	}
	return nil, fault.BodyRead(err)
}

var errTooLarge = errors.New("stream too large")

func (b *buffer) readAll(r io.Reader, limit int64) error {
	for {
		if len(b.b) == cap(b.b) {
			b.b = append(b.b, 0)[:len(b.b)]
		}
		n, err := r.Read(b.b[len(b.b):cap(b.b)])
		b.b = b.b[:len(b.b)+n]
		switch {
		case int64(len(b.b)) > limit:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// limited is a body that is passed on as it comes; it ends with errTooLarge beyond its limit.
type limited struct {
	io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n - 1, errTooLarge
	}
	return n, err
}
