package mqtt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
)

// BrokerOptions are what the component pubsub.mqtt3 needs beside its resource.
type BrokerOptions struct {
	Device string // part of the client id when the resource has no consumerID
	// OpenJournal opens a journal of the component, durably: one for what waits to be sent, one for what was received.
	OpenJournal func(component string) (pubsub.Journal, error)
	Clock       func() time.Time
	// Client overrides time-outs and back-offs of the connection, for tests and odd links; its other fields are ignored.
	Client ClientOptions
}

// Broker is the component pubsub.mqtt3 of Dapr's reference, behind durable journals, so that it is safe offline: Publish
// returns when the event is in the local journal, and the event leaves it when the MQTT broker has acknowledged it; what
// subscriptions bring is acknowledged when it is in the other journal, from which each consumer reads at its own pace.
// Applications that share the component share one MQTT session and one subscription per filter. It is safe for
// concurrent use.
type Broker struct {
	spec   component.Spec
	meta   metadata
	client *Client // session kept by the broker
	exact  *Client // for QoS 2, see Bridge; nil otherwise
	out    *pubsub.JournalBroker
	in     *pubsub.JournalBroker
	taker  *intake
	box    *outbox
	sent   traffic

	forward     pubsub.Subscription // of what waits to be sent
	stopSending context.CancelFunc
	unlink      context.CancelFunc

	mu       sync.Mutex
	volatile map[string]int // subscriptions that leave nothing behind, by filter
	durable  map[string]bool
	running  sync.WaitGroup
	once     sync.Once
	err      error
}

var _ pubsub.Broker = (*Broker)(nil)

// metadata is Dapr's metadata of pubsub.mqtt3, and a few of ours.
type metadata struct {
	url, clientID string
	qos           byte
	retain, clean bool
	cred          Credentials
	keepAlive     time.Duration
	inflight      int
}

func parseMetadata(spec component.Spec, device string) (metadata, error) {
	p := make(map[string]string, len(spec.Properties))
	for k, v := range spec.Properties { // names match in any case, as in Dapr
		p[strings.ToLower(k)] = v
	}
	m := metadata{url: p["url"], clientID: cmp.Or(p["consumerid"], "edged-"+device+"-"+spec.Name), qos: 1, keepAlive: 30 * time.Second, inflight: 50}
	var errs []error
	if m.url == "" {
		errs = append(errs, errors.New("url is missing: for example mqtts://broker.plant:8883"))
	} else if _, err := parseURL(m.url); err != nil {
		errs = append(errs, fmt.Errorf("url %w", err))
	}
	if v := p["qos"]; v != "" {
		q, err := strconv.ParseUint(v, 10, 8)
		if err != nil || q > 2 {
			errs = append(errs, fmt.Errorf("qos %q is not 0, 1 or 2", v))
		}
		m.qos = byte(q)
	}
	flag := func(name string, to *bool) {
		if v := p[name]; v != "" {
			var err error
			if *to, err = truth(v); err != nil {
				errs = append(errs, fmt.Errorf("%s %w", name, err))
			}
		}
	}
	flag("retain", &m.retain)
	flag("cleansession", &m.clean)
	flag("insecureskipverify", &m.cred.TLS.InsecureSkipVerify)
	if v := p["keepalive"]; v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < time.Second || d > 18*time.Hour {
			errs = append(errs, fmt.Errorf("keepAlive %q is not a duration between 1s and 18h", v))
		}
		m.keepAlive = d
	}
	if v := p["maxinflight"]; v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 1000 {
			errs = append(errs, fmt.Errorf("maxInflight %q is not between 1 and 1000", v))
		}
		m.inflight = n
	}
	m.cred.Username, m.cred.Password = p["username"], p["password"]
	m.cred.TLS.CA, m.cred.TLS.Cert, m.cred.TLS.Key = p["cacert"], p["clientcert"], p["clientkey"]
	m.cred.TLS.ServerName = p["servername"]
	if (m.cred.TLS.Cert == "") != (m.cred.TLS.Key == "") {
		errs = append(errs, errors.New("clientCert and clientKey go together, one is missing"))
	}
	return m, errors.Join(errs...)
}

// truth reads a boolean as Dapr does.
func truth(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "y", "yes", "true", "t", "on", "1":
		return true, nil
	case "n", "no", "false", "f", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is not true or false", s)
}

