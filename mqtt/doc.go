// Package mqtt connects edged with MQTT brokers so that nothing is lost on the way. An event leaves its durable journal
// only after the broker has acknowledged it (PUBACK), and a message from the broker is acknowledged only after the local
// journal has it. In between, links may break, brokers restart and this process be killed: what was not acknowledged
// is offered again, in order; duplicates are possible for those only.
//
// Client keeps one MQTT 3.1.1 session alive. Bridge maps topics between any pub/sub component and a broker. Broker is
// the component pubsub.mqtt3. The wire protocol is eclipse/paho.mqtt.golang's, used as follows, for reasons found in its
// source (v1.5.1):
//
//   - One paho client per connection, never reconnected by paho: its reconnect hides session-present, gives up its
//     backoff to a fixed schedule, replays its store beside new publications (out of order with the default store), and
//     reports success for QoS 0 messages that it throws away. Here the journal is the queue and paho's store is empty.
//   - A publication's token does not complete when the connection is lost and clean session is false, so waiting for
//     acknowledgements always also watches the connection.
//   - A handler that blocks stops acknowledgements and pings of the whole connection, so handlers only enqueue.
//   - paho reads a packet of any announced size into memory and writes without looking at progress, so it works on a
//     wire of ours that bounds, buffers and times both directions.
package mqtt
