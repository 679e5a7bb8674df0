package mqtt_test

import (
	"net"
	"sync"
	"testing"
)

// proxy stands between a client and a broker and cuts the link.
type proxy struct {
	l      net.Listener
	target string

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool // refuses new connections
	small bool // has little room for what is under way
	// rule, if set, is asked for each chunk and says what happens to it.
	rule func(fromBroker bool, n int) fate
	wg   sync.WaitGroup
}

type fate uint8

const (
	pass fate = iota
	swallow
	cut
)

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: target, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "mqtt://" + p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		out, err := net.Dial("tcp", p.target)
		if down || err != nil {
			_ = in.Close()
			if err == nil {
				_ = out.Close()
			}
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = true, true
		if p.small {
			_ = in.(*net.TCPConn).SetReadBuffer(4096)
			_ = out.(*net.TCPConn).SetWriteBuffer(4096)
		}
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(out, in, false) })
		p.wg.Go(func() { p.copy(in, out, true) })
	}
}

func (p *proxy) copy(dst, src net.Conn, fromBroker bool) {
	defer p.drop(dst, src)
	buf := make([]byte, 1500)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		rule := p.rule
		p.mu.Unlock()
		f := pass
		if rule != nil && n > 0 {
			f = rule(fromBroker, n)
		}
		if f == pass && n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if f == cut || err != nil {
			return
		}
	}
}

func (p *proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// offline cuts the link and keeps it cut until online.
func (p *proxy) offline() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) online() {
	p.mu.Lock()
	p.down = false
	p.mu.Unlock()
}

func (p *proxy) setRule(rule func(fromBroker bool, n int) fate) {
	p.mu.Lock()
	p.rule = rule
	p.mu.Unlock()
}
