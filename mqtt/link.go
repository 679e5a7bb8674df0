package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// handover bounds how long the library may hold a packet that its connection no longer takes. Writes themselves never
// block, see wire.
const handover = 2 * time.Second

// link is one connection: a library client that is never used again once the connection is lost.
type link struct {
	client  *Client
	paho    paho.Client
	wire    *wire
	session uint64
	present bool
	number  uint64 // PUBLISH packets handed to us; touched by the library's dispatcher only
	behind  bool   // messages were left unacknowledged; guarded by the inbox

	slots    chan struct{} // one per publication in flight
	lost     chan struct{} // closed when the connection is gone
	loseOnce sync.Once
	err      error // why; set before lost closes

	asks chan string // filters to subscribe to
	wg   sync.WaitGroup
}

var errGoodbye = errors.New("disconnected by us")

func (l *link) lose(err error) {
	l.loseOnce.Do(func() {
		l.err = err
		close(l.lost)
	})
}

// cause returns why the connection ended, in words for people.
func (l *link) cause() error {
	<-l.lost
	if errors.Is(l.err, io.EOF) || errors.Is(l.err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("closed by the broker: %w", l.err)
	}
	return l.err
}

// close ends the connection, politely if nothing has broken it, and waits for what works on it.
func (l *link) close() {
	l.lose(errGoodbye)
	quiesce := uint(0)
	if errors.Is(l.err, errGoodbye) {
		quiesce = uint(wireFarewell / time.Millisecond)
	}
	l.paho.Disconnect(quiesce)
	_ = l.wire.Close() // the cause of the end is known already
	l.wg.Wait()
}

// connect opens a connection and its MQTT session.
func (c *Client) connect(ctx context.Context) (*link, error) {
	cred, err := c.credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	var cfg *tls.Config
	if c.end.transport.secure() {
		if cfg, err = cred.TLS.config(c.end.host); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	c.sessions++
	session := c.epoch + c.sessions
	c.mu.Unlock()

	dialCtx, cancel := context.WithTimeout(ctx, c.opts.ConnectTimeout)
	defer cancel()
	conn, err := dial(dialCtx, c.end, cfg)
	if err != nil {
		return nil, c.explain(fmt.Errorf("connect: %w", err))
	}
	l := &link{
		client: c, session: session, slots: make(chan struct{}, c.opts.MaxInflight), lost: make(chan struct{}), asks: make(chan string, 64),
	}
	l.wire = newWire(conn, c.opts.MaxPayload, c.opts.KeepAlive, l.lose)
	stop := context.AfterFunc(dialCtx, func() { _ = conn.Close() }) // ends a handshake that hangs
	l.paho = paho.NewClient(c.pahoOptions(l, cred))
	token := l.paho.Connect().(*paho.ConnectToken)
	<-token.Done()
	if !stop() {
		l.close()
		return nil, fmt.Errorf("handshake: no answer in time: %w", dialCtx.Err())
	}
	if err := token.Error(); err != nil {
		_ = l.wire.Close() // the handshake's error is the one to tell
		return nil, l.refusal(token.ReturnCode(), err)
	}
	if l.present = token.SessionPresent(); l.present {
		c.inbox.resumed(l)
	}
	l.wg.Go(l.answer)
	return l, nil
}

func (c *Client) credentials(ctx context.Context) (Credentials, error) {
	var cred Credentials
	if c.opts.Credentials != nil {
		var err error
		if cred, err = c.opts.Credentials(ctx); err != nil {
			return cred, err
		}
	}
	if cred.Username == "" && c.end.user != nil {
		cred.Username = c.end.user.Username()
		cred.Password, _ = c.end.user.Password()
	}
	return cred, nil
}

// refusal returns why the handshake failed.
func (l *link) refusal(code byte, err error) error {
	if code != packets.Accepted && code != packets.ErrNetworkError {
		return fmt.Errorf("handshake: %w: %w", errRefused, err)
	}
	l.lose(err)
	if err = l.cause(); errors.Is(err, io.EOF) {
		return fmt.Errorf("handshake: %w (wrong port, TLS or a client certificate needed, or the last will not allowed?)", err)
	}
	return fmt.Errorf("handshake: %w", err)
}

// explain adds what a person needs to know when certificates meet a device without a clock.
func (c *Client) explain(err error) error {
	var invalid x509.CertificateInvalidError
	if now := c.opts.Clock(); errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.Year() < 2024 {
		return fmt.Errorf("%w (this device's clock says %s; it will be tried again)", err, now.Format(time.DateOnly))
	}
	return err
}

func (c *Client) pahoOptions(l *link, cred Credentials) *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.SetProtocolVersion(4) // without it a refused CONNECT is tried again as MQTT 3.1
	o.AddBroker("tcp://" + "wire:0").SetCustomOpenConnectionFn(onlyOnce(l.wire))
	o.SetClientID(c.opts.ClientID).SetCleanSession(c.opts.CleanSession)
	o.SetUsername(cred.Username).SetPassword(cred.Password)
	o.SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false)
	o.SetStore(noStore{})
	o.SetOrderMatters(true).SetAutoAckDisabled(true)
	o.SetKeepAlive(max(c.opts.KeepAlive, time.Second)).SetPingTimeout(time.Hour) // the wire watches, and knows of progress
	o.SetConnectTimeout(c.opts.ConnectTimeout).SetWriteTimeout(handover)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { l.received(m) })
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { l.lose(err) })
	if c.opts.StatusTopic != "" {
		o.SetBinaryWill(c.opts.StatusTopic, c.statusPayload("offline", l.session), 1, true)
	}
	return o
}

// onlyOnce hands out the connection that is open already.
func onlyOnce(w *wire) paho.OpenConnectionFunc {
	used := false
	return func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		if used {
			return nil, errWireClosed
		}
		used = true
		return w, nil
	}
}

// statusPayload is the birth and the will. A reader that knows the newest session number can tell a will that comes
// late, when the next session is online already, from the end of that session.
func (c *Client) statusPayload(status string, session uint64) []byte {
	b, err := json.Marshal(struct {
		Status  string `json:"status"`
		Name    string `json:"name,omitempty"`
		Session uint64 `json:"session"`
	}{status, c.opts.StatusName, session})
	if err != nil {
		return []byte(status) // unreachable: strings and numbers always marshal
	}
	return b
}

func (c *Client) birth(ctx context.Context, l *link) error {
	if c.opts.StatusTopic == "" {
		return nil
	}
	m := Message{Topic: c.opts.StatusTopic, Payload: c.statusPayload("online", l.session), QoS: 1, Retain: true}
	_, err := l.publish(ctx, []Message{m})
	return err
}

// farewell replaces the birth, because a broker does not send the will of a client that disconnects properly.
func (c *Client) farewell(l *link) {
	if c.opts.StatusTopic == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	m := Message{Topic: c.opts.StatusTopic, Payload: c.statusPayload("offline", l.session), QoS: 1, Retain: true}
	if _, err := l.publish(ctx, []Message{m}); err != nil {
		c.log.Debug("MQTT farewell was not acknowledged", "err", err)
	}
}

// noStore is the library's packet store: nothing may be replayed from memory, because the journal offers again what
// was not acknowledged.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
