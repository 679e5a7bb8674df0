package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"
)

// Message is one MQTT application message.
type Message struct {
	Topic     string
	Payload   []byte
	QoS       byte
	Retain    bool
	Duplicate bool // received with the DUP flag: the broker sent it before
	// LeftOut is the size of a received payload that exceeded ClientOptions.MaxPayload; Payload is empty then.
	LeftOut int
}

// DeliverFunc takes received messages in order and returns how many of them, from the first, are safe: those are
// acknowledged to the broker. With an error the rest is offered again, after a pause that grows.
type DeliverFunc func(ctx context.Context, messages []Message) (safe int, err error)

// ClientOptions describe a session with a broker. Zero values mean the defaults that the fields name.
type ClientOptions struct {
	URL      string // scheme://[user[:password]@]host[:port]; see parseURL for the schemes
	ClientID string // fixed: it names the session that the broker keeps
	// CleanSession makes the broker forget us between connections: what is published meanwhile is lost.
	CleanSession bool
	Credentials  CredentialsFunc // nil: those of the URL, if any
	StatusTopic  string          // retained birth and last will; empty: none
	StatusName   string          // who we are, in the birth and the will
	Deliver      DeliverFunc     // nil: nothing is subscribed

	KeepAlive      time.Duration // 30s
	ConnectTimeout time.Duration // 30s, all handshakes together
	AckTimeout     time.Duration // 60s without an acknowledgement or any progress ends a connection
	MinBackoff     time.Duration // 1s; attempt n waits a random time up to MinBackoff * 2^n
	MaxBackoff     time.Duration // 2m
	MaxInflight    int           // 50 publications without acknowledgement
	MaxPayload     int           // 4 MiB received
	MaxQueue       int           // 8 MiB of received messages that wait for Deliver
	Log            *slog.Logger
	Clock          func() time.Time // time.Now
}

func (o ClientOptions) withDefaults() ClientOptions {
	setDefault(&o.KeepAlive, 30*time.Second)
	setDefault(&o.ConnectTimeout, 30*time.Second)
	setDefault(&o.AckTimeout, time.Minute)
	setDefault(&o.MinBackoff, time.Second)
	setDefault(&o.MaxBackoff, 2*time.Minute)
	setDefault(&o.MaxInflight, 50)
	setDefault(&o.MaxPayload, 4<<20)
	setDefault(&o.MaxQueue, 8<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Client keeps one session with a broker alive: it connects, resubscribes and connects again, with a pause drawn at
// random from a range that doubles up to MaxBackoff, for as long as Run runs. It needs no network, name service or right
// clock to start. It is safe for concurrent use.
type Client struct {
	opts  ClientOptions
	end   endpoint
	log   *slog.Logger
	inbox *inbox
	epoch uint64 // session numbers grow from here

	mu     sync.Mutex
	link   *link                    // nil while there is no connection
	change chan struct{}            // closed and replaced when link changes
	subs   map[string]*subscription // by filter
	status Status

	sessions uint64 // attempts to open one, so that no two wills carry one number
	ended    bool
	strays   sync.WaitGroup // calls to the library that may outlive their connection
}

// subscription is a filter that we want, and what the broker said of it last.
type subscription struct {
	qos     byte
	asked   *link // the connection on which it was last asked for
	refused bool
}

// Status says how a session is doing.
type Status struct {
	Broker         string    `json:"broker"` // without password
	ClientID       string    `json:"clientId"`
	Connected      bool      `json:"connected"`
	Since          time.Time `json:"since"` // of the present state
	Session        uint64    `json:"session,omitempty"`
	SessionPresent bool      `json:"sessionPresent"`     // the broker had kept our session at the last connect
	Connects       uint64    `json:"connects"`           // since start
	Attempts       int       `json:"attempts,omitempty"` // since the last connection ended
	LastError      string    `json:"lastError,omitempty"`
	LastErrorTime  time.Time `json:"lastErrorTime,omitzero"`
	Refused        []string  `json:"refusedSubscriptions,omitempty"`
	Queued         int       `json:"queued"` // received messages that wait to become durable
}

// errRefused marks answers of the broker that will not change by themselves soon.
var errRefused = errors.New("refused by the broker")

// NewClient checks the options. It does not connect: Run does.
func NewClient(o ClientOptions) (*Client, error) {
	end, err := parseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("broker URL %w", err)
	}
	if o.ClientID == "" {
		return nil, errors.New("client id is empty: a session that survives needs a fixed one")
	}
	if err := validText(o.ClientID); err != nil {
		return nil, fmt.Errorf("client id %w", err)
	}
	if o.StatusTopic != "" {
		if err := ValidateTopic(o.StatusTopic); err != nil {
			return nil, fmt.Errorf("status topic %w", err)
		}
	}
	o = o.withDefaults()
	c := &Client{
		opts: o, end: end,
		log:    o.Log.With("broker", redact(o.URL), "client", o.ClientID),
		change: make(chan struct{}), subs: map[string]*subscription{},
		// Numbers of later processes are higher if the clock is right, and seldom the same if it is not.
		epoch: uint64(max(o.Clock().UnixMilli(), 0))<<10 | rand.Uint64N(1<<10), //nolint:gosec // not negative, not a secret
	}
	c.inbox = newInbox(c)
	c.status = Status{Broker: redact(o.URL), ClientID: o.ClientID, Since: o.Clock()}
	return c, nil
}

// Run keeps the session alive until ctx ends, then says goodbye to the broker. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer c.gather()
	defer wg.Wait()
	if c.opts.Deliver != nil {
		wg.Go(func() { c.inbox.run(ctx) })
	}
	for attempt := 0; ctx.Err() == nil; {
		up, err := c.session(ctx)
		if up > c.opts.MaxBackoff/4 { // not merely let in and thrown out
			attempt = 0
		}
		if ctx.Err() != nil {
			return nil
		}
		wait := fullJitter(c.opts.MinBackoff, c.opts.MaxBackoff, attempt)
		c.down(err, attempt+1)
		if attempt++; bits.OnesCount(uint(attempt)) == 1 { //nolint:gosec // not negative
			c.log.Warn("MQTT connection is down", "err", err, "retry", wait.Round(time.Millisecond), "attempt", attempt)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return nil
}

// stray registers a call to the library that Run waits for, unless Run has ended.
func (c *Client) stray() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.strays.Add(1)
	}
	return !c.ended
}

