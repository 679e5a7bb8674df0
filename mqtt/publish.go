package mqtt

import (
	"context"
	"errors"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

var errNoAck = errors.New("the broker does not acknowledge")

// Publish sends messages in order, up to MaxInflight ahead of the broker's acknowledgements, and returns how many of
// them, from the first, have arrived: acknowledged by the broker, or, with QoS 0, handed to the operating system on a
// live connection. err says why it is not all of them; those may have arrived too and may be sent again. It waits for a
// connection as long as ctx allows, and for messages with QoS 0 too.
func (c *Client) Publish(ctx context.Context, messages []Message) (arrived int, err error) {
	l, err := c.wait(ctx)
	if err != nil {
		return 0, err
	}
	return l.publish(ctx, messages)
}

// publish sends on this connection. Tokens are reaped in order, so the count is a prefix.
func (l *link) publish(ctx context.Context, messages []Message) (arrived int, err error) {
	tokens := make([]paho.Token, 0, len(messages))
	defer func() {
		for range len(tokens) - arrived {
			<-l.client.slots
		}
	}()
	reap := func() error {
		if err := l.acked(ctx, tokens[arrived]); err != nil {
			return err
		}
		arrived++
		<-l.client.slots
		return nil
	}
	volatile := false
	for _, m := range messages {
		for got := false; !got; {
			select {
			case l.client.slots <- struct{}{}:
				got = true
				continue
			default:
			}
			if len(tokens) > arrived {
				err = reap()
			} else {
				got, err = l.slot(ctx)
			}
			if err != nil {
				return arrived, err
			}
		}
		if !l.wire.room(l.lost) {
			<-l.client.slots
			return arrived, l.ended()
		}
		tokens = append(tokens, l.paho.Publish(m.Topic, m.QoS, m.Retain, m.Payload))
		volatile = volatile || m.QoS == 0
	}
	if volatile && !l.wire.drained(l.lost) {
		return arrived, l.ended()
	}
	for arrived < len(tokens) {
		if err := reap(); err != nil {
			return arrived, err
		}
	}
	return arrived, nil
}

// slot waits for room in the window that other publishers share.
func (l *link) slot(ctx context.Context) (bool, error) {
	select {
	case l.client.slots <- struct{}{}:
		return true, nil
	case <-l.lost:
		return false, l.ended()
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// acked waits for one token. A token says nothing when its connection is lost, so that is watched too.
func (l *link) acked(ctx context.Context, token paho.Token) error {
	patience := l.client.opts.AckTimeout
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-token.Done():
			return l.verdict(token)
		case <-l.lost:
			select {
			case <-token.Done(): // its acknowledgement came before the end
				return l.verdict(token)
			default:
				return l.ended()
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			quiet := time.Since(l.wire.lastProgress())
			if quiet >= patience {
				l.lose(errNoAck)
				continue
			}
			timer.Reset(patience - quiet)
		}
	}
}

// verdict turns a token's error into the end of the connection: what follows a lost packet must not overtake it.
func (l *link) verdict(token paho.Token) error {
	if err := token.Error(); err != nil {
		l.lose(err)
		return l.cause() // which may be older
	}
	return nil
}

// ended returns why the connection is lost; it waits for the cause if the wire failed first.
func (l *link) ended() error {
	select {
	case <-l.lost:
	case <-time.After(handover):
		l.lose(errWireClosed)
	}
	return l.cause()
}
