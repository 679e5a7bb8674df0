package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/edged-io/edged/edge/app/http1"
)

const (
	headLimit = 4 << 10
	bodyLimit = 1 << 20
)

func TestReadAnswer(t *testing.T) {
	for _, tc := range []struct {
		name, method, in string
		status           int
		body             string
		reuse            bool
		rest             string
		partial          error
	}{
		{name: "OK", in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", reuse: true},
		{name: "NoReason", in: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", status: 200, reuse: true},
		{name: "BareLF", in: "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", status: 200, body: "hi", reuse: true},
		{name: "NoContent", in: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, reuse: true},
		{name: "NoContentWithLength", in: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", status: 204, rest: "hi"},
		{name: "Head", method: "HEAD", in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", status: 200, reuse: true},
		{name: "Close", in: "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi"},
		{name: "Old", in: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi"},
		{name: "OldKeepAlive", in: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", reuse: true},
		{name: "UntilClose", in: "HTTP/1.1 200 OK\r\n\r\nhi there", status: 200, body: "hi there"},
		{name: "Chunked", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", status: 200, body: "hi0123456789", reuse: true},
		{name: "Trailer", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n", status: 200, body: "hi", reuse: true},
		{name: "ChunkedAndLength", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nhi\r\n0\r\n\r\n", status: 200, body: "hi"},
		{name: "SameLengthTwice", in: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", status: 200, reuse: true},
		{name: "Interim", in: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", reuse: true},
		{name: "Folded", in: "HTTP/1.1 200 OK\r\nX: y\r\n  z\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", reuse: true},
		{name: "MoreThanAsked", in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200", status: 200, body: "hi", rest: "HTTP/1.1 200"},
		{name: "ShortBody", in: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", status: 200, body: "hi", partial: io.ErrUnexpectedEOF},
		{name: "ShortChunk", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", status: 200, body: "hi", partial: io.ErrUnexpectedEOF},
		{name: "NoLastChunk", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", status: 200, body: "hi", partial: io.ErrUnexpectedEOF},
		{name: "ChunkLF", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n", status: 200, partial: http1.ErrMalformed, rest: "hi\r\n0\r\n\r\n"},
		{name: "BodyTooLarge", in: "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n", status: 200, partial: http1.ErrTooLarge},
		{name: "ChunkTooLarge", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", status: 200, partial: http1.ErrTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, src := range []io.Reader{strings.NewReader(tc.in), iotest.OneByteReader(strings.NewReader(tc.in))} {
				method := tc.method
				if method == "" {
					method = "POST"
				}
				resp, reuse, rest, err := http1.ReadAnswer(src, method, headLimit, bodyLimit)
				if err != nil {
					t.Fatal(err)
				}
				if resp.Status != tc.status || string(resp.Body) != tc.body || !errors.Is(resp.Partial, tc.partial) {
					t.Errorf("got %d %q %v", resp.Status, resp.Body, resp.Partial)
				}
				if _, whole := src.(*strings.Reader); !whole {
					if resp.Partial != nil && reuse {
						t.Error("a connection with half an answer is reused")
					}
					continue
				}
				if reuse != tc.reuse {
					t.Errorf("reuse %v", reuse)
				}
				left, _ := io.ReadAll(src)
				if got := string(rest) + string(left); got != tc.rest {
					t.Errorf("left %q", got)
				}
			}
		})
	}
}

func TestReadAnswer_Refused(t *testing.T) {
	for name, in := range map[string]string{
		"Empty":            "",
		"NotHTTP":          "SSH-2.0-OpenSSH\r\n",
		"HTTP2":            "HTTP/2.0 200 OK\r\n\r\n",
		"NoStatus":         "HTTP/1.1\r\n\r\n",
		"ShortStatus":      "HTTP/1.1 20\r\n\r\n",
		"LongStatus":       "HTTP/1.1 2000 OK\r\n\r\n",
		"StatusBelow100":   "HTTP/1.1 099 x\r\n\r\n",
		"HeadCut":          "HTTP/1.1 200 OK\r\nContent-Le",
		"Upgrade":          "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"NoColon":          "HTTP/1.1 200 OK\r\nfoo\r\n\r\n",
		"SpaceInName":      "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n",
		"FoldedFirst":      "HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
		"FoldedLength":     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n",
		"TwoLengths":       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"LengthSign":       "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
		"LengthNegative":   "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"LengthEmpty":      "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
		"LengthHuge":       "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"Gzip":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"ChunkedTwice":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"OldChunked":       "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Control":          "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
		"CarriageReturn":   "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
		"LargeHead":        "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", headLimit),
		"LongLine":         "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", headLimit),
		"EndlessInterim":   strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", headLimit),
		"OnlyInterim":      "HTTP/1.1 100 Continue\r\n\r\n",
		"LongTrailerNever": "HTTP/1.1 " + strings.Repeat("2", headLimit*2),
	} {
		t.Run(name, func(t *testing.T) {
			if resp, reuse, _, err := http1.ReadAnswer(strings.NewReader(in), "POST", headLimit, bodyLimit); err == nil || reuse {
				t.Errorf("accepted: %d %q %v", resp.Status, resp.Body, resp.Partial)
			}
		})
	}
}

// FuzzReadAnswer holds the parser against net/http: whatever it takes for a whole answer, net/http reads the same, from
// the same bytes.
func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nA;x=y\r\n0123456789\r\n0\r\nT: r\r\n\r\n",
		"HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 2\n\nhi",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\nhi",
		"HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n\n0\r\n\n",
		"HTTP/1.0 200 \n0:\n \x05\n\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, head bool) {
		method := "POST"
		if head {
			method = "HEAD"
		}
		src := bytes.NewReader(in)
		resp, reuse, rest, err := http1.ReadAnswer(src, method, headLimit, bodyLimit)
		if err != nil || resp.Partial != nil {
			if reuse {
				t.Fatal("a connection with half an answer is reused")
			}
			return
		}
		theirs := bufio.NewReaderSize(bytes.NewReader(in), 64<<10)
		req := &http.Request{Method: method}
		var want *http.Response
		for want == nil || want.StatusCode < 200 {
			if want, err = http.ReadResponse(theirs, req); err != nil {
				t.Fatalf("net/http refuses what was read as %d %q: %v", resp.Status, resp.Body, err)
			}
		}
		body, err := io.ReadAll(want.Body)
		if err != nil {
			t.Fatalf("net/http refuses the body %q: %v", resp.Body, err)
		}
		if want.StatusCode != resp.Status || !bytes.Equal(body, resp.Body) {
			t.Fatalf("got %d %q, net/http %d %q", resp.Status, resp.Body, want.StatusCode, body)
		}
		if reuse && want.Close {
			t.Fatal("reused, but net/http would close")
		}
		left, _ := io.ReadAll(src)
		theirLeft, _ := io.ReadAll(theirs)
		if !bytes.Equal(append(rest, left...), theirLeft) {
			t.Fatalf("left %q, net/http left %q", append(rest, left...), theirLeft)
		}
	})
}
