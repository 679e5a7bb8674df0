package http1

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

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
				if errors.Is(err, io.EOF) {
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
		if err := in.fill(); errors.Is(err, io.EOF) {
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
	if errors.Is(err, io.EOF) {
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
