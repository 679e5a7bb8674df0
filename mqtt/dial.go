package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/proxy"
)

// transport is how the bytes of a broker URL travel.
type transport uint8

const (
	transportTCP transport = iota
	transportTLS
	transportWS
	transportWSS
	transportUnix
)

func (t transport) secure() bool { return t == transportTLS || t == transportWSS }

// endpoint is a parsed broker URL.
type endpoint struct {
	transport transport
	address   string   // host:port, or the path of a Unix socket
	host      string   // for the certificate
	url       *url.URL // for WebSocket, without credentials
	user      *url.Userinfo
}

// schemes are those of Dapr's MQTT components and of the paho library.
func schemes(scheme string) (t transport, port string, ok bool) {
	switch scheme {
	case "mqtt", "tcp":
		return transportTCP, "1883", true
	case "mqtts", "ssl", "tls", "tcps", "mqtt+ssl":
		return transportTLS, "8883", true
	case "ws":
		return transportWS, "80", true
	case "wss":
		return transportWSS, "443", true
	case "unix":
		return transportUnix, "", true
	}
	return 0, "", false
}

// parseURL reads a broker URL. Errors never contain its credentials.
func parseURL(raw string) (endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return endpoint{}, errors.New("is not a URL: write scheme://host:port with mqtt, mqtts, ws or wss") // err would repeat a password
	}
	t, port, ok := schemes(u.Scheme)
	if !ok {
		return endpoint{}, fmt.Errorf("scheme %q is not one of mqtt, tcp, mqtts, ssl, tls, ws, wss, unix", u.Scheme)
	}
	e := endpoint{transport: t, user: u.User}
	if t == transportUnix {
		if e.address = u.Host + u.Path; e.address == "" {
			return endpoint{}, errors.New("has no path: write unix:///path/to/socket")
		}
		return e, nil
	}
	if e.host = u.Hostname(); e.host == "" {
		return endpoint{}, errors.New("has no host")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	e.address = net.JoinHostPort(e.host, port)
	bare := *u
	bare.User, bare.Host = nil, e.address
	e.url = &bare
	return e, nil
}

// redact returns the URL without its password, for logs and status.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(unreadable URL)"
	}
	return u.Redacted()
}

// dial opens the connection, TLS and WebSocket handshakes included. It ends with ctx.
func dial(ctx context.Context, e endpoint, cfg *tls.Config) (net.Conn, error) {
	dialer := &net.Dialer{KeepAlive: 30 * time.Second}
	switch e.transport {
	case transportUnix:
		return dialer.DialContext(ctx, "unix", e.address)
	case transportWS, transportWSS:
		return dialWebSocket(ctx, e, cfg)
	}
	conn, err := dialProxied(ctx, dialer, e.address)
	if err != nil || e.transport == transportTCP {
		return conn, err
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one to tell
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secure, nil
}

// dialProxied honours ALL_PROXY and NO_PROXY, as the paho library does.
func dialProxied(ctx context.Context, dialer *net.Dialer, address string) (net.Conn, error) {
	if d, ok := proxy.FromEnvironmentUsing(dialer).(proxy.ContextDialer); ok {
		return d.DialContext(ctx, "tcp", address)
	}
	return dialer.DialContext(ctx, "tcp", address)
}

func dialWebSocket(ctx context.Context, e endpoint, cfg *tls.Config) (net.Conn, error) {
	d := websocket.Dialer{Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg, Subprotocols: []string{"mqtt"}}
	conn, resp, err := d.DialContext(ctx, e.url.String(), nil) //nolint:bodyclose // the library gives no body to close
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("WebSocket handshake: %s: %w", resp.Status, err)
		}
		return nil, err
	}
	return &webSocket{Conn: conn}, nil
}

// webSocket is the byte stream inside the binary messages of a WebSocket (MQTT 3.1.1 section 6): packets need not
// match messages. One goroutine reads and one writes.
type webSocket struct {
	*websocket.Conn
	message io.Reader
}

func (c *webSocket) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, r, err := c.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("the broker sent a WebSocket message that is not binary")
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

func (c *webSocket) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
