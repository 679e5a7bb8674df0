package mqtt

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	wireReadBuffer = 4 << 10
	wireChunk      = 32 << 10 // written per deadline: what a slow link must manage within the stall timeout
	wireRoom       = 64 << 10 // pending bytes above which publishers wait
	wireFarewell   = 500 * time.Millisecond
	publishPacket  = 3
	subackPacket   = 9
	frameOverhead  = 2 + 65535 + 2 // topic length, topic and packet id of a PUBLISH
)

var (
	errStalled     = errors.New("the link is stalled: no byte went through in time")
	errNoPong      = errors.New("the broker does not answer pings")
	errWireClosed  = errors.New("the connection is closed")
	errFrameLength = errors.New("malformed packet length")
)

// wire is the net.Conn that the MQTT library works on. Writes never block: they are gathered and written by one
// goroutine, so that a burst of packets is one system call and a stalled link is noticed by its lack of progress, not by
// the size of a message. Reads are buffered, and a PUBLISH larger than max arrives without its payload, so that a broker
// cannot make a small device allocate what it announces.
type wire struct {
	net.Conn
	stall time.Duration

	// Reader, used by one goroutine.
	r      *bufio.Reader
	max    int
	head   []byte // header bytes (and rewritten packets) still to hand out
	left   int    // body bytes of the current packet still to hand out
	frames uint64 // PUBLISH packets seen

	fail      func(error) // told the first error, before the library is
	kernel    func() int  // bytes that wait in the kernel's send queue
	mu        sync.Mutex
	oversized map[uint64]int // PUBLISH number -> payload size that was left out
	pinging   bool           // a PINGREQ is on its way and nothing came back since
	pingQueue bool           // a PINGREQ is in out
	pong      *time.Timer    // runs while an answer is awaited
	unsent    int            // the kernel's queue when last looked at
	out       []byte
	queued    uint64 // bytes accepted by Write
	flushed   uint64 // bytes handed to the kernel
	progress  time.Time
	err       error
	closing   bool
	wake      chan struct{} // to the writer; capacity 1
	moved     chan struct{} // closed and replaced when flushed or err changes
	done      chan struct{} // closed when the writer has ended
}

// newWire takes over conn. fail is called once, with the error that ends it.
func newWire(conn net.Conn, maxPayload int, stall time.Duration, fail func(error)) *wire {
	w := &wire{
		Conn: conn, stall: stall, max: maxPayload, fail: fail, kernel: sendQueue(conn),
		oversized: map[uint64]int{}, progress: time.Now(),
		wake: make(chan struct{}, 1), moved: make(chan struct{}), done: make(chan struct{}),
	}
	w.pong = time.AfterFunc(time.Hour, w.checkPong)
	w.pong.Stop()
	w.r = bufio.NewReaderSize(wireSource{w}, wireReadBuffer)
	go w.write()
	return w
}

// end notes why the wire is beyond use and closes the connection, which wakes its reader and writer.
func (w *wire) end(err error) {
	w.mu.Lock()
	first := w.err == nil
	if first {
		w.err = err
		close(w.moved)
		w.moved = make(chan struct{})
		w.pong.Stop()
	}
	closing := w.closing
	w.mu.Unlock()
	if first && !closing {
		w.fail(err)
	}
	_ = w.Conn.Close() // err is the one to tell
}

// Write queues p. An error means that the connection is beyond use.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.closing {
		return 0, errWireClosed
	}
	w.out = append(w.out, p...)
	w.queued += uint64(len(p))
	if len(p) == 2 && p[0] == 0xc0 { // PINGREQ
		w.pingQueue = true
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

// SetDeadline bounds reads only: writes do not block, and their progress is watched by the writer.
func (w *wire) SetDeadline(t time.Time) error { return w.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing, for the same reason.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// write is the writer: it takes all that waits and writes it in chunks.
func (w *wire) write() {
	defer close(w.done)
	var spare []byte
	for range w.wake {
		for {
			w.mu.Lock()
			if len(w.out) == 0 {
				ended := w.closing
				w.mu.Unlock()
				if ended {
					return
				}
				break
			}
			batch, ping := w.out, w.pingQueue
			w.out, spare = spare[:0], nil // never two names for one buffer
			w.pinging = w.pinging || ping
			w.pingQueue = false
			w.mu.Unlock()
			if !w.writeChunks(batch) {
				return
			}
			if spare = batch; cap(spare) > 4*wireRoom {
				spare = nil // one large message must not hold its memory for the life of the connection
			}
			w.armPong(ping)
		}
	}
}

// writeChunks reports whether all of batch went out.
func (w *wire) writeChunks(batch []byte) bool {
	for len(batch) > 0 {
		w.mu.Lock()
		if !w.closing { // Close has set a shorter one
			_ = w.Conn.SetWriteDeadline(time.Now().Add(w.stall)) // fails only on a closed connection
		}
		w.mu.Unlock()
		n, err := w.Conn.Write(batch[:min(len(batch), wireChunk)])
		batch = batch[n:]
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			err = errStalled
		}
		if err != nil {
			w.end(err)
			return false
		}
		w.mu.Lock()
		w.flushed += uint64(n) //nolint:gosec // not negative
		w.progress = time.Now()
		close(w.moved)
		w.moved = make(chan struct{})
		w.mu.Unlock()
	}
	return true
}

// armPong starts the wait for a sign of life after a PINGREQ has left, unless one has come already.
func (w *wire) armPong(ping bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ping && w.pinging && w.err == nil {
		w.pong.Reset(w.stall)
	}
}

// checkPong ends the wire if the broker is silent, unless the ping still waits behind data that goes through slowly.
func (w *wire) checkPong() {
	w.mu.Lock()
	w.look()
	quiet := time.Since(w.progress)
	alive := !w.pinging || w.err != nil
	if !alive && quiet < w.stall {
		w.pong.Reset(w.stall - quiet)
		alive = true
	}
	w.mu.Unlock()
	if !alive {
		w.end(errNoPong)
	}
}

// look takes a change of the kernel's send queue for progress. The caller holds the lock.
func (w *wire) look() {
	if n := w.kernel(); n != w.unsent {
		w.unsent, w.progress = n, time.Now()
	}
}

// room waits until few enough bytes are pending that another message may be queued; it reports false when lost closes
// or the wire fails first.
func (w *wire) room(lost <-chan struct{}) bool {
	return w.await(lost, func() bool { return w.queued-w.flushed < wireRoom })
}

// drained waits until everything queued so far has been handed to the kernel.
func (w *wire) drained(lost <-chan struct{}) bool {
	w.mu.Lock()
	goal := w.queued
	w.mu.Unlock()
	return w.await(lost, func() bool { return w.flushed >= goal })
}

func (w *wire) await(lost <-chan struct{}, reached func() bool) bool {
	for {
		w.mu.Lock()
		ok, err, moved := reached(), w.err, w.moved
		w.mu.Unlock()
		if ok || err != nil {
			return err == nil
		}
		select {
		case <-moved:
		case <-lost:
			return false
		}
	}
}

// lastProgress is when a byte last went through in either direction.
func (w *wire) lastProgress() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
	return w.progress
}

// Close lets what is queued go out, for a moment, and closes the connection. It may be called several times.
func (w *wire) Close() error {
	w.mu.Lock()
	first := !w.closing
	if first {
		w.closing = true
		_ = w.Conn.SetWriteDeadline(time.Now().Add(wireFarewell)) // fails only on a closed connection
		close(w.wake)
	}
	w.pong.Stop()
	w.mu.Unlock()
	<-w.done
	err := w.Conn.Close()
	if !first || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