func (c *Client) gather() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.strays.Wait()
}

// fullJitter draws from the whole range, so that devices that lost a broker together do not return together.
func fullJitter(lo, hi time.Duration, attempt int) time.Duration {
	limit := hi
	if attempt < 30 && lo<<attempt < hi {
		limit = lo << attempt
	}
	return rand.N(limit) + 1 //nolint:gosec // not a secret
}

// session is one connection from dial to loss. It returns how long it was up and why it ended.
func (c *Client) session(ctx context.Context) (time.Duration, error) {
	l, err := c.connect(ctx)
	if err != nil {
		return 0, err
	}
	started := time.Now()
	defer l.close()
	hasty := context.AfterFunc(ctx, func() { l.lose(errGoodbye) }) // nobody waits for a broker that takes its time
	if err := c.resubscribe(l); err != nil {
		return 0, fmt.Errorf("subscribe: %w", err)
	}
	if err := c.birth(ctx, l); err != nil {
		return 0, fmt.Errorf("publish birth: %w", err)
	}
	if !hasty() {
		return 0, errGoodbye
	}
	c.up(l)
	select {
	case <-l.lost:
	case <-ctx.Done():
		c.farewell(l)
		l.lose(errGoodbye)
	}
	c.setLink(nil)
	return time.Since(started), l.cause()
}

func (c *Client) up(l *link) {
	c.mu.Lock()
	c.status.Connected, c.status.Since = true, c.opts.Clock()
	c.status.Session, c.status.SessionPresent = l.session, l.present
	c.status.Attempts = 0
	c.status.Connects++
	c.mu.Unlock()
	c.setLink(l)
	c.log.Info("MQTT connection is up", "session", l.session, "sessionPresent", l.present)
}

func (c *Client) down(err error, attempts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Connected {
		c.status.Connected, c.status.Since = false, c.opts.Clock()
	}
	c.status.Attempts = attempts
	if err != nil {
		c.status.LastError, c.status.LastErrorTime = err.Error(), c.opts.Clock()
	}
}

func (c *Client) setLink(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
	close(c.change)
	c.change = make(chan struct{})
	if l == nil {
		return
	}
	for filter, sub := range c.subs {
		if sub.asked != l && !c.covered(filter) { // added while the connection was being made
			l.ask(filter)
		}
	}
}

// wait returns the connection, as soon as there is one.
func (c *Client) wait(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, change := c.link, c.change
		c.mu.Unlock()
		if l != nil {
			select {
			case <-l.lost: // Run will notice
			default:
				return l, nil
			}
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Status returns how the session is doing.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Refused = nil
	for filter, sub := range c.subs {
		if sub.refused {
			s.Refused = append(s.Refused, filter)
		}
	}
	s.Queued = c.inbox.len()
	return s
}

// Subscribe adds a filter to those that the session holds, now and after every reconnect; asking again for one makes the
// broker send its retained messages again. A filter that others cover is given back once its retained messages have been
// asked for, because brokers may send a message once for each filter it matches. A filter that the broker refuses is
// reported by Status and asked for again with the next connection. Subscribe does not wait for the broker.
func (c *Client) Subscribe(filter string, qos byte) error {
	if err := ValidateFilter(filter); err != nil {
		return fmt.Errorf("topic filter %q %w", filter, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[filter] = &subscription{qos: qos}
	if c.link != nil {
		c.link.ask(filter)
	}
	return nil
}

// Unsubscribe gives a filter back. What the broker has sent already is still delivered.
func (c *Client) Unsubscribe(filter string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.subs, filter)
	if c.link != nil {
		c.link.ask(filter)
	}
}

// covered reports whether another filter of the session brings all messages of this one. The caller holds the lock.
func (c *Client) covered(filter string) bool {
	for other := range c.subs {
		if other != filter && Covers(other, filter) {
			return true
		}
	}
	return false
}
