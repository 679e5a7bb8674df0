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

// publish sends on this connection. Tokens are reaped in order, so the count is a prefix. The library is called from a
// goroutine of its own, because it may hold a packet for a while when its connection has just ended.
func (l *link) publish(ctx context.Context, messages []Message) (arrived int, err error) {
	if !l.client.stray() {
		return 0, errGoodbye
	}
	sent := make(chan paho.Token, len(messages))
	go func() {
		defer l.client.strays.Done()
		defer close(sent)
		l.send(ctx, messages, sent)
	}()
	for arrived < len(messages) {
		select {
		case token, ok := <-sent:
			if !ok {
				if err := ctx.Err(); err != nil {
					return arrived, err
				}
				return arrived, l.ended()
			}
			err := l.acked(ctx, token)
			if err == nil && messages[arrived].QoS == 0 && !l.wire.drained(l.lost) {
				err = l.ended()
			}
			<-l.slots
			if err != nil {
				return arrived, err
			}
			arrived++
		case <-l.lost:
			return arrived + acknowledged(sent), l.cause()
		}
	}
	return arrived, nil
}

// send hands messages to the library while there is room in the window that all publishers of the link share.
func (l *link) send(ctx context.Context, messages []Message, sent chan<- paho.Token) {
	for _, m := range messages {
		select {
		case l.slots <- struct{}{}:
		case <-l.lost:
			return
		case <-ctx.Done():
			return
		}
		if !l.wire.room(l.lost) {
			return
		}
		sent <- l.paho.Publish(m.Topic, m.QoS, m.Retain, m.Payload)
	}
}

// acknowledged counts the tokens, from the first, that were complete when the connection ended.
func acknowledged(sent <-chan paho.Token) (n int) {
	for {
		select {
		case token, ok := <-sent:
			if !ok {
				return n
			}
			select {
			case <-token.Done():
				if token.Error() != nil {
					return n
				}
				n++
			default:
				return n
			}
		default:
			return n
		}
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
