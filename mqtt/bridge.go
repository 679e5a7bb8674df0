package mqtt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/resource"
)

// BridgeOptions are what a bridge needs beside its configuration.
type BridgeOptions struct {
	Device string        // identity in the via extension and the client id
	Broker pubsub.Broker // the component that cfg.PubSub names
	// Secret returns the keys of a secret; nil if there are no secrets.
	Secret func(ctx context.Context, name string) (map[string]string, error)
	Log    *slog.Logger
	Clock  func() time.Time
	// Client overrides time-outs and back-offs of the connection, for tests and odd links; its other fields are ignored.
	Client ClientOptions
}

// drain is how long a bridge that stops waits for acknowledgements, so that little is sent twice.
const drain = 2 * time.Second

// Bridge moves events between a local pub/sub component and an MQTT broker. Outward, an event is done when the broker has
// acknowledged it, and waits in the component's journal until then; inward, a message is acknowledged when the
// component has accepted it. Both ways are in order, at least once, and survive the end of the link, of the broker and of
// this process. With QoS 0 a rule is at most once beyond this device.
type Bridge struct {
	cfg    BridgeConfig
	opts   BridgeOptions
	log    *slog.Logger
	main   *Client // session kept by the broker
	exact  *Client // for QoS 2, see clients; nil without such rules
	in     *intake
	out    traffic
	boxes  []*outbox // one per out rule
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// OpenBridge checks the configuration and prepares the bridge; it needs no network. Run makes it work.
func OpenBridge(cfg BridgeConfig, opts BridgeOptions) (*Bridge, error) {
	var faults resource.Faults
	cfg.Validate(func(field, value, problem, hint string) {
		faults = append(faults, resource.Fault{Field: field, Value: value, Problem: problem, Hint: hint})
	})
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	b := &Bridge{cfg: cfg, opts: opts, log: opts.Log}
	b.in = &intake{broker: opts.Broker, log: b.log, decode: b.decode}
	if err := b.clients(); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
	}
	for i := range cfg.Out {
		r := &b.cfg.Out[i]
		client := b.main
		if r.QoS == 2 {
			client = b.exact
		}
		b.boxes = append(b.boxes, &outbox{
			client: client, log: b.log.With("rule", r.id()), count: &b.out, clock: opts.Clock,
			encode: func(e *pubsub.Event) (Message, error) { return b.encode(r, e) },
		})
	}
	return b, nil
}

// clients makes the connection, and a second one for publications with QoS 2: those need packet ids that no message of
// an earlier life of this process still holds at the broker, or it would take a new message for an old one and discard it.
// A clean session guarantees that.
func (b *Bridge) clients() error {
	o := b.opts.Client
	o.URL, o.Credentials, o.Log, o.Clock = b.cfg.Broker, b.credentials, b.log, b.opts.Clock
	o.ClientID = cmp.Or(b.cfg.ClientID, "edged-"+b.opts.Device+"-"+b.cfg.Name)
	o.StatusName = b.opts.Device
	if o.StatusTopic = b.cfg.StatusTopic; o.StatusTopic == "" {
		o.StatusTopic = "edged/" + o.ClientID + "/status"
	} else if o.StatusTopic == statusOff {
		o.StatusTopic = ""
	}
	setDefault(&o.KeepAlive, b.cfg.KeepAlive)
	o.MaxInflight, o.MaxPayload = b.cfg.MaxInflight, int(b.cfg.MaxPayload)
	o.CleanSession = false
	if len(b.cfg.In) > 0 {
		o.Deliver = b.in.deliver
	}
	var err error
	if b.main, err = NewClient(o); err != nil {
		return err
	}
	for _, r := range b.cfg.In {
		if err := b.main.Subscribe(r.Filter, byte(r.QoS)); err != nil {
			return err
		}
	}
	for _, r := range b.cfg.Out {
		if r.QoS == 2 {
			o.ClientID, o.CleanSession, o.StatusTopic, o.Deliver = o.ClientID+"-qos2", true, "", nil
			b.exact, err = NewClient(o)
			return err
		}
	}
	return nil
}

