package mqtt

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	// strikes is how often in a row a connection must end on the same message, sent alone, before it counts as refused:
	// MQTT 3.1.1 brokers say nothing, they close. Bad links do that too, but not five times on one message.
	strikes = 5
	// strikesAgain is how often once a message of its topic has been refused and none has arrived since.
	strikesAgain = 2
	holdMin      = time.Minute
	holdMax      = time.Hour
	maxAccused   = 1024 // topics
)

// accused remembers on which messages connections ended. A message that is refused is held back for a while, alone; when
// two of a topic are refused in a row, the topic is. It is safe for concurrent use.
type accused struct {
	mu     sync.Mutex
	topics map[string]*accusedTopic
}

type accusedTopic struct {
	seq     uint64 // the message under suspicion
	strikes int
	refused map[uint64]*hold // messages that are held back
	row     int              // refused in a row, none having arrived between
	all     hold             // the topic
	times   int              // connections that ended
	err     string
}

// hold keeps something back until a time; each further hold is twice as long.
type hold struct {
	holds int
	until time.Time
}

func (h *hold) extend(now time.Time) time.Duration {
	d := min(holdMax, holdMin<<min(h.holds, 10))
	h.holds++
	h.until = now.Add(d)
	return d
}

// among reports whether a topic of the messages is under suspicion.
func (a *accused) among(messages []Message) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.topics) > 0 && slices.ContainsFunc(messages, func(m Message) bool { return a.topics[m.Topic] != nil })
}

// suspect notes that a connection ended on one of the messages.
func (a *accused) suspect(messages []Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range messages {
		a.topic(messages[i].Topic)
	}
}

func (a *accused) topic(name string) *accusedTopic {
	if len(a.topics) >= maxAccused {
		a.topics = nil // begin anew: what is refused will show again
	}
	if a.topics == nil {
		a.topics = map[string]*accusedTopic{}
	}
	t := a.topics[name]
	if t == nil {
		t = &accusedTopic{refused: map[uint64]*hold{}}
		a.topics[name] = t
	}
	return t
}

// strike notes that a connection ended on this message, sent alone. It returns for how long the message is held back, or
// 0 if it is not refused yet.
func (a *accused) strike(topic string, seq uint64, now time.Time, err error) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.topic(topic)
	t.times++
	t.err = err.Error()
	if t.seq != seq {
		t.seq, t.strikes = seq, 0
	}
	t.strikes++
	needed := strikes
	if t.row > 0 {
		needed = strikesAgain
	}
	h := t.refused[seq]
	if t.strikes < needed && h == nil {
		return 0
	}
	if h == nil {
		h = &hold{}
		t.refused[seq] = h
	}
	t.seq, t.strikes = 0, 0
	d := h.extend(now)
	if t.row++; t.row > 1 {
		d = max(d, t.all.extend(now))
	}
	return d
}

// acquit notes that a message has arrived.
func (a *accused) acquit(topic string, seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.topics[topic]
	if t == nil {
		return
	}
	delete(t.refused, seq)
	t.strikes, t.row, t.all = 0, 0, hold{}
	if len(t.refused) == 0 {
		delete(a.topics, topic)
	}
}

// held reports whether a message is to be held back now.
func (a *accused) held(topic string, seq uint64, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.topics[topic]
	if t == nil {
		return false
	}
	h := t.refused[seq]
	return now.Before(t.all.until) || h != nil && now.Before(h.until)
}

// refusals lists the topics with messages that are held back.
func (a *accused) refusals() []Refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Refusal
	for name, t := range a.topics {
		if len(t.refused) == 0 {
			continue
		}
		r := Refusal{Topic: name, Whole: t.row > 1, Times: t.times, Until: t.all.until, LastError: t.err}
		for _, h := range t.refused {
			if r.Until.IsZero() || !r.Whole && h.until.Before(r.Until) {
				r.Until = h.until
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Refusal) int { return cmp.Compare(a.Topic, b.Topic) })
	return out
}
