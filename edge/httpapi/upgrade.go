package httpapi

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// upgrader serves requests and lets HTTP/1.1 clients go on with HTTP/2 on the same connection (Upgrade: h2c). net/http
// has no such thing, but it serves HTTP/2 connections that begin with the client's preface. After the answer 101 the
// client sends that preface, and expects the answer to its first request on stream 1; so the connection is given to
// net/http with that request put in as a HEADERS frame behind the preface and the client's SETTINGS.
type upgrader struct {
	next http.Handler
	h2   *http.Server
}

func newUpgrader(next http.Handler, o ServerOptions) *upgrader {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &upgrader{next: next, h2: &http.Server{
		Handler: next, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: o.MaxHeaderBytes,
		ErrorLog: errorLog(o.Log),
	}}
}

// shutdown ends the upgraded connections once their calls are answered, or after a while.
func (u *upgrader) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if u.h2.Shutdown(ctx) != nil {
		_ = u.h2.Close() // its connections are closed either way
	}
}

func (u *upgrader) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.Header["Upgrade"]) == 1 && upgradable(r) && u.upgrade(w, r) {
		return
	}
	u.next.ServeHTTP(w, r)
}

// upgradable reports a well-formed h2c upgrade. Requests with a body are served without: the offer may be declined.
func upgradable(r *http.Request) bool {
	if r.ProtoMajor != 1 || !strings.EqualFold(r.Header.Get("Upgrade"), "h2c") || r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return false
	}
	connection := strings.ToLower(strings.Join(r.Header["Connection"], ","))
	settings := r.Header["Http2-Settings"]
	if !strings.Contains(connection, "upgrade") || !strings.Contains(connection, "http2-settings") || len(settings) != 1 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(settings[0])
	return err == nil && len(payload)%6 == 0
}

// upgrade serves the connection to its end. It reports false if it could not take the connection.
func (u *upgrader) upgrade(w http.ResponseWriter, r *http.Request) bool {
	first := headersFrame(r)
	if first == nil {
		return false
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	_ = conn.SetDeadline(time.Time{}) // the HTTP/2 server sets its own
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
	if _, err := io.WriteString(conn, switching); err != nil {
		_ = conn.Close() // the client went away
		return true
	}
	one := &oneConn{addr: conn.LocalAddr(), closed: make(chan struct{})}
	one.conn = &upgraded{Conn: conn, r: rw.Reader, first: first, done: sync.OnceFunc(func() { close(one.closed) })}
	_ = u.h2.Serve(one) // ends with the connection, or with shutdown
	return true
}

// oneConn is a listener for one connection. Its second Accept waits until that one is closed.
type oneConn struct {
	conn   *upgraded
	addr   net.Addr
	closed chan struct{}
	given  bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Close has nothing to do: the HTTP/2 server closes the connection itself.
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.addr }

// upgraded is a connection that, behind the client's preface and first SETTINGS frame, has one frame more.
type upgraded struct {
	net.Conn
	r     *bufio.Reader
	first []byte // still to be put in
	head  []byte // read from the connection, to be given out before anything else
	ready bool
	done  func()
}

const (
	prefaceLength = 24
	frameHead     = 9
	maxSettings   = 6 * 64
)

var errPreface = errors.New("no SETTINGS frame behind the HTTP/2 preface")

// Read gives out preface, SETTINGS, the first request, and then what comes.
func (c *upgraded) Read(p []byte) (int, error) {
	if !c.ready {
		if err := c.readHead(); err != nil {
			return 0, err
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.r.Read(p)
}

func (c *upgraded) readHead() error {
	head := make([]byte, prefaceLength+frameHead)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return err
	}
	size := int(head[prefaceLength])<<16 | int(binary.BigEndian.Uint16(head[prefaceLength+1:]))
	if head[prefaceLength+3] != 4 || size > maxSettings {
		return errPreface
	}
	settings := make([]byte, size)
	if _, err := io.ReadFull(c.r, settings); err != nil {
		return err
	}
	c.head = slices.Concat(head, settings, c.first)
	c.first, c.ready = nil, true
	return nil
}

// Close closes the connection.
func (c *upgraded) Close() error {
	defer c.done()
	return c.Conn.Close()
}

// maxFrame is the largest frame that a server accepts before it says otherwise.
const maxFrame = 16 << 10

// headersFrame encodes the request as the HEADERS frame of stream 1 (RFC 9113, section 6.2), all fields literal and
// never indexed (RFC 7541, section 6.2.2), so that the client's compression state stays as it is. nil: too large.
func headersFrame(r *http.Request) []byte {
	b := make([]byte, frameHead, 512)
	b = appendField(b, ":method", r.Method)
	b = appendField(b, ":scheme", "http")
	b = appendField(b, ":authority", r.Host)
	b = appendField(b, ":path", r.URL.RequestURI())
	for name, values := range r.Header {
		switch name {
		case "Connection", "Upgrade", "Http2-Settings", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Te":
			continue
		}
		for _, v := range values {
			b = appendField(b, strings.ToLower(name), v)
		}
	}
	size := len(b) - frameHead
	if size > maxFrame {
		return nil
	}
	b[0], b[1], b[2] = byte(size>>16), byte(size>>8), byte(size)
	b[3], b[4] = 1, 0x1|0x4 // HEADERS, END_STREAM and END_HEADERS
	binary.BigEndian.PutUint32(b[5:], 1)
	return b
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, 0)
	b = append(appendLength(b, len(name)), name...)
	return append(appendLength(b, len(value)), value...)
}

// appendLength appends an integer with a 7-bit prefix (RFC 7541, section 5.1).
func appendLength(b []byte, n int) []byte {
	if n < 127 {
		return append(b, byte(n))
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

func errorLog(l *slog.Logger) *log.Logger {
	if l == nil {
		return log.New(io.Discard, "", 0)
	}
	return slog.NewLogLogger(l.Handler(), slog.LevelDebug)
}
