package sync

import (
	"fmt"
	"strings"
)

// noApp stands for the application of a key that has none (key prefix strategy none).
const noApp = "_"

// maxSubject bounds a subject: a NATS server refuses protocol lines over 4 KiB, which hold the reply subject too.
const maxSubject = 3500

// EventSubject maps a topic to the subject of its events: each level is a token, so NATS wildcards work as MQTT's do on
// the topic. Bytes outside [-_a-zA-Z0-9] are escaped =XX, an empty level is =, and a leading underscore is escaped, so
// that no topic meets the reserved tokens (_cur, _gap). The mapping is one to one; Topic undoes it.
func EventSubject(device, topic string) string {
	var b strings.Builder
	b.Grow(len("ev.") + len(device) + 1 + len(topic) + 8)
	b.WriteString("ev.")
	b.WriteString(device)
	first := true
	for level := range strings.SplitSeq(topic, "/") {
		b.WriteByte('.')
		if level == "" {
			b.WriteByte('=')
		}
		for i := range len(level) {
			if c := level[i]; wordByte(c) && (c != '_' || i > 0 || !first) {
				b.WriteByte(c)
			} else {
				escapeByte(&b, c)
			}
		}
		first = false
	}
	return b.String()
}

// Topic returns the device and topic of an event's subject; ok is false for other subjects, cursors among them.
func Topic(subject string) (device, topic string, ok bool) {
	rest, isEvent := strings.CutPrefix(subject, "ev.")
	device, rest, hasTopic := strings.Cut(rest, ".")
	if !isEvent || !hasTopic || device == "" || strings.HasPrefix(rest, "_") {
		return "", "", false
	}
	levels := strings.Split(rest, ".")
	for i, l := range levels {
		if l == "=" {
			levels[i] = ""
			continue
		}
		level, ok := unescape(l)
		if !ok || level == "" || strings.Contains(level, "/") {
			return "", "", false
		}
		levels[i] = level
	}
	topic = strings.Join(levels, "/")
	return device, topic, EventSubject(device, topic) == subject
}

// keySubject maps a key of a state store to its place in the bucket: <device>.<application>.<key>. Bytes outside
// [-/_=.a-zA-Z0-9] are escaped =XX, and so are =, and dots that would make an empty token.
func keySubject(device, key string) string {
	app, rest, hasApp := strings.Cut(key, "||")
	if !hasApp {
		app, rest = noApp, key
	}
	var b strings.Builder
	b.Grow(len(device) + len(key) + 8)
	b.WriteString(device)
	b.WriteByte('.')
	switch {
	case app == "" && hasApp:
		b.WriteByte('=')
	case app == noApp && hasApp:
		b.WriteString("=5F")
	default:
		for i := range len(app) {
			if c := app[i]; wordByte(c) || c == '/' {
				b.WriteByte(c)
			} else {
				escapeByte(&b, c)
			}
		}
	}
	b.WriteByte('.')
	if rest == "" {
		b.WriteByte('=')
	}
	for i := range len(rest) {
		c := rest[i]
		dot := c == '.' && i > 0 && i < len(rest)-1 && rest[i-1] != '.'
		if dot || wordByte(c) || c == '/' {
			b.WriteByte(c)
		} else {
			escapeByte(&b, c)
		}
	}
	return b.String()
}

// subjectKey undoes keySubject on what stands behind `<device>.`.
func subjectKey(rest string) (key string, ok bool) {
	app, name, two := strings.Cut(rest, ".")
	if !two || app == "" || name == "" {
		return "", false
	}
	if name == "=" {
		name = ""
	} else if name, ok = unescape(name); !ok || name == "" {
		return "", false
	}
	if app == noApp {
		return name, !strings.Contains(name, "||")
	}
	if app == "=" {
		return "||" + name, true
	}
	if app, ok = unescape(app); !ok || app == "" || strings.Contains(app+"|", "||") {
		return "", false
	}
	return app + "||" + name, true
}

// token escapes s as one token of a subject.
func token(s string) string {
	if s == "" {
		return "="
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; wordByte(c) {
			b.WriteByte(c)
		} else {
			escapeByte(&b, c)
		}
	}
	return b.String()
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func escapeByte(b *strings.Builder, c byte) {
	const hex = "0123456789ABCDEF"
	b.WriteByte('=')
	b.WriteByte(hex[c>>4])
	b.WriteByte(hex[c&15])
}

func unescape(s string) (string, bool) {
	if !strings.Contains(s, "=") {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi > 15 || lo > 15 {
			return "", false
		}
		out = append(out, hi<<4|lo)
		i += 2
	}
	return string(out), true
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// names are the subjects and streams of one device in one upstream.
type names struct {
	device, stream, bucket string
}

func (n names) kvStream() string            { return "KV_" + n.bucket }
func (n names) events() string              { return "ev." + n.device + ".>" }
func (n names) keys() string                { return "$KV." + n.bucket + "." + n.device + ".>" }
func (n names) key(key string) string       { return "$KV." + n.bucket + "." + keySubject(n.device, key) }
func (n names) inbox() string               { return "_INBOX_" + n.device }
func (n names) eventCursor(f string) string { return "ev." + n.device + "._cur." + f }
func (n names) gap(f string) string         { return "ev." + n.device + "._gap." + f }
func (n names) stateCursor(f string) string { return "$KV." + n.bucket + "._cur." + n.device + "." + f }
func (n names) event(topic string) string   { return EventSubject(n.device, topic) }
func (n names) keyOf(subject string) (string, bool) {
	rest, ours := strings.CutPrefix(subject, "$KV."+n.bucket+"."+n.device+".")
	if !ours {
		return "", false
	}
	return subjectKey(rest)
}

// messageID is the idempotency key of an event: no other event of this device, ever, has it.
func (n names) messageID(epoch, fence string, seq uint64) string {
	return fmt.Sprintf("%s:%s:%s:%d", n.device, epoch, fence, seq)
}
