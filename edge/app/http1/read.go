package http1

import (
	"bytes"
	"fmt"
	"io"
)

// reader parses one answer. buf[r:w] is read and not yet consumed.
type reader struct {
	src  io.Reader
	buf  []byte
	r, w int
	got  bool // a byte has come
	head int  // bytes that header lines may still take
	body int  // bytes that the body may have
}

func (in *reader) reset(src io.Reader, maxHeader, maxBody int) {
	in.src, in.r, in.w, in.got, in.head, in.body = src, 0, 0, false, maxHeader, maxBody
}

// answered reports whether any byte of an answer has come.
func (in *reader) answered() bool { return in.got }

// fill reads more bytes behind those that are there. It makes room, so slices of buf are not valid afterwards.
func (in *reader) fill() error {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
	case in.w == len(in.buf) && in.r > 0:
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	case in.w == len(in.buf):
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
	for range 16 { // an io.Reader may return nothing, but not for ever
		n, err := in.src.Read(in.buf[in.w:])
		in.w += n
		if n > 0 {
			in.got = true
			return nil // an error comes again with the next read
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// line returns the next line without its end. It is valid until the next read.
func (in *reader) line(limit int) ([]byte, error) {
	for seen := 0; ; {
		if i := bytes.IndexByte(in.buf[in.r+seen:in.w], '\n'); i >= 0 {
			line := in.buf[in.r : in.r+seen+i]
			if len(line) >= limit {
				return nil, ErrTooLarge
			}
			in.r += len(line) + 1
			return line, nil
		}
		if seen = in.w - in.r; seen >= limit {
			return nil, ErrTooLarge
		}
		if err := in.fill(); err != nil {
			if err == io.EOF && in.got {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// headLine is line for the head of an answer, where a bare LF may end a line (RFC 9112, 2.2).
func (in *reader) headLine() ([]byte, error) {
	line, err := in.line(in.head)
	if err != nil {
		return nil, err
	}
	in.head -= len(line) + 1
	return bytes.TrimSuffix(line, []byte{'\r'}), nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// response reads one answer, behind any interim ones. An error means that its head is not usable; what ails its body is
// in resp.Partial. Reuse says that the answer ended where its framing said, and the connection may carry another request.
func (in *reader) response(method string, resp *Response) (reuse bool, err error) {
	resp.Status, resp.Partial = 0, nil
	resp.Body = resp.Body[:0]
	var f framing
	for {
		if f, resp.Status, err = in.readHead(); err != nil {
			resp.Status = 0
			return false, err
		}
		if resp.Status == 101 {
			resp.Status = 0
			return false, malformed("status 101, but no upgrade was asked for")
		}
		if resp.Status >= 200 {
			break // the bound on the head's size bounds the number of interim answers
		}
	}
	untilClose := false
	switch {
	case method == "HEAD", resp.Status == 204, resp.Status == 304:
	case f.chunked:
		resp.Body, resp.Partial = in.chunkedBody(resp.Body)
	case f.length >= 0:
		resp.Body, resp.Partial = in.sizedBody(resp.Body, f.length)
	default:
		untilClose = true
		resp.Body, resp.Partial = in.bodyUntilClose(resp.Body)
	}
	persistent := !f.close && (!f.old || f.keep) && !(f.chunked && f.length >= 0)
	return persistent && !untilClose && resp.Partial == nil && in.r == in.w, nil
}
