// Package http1 is a lean HTTP/1.1 client for one server on the same machine. A request is encoded into one buffer and
// written with one call, the answer is read on the caller's goroutine, and connections are kept alive; no goroutine
// belongs to a connection. It implements the client side of RFC 9112 for answers that fit in memory.
package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Config says where the server is and what the client allows it. Zero values mean the defaults.
type Config struct {
	Network string // "tcp" or "unix"
	Address string // host:port, or the socket's path
	Host    string // Host header; default: Address for tcp, "localhost" for unix

	DialTimeout    time.Duration // default 5 s
	IdleTimeout    time.Duration // a connection that is idle for so long is closed; default 90 s
	MaxIdle        int           // idle connections kept; default 64
	MaxHeaderBytes int           // of one answer, all interim answers included; default 64 KiB
	MaxBodyBytes   int           // of one answer; default 4 MiB
}

// Client sends requests to one server. It is safe for concurrent use; each request under way has a connection of its own.
type Client struct {
	cfg    Config
	dialer net.Dialer

	mu     sync.Mutex
	idle   []*conn // the most recently used last
	sweep  *time.Timer
	closed bool
}

// Field is one header field of a request.
type Field struct{ Name, Value string }

// Request is what to send. Host, User-Agent and Content-Length are added to the Fields; the Body may be retained until
// Do returns.
type Request struct {
	Method string // GET, HEAD or POST
	Target string // origin form: path and query, already escaped
	Fields []Field
	Body   []byte
}

// Response is an answer. Body is appended to what is given, so that a Response can be used again after Reset.
type Response struct {
	Status int
	Body   []byte
	// Partial is nil when the body is complete. Otherwise it says why it is not: cut short, malformed, or over the limit.
	Partial error
}

// Reset empties r and keeps its memory, unless that is large.
func (r *Response) Reset() {
	r.Status, r.Partial = 0, nil
	if r.Body = r.Body[:0]; cap(r.Body) > keepBytes {
		r.Body = nil
	}
}

// Error is a request that got no answer.
type Error struct {
	Op   string // "encode", "dial", "write" or "read"
	Sent bool   // whether the server may have seen the request
	Err  error
}

// Error says what failed.
func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrMalformed reports an answer that is not HTTP/1.1.
var ErrMalformed = errors.New("malformed HTTP answer")

// ErrTooLarge reports an answer over the configured bounds.
var ErrTooLarge = errors.New("HTTP answer over the size limit")

var errClosed = errors.New("client is closed")

const (
	methodPost = "POST"

	keepBytes = 64 << 10 // larger buffers are not kept for the next request
	// joinBytes is up to where a body is copied behind its header, to send both in one call.
	joinBytes = 32 << 10
	// duplexBytes is from where a body is written beside the reading of the answer: a server may answer before it has
	// read all of it, and both sides would wait for the other once the socket's buffers are full.
	duplexBytes = 64 << 10
)

// New returns a client. It does not connect.
func New(cfg Config) *Client {
	if cfg.Host == "" {
		cfg.Host = cfg.Address
		if cfg.Network == "unix" {
			cfg.Host = "localhost"
		}
	}
	setDefault(&cfg.DialTimeout, 5*time.Second)
	setDefault(&cfg.IdleTimeout, 90*time.Second)
	setDefault(&cfg.MaxIdle, 64)
	setDefault(&cfg.MaxHeaderBytes, 64<<10)
	setDefault(&cfg.MaxBodyBytes, 4<<20)
	// The peer is on this machine: a dead one resets its connections, so TCP probes would only cost system calls.
	return &Client{cfg: cfg, dialer: net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: -1}}
}

func setDefault[T ~int | ~int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Do sends req and fills resp with the answer, whatever its status. An *Error means that there is none, and says
// whether the server may have seen the request. A request on a kept connection that turns out to be closed is sent once
// more on a new one if no byte of an answer came: a server may thus see a request twice. When ctx ends, so does Do.
func (c *Client) Do(ctx context.Context, req *Request, resp *Response) error {
	x := exchanges.Get().(*exchange)
	defer x.release()
	if err := x.encode(req, c.cfg.Host); err != nil {
		return &Error{Op: "encode", Err: err}
	}
	cn := c.takeIdle()
	if cn != nil {
		stale, err := c.attempt(ctx, cn, x, req, resp)
		if !stale || ctx.Err() != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return &Error{Op: "dial", Err: err}
	}
	cn, err := c.dial(ctx)
	if err != nil {
		return &Error{Op: "dial", Err: err}
	}
	_, err = c.attempt(ctx, cn, x, req, resp)
	return err
}

// attempt sends the request on cn and reads the answer; afterwards cn is idle or closed. Stale says that the connection
// ended without a byte of an answer.
func (c *Client) attempt(ctx context.Context, cn *conn, x *exchange, req *Request, resp *Response) (stale bool, _ error) {
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, cn.interrupt)
	}
	var (
		written  <-chan error
		sent     bool
		werr     error
		complete bool // the request was written whole
	)
	if len(req.Body) > duplexBytes {
		written, sent = x.writeBeside(cn, req.Body), true
	} else {
		var n int
		n, werr = x.write(cn, req.Body)
		sent, complete = n > 0, werr == nil
	}
	// After a write error the answer is still worth reading: a server that refuses a body answers and hangs up.
	x.in.reset(cn, c.cfg.MaxHeaderBytes, c.cfg.MaxBodyBytes)
	reuse, rerr := x.in.response(req.Method, resp)
	if written != nil {
		werr = endWrite(cn, written, reuse)
		complete = werr == nil
	}
	uninterrupted := stop()
	if reuse && complete && uninterrupted {
		c.putIdle(cn)
	} else {
		_ = cn.Close() // as above
	}
	if rerr == nil && (resp.Partial == nil || ctx.Err() == nil) {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, &Error{Op: "read", Sent: sent, Err: err}
	}
	if werr != nil {
		return !x.in.answered() && hangup(werr), &Error{Op: "write", Sent: sent, Err: werr}
	}
	return !x.in.answered() && hangup(rerr), &Error{Op: "read", Sent: sent, Err: rerr}
}

// endWrite waits for a write that ran beside the reading of the answer. Once there is an answer, a server that has not
// read the whole request may never do so: then the write ends by closing the connection.
func endWrite(cn *conn, written <-chan error, answered bool) error {
	if answered {
		patience := time.NewTimer(5 * time.Millisecond)
		defer patience.Stop()
		select {
		case err := <-written:
			return err
		case <-patience.C:
		}
	}
	_ = cn.Close() // the connection is given up; its error says nothing new
	return <-written
}

// hangup reports whether err is what a closed connection gives.
func hangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (c *Client) dial(ctx context.Context) (*conn, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	nc, err := c.dialer.DialContext(ctx, c.cfg.Network, c.cfg.Address)
	if err != nil {
		return nil, err
	}
	return newConn(nc)
}

// String names the server.
func (c *Client) String() string { return fmt.Sprintf("%s:%s", c.cfg.Network, c.cfg.Address) }
