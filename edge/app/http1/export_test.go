package http1

import "io"

// ReadAnswer parses one answer as Do does and returns what is left unread of what was taken from src.
func ReadAnswer(src io.Reader, method string, maxHeader, maxBody int) (resp Response, reuse bool, rest []byte, err error) {
	in := reader{buf: make([]byte, 64)} // small, so that lines and bodies cross its end
	in.reset(src, maxHeader, maxBody)
	reuse, err = in.response(method, &resp)
	return resp, reuse, in.buf[in.r:in.w], err
}

// Idle returns how many connections are kept.
func (c *Client) Idle() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}
