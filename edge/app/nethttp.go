package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/edged-io/edged/edge/app/http1"
)

// newTransport returns a net/http transport to the application that follows no proxy.
func newTransport(c *Channel) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, c.network, c.address)
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	switch c.cfg.Protocol {
	case HTTPS:
		t.TLSClientConfig = tlsConfig()
		t.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	case H2C:
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// netHTTP is the roundTripper for the protocols that http1 does not speak.
type netHTTP struct {
	transport *http.Transport
	base      string
	maxBody   int
}

// Do sends a request; see http1.Client.Do.
func (n *netHTTP) Do(ctx context.Context, req *http1.Request, resp *http1.Response) error {
	var sent atomic.Bool // the trace runs on the connection's goroutines
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	r, err := http.NewRequestWithContext(ctx, req.Method, n.base+req.Target, bytes.NewReader(req.Body))
	if err != nil {
		return &http1.Error{Op: "encode", Err: err}
	}
	r.Header.Set("User-Agent", "edged")
	for _, f := range req.Fields {
		r.Header.Add(f.Name, f.Value)
	}
	answer, err := n.transport.RoundTrip(r)
	if err != nil {
		return &http1.Error{Op: "read", Sent: sent.Load(), Err: err}
	}
	resp.Status, resp.Partial = answer.StatusCode, nil
	body := bytes.NewBuffer(resp.Body[:0])
	_, resp.Partial = body.ReadFrom(io.LimitReader(answer.Body, int64(n.maxBody)+1))
	if resp.Body = body.Bytes(); len(resp.Body) > n.maxBody {
		resp.Body, resp.Partial = resp.Body[:n.maxBody], http1.ErrTooLarge
	}
	if err := answer.Body.Close(); err != nil && resp.Partial == nil {
		resp.Partial = err
	}
	if err := ctx.Err(); err != nil && resp.Partial != nil {
		return &http1.Error{Op: "read", Sent: true, Err: errors.Join(err, resp.Partial)}
	}
	return nil
}

// Close closes the idle connections.
func (n *netHTTP) Close() error {
	n.transport.CloseIdleConnections()
	return nil
}
