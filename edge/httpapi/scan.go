package httpapi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"unicode/utf8"
)

// scanner reads JSON from a buffer without allocating for what it skips. It is the fast way through the bodies of hot
// calls: whatever it does not understand at once (odd escapes in names, bad UTF-8, errors) it refuses, and the caller
// asks encoding/json, which alone decides what is valid. What it accepts, encoding/json accepts with the same meaning.
type scanner struct {
	b     []byte
	i     int
	depth int
}

// maxDepth is far below what encoding/json takes; deeper values go the slow way.
const maxDepth = 200

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// eat skips space and takes c if it is next.
func (s *scanner) eat(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// null takes a null if it is next.
func (s *scanner) null() bool {
	s.space()
	return s.literal("null")
}

func (s *scanner) literal(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

// str takes a string and returns what is between the quotes, and whether it has escapes.
func (s *scanner) str() (raw []byte, escaped, ok bool) {
	if !s.eat('"') {
		return nil, false, false
	}
	start, ascii := s.i, true
	s.i += plainPrefix(s.b[s.i:])
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			raw = s.b[start:s.i]
			s.i++
			return raw, escaped, ascii || utf8.Valid(raw)
		case c == '\\':
			escaped = true
			if !s.escape() {
				return nil, false, false
			}
		case c < ' ':
			return nil, false, false
		default:
			ascii = ascii && c < utf8.RuneSelf
			s.i++
		}
	}
	return nil, false, false
}

// plainPrefix returns how many bytes at the start of b are certainly printable ASCII other than quote and backslash,
// eight at a time.
func plainPrefix(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		control := x - ones*' ' // a byte below space borrows
		quote := x ^ ones*'"'   // zero where there is a quote
		escape := x ^ ones*'\\' // zero where there is a backslash
		if (x|control|(quote-ones)&^quote|(escape-ones)&^escape)&highs != 0 {
			break
		}
	}
	return n
}

func (s *scanner) escape() bool {
	s.i++
	if s.i >= len(s.b) {
		return false
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return true
	case 'u':
		if len(s.b)-s.i < 5 {
			return false
		}
		for _, c := range s.b[s.i+1 : s.i+5] {
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
		}
		s.i += 5
		return true
	}
	return false
}

// text takes a string and returns its value.
func (s *scanner) text() (string, bool) {
	s.space()
	start := s.i
	raw, escaped, ok := s.str()
	if !ok {
		return "", false
	}
	if !escaped {
		return string(raw), true
	}
	var v string
	if json.Unmarshal(s.b[start:s.i], &v) != nil {
		return "", false
	}
	return v, true
}

// textOrNull is text, and null as "" with present false.
func (s *scanner) textOrNull() (v string, present, ok bool) {
	if s.null() {
		return "", false, true
	}
	v, ok = s.text()
	return v, true, ok
}

// textUnlessNull takes a string into v, or a null, which changes nothing.
func (s *scanner) textUnlessNull(v *string) bool {
	t, present, ok := s.textOrNull()
	if present && ok {
		*v = t
	}
	return ok
}

// value takes any value and returns it as it stands in the buffer.
func (s *scanner) value() ([]byte, bool) {
	s.space()
	start := s.i
	if !s.skip() {
		return nil, false
	}
	return s.b[start:s.i], true
}

func (s *scanner) skip() bool {
	s.space()
	if s.i >= len(s.b) {
		return false
	}
	switch s.b[s.i] {
	case '"':
		_, _, ok := s.str()
		return ok
	case '{':
		return s.object(func([]byte) bool { return s.skip() })
	case '[':
		return s.array(s.skip)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

func (s *scanner) number() bool {
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return false
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		return s.digits()
	}
	return true
}

// object takes an object; member is called with each name, lower case for comparison with name(), and takes its value.
func (s *scanner) object(member func(name []byte) bool) bool {
	if !s.eat('{') || s.depth >= maxDepth {
		return false
	}
	s.depth++
	defer func() { s.depth-- }()
	if s.eat('}') {
		return true
	}
	for {
		s.space()
		name, escaped, ok := s.str()
		if !ok || escaped || !s.eat(':') || !member(name) {
			return false
		}
		if s.eat('}') {
			return true
		}
		if !s.eat(',') {
			return false
		}
	}
}

// array takes an array; element takes one value.
func (s *scanner) array(element func() bool) bool {
	if !s.eat('[') || s.depth >= maxDepth {
		return false
	}
	s.depth++
	defer func() { s.depth-- }()
	if s.eat(']') {
		return true
	}
	for {
		if !element() {
			return false
		}
		if s.eat(']') {
			return true
		}
		if !s.eat(',') {
			return false
		}
	}
}

// texts takes an object of strings, or null, into m, which is made if needed. Null values become "".
func (s *scanner) texts(m *map[string]string) bool {
	if s.null() {
		return true
	}
	if *m == nil {
		*m = map[string]string{}
	}
	return s.object(func(name []byte) bool {
		key := string(name)
		v, _, ok := s.textOrNull()
		(*m)[key] = v
		return ok
	})
}

// named compares a member's name as encoding/json does, without regard to case. Names beyond ASCII never match here:
// callers refuse them, since folding may map them to ASCII letters.
func named(name []byte, want string) bool {
	return string(name) == want || len(name) == len(want) && bytes.EqualFold(name, []byte(want))
}

func plainName(name []byte) bool {
	for _, c := range name {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// compact returns a JSON value without insignificant space; it returns v itself if there is none.
func compact(v []byte) []byte {
	inString := false
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '"':
			inString = !inString
		case '\\':
			i++
		case ' ', '\t', '\r', '\n':
			if inString {
				continue
			}
			var buf bytes.Buffer
			buf.Grow(len(v))
			if json.Compact(&buf, v) != nil {
				return v
			}
			return buf.Bytes()
		}
	}
	return v
}
