package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A connection that has not said which protocol it speaks within this time is closed.
const sniffTimeout = 30 * time.Second

var http2Preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

// listenUnix listens on a socket path with the given access. A stale socket is replaced; a live one, or a path that is not
// a socket, is an error that says who has it. Nobody can connect before the access is set.
func listenUnix(path string, who access) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create socket folder: %w", err)
	}
	if err := removeStaleSocket(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: ownerOnly}
	l, err := config.Listen(context.Background(), "unix", path) // a local bind does not wait
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	if err := who.apply(path); err != nil {
		return nil, errors.Join(fmt.Errorf("set access of socket %s: %w", path, err), l.Close())
	}
	return l, nil
}

// ownerOnly gives a socket that is not bound yet mode 0600, which Linux makes the mode of its path when it is bound. The
// umask would do so too, but it belongs to the whole process, which makes files all the time.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) })
	return errors.Join(cerr, err)
}

func removeStaleSocket(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket path: %w", err)
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("socket path %s is a %s, not a socket: move it away or choose another path", path, kindOf(fi.Mode()))
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		peer, perr := peerOf(conn)
		if cerr := conn.Close(); perr != nil || cerr != nil {
			return fmt.Errorf("socket %s is in use by another process", path)
		}
		return fmt.Errorf("socket %s is in use by process %d%s", path, peer.PID, commandOf(peer.PID))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "folder"
	case m.IsRegular():
		return "file"
	}
	return m.Type().String()
}

func commandOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return " (" + string(bytes.TrimSpace(b)) + ")"
}

// listenTCP listens on a TCP address and, when it is taken, says by whom if that can be seen.
func listenTCP(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: the port is taken%s: stop that process or configure another port", addr, ownerOfPort(addr))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// guarded is a listener that closes connections which admit refuses.
type guarded struct {
	net.Listener
	admit func(peer) error
	log   *slog.Logger
}

func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := peerOf(c)
		if err == nil {
			err = g.admit(p)
		}
		if err == nil {
			return c, nil
		}
		g.log.Warn("connection refused", "socket", g.Addr().String(), "pid", p.PID, "uid", p.UID, "error", err)
		_ = c.Close() // refused: nothing was sent that could be lost
	}
}

// splitter sends each connection of one listener to one of two: HTTP/2 (gRPC) or HTTP/1.1, by its first bytes.
type splitter struct {
	from        net.Listener
	http1, grpc *queue
	wg          sync.WaitGroup
	done        chan struct{}

	mu        sync.Mutex
	closed    bool
	undecided map[net.Conn]struct{} // connections that have not said yet what they speak
}

// split starts to serve l. Closing the splitter ends both of its listeners.
func split(l net.Listener) *splitter {
	s := &splitter{
		from: l, http1: newQueue(l.Addr()), grpc: newQueue(l.Addr()),
		done: make(chan struct{}), undecided: map[net.Conn]struct{}{},
	}
	s.wg.Add(1)
	go s.accept()
	return s
}

// Close stops accepting, drops the connections that are still undecided and waits.
func (s *splitter) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	err := s.from.Close()
	for c := range s.undecided {
		_ = c.Close() // it has sent nothing that could be lost
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

func (s *splitter) accept() {
	exhausted := []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}
	defer s.wg.Done()
	for {
		c, err := s.from.Accept()
		if err == nil {
			s.wg.Add(1)
			go s.sniff(c)
			continue
		}
		if slices.ContainsFunc(exhausted, func(e error) bool { return errors.Is(err, e) }) {
			// Every descriptor or all memory is taken: wait for some to be free rather than end the API.
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-s.done:
			}
		}
		s.http1.fail(err)
		s.grpc.fail(err)
		return
	}
}

func (s *splitter) sniff(c net.Conn) {
	defer s.wg.Done()
	if !s.track(c) {
		_ = c.Close() // edged is stopping
		return
	}
	to, head, err := decide(c, s.http1, s.grpc)
	s.forget(c)
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil || !to.put(&headConn{Conn: c, head: head}) {
		_ = c.Close() // it said nothing in time, or edged is stopping
	}
}

func (s *splitter) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.undecided[c] = struct{}{}
	}
	return !s.closed
}

func (s *splitter) forget(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.undecided, c)
}

func decide(c net.Conn, http1, grpc *queue) (*queue, []byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(sniffTimeout)); err != nil {
		return nil, nil, err
	}
	head := make([]byte, 0, len(http2Preface))
	for len(head) < len(http2Preface) {
		n, err := c.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		if !bytes.HasPrefix(http2Preface, head) {
			return http1, head, nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return grpc, head, nil
}

// headConn gives back the bytes that were read to decide, then is the connection itself.
type headConn struct {
	net.Conn
	head []byte
}

func (c *headConn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	c.head = nil
	return c.Conn.Read(p)
}

// queue is a net.Listener that is fed by a splitter.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
	err   error
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

func (q *queue) fail(err error) {
	q.once.Do(func() { q.err = err; close(q.done) })
}

// Accept returns the next connection of this protocol.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, q.err
	}
}

// Close ends Accept. The connections that were accepted stay.
func (q *queue) Close() error {
	q.fail(net.ErrClosed)
	return nil
}

// Addr returns the address of the listener that feeds it.
func (q *queue) Addr() net.Addr { return q.addr }

var _ io.Closer = (*splitter)(nil)