// NewBroker opens the component and starts to connect; it needs no network to succeed. Close stops it.
func NewBroker(ctx context.Context, spec component.Spec, opts BrokerOptions) (*Broker, error) {
	m, err := parseMetadata(spec, opts.Device)
	if err != nil {
		return nil, fmt.Errorf("component %s: %w", spec.Name, err)
	}
	if spec.Log == nil {
		spec.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	b := &Broker{spec: spec, meta: m, volatile: map[string]int{}, durable: map[string]bool{}}
	if err := b.open(opts); err != nil {
		return nil, fmt.Errorf("component %s: %w", spec.Name, errors.Join(err, b.closeJournals()))
	}
	if err := b.start(ctx); err != nil {
		return nil, fmt.Errorf("component %s: %w", spec.Name, errors.Join(err, b.Close()))
	}
	return b, nil
}

// open makes the parts; nothing runs yet.
func (b *Broker) open(opts BrokerOptions) error {
	for _, j := range []struct {
		name string
		to   **pubsub.JournalBroker
	}{{"/out", &b.out}, {"/in", &b.in}} {
		journal, err := opts.OpenJournal(b.spec.Name + j.name)
		if err != nil {
			return fmt.Errorf("open journal: %w", err)
		}
		*j.to = pubsub.NewBroker(journal, pubsub.BrokerOptions{Log: b.spec.Log, Clock: opts.Clock})
	}
	b.taker = &intake{broker: b.in, log: b.spec.Log, decode: decodePlain}
	o := opts.Client
	o.URL, o.ClientID, o.CleanSession = b.meta.url, b.meta.clientID, b.meta.clean
	o.Credentials = func(context.Context) (Credentials, error) { return b.meta.cred, nil }
	setDefault(&o.KeepAlive, b.meta.keepAlive)
	o.StatusTopic, o.MaxInflight, o.Log, o.Clock, o.Deliver = "", b.meta.inflight, b.spec.Log, opts.Clock, b.taker.deliver
	var err error
	if b.client, err = NewClient(o); err != nil {
		return err
	}
	out := b.client
	if b.meta.qos == 2 {
		o.ClientID, o.CleanSession, o.Deliver = o.ClientID+"-qos2", true, nil
		if b.exact, err = NewClient(o); err != nil {
			return err
		}
		out = b.exact
	}
	b.box = &outbox{client: out, log: b.spec.Log, count: &b.sent, clock: opts.Clock, encode: b.encode}
	return nil
}

// start begins to forward and to connect. The work outlives the ctx of the factory.
func (b *Broker) start(ctx context.Context) (err error) {
	link, unlink := context.WithCancel(context.WithoutCancel(ctx))
	send, stop := context.WithCancel(link)
	b.unlink, b.stopSending = unlink, stop
	b.running.Go(func() { _ = b.client.Run(link) }) // always nil
	if b.exact != nil {
		b.running.Go(func() { _ = b.exact.Run(link) }) // always nil
	}
	b.forward, err = b.out.Subscribe(ctx, sender("mqtt", "#", b.meta.inflight), until(send, b.box.handle))
	return err
}

// Features lists Dapr's features of the component.
func (b *Broker) Features() []string { return []string{pubsub.FeatureWildcards} }

// Journal returns the journal of what this device publishes.
func (b *Broker) Journal() pubsub.Journal { return b.out.Journal() }

// Publish keeps events in the journal of what waits to be sent. Topics that no MQTT broker takes are refused. The
// metadata key retain overrides the component's, as in Dapr.
func (b *Broker) Publish(ctx context.Context, events []pubsub.Event) error {
	for i := range events {
		if err := ValidateTopic(events[i].Topic); err != nil {
			return badRequest(fmt.Errorf("topic %.100q %w", events[i].Topic, err))
		}
		if _, err := b.retain(&events[i]); err != nil {
			return badRequest(err)
		}
	}
	return b.out.Publish(ctx, events)
}

func badRequest(err error) error {
	return &fault.Error{
		ErrorCode: "ERR_PUBSUB_PUBLISH_MESSAGE", HTTP: http.StatusBadRequest, GRPC: fault.InvalidArgument,
		Message: "publish to MQTT: " + err.Error(), Cause: err,
	}
}

func (b *Broker) retain(e *pubsub.Event) (bool, error) {
	v := e.Metadata["retain"]
	if v == "" {
		return b.meta.retain, nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("retain %q is not true or false", v)
	}
	return on, nil
}

func (b *Broker) encode(e *pubsub.Event) (Message, error) {
	retain, err := b.retain(e)
	if err != nil {
		return Message{}, &dropError{CauseMalformed, err} // Publish lets none in
	}
	if len(e.Data) > maxMQTTPayload {
		return Message{}, &dropError{CauseTooLarge, fmt.Errorf("%d bytes are more than MQTT can carry", len(e.Data))}
	}
	return Message{Topic: e.Topic, Payload: e.Data, QoS: b.meta.qos, Retain: retain}, nil
}

// decodePlain keeps a message as it came. CloudEvents are marked as such; the pub/sub block wraps all else for
// applications that want CloudEvents.
func decodePlain(m Message) (pubsub.Event, error) {
	if m.LeftOut > 0 {
		return pubsub.Event{}, &dropError{CauseTooLarge, fmt.Errorf("%d bytes are more than this device takes", m.LeftOut)}
	}
	e := pubsub.Event{
		Topic: m.Topic, Data: m.Payload, ContentType: "application/octet-stream",
		Metadata: map[string]string{"retained": strconv.FormatBool(m.Retain), "qos": strconv.Itoa(int(m.QoS))},
	}
	if isCloudEvent(m.Payload) {
		e.ContentType = cloudEventType
	}
	return e, nil
}

// Subscribe starts a consumer of what the broker sends for c.Filter, which may have wildcards or be a shared subscription
// ($share/group/filter). It does not wait for the broker. A durable consumer's MQTT subscription outlives Close, so that
// the broker and the journal keep for it what comes meanwhile.
func (b *Broker) Subscribe(ctx context.Context, c pubsub.Consumer, h pubsub.Handler) (pubsub.Subscription, error) {
	filter := c.Filter
	if err := ValidateFilter(filter); err != nil {
		return nil, fmt.Errorf("subscribe to MQTT: topic filter %.100q %w", filter, err)
	}
	if _, inner, ok := splitShare(filter); ok {
		c.Filter = inner
	}
	s, err := b.in.Subscribe(ctx, c, h)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	if c.Volatile {
		b.volatile[filter]++
	} else {
		b.durable[filter] = true
	}
	b.mu.Unlock()
	if err := b.client.Subscribe(filter, b.meta.qos); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if !c.Volatile {
		return s, nil
	}
	return &volatileSubscription{Subscription: s, end: sync.OnceFunc(func() { b.unsubscribe(filter) })}, nil
}

// unsubscribe gives a filter back when its last volatile consumer ends and no durable one needs it.
func (b *Broker) unsubscribe(filter string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.volatile[filter]--; b.volatile[filter] == 0 {
		delete(b.volatile, filter)
		if !b.durable[filter] {
			b.client.Unsubscribe(filter)
		}
	}
}

type volatileSubscription struct {
	pubsub.Subscription
	end func()
}

func (s *volatileSubscription) Close() error {
	defer s.end()
	return s.Subscription.Close()
}

// Status returns how the component is doing, in the form of a bridge's.
func (b *Broker) Status() BridgeStatus {
	s := BridgeStatus{
		Name: b.spec.Name, Link: b.client.Status(), Out: b.sent.stat(), In: b.taker.count.stat(),
		Blocked: b.taker.blockedBy(), Refused: b.box.accused.refusals(),
	}
	s.In.addOverflow(b.client)
	return s
}

// Close lets what is on its way be acknowledged, for a moment, stops the connection and the consumers and closes the
// journals. It may be called twice.
func (b *Broker) Close() error {
	b.once.Do(func() {
		var err error
		if b.forward != nil {
			defer drainOrStop(b.box.client, b.stopSending)()
			err = b.forward.Close()
		}
		b.unlink()
		b.running.Wait()
		b.err = errors.Join(err, b.closeJournals())
	})
	return b.err
}

func (b *Broker) closeJournals() error {
	var errs []error
	for _, j := range []*pubsub.JournalBroker{b.in, b.out} {
		if j != nil {
			errs = append(errs, j.Close())
		}
	}
	return errors.Join(errs...)
}
