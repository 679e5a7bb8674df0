package http1

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// conn is a connection to the server. It is used by one request at a time.
type conn struct {
	net.Conn
	idleSince time.Time
	raw       syscall.RawConn
	probe     func(fd uintptr) bool
	probed    bool // what probe found: nothing to read
}

func newConn(nc net.Conn) (*conn, error) {
	cn := &conn{Conn: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		raw, err := sc.SyscallConn()
		if err != nil {
			return nil, errors.Join(err, nc.Close())
		}
		cn.raw, cn.probe = raw, cn.probeFD
	}
	return cn, nil
}

// quiet reports whether the connection is open and holds no unread byte.
func (cn *conn) quiet() bool {
	if cn.raw == nil {
		return true
	}
	cn.probed = false
	return cn.raw.Read(cn.probe) == nil && cn.probed
}

// interrupt makes reads and writes under way, and later ones, fail.
func (cn *conn) interrupt() {
	_ = cn.SetDeadline(time.Unix(1, 0)) // fails only on a closed connection, which is as good
}

// exchange holds the buffers of one request.
type exchange struct {
	out []byte
	in  reader
}

// exchanges is shared by all clients: memory for the requests under way, not per connection or per server.
var exchanges = sync.Pool{New: func() any {
	return &exchange{out: make([]byte, 0, 2<<10), in: reader{buf: make([]byte, 4<<10)}}
}}

func (x *exchange) release() {
	x.in.src = nil
	if cap(x.out) > keepBytes || cap(x.in.buf) > keepBytes {
		return
	}
	exchanges.Put(x)
}

// encode writes the request's head, and a small body behind it, into x.out. What cannot be said in HTTP is refused.
func (x *exchange) encode(req *Request, host string) error {
	if !validTarget(req.Target) {
		return fmt.Errorf("request target %q is not a path", req.Target)
	}
	b := append(x.out[:0], req.Method...)
	b = append(b, ' ')
	b = append(b, req.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\nUser-Agent: edged\r\n"...)
	for _, f := range req.Fields {
		if !ValidField(f.Name, f.Value) {
			return fmt.Errorf("header field %q is not valid", f.Name)
		}
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, '\r', '\n')
	}
	if len(req.Body) > 0 || req.Method == methodPost {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(req.Body)), 10)
		b = append(b, '\r', '\n')
	}
	b = append(b, '\r', '\n')
	if len(req.Body) <= joinBytes {
		b = append(b, req.Body...)
	}
	x.out = b
	return nil
}

func (x *exchange) write(cn *conn, body []byte) (int, error) {
	if len(body) <= joinBytes {
		return cn.Write(x.out)
	}
	parts := net.Buffers{x.out, body}
	n, err := parts.WriteTo(cn.Conn)
	return int(n), err
}

// writeBeside writes on a goroutine, which ends with the write or when cn is closed, and then reports on the channel.
func (x *exchange) writeBeside(cn *conn, body []byte) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := x.write(cn, body)
		done <- err
	}()
	return done
}

// ValidField reports whether a header field can be sent as it is: a token for a name, and a value without control
// characters.
func ValidField(name, value string) bool {
	if name == "" {
		return false
	}
	for i := 0; i < len(name); i++ {
		if !isToken(name[i]) {
			return false
		}
	}
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c > ' ' && c < 0x7f && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// validTarget reports whether s is in origin form and has nothing that could end the request line.
func validTarget(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
