package http1

import (
	"bytes"
	"fmt"
	"io"
	"strings"
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

// framing is what an answer's head says about where its body ends.
type framing struct {
	old     bool // HTTP/1.0
	close   bool // Connection: close
	keep    bool // Connection: keep-alive
	chunked bool
	length  int64 // -1: not given
	digits  int   // of the length as it was written
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

// readHead reads a status line and the header fields behind it.
func (in *reader) readHead() (f framing, status int, err error) {
	line, err := in.headLine()
	if err != nil {
		return f, 0, err
	}
	if f.old, status, err = statusLine(line); err != nil {
		return f, 0, err
	}
	f.length = -1
	framed := true // the line before was no field that a continuation could belong to, or one that matters
	for {
		if line, err = in.headLine(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return f, 0, err
		}
		if len(line) == 0 {
			return f, status, f.check()
		}
		if line[0] == ' ' || line[0] == '\t' { // obsolete line folding
			if framed {
				return f, 0, malformed("folded header field")
			}
			if err = checkText(line); err != nil {
				return f, 0, err
			}
			continue
		}
		if framed, err = f.field(line); err != nil {
			return f, 0, err
		}
	}
}

// statusLine parses "HTTP/1.1 200 OK".
func statusLine(line []byte) (old bool, status int, err error) {
	switch {
	case bytes.HasPrefix(line, []byte("HTTP/1.1 ")):
	case bytes.HasPrefix(line, []byte("HTTP/1.0 ")):
		old = true
	default:
		return false, 0, malformed("status line %.40q", line)
	}
	code := line[len("HTTP/1.1 "):]
	if len(code) < 3 || len(code) > 3 && code[3] != ' ' {
		return false, 0, malformed("status line %.40q", line)
	}
	for _, c := range code[:3] {
		if c < '0' || c > '9' {
			return false, 0, malformed("status line %.40q", line)
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return false, 0, malformed("status %d", status)
	}
	return old, status, nil
}

// field takes in one header field and reports whether it says something about the framing.
func (f *framing) field(line []byte) (framed bool, err error) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return false, malformed("header field %.40q", line)
	}
	name, value := line[:colon], line[colon+1:]
	for _, c := range name {
		if !isToken(c) {
			return false, malformed("header field %.40q", line)
		}
	}
	if err := checkText(value); err != nil {
		return false, err
	}
	switch len(name) {
	case len("Connection"):
		if equalFold(name, "connection") {
			f.connection(value)
			return true, nil
		}
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			return true, f.contentLength(value)
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			if f.chunked || !equalFold(bytes.Trim(value, " \t"), "chunked") {
				return true, malformed("transfer encoding %.40q is not supported", value)
			}
			f.chunked = true
			return true, nil
		}
	}
	return false, nil
}

// checkText refuses control characters.
func checkText(value []byte) error {
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return malformed("control character in header value %.40q", value)
		}
	}
	return nil
}

func (f *framing) connection(value []byte) {
	for len(value) > 0 {
		token, rest, _ := bytes.Cut(value, []byte{','})
		token = bytes.Trim(token, " \t")
		f.close = f.close || equalFold(token, "close")
		f.keep = f.keep || equalFold(token, "keep-alive")
		value = rest
	}
}

func (f *framing) contentLength(value []byte) error {
	value = bytes.Trim(value, " \t")
	if len(value) == 0 || len(value) > 18 {
		return malformed("content length %.40q", value)
	}
	n := int64(0)
	for _, c := range value {
		if c < '0' || c > '9' {
			return malformed("content length %.40q", value)
		}
		n = n*10 + int64(c-'0')
	}
	if f.length >= 0 && (f.length != n || f.digits != len(value)) {
		return malformed("content lengths %d and %.40q", f.length, value)
	}
	f.length, f.digits = n, len(value)
	return nil
}

func (f *framing) check() error {
	if f.old && f.chunked {
		return malformed("chunked HTTP/1.0")
	}
	return nil
}

func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// sizedBody reads n bytes.
func (in *reader) sizedBody(body []byte, n int64) ([]byte, error) {
	if n > int64(in.body) {
		return body, ErrTooLarge
	}
	return in.take(body, int(n))
}

// take appends n bytes to body.
func (in *reader) take(body []byte, n int) ([]byte, error) {
	for n > 0 {
		if in.r == in.w {
			if err := in.fill(); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return body, err
			}
		}
		k := min(n, in.w-in.r)
		body = append(body, in.buf[in.r:in.r+k]...)
		in.r += k
		n -= k
	}
	return body, nil
}

func (in *reader) bodyUntilClose(body []byte) ([]byte, error) {
	for {
		if in.w-in.r > in.body-len(body) {
			return body, ErrTooLarge
		}
		body = append(body, in.buf[in.r:in.w]...)
		in.r = in.w
		if err := in.fill(); err == io.EOF {
			return body, nil
		} else if err != nil {
			return body, err
		}
	}
}

const (
	maxChunkLine = 4 << 10
	// maxChunkWaste is how far the bytes around the chunks may outgrow what short chunks need.
	maxChunkWaste = 16 << 10
)

func (in *reader) chunkedBody(body []byte) ([]byte, error) {
	waste := 0
	for {
		line, err := in.chunkLine(maxChunkLine)
		if err != nil {
			return body, err
		}
		n, err := chunkSize(line)
		if err != nil {
			return body, err
		}
		if waste += len(line) - 16; waste < 0 {
			waste = 0
		}
		if waste > maxChunkWaste || n > in.body-len(body) {
			return body, ErrTooLarge
		}
		if n == 0 {
			return body, in.trailer()
		}
		if body, err = in.take(body, n); err != nil {
			return body, err
		}
		if line, err = in.chunkLine(maxChunkLine); err != nil {
			return body, err
		}
		if len(line) != 0 {
			return body, malformed("chunk longer than its size")
		}
	}
}

// chunkLine is line for the framing of chunks, where only CR LF ends a line.
func (in *reader) chunkLine(limit int) ([]byte, error) {
	line, err := in.line(limit)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	if n := len(line); n == 0 || bytes.IndexByte(line, '\r') != n-1 {
		return nil, malformed("chunk line %.40q", line)
	}
	return line[:len(line)-1], nil
}

// chunkSize parses the size of a chunk and passes over extensions.
func chunkSize(line []byte) (int, error) {
	size, _, _ := bytes.Cut(line, []byte{';'})
	size = bytes.TrimRight(size, " \t")
	if len(size) == 0 || len(size) > 16 {
		return 0, malformed("chunk size %.40q", line)
	}
	n := uint64(0)
	for _, c := range size {
		d := strings.IndexByte("0123456789abcdef", c|0x20)
		if d < 0 || c < '0' { // c|0x20 turns control characters into digits
			return 0, malformed("chunk size %.40q", line)
		}
		n = n<<4 | uint64(d)
	}
	if n > 1<<31-1 {
		return 0, ErrTooLarge
	}
	return int(n), nil
}

// trailer passes over the fields behind the last chunk. Their bytes count as head.
func (in *reader) trailer() error {
	for {
		line, err := in.chunkLine(in.head)
		if err != nil || len(line) == 0 {
			return err
		}
		in.head -= len(line) + len("\r\n")
		ignored := framing{length: -1}
		if _, err := ignored.field(line); err != nil {
			return err
		}
	}
}
