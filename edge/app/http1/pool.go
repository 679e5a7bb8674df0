package http1

import (
	"time"
)

// takeIdle returns a kept connection on which nothing has happened since its last answer, or nil. One that the server
// has closed, or on which it said something nobody asked for, is closed.
func (c *Client) takeIdle() *conn {
	for {
		c.mu.Lock()
		n := len(c.idle)
		if n == 0 {
			c.mu.Unlock()
			return nil
		}
		cn := c.idle[n-1]
		c.idle[n-1] = nil
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		if cn.quiet() {
			return cn
		}
		_ = cn.Close() // it is given up; its error says nothing new
	}
}

func (c *Client) putIdle(cn *conn) {
	cn.idleSince = time.Now()
	c.mu.Lock()
	if c.closed || len(c.idle) >= c.cfg.MaxIdle {
		c.mu.Unlock()
		_ = cn.Close() // as above
		return
	}
	c.idle = append(c.idle, cn)
	if c.sweep == nil {
		c.sweep = time.AfterFunc(c.cfg.IdleTimeout, c.sweepIdle)
	}
	c.mu.Unlock()
}

// sweepIdle closes the connections that have been idle for too long and runs again while there are any.
func (c *Client) sweepIdle() {
	c.mu.Lock()
	n := 0
	for n < len(c.idle) && time.Since(c.idle[n].idleSince) >= c.cfg.IdleTimeout {
		n++ // the order of the list is that of idleSince
	}
	old := append([]*conn(nil), c.idle[:n]...)
	c.idle = append(c.idle[:0], c.idle[n:]...)
	clear(c.idle[len(c.idle) : len(c.idle)+n])
	if c.sweep = nil; len(c.idle) > 0 && !c.closed {
		c.sweep = time.AfterFunc(c.cfg.IdleTimeout-time.Since(c.idle[0].idleSince), c.sweepIdle)
	}
	c.mu.Unlock()
	for _, cn := range old {
		_ = cn.Close() // as above
	}
}

// CloseIdle closes the kept connections; those with a request under way are not touched.
func (c *Client) CloseIdle() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, cn := range idle {
		_ = cn.Close() // as above
	}
}

// Close refuses new connections and closes the idle ones. Requests under way go on, and their connections close with
// them. It may be called twice.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	if c.sweep != nil {
		c.sweep.Stop()
		c.sweep = nil
	}
	c.mu.Unlock()
	c.CloseIdle()
	return nil
}
