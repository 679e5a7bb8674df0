package pubsub

import (
	"encoding/binary"
	"encoding/json"
	"unicode/utf8"
)

// This file reads and writes the JSON of CloudEvents by hand: an envelope is built and looked into for every event, and
// reflection costs several times as much. encoding/json is the reference that the tests hold it against.

const maxDepth = 1000 // nesting that is still followed

// skipSpace returns the index of the first byte at or after i that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the index after the JSON value that begins at b[i], and whether there is a valid one (RFC 8259, but
// for the encoding of strings: UTF-8 is not checked).
func skipValue(b []byte, i, depth int) (int, bool) {
	if i >= len(b) {
		return i, false
	}
	switch c := b[i]; c {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipNested(b, i, depth)
	case 't':
		return skipLiteral(b, i, "true")
	case 'f':
		return skipLiteral(b, i, "false")
	case 'n':
		return skipLiteral(b, i, "null")
	default:
		if c == '-' || (c >= '0' && c <= '9') {
			return skipNumber(b, i)
		}
		return i, false
	}
}

func skipLiteral(b []byte, i int, lit string) (int, bool) {
	if len(b)-i < len(lit) || string(b[i:i+len(lit)]) != lit {
		return i, false
	}
	return i + len(lit), true
}

func skipString(b []byte, i int) (int, bool) {
	for i = plain(b, i+1); i < len(b); i = plain(b, i+1) {
		switch c := b[i]; {
		case c == '"':
			return i + 1, true
		case c < ' ':
			return i, false
		case c == '\\':
			if i++; i >= len(b) {
				return i, false
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(b)-i < 5 || !isHex(b[i+1]) || !isHex(b[i+2]) || !isHex(b[i+3]) || !isHex(b[i+4]) {
					return i, false
				}
				i += 4
			default:
				return i, false
			}
		}
	}
	return i, false
}

// plain returns an index at or after i up to which b has nothing that is special in a string: it passes eight bytes at a
// time while none of them is a quote, a backslash or a control character (a carry may make it stop early).
func plain(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		if ((x-ones*' ')&^x|(quote-ones)&^quote|(slash-ones)&^slash)&tops != 0 {
			break
		}
		i += 8
	}
	return i
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func skipDigits(b []byte, i int) (int, bool) {
	start := i
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i, i > start
}

func skipNumber(b []byte, i int) (int, bool) {
	if b[i] == '-' {
		i++
	}
	ok := true
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, ok = skipDigits(b, i); !ok {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		if i, ok = skipDigits(b, i+1); !ok {
			return i, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		i, ok = skipDigits(b, i)
	}
	return i, ok
}

// skipNested passes an object or an array.
func skipNested(b []byte, i, depth int) (int, bool) {
	if depth >= maxDepth {
		return i, false
	}
	object, end := b[i] == '{', b[i]+2 // ']' is '['+2, and '}' is '{'+2
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == end {
		return i + 1, true
	}
	var ok bool
	for {
		if object {
			if i, ok = skipKey(b, i); !ok {
				return i, false
			}
		}
		if i, ok = skipValue(b, i, depth+1); !ok {
			return i, false
		}
		i = skipSpace(b, i)
		switch {
		case i >= len(b):
			return i, false
		case b[i] == end:
			return i + 1, true
		case b[i] != ',':
			return i, false
		}
		i = skipSpace(b, i+1)
	}
}

// skipKey passes a member name and its colon.
func skipKey(b []byte, i int) (int, bool) {
	if i >= len(b) || b[i] != '"' {
		return i, false
	}
	i, ok := skipString(b, i)
	if i = skipSpace(b, i); !ok || i >= len(b) || b[i] != ':' {
		return i, false
	}
	return skipSpace(b, i+1), true
}

// firstValue returns the first JSON value of b without the white space around it. Like a stream decoder it does not look
// at what follows.
func firstValue(b []byte) ([]byte, bool) {
	start := skipSpace(b, 0)
	end, ok := skipValue(b, start, 0)
	if !ok {
		return nil, false
	}
	return b[start:end], true
}

// members calls visit with each member of the JSON object that b begins with: the name, decoded, and the raw value. It
// reports whether b begins with a valid object; visit may have been called before it turns out not to.
func members(b []byte, visit func(name, value []byte)) bool {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		return true
	}
	for {
		start := i
		colon, ok := skipKey(b, i)
		if !ok {
			return false
		}
		end, _ := skipString(b, start)
		value, ok := skipValue(b, colon, 1)
		if !ok {
			return false
		}
		visit(stringBytes(b[start:end]), b[colon:value])
		switch i = skipSpace(b, value); {
		case i >= len(b):
			return false
		case b[i] == '}':
			return true
		case b[i] != ',':
			return false
		}
		i = skipSpace(b, i+1)
	}
}

// stringBytes decodes a JSON string; without escapes the answer is a part of it.
func stringBytes(raw []byte) []byte {
	inner := raw[1 : len(raw)-1]
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			var s string
			if json.Unmarshal(raw, &s) != nil {
				return inner
			}
			return []byte(s)
		}
	}
	return inner
}

// stringOf returns the string that a raw JSON value is, or "" if it is none.
func stringOf(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	return string(stringBytes(raw))
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			n := runeLen(s[i:])
			if n > 0 {
				i += n
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			if c < ' ' {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			} else {
				dst = append(dst, "\ufffd"...)
			}
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// runeLen returns the length of the rune that s begins with, or 0 if it is not UTF-8.
func runeLen[T string | []byte](s T) int {
	var buf [utf8.UTFMax]byte
	r, n := utf8.DecodeRune(buf[:copy(buf[:], s)])
	if r == utf8.RuneError && n == 1 {
		return 0
	}
	return n
}
