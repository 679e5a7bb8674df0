package sync_test

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy is a link that tests break: a TCP proxy in front of an upstream.
type proxy struct {
	t      testing.TB
	l      net.Listener
	target string

	mu    sync.Mutex
	down  bool // connections are refused
	conns map[net.Conn]bool
	tap   func(up bool, seen []byte) act // sees what has passed since it was set, or since its last act other than pass
	taps  int
	rate  int // bytes per second and direction; 0: unlimited
	lag   time.Duration
	bytes int64 // that went up
}

// act is what happens to a chunk.
type act uint8

const (
	pass    act = iota
	cut         // the chunk is lost and the connection ends
	passCut     // the chunk arrives, then the connection ends
	deaf        // from now on nothing comes down any more
)

func newProxy(t testing.TB, url string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target, _, _ := strings.Cut(strings.TrimPrefix(url, "nats://"), ",")
	p := &proxy{t: t, l: l, target: target, conns: map[net.Conn]bool{}}
	go p.serve()
	t.Cleanup(func() { l.Close(); p.cut() })
	return p
}

func (p *proxy) url() string { return "nats://" + p.l.Addr().String() }

func (p *proxy) serve() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		go p.handle(c)
	}
}

func (p *proxy) handle(c net.Conn) {
	p.mu.Lock()
	refused := p.down
	p.mu.Unlock()
	s, err := net.Dial("tcp", p.target)
	if err != nil || refused {
		c.Close()
		if err == nil {
			s.Close()
		}
		return
	}
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		c.Close()
		s.Close()
		return
	}
	p.conns[c], p.conns[s] = true, true
	p.mu.Unlock()
	go p.pump(c, s, true)
	p.pump(s, c, false)
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, s)
	p.mu.Unlock()
}

func (p *proxy) pump(from, to net.Conn, up bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 4<<10)
	var seen []byte
	silent, taps := false, 0
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		chunk := buf[:n]
		p.mu.Lock()
		tap, rate, lag := p.tap, p.rate, p.lag
		if taps != p.taps {
			taps, seen = p.taps, nil
		}
		if up {
			p.bytes += int64(n)
		}
		p.mu.Unlock()
		if lag > 0 || rate > 0 {
			wait := lag
			if rate > 0 {
				wait += time.Duration(n) * time.Second / time.Duration(rate)
			}
			t := time.NewTimer(wait)
			<-t.C
		}
		do := pass
		if tap != nil {
			seen = append(seen, chunk...)
			if do = tap(up, seen); do != pass {
				seen = seen[:0]
			} else if len(seen) > 64<<10 {
				seen = append(seen[:0], seen[len(seen)-1024:]...)
			}
		}
		switch do {
		case cut:
			return
		case deaf:
			silent = true
		}
		if silent {
			continue
		}
		if _, err := to.Write(chunk); err != nil || do == passCut {
			return
		}
	}
}

// cut ends all connections and refuses new ones until restore.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// passed is how many bytes have gone up.
func (p *proxy) passed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) on(tap func(up bool, seen []byte) act) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tap = tap
	p.taps++
}

func (p *proxy) shape(rate int, lag time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate, p.lag = rate, lag
}

// at does something when text passes in a direction for the nth time, and counts how often it did.
func at(dirUp bool, text string, nth int, do act, done *counter) func(up bool, seen []byte) act {
	var mu sync.Mutex
	hits := 0
	return func(up bool, seen []byte) act {
		if up != dirUp || !bytes.Contains(seen, []byte(text)) {
			return pass
		}
		mu.Lock()
		defer mu.Unlock()
		if hits++; hits != nth {
			return pass
		}
		done.add()
		return do
	}
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}