// credentials are read anew for each connection, so that they rotate without a restart.
func (b *Bridge) credentials(ctx context.Context) (Credentials, error) {
	from := b.cfg.Credentials
	cred := Credentials{Username: from.Username, Password: from.Password, TLS: b.cfg.TLS}
	if from.PasswordFile != "" {
		text, err := fileText(from.PasswordFile)
		if err != nil {
			return cred, fmt.Errorf("read password: %w", err)
		}
		cred.Password = text
	}
	if from.Secret == "" {
		return cred, nil
	}
	if b.opts.Secret == nil {
		return cred, fmt.Errorf("read secret %s: there is no secret store", from.Secret)
	}
	keys, err := b.opts.Secret(ctx, from.Secret)
	if err != nil {
		return cred, fmt.Errorf("read secret %s: %w", from.Secret, err)
	}
	cred.Username = cmp.Or(keys["username"], cred.Username)
	cred.Password = cmp.Or(keys["password"], cred.Password)
	cred.TLS.CA = cmp.Or(keys["caCert"], cred.TLS.CA)
	cred.TLS.Cert = cmp.Or(keys["clientCert"], cred.TLS.Cert)
	cred.TLS.Key = cmp.Or(keys["clientKey"], cred.TLS.Key)
	return cred, nil
}

