package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// wireSource is the connection as the reader's buffer sees it: whatever arrives shows that the broker is alive.
type wireSource struct{ w *wire }

func (s wireSource) Read(p []byte) (int, error) {
	n, err := s.w.Conn.Read(p)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if n > 0 {
		s.w.progress = time.Now()
		s.w.pinging = false
		s.w.pong.Stop()
	}
	switch {
	case err != nil && s.w.err != nil:
		err = s.w.err // what ended the wire is the cause
	case errors.Is(err, net.ErrClosed):
		err = errWireClosed // the library takes no notice of the original
	}
	return n, err
}

// Read hands out whole packets' bytes in order.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.read(p)
	if err != nil {
		w.end(err)
	}
	return n, err
}

func (w *wire) read(p []byte) (int, error) {
	if len(w.head) == 0 && w.left == 0 {
		if err := w.nextPacket(); err != nil {
			return 0, err
		}
	}
	if len(w.head) > 0 {
		n := copy(p, w.head)
		w.head = w.head[n:]
		return n, nil
	}
	n, err := w.r.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// nextPacket reads a fixed header (MQTT 3.1.1 section 2.2) and prepares what the library gets to see of the packet.
func (w *wire) nextPacket() error {
	first, err := w.r.ReadByte()
	if err != nil {
		return err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		if shift > 21 {
			return errFrameLength
		}
		b, err := w.r.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	publish := first>>4 == publishPacket
	switch {
	case publish:
		w.frames++
		if length > w.max+frameOverhead || length > w.max && w.isOversized(first, length) {
			return w.skipPayload(first, length)
		}
	case first>>4 == subackPacket && length != 3: // we ask for one filter at a time; the library trusts the count and panics
		return fmt.Errorf("SUBACK of %d bytes: %w", length, errFrameLength)
	case length > frameOverhead:
		return fmt.Errorf("packet type %d of %d bytes: %w", first>>4, length, errFrameLength)
	}
	w.head, w.left = appendHeader(w.head[:0], first, length), length
	return nil
}

// isOversized looks at the topic's length without consuming it.
func (w *wire) isOversized(first byte, length int) bool {
	b, err := w.r.Peek(2)
	if err != nil {
		return false // the next read reports it
	}
	return length-variableHeader(first, int(binary.BigEndian.Uint16(b))) > w.max
}

func variableHeader(first byte, topic int) int {
	if first&0x06 != 0 { // QoS above 0 carries a packet id
		return 2 + topic + 2
	}
	return 2 + topic
}

// skipPayload replaces a PUBLISH by one without payload and notes its number.
func (w *wire) skipPayload(first byte, length int) error {
	size := make([]byte, 2)
	if _, err := io.ReadFull(w.r, size); err != nil {
		return noEOF(err)
	}
	n := variableHeader(first, int(binary.BigEndian.Uint16(size)))
	if n > length {
		return errFrameLength
	}
	body := make([]byte, n)
	copy(body, size)
	if _, err := io.ReadFull(w.r, body[2:]); err != nil {
		return noEOF(err)
	}
	if _, err := io.CopyN(io.Discard, w.r, int64(length-n)); err != nil {
		return noEOF(err)
	}
	w.mu.Lock()
	w.oversized[w.frames] = length - n
	w.mu.Unlock()
	w.head, w.left = append(appendHeader(nil, first, n), body...), 0
	return nil
}

// leftOut returns the payload size of the numbered PUBLISH if it was too large to be taken in.
func (w *wire) leftOut(number uint64) (size int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	size, ok = w.oversized[number]
	delete(w.oversized, number)
	return size, ok
}

func appendHeader(b []byte, first byte, length int) []byte {
	b = append(b, first)
	for {
		digit := byte(length & 0x7f)
		if length >>= 7; length == 0 {
			return append(b, digit)
		}
		b = append(b, digit|0x80)
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
