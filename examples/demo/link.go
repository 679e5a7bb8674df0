package main

import (
	"errors"
	"io"
	"net"
	"sync"
)

// link is a TCP connection to somewhere that can be cut: connections break, and new ones are refused.
type link struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func newLink(target string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	k.wg.Add(1)
	go k.serve()
	return k, nil
}

func (k *link) address() string { return k.listener.Addr().String() }

func (k *link) serve() {
	defer k.wg.Done()
	for {
		near, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.wg.Add(1)
		go k.join(near)
	}
}

func (k *link) join(near net.Conn) {
	defer k.wg.Done()
	defer near.Close()
	if !k.hold(near) {
		return
	}
	far, err := net.Dial("tcp", k.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !k.hold(far) {
		return
	}
	done := make(chan struct{}, 2)
	pump := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // it ends when either side or the link breaks
		done <- struct{}{}
	}
	go pump(far, near)
	go pump(near, far)
	<-done
	near.Close()
	far.Close()
	<-done
	k.mu.Lock()
	delete(k.conns, near)
	delete(k.conns, far)
	k.mu.Unlock()
}

func (k *link) hold(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down {
		return false
	}
	k.conns[c] = struct{}{}
	return true
}

func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	for c := range k.conns {
		c.Close()
	}
}

func (k *link) restore() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
}

func (k *link) close() error {
	k.cut()
	err := k.listener.Close()
	k.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