// Run bridges until ctx ends or Close is called, and returns nil then. It may be called once.
func (b *Bridge) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	if b.closed || b.cancel != nil {
		b.mu.Unlock()
		return errors.New("bridge is closed or has run already")
	}
	b.cancel = cancel
	b.running.Add(1)
	b.mu.Unlock()
	defer b.running.Done()

	// The links outlive ctx for a moment, so that what is on its way can be acknowledged.
	linkCtx, unlink := context.WithCancel(context.WithoutCancel(ctx))
	var links sync.WaitGroup
	defer links.Wait()
	defer unlink()
	links.Go(func() { _ = b.main.Run(linkCtx) }) // always nil
	if b.exact != nil {
		links.Go(func() { _ = b.exact.Run(linkCtx) }) // always nil
	}
	sendCtx, stopSending := context.WithCancel(linkCtx)
	defer stopSending()
	subs, err := b.subscribe(ctx, sendCtx)
	if err == nil {
		<-ctx.Done()
	}
	defer drainOrStop(b.main, stopSending)()
	errs := []error{err}
	for _, s := range subs {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// drainOrStop calls stop when what is on its way has had time to be acknowledged: at once without a connection. The
// function it returns ends the wait.
func drainOrStop(c *Client, stop context.CancelFunc) (end func()) {
	if !c.Status().Connected {
		stop()
		return func() {}
	}
	timer := time.AfterFunc(drain, stop)
	return func() { timer.Stop() }
}

// subscribe starts the consumers of the out rules. Their handlers end with sendCtx.
func (b *Bridge) subscribe(ctx, sendCtx context.Context) ([]pubsub.Subscription, error) {
	var subs []pubsub.Subscription
	for i, box := range b.boxes {
		r := &b.cfg.Out[i]
		c := sender("bridge/"+b.cfg.Name+"/"+r.id(), r.Topics, b.cfg.MaxInflight)
		s, err := b.opts.Broker.Subscribe(ctx, c, until(sendCtx, box.handle))
		if err != nil {
			return subs, fmt.Errorf("subscribe %s: %w", c.Name, err)
		}
		subs = append(subs, s)
	}
	return subs, nil
}

// until makes a handler end with ctx too.
func until(ctx context.Context, h pubsub.Handler) pubsub.Handler {
	return func(call context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
		call, cancel := context.WithCancel(call)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return h(call, events)
	}
}

// Close ends Run, waits for it, and may be called twice.
func (b *Bridge) Close() error {
	b.mu.Lock()
	b.closed = true
	cancel := b.cancel
	b.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	b.running.Wait()
	return nil
}

// Status returns how the bridge is doing.
func (b *Bridge) Status() BridgeStatus {
	s := BridgeStatus{Name: b.cfg.Name, Link: b.main.Status(), Out: b.out.stat(), In: b.in.count.stat(), Blocked: b.in.blockedBy()}
	s.In.addOverflow(b.main)
	for _, box := range b.boxes {
		s.Refused = append(s.Refused, box.accused.refusals()...)
	}
	return s
}

// encode makes an MQTT message of a local event.
func (b *Bridge) encode(r *OutRule, e *pubsub.Event) (Message, error) {
	m := Message{QoS: byte(r.QoS), Retain: r.Retain} //nolint:gosec // 0 to 2
	var ok bool
	if m.Topic, ok = r.mapping().Map(e.Topic); !ok {
		return m, &dropError{CauseTopic, fmt.Errorf("topic %q has no name at the broker", e.Topic)}
	}
	var err error
	if m.Payload, err = b.outPayload(r, e); err != nil {
		return m, &dropError{causeOf(err), err}
	}
	if int64(len(m.Payload)) > int64(b.cfg.MaxPayload) {
		return m, &dropError{CauseTooLarge, fmt.Errorf("%d bytes are more than maxPayload", len(m.Payload))}
	}
	return m, nil
}

func (b *Bridge) outPayload(r *OutRule, e *pubsub.Event) ([]byte, error) {
	if r.Payload == PayloadRaw {
		if isCloudEventType(e.ContentType) { // it loses its envelope here, and with it the way back to being noticed
			if via, _, _, err := viaOf(e.Data); err == nil {
				if err := checkVia(via, b.opts.Device, b.cfg.HopLimit); err != nil {
					return nil, err
				}
			}
		}
		return dataOf(e)
	}
	data := e.Data
	if !isCloudEventType(e.ContentType) {
		of := envelope{id: stableID(b.opts.Device, e), source: b.opts.Device, pubsub: b.cfg.PubSub, topic: e.Topic, time: e.Time}
		var err error
		if data, err = wrap(e.Data, of); err != nil {
			return nil, err
		}
	}
	return stamp(data, b.opts.Device, b.cfg.HopLimit)
}

func causeOf(err error) string {
	switch {
	case errors.Is(err, errLoop):
		return CauseLoop
	case errors.Is(err, errHops):
		return CauseHops
	}
	return CauseMalformed
}

// decode makes a local event of an MQTT message.
func (b *Bridge) decode(m Message) (pubsub.Event, error) {
	var e pubsub.Event
	if m.LeftOut > 0 {
		return e, &dropError{CauseTooLarge, fmt.Errorf("%d bytes are more than maxPayload", m.LeftOut)}
	}
	r := b.ruleFor(m.Topic)
	if r == nil {
		return e, &dropError{CauseTopic, fmt.Errorf("topic %q matches no rule: the session holds an old subscription", m.Topic)}
	}
	var ok bool
	if e.Topic, ok = r.mapping().Map(m.Topic); !ok {
		return e, &dropError{CauseTopic, fmt.Errorf("topic %q has no local name", m.Topic)}
	}
	e.ContentType = cloudEventType
	if m.Retain {
		e.Metadata = map[string]string{"retained": "true"}
	}
	if r.Payload != PayloadRaw && isCloudEvent(m.Payload) {
		via, _, _, err := viaOf(m.Payload)
		if err == nil {
			err = checkVia(via, b.opts.Device, b.cfg.HopLimit)
		}
		if err != nil {
			return e, &dropError{causeOf(err), err}
		}
		e.Data = m.Payload
		return e, nil
	}
	if r.Payload == PayloadCloudEvent {
		return e, &dropError{CauseMalformed, errors.New("the payload is not a CloudEvent in JSON")}
	}
	of := envelope{id: newID(), source: "mqtt/" + b.cfg.Name, pubsub: b.cfg.PubSub, topic: e.Topic, time: b.opts.Clock()}
	var err error
	e.Data, err = wrap(m.Payload, of)
	return e, err
}

func (b *Bridge) ruleFor(topic string) *InRule {
	for i := range b.cfg.In {
		if Match(b.cfg.In[i].Filter, topic) {
			return &b.cfg.In[i]
		}
	}
	return nil
}
