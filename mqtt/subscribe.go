package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// refusedFilter is the SUBACK return code of a refused filter (MQTT 3.1.1 section 3.9.3).
const refusedFilter = 0x80

// resubscribe asks for every filter, also when the broker says that it kept the session: some keep it without them.
func (c *Client) resubscribe(l *link) error {
	c.mu.Lock()
	var filters []string
	for f := range c.subs {
		if !c.covered(f) {
			filters = append(filters, f)
		}
	}
	c.mu.Unlock()
	slices.Sort(filters)
	for _, f := range filters {
		if err := l.subscribe(f); err != nil {
			return err
		}
	}
	return nil
}

// ask has the broker told soon about a filter that was added or removed; if too many wait, the connection starts over,
// which subscribes to all.
func (l *link) ask(filter string) {
	select {
	case l.asks <- filter:
	default:
		l.lose(errors.New("too many subscriptions at once"))
	}
}

// answer serves ask until the connection is lost.
func (l *link) answer() {
	for {
		select {
		case f := <-l.asks:
			if err := l.settle(f); err != nil {
				l.lose(fmt.Errorf("subscribe: %w", err))
			}
		case <-l.lost:
			return
		}
	}
}

// settle brings the broker's view of one filter in line with ours.
func (l *link) settle(filter string) error {
	c := l.client
	c.mu.Lock()
	_, wanted := c.subs[filter]
	c.mu.Unlock()
	if !wanted {
		return l.await(l.paho.Unsubscribe(filter))
	}
	if err := l.subscribe(filter); err != nil {
		return err
	}
	c.mu.Lock()
	var surplus []string
	for f, sub := range c.subs {
		if sub.asked == l && c.covered(f) {
			surplus = append(surplus, f)
		}
	}
	c.mu.Unlock()
	for _, f := range surplus {
		if err := l.await(l.paho.Unsubscribe(f)); err != nil {
			return err
		}
		c.mu.Lock()
		if sub := c.subs[f]; sub != nil {
			sub.asked = nil
		}
		c.mu.Unlock()
	}
	return nil
}

// subscribe sends one filter and waits for the broker's word. A refusal is noted, not an error.
func (l *link) subscribe(filter string) error {
	c := l.client
	c.mu.Lock()
	sub, ok := c.subs[filter]
	if ok {
		sub.asked = l
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	token := l.paho.Subscribe(filter, sub.qos, nil).(*paho.SubscribeToken)
	if err := l.await(token); err != nil {
		return err
	}
	refused := false
	for _, code := range token.Result() { // keyed by the filter without its share group
		refused = code == refusedFilter
	}
	c.mu.Lock()
	sub.refused = refused
	c.mu.Unlock()
	if refused {
		c.log.Error("MQTT subscription refused by the broker: check its access rules", "filter", filter)
	}
	return nil
}

// await waits for the broker's answer to a packet that is not a publication.
func (l *link) await(token paho.Token) error {
	timer := time.NewTimer(l.client.opts.AckTimeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		return l.verdict(token)
	case <-l.lost:
		return l.cause()
	case <-timer.C:
		return errNoAck
	}
}
