package http1

import (
	"bytes"
	"io"
)

// framing is what an answer's head says about where its body ends.
type framing struct {
	old     bool // HTTP/1.0
	close   bool // Connection: close
	keep    bool // Connection: keep-alive
	chunked bool
	length  int64 // -1: not given
	digits  int   // of the length as it was written
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
